"""Acknowledgement, automatic and by hand, while commits are refused, partitions move and the app stops."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest

from headrace import AppStateError, ForcedStop, ProduceFailed, RetryPolicy
from headrace.testing.broker import MockBroker
from tests.embedded.runtime.oracle import Group
from tests.embedded.runtime.support import Seen, app_on, committed_to_the_end, records, running, told, until

if TYPE_CHECKING:
    from headrace import App, Record
    from tests.embedded.runtime.conftest import Outcome

pytestmark = pytest.mark.slow

CODE = "REBALANCE_IN_PROGRESS"


@dataclass(frozen=True, slots=True)
class Case:
    """A refused commit, and who acknowledges."""

    ack: Literal["on_return", "manual"]
    phase: Literal["run", "assign", "revoke", "stop"]
    in_loop: bool

    def __str__(self) -> str:
        return f"{self.ack}-{self.phase}-{'loop' if self.in_loop else 'threads'}"


CASES = [
    Case(ack, phase, in_loop)
    for ack in ("on_return", "manual")
    for phase in ("run", "assign", "revoke", "stop")
    for in_loop in (False, True)
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_consumption_goes_on_after_a_refused_commit(case: Case, outcome: Outcome) -> None:
    outcome(case)


def run_case(case: Case) -> None:
    """One refusal; consumption goes on, and the offsets are committed later."""
    with MockBroker(topics={"orders": 2}) as broker, Group(broker) as group:
        group.produce(10)
        if case.phase == "assign":
            broker.push_errors("OffsetCommit", CODE, CODE)
        app = _member(group, case)
        group.eventually(group.all_committed, "the first commit")
        if case.phase == "run":
            broker.push_errors("OffsetCommit", CODE, CODE)
        group.produce(10)
        group.eventually(group.all_committed, "the commit")
        if case.phase == "revoke":
            # Only the handlers' own acknowledgements are held up by nothing: the broker refuses them all for a while.
            broker.push_errors("OffsetCommit", *[CODE] * 1000)
            group.produce(10)
            group.eventually(group.all_handled, "consumption")
            second = _member(group, case)
            group.eventually(lambda: group.each_has(1, app, second), "the rebalance")
            broker.clear_errors("OffsetCommit")
            group.produce(10)
            group.eventually(group.all_committed, "the commit")
            second.stop()
        if case.phase == "stop":
            broker.push_errors("OffsetCommit", CODE, CODE)
        app.stop()
        group.finish()


def _member(group: Group, case: Case) -> App:
    app = group.make()

    def handle(record: Record[Any, Any]) -> None:
        group.seen.handle(record)
        if case.ack == "manual":
            record.ack()

    async def handle_async(record: Record[Any, Any]) -> None:
        await asyncio.sleep(0)
        handle(record)

    app.subscribe("orders", ack=case.ack)(handle_async if case.in_loop else handle)
    app.start()
    return app


def test_records_are_acknowledged_in_any_order_and_from_any_thread(broker: MockBroker, group_id: str) -> None:
    held: list[Record[Any, Any]] = []
    app = app_on(broker, group_id)

    @app.subscribe("orders", ack="manual")
    def handle(record: Record[Any, Any]) -> None:
        held.append(record)

    broker.produce("orders", records(10), partition=0)
    with running(app):
        until(lambda: len(held) == 10)
        held.sort(key=lambda record: record.offset)
        for record in reversed(held[1:]):
            assert record.ack()
        assert held[9].ack(), "a second acknowledgement changes nothing"
        until(lambda: [p for p in app.snapshot().engine.partitions if p.finished == 9])
        assert broker.committed(group_id, "orders")[0] == 0
        worker = threading.Thread(target=held[0].ack)
        worker.start()
        worker.join()
        until(lambda: committed_to_the_end(broker, group_id))


def test_what_is_not_acknowledged_comes_again_and_what_is_does_not(broker: MockBroker, group_id: str) -> None:
    held: list[Record[Any, Any]] = []
    first = app_on(broker, group_id)

    @first.subscribe("orders", ack="manual")
    def handle(record: Record[Any, Any]) -> None:
        held.append(record)
        if record.offset not in (2, 5):
            record.ack()

    broker.produce("orders", records(10, keys=10), partition=0)
    with running(first):
        until(lambda: len(held) == 10)
        until(lambda: broker.committed(group_id, "orders").get(0) == 2)
        until(lambda: [p for p in first.snapshot().engine.partitions if p.finished == 8])
    seen = Seen()
    second = app_on(broker, group_id)
    second.subscribe("orders")(seen.handler())
    with running(second):
        until(lambda: committed_to_the_end(broker, group_id))
    assert set(seen.handled()) == {(0, 2), (0, 5)}


def test_acknowledgements_in_flight_at_a_stop_are_committed(broker: MockBroker, group_id: str) -> None:
    held: list[Record[Any, Any]] = []
    app = app_on(broker, group_id, commit_every_s=30.0)

    @app.subscribe("orders", ack="manual")
    def handle(record: Record[Any, Any]) -> None:
        held.append(record)

    broker.produce("orders", records(50), partition=0)
    app.start()
    until(lambda: len(held) == 50)
    app.request_stop()
    for record in held:
        record.ack()
    app.wait()
    assert committed_to_the_end(broker, group_id)


def test_a_stop_does_not_wait_for_ever_for_acknowledgements(broker: MockBroker, group_id: str) -> None:
    held: list[Record[Any, Any]] = []
    app = app_on(broker, group_id, stop_s=2.0)

    @app.subscribe("orders", ack="manual")
    def handle(record: Record[Any, Any]) -> None:
        held.append(record)

    broker.produce("orders", records(5), partition=0)
    app.start()
    until(lambda: len(held) == 5)
    began = time.monotonic()
    with suppress(ForcedStop):
        app.stop()
    assert time.monotonic() - began < 6.0
    assert broker.committed(group_id, "orders")[0] == 0
    assert not held[0].ack()


def test_a_stale_acknowledgement_does_not_count_for_the_new_assignment(
    broker: MockBroker, group_id: str
) -> None:
    held: list[Record[Any, Any]] = []
    app = app_on(broker, group_id)

    @app.subscribe("orders", ack="manual")
    def handle(record: Record[Any, Any]) -> None:
        held.append(record)

    broker.produce("orders", records(5), partition=0)
    with running(app):
        until(lambda: len(held) == 5)
        broker.push_errors("Heartbeat", "UNKNOWN_MEMBER_ID")
        until(lambda: len(held) == 10)
        old, new = held[:5], held[5:]
        assert {record.epoch for record in old}.isdisjoint(record.epoch for record in new)
        assert not any(record.ack() for record in old)
        until(lambda: app.snapshot().engine.counters.stale_acks == 5)
        assert not broker.committed(group_id, "orders").get(0)
        assert all(record.ack() for record in new)
        until(lambda: committed_to_the_end(broker, group_id))
    assert told(app, "partition_lost")


def test_only_manual_subscriptions_are_acknowledged_by_hand(broker: MockBroker, group_id: str) -> None:
    errors: list[AppStateError] = []
    app = app_on(broker, group_id)

    @app.subscribe("orders")
    def handle(record: Record[Any, Any]) -> None:
        try:
            record.ack()
        except AppStateError as error:
            errors.append(error)

    broker.produce("orders", records(1))
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id))
    assert len(errors) == 1


@pytest.mark.parametrize("waits", [False, True], ids=["refused later", "refused at once"])
def test_an_early_acknowledgement_does_not_cover_an_output_that_was_refused(
    broker: MockBroker, group_id: str, waits: bool
) -> None:
    seen = Seen()
    app = app_on(broker, group_id)

    @app.subscribe("orders", ack="manual", retry=RetryPolicy(attempts_max=3, backoff_initial_s=0.01))
    def handle(record: Record[Any, Any]) -> None:
        start = seen.begin(record)
        record.ack()
        delivery = app.produce("other", record.raw_value)
        if waits:
            with suppress(ProduceFailed):
                delivery.result(10.0)
        seen.end(start)

    broker.produce("orders", records(1), partition=0)
    broker.push_errors("Produce", "UNKNOWN")
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id))
    assert [start.attempt for start in seen.starts] == [1, 2]
    assert broker.end_offsets("other") == {0: 1}


def test_a_handler_longer_than_the_poll_interval_costs_nothing(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    app = app_on(broker, group_id, librdkafka={"max.poll.interval.ms": 2000, "session.timeout.ms": 2000})

    @app.subscribe("orders")
    def handle(record: Record[Any, Any]) -> None:
        start = seen.begin(record)
        if record.offset == 0:
            time.sleep(3.0)
        seen.end(start)

    broker.produce("orders", records(10), partition=0)
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id))
    assert len(seen.ends) == 10
    assert not told(app, "partition_lost")
