"""The course of a demonstration: broker, traffic, first member, second member comes and goes, the end, the evidence.

Decides when what happens; refuses to judge (`verdict`) or to draw (`view`, `plain`). Invariant: whatever fails or
interrupts it, members, traffic and broker are gone when it returns.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from headrace._client.admin import Observer
from headrace._client.reading import Reader, Stored
from headrace._client.settings import ConnectionSettings
from headrace._runtime import dead_letters
from headrace.cli.demonstration.ledger import LedgerWriter, read_runs
from headrace.cli.demonstration.members import Report, make_app
from headrace.cli.demonstration.plan import DEAD_LETTERS, GROUP, PARTITIONS, TOPIC, number_of
from headrace.cli.demonstration.second_member import SecondMember
from headrace.cli.demonstration.traffic import Traffic
from headrace.cli.demonstration.verdict import DeadLetter, Evidence
from headrace.testing import MockBrokerProcess

if TYPE_CHECKING:
    from headrace import App
    from headrace.cli.demonstration.plan import Plan

TICK_S: Final = 0.1
JOIN_AT, LEAVE_AT = 0.2, 0.65
"""When the second member joins and leaves, as shares of the plan's time."""

SHARED_S: Final = 0.5
"""How long both members are seen with partitions, however late the second one got there."""
REBALANCE_WAIT_S: Final = 15.0
"""How long the second member may take until it has partitions, before it is told to leave all the same."""

DRAIN_WAIT_S: Final = 30.0
ASK_S: Final = 10.0
_OURS: Final = {"bootstrap.servers", "group.protocol"}  # arguments of App
SESSION_TIMEOUT_S: Final = 2.0
"""The embedded broker lets a rebalance last a second less."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to see at one moment. `ends`: records produced, per partition."""

    elapsed_s: float
    seconds: float
    produced: int
    ends: tuple[int, ...]
    first: Report
    second: Report
    rebalances: int
    act: str

    @property
    def handled(self) -> int:
        """By both members, as they say."""
        return self.first.succeeded + self.second.succeeded


class Spectator(Protocol):
    """Who is shown the scenes."""

    def show(self, scene: Scene) -> None:
        """One scene, ten times a second."""
        ...


@dataclass(slots=True)
class _Cast:
    """Who plays. Only the stage's thread touches it."""

    plan: Plan
    app: App
    second: SecondMember
    traffic: Traffic
    began_at: float
    act: str = "the first member joins"
    assignments: int = 0
    before: frozenset[int] = frozenset()

    def scene(self) -> Scene:
        """What there is to see now."""
        first = Report.of(self.app.snapshot())
        ours = frozenset(p.partition for p in first.partitions)
        # Cooperative: what leaves the first member goes to the second, and comes back.
        if ours != self.before and first.state == "running":
            self.before, self.assignments = ours, self.assignments + 1
        ends = self.traffic.ends()
        return Scene(
            elapsed_s=time.monotonic() - self.began_at,
            seconds=self.plan.seconds,
            produced=sum(ends),
            ends=tuple(ends),
            first=first,
            second=self.second.report,
            rebalances=self.assignments,
            act=self.act,
        )


def play(plan: Plan, spectator: Spectator) -> tuple[Evidence, list[str]]:
    """Play the plan; returns the evidence and what went wrong beside it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-demo-")))
        topics = {TOPIC: PARTITIONS, DEAD_LETTERS: 1}
        broker = stack.enter_context(MockBrokerProcess(topics=topics))
        client = broker.client_settings(protocol=plan.protocol, session_timeout_s=SESSION_TIMEOUT_S)
        client = {key: value for key, value in client.items() if key not in _OURS}
        plan = replace(plan, bootstrap_servers=broker.bootstrap_servers, client=client)
        connection = ConnectionSettings(broker.bootstrap_servers, GROUP, client)
        second = SecondMember(plan, folder / "second", folder / "complaints")
        stack.callback(second.close)
        ledger = stack.enter_context(LedgerWriter(folder / "first"))
        app = make_app(plan, ledger)
        traffic = Traffic(plan, connection)
        stack.callback(traffic.stop)
        app.start()
        stack.callback(app.stop)
        cast = _Cast(plan, app, second, traffic, time.monotonic())
        problems = _acts(cast, spectator)
        produced = traffic.acknowledged()
        if traffic.refused:
            problems.append(
                f"{traffic.refused} records were not acknowledged by the broker, and do not count"
            )
        runs = read_runs(folder / "first", "first")
        if (folder / "second").exists():
            runs += read_runs(folder / "second", "second")
        places = {number_of(r.value): (r.partition, r.offset) for r in _read_all(connection, TOPIC)}
        letters = [_dead_letter(record) for record in _read_all(connection, DEAD_LETTERS)]
        committed = broker.committed(GROUP, TOPIC)
        return Evidence(produced, places, runs, letters, committed, broker.end_offsets(TOPIC)), problems


def _acts(cast: _Cast, spectator: Spectator) -> list[str]:
    """From the first record to the end of the last member."""
    plan = cast.plan
    joined = left = False
    shared_at: float | None = None
    cast.traffic.start()
    while True:
        scene = cast.scene()
        spectator.show(scene)
        if not joined and scene.elapsed_s > JOIN_AT * plan.seconds:
            cast.second.join()
            joined, cast.act = True, "a second member joins: partitions move to it"
        elif joined and not left:
            if shared_at is None and scene.second.partitions:
                shared_at, cast.act = scene.elapsed_s, "two members share the partitions"
            late = scene.elapsed_s > plan.seconds + REBALANCE_WAIT_S
            enough = late or (shared_at is not None and scene.elapsed_s > shared_at + SHARED_S)
            if scene.elapsed_s > LEAVE_AT * plan.seconds and enough:
                cast.second.begin_to_leave()
                left, cast.act = True, "the second member leaves: its partitions move back"
        elif left and cast.second.gone:
            cast.act = "one member again" if not cast.traffic.over else "the last records"
        if left and cast.second.gone and cast.traffic.over and _settled(scene):
            break
        if scene.elapsed_s > plan.seconds + REBALANCE_WAIT_S + DRAIN_WAIT_S:
            break
        if scene.first.state == "failed":
            break
        time.sleep(TICK_S)
    problem = cast.second.close()
    cast.act = "drained, committed, left"
    cast.app.stop()
    spectator.show(cast.scene())
    return [problem] if problem else []


def _settled(scene: Scene) -> bool:
    """Whether the first member has committed all that there is."""
    committed = {p.partition: p.committed for p in scene.first.partitions}
    return all(committed.get(partition, 0) == end for partition, end in enumerate(scene.ends))


def _read_all(connection: ConnectionSettings, topic: str) -> list[Stored]:
    observer = Observer(connection)
    partitions = observer.topics(ASK_S)[topic]
    places = [(topic, partition) for partition in range(partitions)]
    offsets = observer.offsets(places, ASK_S)
    with Reader(replace(connection, group_id=f"{GROUP}-verdict")) as reader:
        reader.begin({place: start for place, (start, _) in offsets.items()})
        ends = {place: end for place, (_, end) in offsets.items()}
        return [record for records in reader.read_to(ends, ASK_S) for record in records]


def _dead_letter(record: Stored) -> DeadLetter:
    headers = dict(record.headers)
    return DeadLetter(
        number=number_of(record.value),
        key=record.key,
        value=record.value,
        partition=int(headers.get(dead_letters.PARTITION) or -1),
        offset=int(headers.get(dead_letters.OFFSET) or -1),
    )
