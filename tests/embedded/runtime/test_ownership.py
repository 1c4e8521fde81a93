"""Who owns what, and until when: work in hand at a rebalance, attempts, acknowledgements, hooks, and stops at any moment."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from headrace import RetryPolicy, Timeouts
from headrace.testing.broker import MockBroker
from tests.embedded.runtime.oracle import GROUP, Group
from tests.embedded.runtime.support import (
    Seen,
    app_on,
    committed_to_the_end,
    records,
    running,
    told,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace import App, Record
    from tests.embedded.runtime.conftest import Outcome

pytestmark = pytest.mark.slow

SOON_S = 8.0
"""Much less than a stop may take (20 s), and than what it must not wait for (30 s and more)."""
SOON = RetryPolicy(attempts_max=3, backoff_initial_s=0.01)


def what_runs_when_a_partition_is_asked_back_is_acknowledged_and_not_repeated(broker: MockBroker) -> None:
    """Nothing tells the handler that it lost anything before it has: its acknowledgement counts, then the hook is called."""
    release = threading.Event()
    acknowledged: list[bool] = []
    events: list[tuple[str, int]] = []
    with Group(broker, "consumer") as group:
        patient = Timeouts(connect_s=10, drain_s=10.0, stop_s=6.0, rebalance_s=0.2)
        app = group.make(commit_every_s=30.0, timeouts=patient)

        @app.subscribe("orders", ack="manual", concurrency=2)
        def handle(record: Record[Any, Any]) -> None:
            start = group.seen.begin(record, "first")
            release.wait()
            acknowledged.append(record.ack())
            group.seen.end(start)
            events.append(("end", record.partition))

        @app.on_revoked
        def went(partitions: tuple[tuple[str, int], ...]) -> None:
            events.extend(("revoked", partition) for _, partition in partitions)

        app.start()
        group.produce(1)
        until(lambda: len(group.seen.starts) == 2)
        other = group.start(commit_every_s=30.0)
        until(lambda: any(reason.name == "rebalance_open" for reason in app.health().reasons), "the drain")
        assert not acknowledged
        release.set()
        group.eventually(lambda: group.each_has(1, app, other), "the rebalance")
        ((moved,),) = [{p.partition for p in other.snapshot().engine.partitions}]
        until(lambda: ("revoked", moved) in events)
        other.stop()
        app.stop()
        group.finish()
    assert acknowledged == [True, True]
    assert events.index(("end", moved)) < events.index(("revoked", moved))
    assert max(group.seen.handled().values()) == 1


def attempts_begin_anew_with_the_assignment(broker: MockBroker) -> None:
    """A failure of before the loss does not bring the record nearer to the dead letters."""
    tries: list[int] = []
    app = app_on(broker, GROUP)

    @app.subscribe("orders", retry=SOON, dead_letter="dead")
    def handle(record: Record[Any, Any]) -> None:
        tries.append(record.attempt)
        if len(tries) == 2:
            broker.push_errors("Heartbeat", "UNKNOWN_MEMBER_ID")
            until(lambda: told(app, "partition_lost"), "the loss")
        if len(tries) < 5:
            raise ValueError("not yet")

    broker.produce("orders", records(1), partition=0)
    with running(app):
        until(lambda: committed_to_the_end(broker, GROUP))
    assert tries == [1, 2, 1, 2, 3]
    assert broker.end_offsets("dead") == {0: 0}


def an_acknowledgement_after_a_loss_says_so_though_no_worker_is_free(broker: MockBroker) -> None:
    answers: list[bool] = []
    app = app_on(broker, GROUP)

    @app.subscribe("orders", ack="manual", workers=1, concurrency=1)
    def handle(record: Record[Any, Any]) -> None:
        if not answers:
            broker.push_errors("Heartbeat", "UNKNOWN_MEMBER_ID")
            until(lambda: len(told(app, "partition_assigned")) == 4, "the next assignment")
        answers.append(record.ack())

    broker.produce("orders", records(3, keys=1), partition=0)
    with running(app):
        until(lambda: committed_to_the_end(broker, GROUP))
    assert answers == [False, True, True, True]


def a_rebalance_of_one_group_is_none_of_anothers(broker: MockBroker) -> None:
    heard: dict[str, list[str]] = {"ours": [], "others": [], "guest": []}

    def member(group: str, who: str = "guest") -> App:
        app = app_on(broker, f"{GROUP}-{group}")
        app.subscribe("orders")(Seen().handler())
        for hooked, kind in (
            (app.on_assigned, "assigned"),
            (app.on_revoked, "revoked"),
            (app.on_lost, "lost"),
        ):
            hooked(hears(who, kind))
        return app

    def hears(who: str, kind: str) -> Callable[[tuple[tuple[str, int], ...]], None]:
        def hear(_: tuple[tuple[str, int], ...]) -> None:
            heard[who].append(kind)

        return hear

    ours, others, guest = member("a", "ours"), member("b", "others"), member("a")
    with running(ours, others):
        until(lambda: heard == {"ours": ["assigned"], "others": ["assigned"], "guest": []})
        epochs = {(p.partition, p.epoch) for p in others.snapshot().engine.partitions}
        with running(guest):
            until(lambda: len(guest.snapshot().engine.partitions) == 1)
        until(lambda: len(ours.snapshot().engine.partitions) == 2)
        assert {(p.partition, p.epoch) for p in others.snapshot().engine.partitions} == epochs
        assert "revoked" in heard["ours"]
        assert heard["others"] == ["assigned"]


def a_stop_at_any_moment_of_joining_is_soon_over(broker: MockBroker) -> None:
    for after_s in (0.0, 0.02, 0.1, 0.3, 0.6):
        app = app_on(broker, GROUP, stop_s=20.0)
        app.subscribe("orders")(Seen().handler())
        app.start()
        time.sleep(after_s)
        _stops_soon(app)


def a_stop_cuts_a_long_poll_short_with_partitions_and_without(broker: MockBroker) -> None:
    """Of three members on two partitions one has nothing; fetches wait for a minute at the broker."""
    apps = [
        app_on(
            broker, GROUP, stop_s=20.0, librdkafka={"fetch.wait.max.ms": 60_000, "socket.timeout.ms": 90_000}
        )
        for _ in range(3)
    ]
    for app in apps:
        app.subscribe("orders")(Seen().handler())

    def with_and_without() -> list[App]:
        """All three, the one without a partition first, once each has its share."""
        held = sorted(apps, key=lambda app: len(app.snapshot().engine.partitions))
        return held if [len(app.snapshot().engine.partitions) for app in held] == [0, 1, 1] else []

    with running(*apps):
        until(with_and_without)
        time.sleep(0.5)  # All polls wait by now.
        for app in until(with_and_without):
            _stops_soon(app)


def _stops_soon(app: App) -> None:
    began = time.monotonic()
    app.stop()
    assert time.monotonic() - began < SOON_S


def the_first_record_alone_becomes_a_dead_letter(broker: MockBroker) -> None:
    _one_dead_letter(broker, 0)


def one_record_in_the_midst_alone_becomes_a_dead_letter(broker: MockBroker) -> None:
    _one_dead_letter(broker, 5)


def the_last_record_alone_becomes_a_dead_letter(broker: MockBroker) -> None:
    _one_dead_letter(broker, 9)


def _one_dead_letter(broker: MockBroker, failing: int) -> None:
    """All others recover: each fails as often as it may without being given up, side by side, and none is."""
    seen = Seen()
    app = app_on(broker, GROUP)

    @app.subscribe("orders", retry=SOON, dead_letter="dead", concurrency=4)
    def handle(record: Record[Any, Any]) -> None:
        start = seen.begin(record)
        fails = record.offset == failing or record.attempt < SOON.attempts_max
        seen.end(start, handled=not fails)
        if fails:
            raise ValueError("again")

    broker.produce("orders", records(10), partition=0)
    with running(app):
        until(lambda: committed_to_the_end(broker, GROUP))
    assert {offset for _, offset in seen.handled()} == set(range(10)) - {failing}
    assert max(seen.handled().values()) == 1
    assert [notice.facts()["offset"] for notice in told(app, "record_dead_lettered")] == [failing]
    assert broker.end_offsets("dead") == {0: 1}
    assert not seen.overlaps


CASES: list[Callable[[MockBroker], None]] = [
    what_runs_when_a_partition_is_asked_back_is_acknowledged_and_not_repeated,
    attempts_begin_anew_with_the_assignment,
    an_acknowledgement_after_a_loss_says_so_though_no_worker_is_free,
    a_rebalance_of_one_group_is_none_of_anothers,
    a_stop_at_any_moment_of_joining_is_soon_over,
    a_stop_cuts_a_long_poll_short_with_partitions_and_without,
    the_first_record_alone_becomes_a_dead_letter,
    one_record_in_the_midst_alone_becomes_a_dead_letter,
    the_last_record_alone_becomes_a_dead_letter,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_ownership(case: Callable[[MockBroker], None], outcome: Outcome) -> None:
    outcome(case)


def run_case(case: Callable[[MockBroker], None]) -> None:
    """Run one scene."""
    with MockBroker(topics={"orders": 2, "dead": 1}) as broker:
        case(broker)
