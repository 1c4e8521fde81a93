"""The course of a rehearsal: each act of the plan in turn, on an embedded broker, and the evidence in the end.

Decides when what happens; refuses to judge (`verdict`). Invariant: whatever fails or interrupts it, members, traffic
and broker are gone when it returns.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from headrace._client.admin import Observer
from headrace._client.reading import Reader
from headrace._client.settings import ConnectionSettings
from headrace.cli.exits import Unusable
from headrace.cli.rehearsal.crew import Member
from headrace.cli.rehearsal.plan import GROUP, Act, MemberPlan
from headrace.cli.rehearsal.traffic import Traffic
from headrace.cli.rehearsal.verdict import Evidence
from headrace.testing import MockBrokerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.app import App
    from headrace.cli.rehearsal.plan import TopicPlan
    from headrace.cli.rehearsal.samples import Sample

PARTITIONS: Final = 4
PARTITION_BYTES: Final = 3 * 1024 * 1024
"""The embedded broker keeps about 5 MiB of a partition."""
SESSION_TIMEOUT_S: Final = 6.0
"""How long the group waits for a killed member; the embedded broker lets a rebalance last a second less."""
START_WAIT_S: Final = 30.0
MOVE_WAIT_S: Final = 20.0
LAST_WAIT_S: Final = 60.0
"""How long the last records may take; what is not committed then is reported."""
QUIET_LAST_S: Final = 15.0
"""Nothing handled and nothing committed for so long: waiting longer would show nothing more."""
ASK_S: Final = 10.0
LOOK_S: Final = 0.25
REFUSALS: Final = (
    "REBALANCE_IN_PROGRESS",
    "COORDINATOR_NOT_AVAILABLE",
    "ILLEGAL_GENERATION",
    "NOT_COORDINATOR",
    "REQUEST_TIMED_OUT",
    "COORDINATOR_LOAD_IN_PROGRESS",
)
AWAY_S: Final = 3.0
SLOW_S: Final = 0.4
_DROPPED: Final = (
    "security.",
    "sasl.",
    "ssl.",
    "oauth",
    "enable.sasl",
    "enable.ssl",
    "broker.address",
    "client.rack",
    "group.instance",
    "plugin",
    "statistics.",
)
"""Settings for a cluster that the embedded broker is not."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What to rehearse. seconds: of all acts but the last, together; rate: records a second."""

    target: str
    app: App
    topics: Mapping[str, TopicPlan]
    samples: Sequence[Sample]
    seconds: float
    rate: float
    debug: bool = False


@dataclass(slots=True)
class _Stage:
    """Who plays. Only the rehearsal's thread touches it."""

    rehearsal: Rehearsal
    broker: MockBrokerProcess
    plan: MemberPlan
    folder: Path
    tell: Callable[[Act], None]
    members: list[Member] = field(default_factory=list["Member"])
    problems: list[str] = field(default_factory=list[str])

    @property
    def act_s(self) -> float:
        """How long one act lasts."""
        return self.rehearsal.seconds / (len(Act) - 1)

    def start(self, name: str) -> Member:
        """A new member; returns when it works, or has ended."""
        member = Member(replace(self.plan, member=name), self.folder)
        self.members.append(member)
        self.wait(START_WAIT_S, lambda: member.account.running_at is not None or member.gone)
        return member

    def close(self) -> None:
        """End all members."""
        for member in self.members:
            member.close()

    def go_on(self, *members: Member) -> None:
        """Let an act last; raises `_Over` if one of these, which should work, has ended."""
        if self.wait(self.act_s, lambda: any(member.gone for member in members)):
            raise _Over

    def wait(self, wait_s: float, done: Callable[[], bool]) -> bool:
        """Wait until `done`; False if it did not come to that."""
        until = time.monotonic() + wait_s
        while not done():
            if time.monotonic() >= until:
                return False
            time.sleep(LOOK_S)
        return True


def perform(rehearsal: Rehearsal, tell: Callable[[Act], None]) -> tuple[Evidence, list[str]]:
    """All acts; returns the evidence and what went wrong beside it. Raises `Unusable` if the app does not start."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-rehearsal-")))
        topics = dict.fromkeys(rehearsal.topics, PARTITIONS)
        letters = {topic.dead_letter for topic in rehearsal.topics.values() if topic.dead_letter}
        broker = stack.enter_context(
            MockBrokerProcess(
                topics=topics | dict.fromkeys(sorted(letters - topics.keys()), 1),
                session_timeout_s=SESSION_TIMEOUT_S,
            )
        )
        client = client_settings(rehearsal.app, broker)
        plan = MemberPlan(
            rehearsal.target,
            broker.bootstrap_servers,
            "",
            "first",
            rehearsal.app.settings.timeouts.stop_s,
            client,
            rehearsal.debug,
        )
        stage = _Stage(rehearsal, broker, plan, folder, tell)
        stack.callback(stage.close)
        connection = ConnectionSettings(broker.bootstrap_servers, GROUP, client)
        traffic = Traffic(
            rehearsal.samples, rehearsal.rate, PARTITION_BYTES * PARTITIONS * len(topics) // 2, connection
        )
        stack.callback(traffic.stop)
        first = stage.start("first")
        if first.account.running_at is None:
            raise Unusable(f"the app did not start: {first.complaint() or 'it said nothing'}")
        traffic.start()
        _acts(stage, first, traffic)
        if traffic.refused:
            stage.problems.append(
                f"{traffic.refused} records were not acknowledged by the broker, and do not count"
            )
        if traffic.cut_short:
            stage.problems.append("the broker's memory was full: production ended early")
        return _evidence(stage, connection, traffic.acknowledged), stage.problems


def client_settings(app: App, broker: MockBrokerProcess) -> dict[str, str | int | float | bool]:
    """The app's own client settings, but for those of its cluster; and those that make the embedded broker quick."""
    own = {
        key: value
        for key, value in app.settings.librdkafka.items()
        if isinstance(value, str | int | float | bool) and not key.startswith(_DROPPED)
    }
    quick = broker.client_settings(protocol=app.settings.group_protocol, session_timeout_s=SESSION_TIMEOUT_S)
    arguments = {"bootstrap.servers", "group.protocol"}
    return own | {key: value for key, value in quick.items() if key not in arguments}


class _Over(Exception):
    """A member ended that should not have: further acts would show nothing."""


def _acts(stage: _Stage, first: Member, traffic: Traffic) -> None:
    try:
        last = _acts_but_the_last(stage, first)
    except _Over:
        traffic.stop()
        for member in stage.members:
            _note(stage, member.leave())
        return
    stage.tell(Act.LAST)
    traffic.stop()
    _wait_for_the_last(stage)
    _note(stage, last.leave())


def _acts_but_the_last(stage: _Stage, first: Member) -> Member:
    """Everything that happens to an app; returns the member that is left. Raises `_Over`."""
    broker = stage.broker
    stage.tell(Act.ALONE)
    stage.go_on(first)

    stage.tell(Act.JOIN)
    second = stage.start("second")
    stage.wait(MOVE_WAIT_S, lambda: bool(second.account.runs) or second.gone)
    stage.go_on(first, second)

    stage.tell(Act.REFUSED)
    broker.push_errors("OffsetCommit", *REFUSALS * 2)
    stage.go_on(first, second)

    stage.tell(Act.LEAVE)
    broker.clear_errors("OffsetCommit")
    broker.push_errors("OffsetCommit", *REFUSALS)
    _note(stage, second.leave())
    broker.clear_errors("OffsetCommit")

    stage.tell(Act.SLOW)
    broker.round_trip(SLOW_S)
    stage.go_on(first)
    broker.round_trip(0)

    stage.tell(Act.AWAY)
    broker.broker_down()
    time.sleep(AWAY_S)
    broker.broker_up()
    stage.go_on(first)

    stage.tell(Act.KILL)
    third = stage.start("third")
    stage.wait(MOVE_WAIT_S, lambda: bool(third.account.runs) or third.gone)
    if third.gone:
        raise _Over
    third.kill(time.monotonic())
    stage.go_on(first)

    stage.tell(Act.RESTART)
    _note(stage, first.leave())
    last = stage.start("last")
    stage.go_on(last)
    return last


def _wait_for_the_last(stage: _Stage) -> None:
    """Until all is committed, or nothing moves any more."""
    ends = _per_topic(stage, stage.broker.end_offsets)
    until = time.monotonic() + LAST_WAIT_S
    before: object = None
    moved_at = time.monotonic()
    while time.monotonic() < until and time.monotonic() - moved_at < QUIET_LAST_S:
        committed = _per_topic(stage, lambda topic: stage.broker.committed(GROUP, topic))
        if all(committed.get(place, 0) >= end for place, end in ends.items()):
            return
        now = committed, sum(len(member.account.runs) for member in stage.members)
        if now != before:
            before, moved_at = now, time.monotonic()
        time.sleep(2 * LOOK_S)


def _evidence(stage: _Stage, connection: ConnectionSettings, acknowledged: int) -> Evidence:
    broker = stage.broker
    places = [(topic, number) for topic in stage.rehearsal.topics for number in range(PARTITIONS)]
    bounds = Observer(connection).offsets(places, ASK_S)
    keys: dict[tuple[str, int, int], bytes | None] = {}
    with Reader(replace(connection, group_id=f"{GROUP}-verdict")) as reader:
        reader.begin({place: start for place, (start, _) in bounds.items()})
        for records in reader.read_to({place: end for place, (_, end) in bounds.items()}, ASK_S):
            keys |= {(each.topic, each.partition, each.offset): each.key for each in records}
    return Evidence(
        topics=stage.rehearsal.topics,
        keys=keys,
        acknowledged=acknowledged,
        accounts=[member.account for member in stage.members],
        killed_at={member.name: member.killed_at for member in stage.members if member.killed_at is not None},
        committed=_per_topic(stage, lambda topic: broker.committed(GROUP, topic)),
        ends={place: end for place, (_, end) in bounds.items()},
        drain_s=stage.rehearsal.app.settings.timeouts.drain_s,
        stop_s=stage.plan.stop_s,
    )


def _per_topic(stage: _Stage, ask: Callable[[str], dict[int, int]]) -> dict[tuple[str, int], int]:
    return {
        (topic, partition): offset
        for topic in stage.rehearsal.topics
        for partition, offset in ask(topic).items()
    }


def _note(stage: _Stage, problem: str | None) -> None:
    if problem is not None:
        stage.problems.append(problem)
