"""What stopped FastStream's users, on a broker: consumption goes on, offsets are committed, and health says what it saw.

Commits that are refused have a matrix of their own, `test_commit_errors.py`. Here: decoders that raise, handlers that are
slow, hang or block their loop, brokers and groups that do not answer, listeners that block the owner, under automatic and
manual acknowledgement. Judged by the handlers' own list, by asking the broker, and by `App.health`.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import pytest

from headrace import ForcedStop, Stalled, Timeouts
from headrace.cli.exits import Exit
from headrace.testing.broker import MockBroker
from tests.embedded.runtime.oracle import Group
from tests.embedded.runtime.support import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from headrace import App, Health, Record
    from tests.embedded.runtime.conftest import Outcome

pytestmark = pytest.mark.slow

Ack = Literal["on_return", "manual"]
QUICK = Timeouts(
    connect_s=10,
    drain_s=1.0,
    stop_s=6.0,
    hung_after_s=0.6,
    stalled_after_s=0.8,
    blocked_after_s=0.5,
    rebalance_s=0.5,
)
PATIENT = replace(QUICK, hung_after_s=30.0)
SHORT_LIVED = {"max.poll.interval.ms": 2000, "session.timeout.ms": 2000}


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario, and who acknowledges."""

    play: Callable[[Group, Ack], None]
    ack: Ack

    def __str__(self) -> str:
        return f"{self.play.__name__}-{self.ack}"


def reasons(app: App) -> set[str]:
    """What health names now."""
    return {reason.name for reason in app.health().reasons}


def red(group: Group, app: App, reason: str) -> Health:
    """Wait until health names this reason."""
    group.eventually(lambda: reason in reasons(app), f"the reason {reason}")
    return app.health()


def green(group: Group, app: App) -> None:
    """Wait until all is well."""
    group.eventually(lambda: app.health().verdict == "ok", "health")
    assert app.health().live
    assert app.health().ready


def member(group: Group, ack: Ack, handle: Callable[[Record[Any, Any]], Any], **settings: Any) -> App:
    """An app whose handler calls `handle`, remembers the record, and acknowledges it if it must."""
    subscribe = settings.pop("subscribe", {})
    app = group.make(timeouts=settings.pop("timeouts", QUICK), **settings)
    who = f"app-{len(group.apps)}"

    def done(record: Record[Any, Any]) -> None:
        group.seen.handle(record, who)
        if ack == "manual":
            record.ack()

    if inspect.iscoroutinefunction(handle):

        async def handle_async(record: Record[Any, Any]) -> None:
            await handle(record)
            done(record)

        app.subscribe("orders", ack=ack, **subscribe)(handle_async)
    else:

        def handle_sync(record: Record[Any, Any]) -> None:
            handle(record)
            done(record)

        app.subscribe("orders", ack=ack, **subscribe)(handle_sync)
    app.start()
    return app


def nothing(_record: Any) -> None:
    """A handler that is always done."""


def a_decoder_that_raises(group: Group, ack: Ack) -> None:
    """Each undecodable record goes to the dead letters, once, and no loop turns hot."""

    def decode(value: bytes) -> int:
        number = int(value)
        if number % 5 == 0:
            raise ValueError(value)
        return number

    def touch(record: Record[Any, Any]) -> None:
        assert record.value % 5

    app = member(
        group, ack, touch, subscribe={"value_decoder": decode, "dead_letter": "dead", "order_by": "partition"}
    )
    group.produce(50)
    # Not looked at by the oracle, to which a dead letter is nothing handled.
    until(lambda: group.committed() == group.broker.end_offsets("orders"), "the commit")
    until(lambda: app.health().verdict == "ok", "health")
    app.stop()
    assert sum(group.broker.end_offsets("dead").values()) == 20
    assert len(group.seen.handled()) == 80
    assert app.snapshot().engine.counters.failed == 20


def a_handler_past_the_poll_interval(group: Group, ack: Ack) -> None:
    """Slow is not stuck: no partition is lost, nothing is handled twice, health stays green."""
    group.produce(5)
    app = member(
        group,
        ack,
        lambda record: time.sleep(3.0) if record.offset == 0 else None,
        # A machine that is slow to join, or to turn, is not what this is about.
        timeouts=replace(PATIENT, blocked_after_s=10.0, rebalance_s=10.0),
        librdkafka=SHORT_LIVED,
    )
    found: set[str] = set()

    def all_committed() -> bool:
        # What was polled when is told with the rest, a while later on a slow machine.
        found.update(reasons(app) - {"poll_overdue"})
        return group.all_committed()

    group.eventually(all_committed, "the commit")
    assert not found
    assert not [notice for notice in app.notices() if notice.name == "partition_lost"]
    app.stop()
    assert group.no_duplicates()


def a_hung_handler(group: Group, ack: Ack) -> None:
    """Its key waits, others go on and are committed as far as they may be; when it ends, all is."""
    release = threading.Event()

    def hang(record: Record[Any, Any]) -> None:
        if record.offset == 0:
            release.wait(20)

    group.produce(10)
    app = member(group, ack, hang)
    assert red(group, app, "handler_hanging").partitions == 2
    assert red(group, app, "partition_stuck").verdict == "stuck"
    group.produce(10)
    group.eventually(lambda: len(group.seen.handled()) >= 32, "the other keys")
    assert group.committed() == {0: 0, 1: 0}
    release.set()
    group.eventually(group.all_committed, "the commit")
    green(group, app)
    app.stop()
    assert group.no_duplicates()


def a_blocked_event_loop(group: Group, ack: Ack) -> None:
    """Beyond session and poll interval: the member stays one, and nothing is lost or repeated."""
    blocked = threading.Event()

    async def block(record: Record[Any, Any]) -> None:
        await asyncio.sleep(0)
        if record.offset == 3 and record.partition == 0:
            blocked.set()
            time.sleep(3.0)  # noqa: ASYNC251 - the fault

    group.produce(10)
    app = member(group, ack, block, librdkafka=SHORT_LIVED)
    assert blocked.wait(10)
    health = red(group, app, "loop_blocked")
    assert (health.verdict, health.live) == ("stuck", False)
    group.eventually(group.all_committed, "the commit")
    green(group, app)
    app.stop()
    assert group.no_duplicates()


def brokers_that_go_and_come_back(group: Group, ack: Ack) -> None:
    """Idle or not: health says that nobody answers, and when somebody does."""
    group.produce(5)
    # Without a broker a turn takes as long as a question that nobody answers.
    app = member(group, ack, nothing, timeouts=replace(QUICK, blocked_after_s=5.0))
    group.eventually(group.all_committed, "the first commit")
    green(group, app)
    group.broker.broker_down()
    until(lambda: "brokers_away" in reasons(app), "the reason")
    assert app.health().live, "a restart would not help"
    assert not app.health().ready
    group.broker.broker_up()
    group.produce(5)
    group.eventually(group.all_committed, "the commit")
    green(group, app)
    app.stop()


def a_group_that_does_not_let_us_in_again(group: Group, ack: Ack) -> None:
    """The rebalance that never ends: members are told to join again, and refused."""
    group.produce(5)
    app = member(group, ack, nothing)
    group.eventually(group.all_committed, "the first commit")
    group.broker.push_errors("JoinGroup", *["COORDINATOR_NOT_AVAILABLE"] * 1000)
    group.broker.push_errors("Heartbeat", "UNKNOWN_MEMBER_ID")
    group.produce(5)
    health = red(group, app, "nothing_held")
    assert (health.partitions, health.ready, health.live) == (0, False, True)
    group.broker.clear_errors("JoinGroup", "Heartbeat")
    group.eventually(group.all_committed, "the commit")
    green(group, app)
    app.stop()


def offsets_that_stay_unreadable(group: Group, ack: Ack) -> None:
    """Nothing runs until they are read, and health says why."""
    group.produce(5)
    group.broker.push_errors("OffsetFetch", *["COORDINATOR_LOAD_IN_PROGRESS"] * 1000)
    app = member(group, ack, nothing)
    # The oracle could read none either.
    until(lambda: "starts_unknown" in reasons(app), "the reason")
    assert not group.seen.handled()
    group.broker.clear_errors("OffsetFetch")
    group.eventually(group.all_committed, "the commit")
    green(group, app)
    app.stop()


def a_listener_that_blocks_the_owner(group: Group, ack: Ack) -> None:
    """For a while: health says so, and afterwards the app goes on."""
    release, blocking = threading.Event(), threading.Event()

    def listener(notice: Any) -> None:
        if notice.name == "commit_refused":
            blocking.set()
            release.wait(20)

    group.produce(5)
    app = member(group, ack, nothing)
    group.eventually(group.all_committed, "the first commit")
    app.listen(listener)
    group.broker.push_errors("OffsetCommit", "REBALANCE_IN_PROGRESS")
    group.produce(5)
    assert blocking.wait(10)
    assert red(group, app, "owner_blocked").verdict == "stuck"
    release.set()
    group.eventually(group.all_committed, "the commit")
    green(group, app)
    app.stop()


def a_listener_that_never_returns(group: Group, ack: Ack) -> None:
    """A stop returns all the same, and what was not committed is handled again by the next member."""
    blocking = threading.Event()

    def listener(notice: Any) -> None:
        if notice.name == "commit_refused":
            blocking.set()
            threading.Event().wait(60)

    group.produce(5)
    app = member(group, ack, nothing, timeouts=replace(QUICK, stop_s=0.5), librdkafka=SHORT_LIVED)
    group.eventually(group.all_committed, "the first commit")
    app.listen(listener)
    group.broker.push_errors("OffsetCommit", "REBALANCE_IN_PROGRESS")
    group.produce(5)
    assert blocking.wait(10)
    began = time.monotonic()
    with pytest.raises(Stalled):
        app.stop()
    assert time.monotonic() - began < 8.0
    assert app.health().verdict == "ended"
    assert not app.health().live


def a_stop_with_acknowledgements_in_flight(group: Group, ack: Ack) -> None:
    """Handlers that end, and acknowledge, after the stop began, are committed by it."""
    go_on = threading.Event()
    group.produce(20)
    app = member(group, ack, lambda _record: go_on.wait(10), timeouts=PATIENT)
    group.eventually(lambda: sum(p.in_flight for p in app.snapshot().engine.partitions), "handlers")
    group.broker.push_errors("OffsetCommit", "REBALANCE_IN_PROGRESS", "COORDINATOR_LOAD_IN_PROGRESS")
    app.request_stop()
    until(lambda: app.health().verdict == "stopping", "the stop")
    go_on.set()
    try:
        app.wait()
    except ForcedStop:  # A machine so slow that not even these ended in time.
        return
    assert app.health().verdict == "ended"
    assert app.health().live
    handled = set(group.seen.handled())
    assert handled
    for partition, offset in group.committed().items():
        assert offset == group.seen.prefix()[partition]


PLAYS = [
    a_decoder_that_raises,
    a_handler_past_the_poll_interval,
    a_hung_handler,
    a_blocked_event_loop,
    brokers_that_go_and_come_back,
    a_group_that_does_not_let_us_in_again,
    offsets_that_stay_unreadable,
    a_listener_that_blocks_the_owner,
    a_listener_that_never_returns,
    a_stop_with_acknowledgements_in_flight,
]
ACKS: list[Ack] = ["on_return", "manual"]
CASES = [Case(play, ack) for play in PLAYS for ack in ACKS]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_consumption_goes_on_and_health_tells(case: Case, outcome: Outcome) -> None:
    outcome(case)


def run_case(case: Case) -> None:
    """One scenario on a broker of its own; in the end everything is handled and committed."""
    with MockBroker(topics={"orders": 2, "dead": 1}) as broker, Group(broker) as group:
        case.play(group, case.ack)
        if case.play is not a_decoder_that_raises:
            group.finish()


PROGRAM = textwrap.dedent(
    """
    import os, threading
    from headrace import App, Timeouts

    app = App(os.environ["BOOTSTRAP"], "billing", on_stall="exit", librdkafka={"log_level": 0},
              timeouts=Timeouts(stop_s=1, drain_s=0.2, hung_after_s=0.3, stalled_after_s=0.5))

    @app.subscribe("orders")
    def handle(record):
        threading.Event().wait()
    """
)


def test_a_command_that_is_stuck_ends_with_its_own_code(tmp_path: Path) -> None:
    """Though its handler never returns, for whoever starts the process anew."""
    (tmp_path / "billing.py").write_text(PROGRAM, encoding="utf-8")
    with MockBroker(topics={"orders": 1}) as broker:
        broker.produce("orders", [(b"a", b"1")], partition=0)
        ended = subprocess.run(
            [sys.executable, "-m", "headrace", "run", "billing:app"],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
            cwd=tmp_path,
            env=os.environ | {"BOOTSTRAP": broker.bootstrap_servers},
        )
    assert ended.returncode == Exit.STALLED, ended.stderr
    assert "orders[0] was stuck" in ended.stderr
    assert "partition_stalled" in ended.stderr
    assert "threading.Event().wait()" in ended.stderr


def test_partitions_whose_fetches_are_refused_are_stuck_and_turn_green_again() -> None:
    """There is lag, nothing is paused, and no record comes."""
    with MockBroker(topics={"orders": 2}) as broker, Group(broker) as group:
        group.produce(5)
        app = member(group, "on_return", nothing)
        group.eventually(group.all_committed, "the first commit")
        green(group, app)
        broker.push_errors("Fetch", *["COORDINATOR_NOT_AVAILABLE"] * 10_000)
        group.produce(5)
        health = red(group, app, "partition_stuck")
        (first, *_) = health.reasons
        assert first.facts()["cause"] == "silent"
        assert not health.live
        broker.clear_errors("Fetch")
        group.eventually(group.all_committed, "the commit")
        green(group, app)
        app.stop()
        group.finish()
