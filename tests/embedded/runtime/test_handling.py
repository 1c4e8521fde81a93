"""What handlers are promised: order, limits, retries, batches, dead letters, guarantees, and worker processes."""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

import pytest

from headrace import (
    Batch,
    Batching,
    ConfigError,
    DeadLetterFailed,
    RecordFailed,
    Reject,
    RetryLater,
    RetryPolicy,
)
from tests.embedded.runtime import process_handlers
from tests.embedded.runtime.support import (
    Seen,
    adds_up,
    app_on,
    committed_to_the_end,
    in_order,
    places,
    records,
    running,
    start_and_wait,
    told,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from confluent_kafka import Message

    from headrace import Record, Snapshot
    from headrace.testing.broker import MockBroker

pytestmark = pytest.mark.slow

SOON = RetryPolicy(attempts_max=3, backoff_initial_s=0.01)


def _letters(broker: MockBroker, group_id: str) -> list[Message]:
    """What lies in the dead-letter topic, read by a client of our own."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(broker.client_settings(group_id + "-letters"))
    try:
        (end,) = broker.end_offsets("dead").values()
        consumer.assign([TopicPartition("dead", 0, 0)])
        found: list[Message] = []
        while len(found) < end:
            message = consumer.poll(5.0)
            assert message is not None
            assert message.error() is None
            found.append(message)
        return found
    finally:
        consumer.close()


@pytest.mark.parametrize("in_loop", [False, True], ids=["threads", "loop"])
@pytest.mark.parametrize("order_by", ["key", "partition", "none"])
def test_order_and_concurrency_are_kept(
    broker: MockBroker, group_id: str, order_by: Literal["key", "partition", "none"], in_loop: bool
) -> None:
    seen = Seen()
    app = app_on(broker, group_id)

    def handle(record: Record[Any, Any]) -> None:
        start = seen.begin(record)
        time.sleep(0.002)
        seen.end(start)

    async def handle_async(record: Record[Any, Any]) -> None:
        start = seen.begin(record)
        await asyncio.sleep(0.002)
        seen.end(start)

    app.subscribe("orders", order_by=order_by, concurrency=6)(handle_async if in_loop else handle)
    for partition in range(2):
        broker.produce("orders", records(60, keys=10), partition=partition)
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id))
    assert set(seen.handled()) == places(broker)
    assert seen.most_at_once["all"] <= 6
    if order_by == "partition":
        assert all(seen.most_at_once["partition", "orders", p] == 1 for p in range(2))
    else:
        assert seen.most_at_once["all"] > 2
    if order_by != "none":
        assert not seen.overlaps
        assert all(in_order(offsets) for offsets in seen.lanes().values())


def test_a_failing_key_waits_and_others_go_on(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    app = app_on(broker, group_id)

    @app.subscribe(
        "orders", retry=RetryPolicy(attempts_max=4, backoff_initial_s=0.5, backoff_factor=1.0, jitter=0)
    )
    def handle(record: Record[Any, Any]) -> None:
        start = seen.begin(record)
        fails = record.offset == 0 and record.attempt < 4
        seen.end(start, handled=not fails)
        if fails:
            raise ValueError("not yet")

    broker.produce("orders", records(20, keys=2), partition=0)
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id))
    others = [start.number for start in seen.starts if start.key == b"key-1"]
    of_key = [(start.offset, start.attempt) for start in seen.starts if start.key == b"key-0"]
    assert of_key == [(0, 1), (0, 2), (0, 3), (0, 4), *((offset, 1) for offset in range(2, 20, 2))]
    assert max(others) < next(
        start.number for start in seen.starts if (start.offset, start.attempt) == (0, 2)
    )


def test_retry_later_waits_without_counting(broker: MockBroker, group_id: str) -> None:
    moments: list[tuple[float, int]] = []
    app = app_on(broker, group_id)

    @app.subscribe("orders", retry=RetryPolicy(attempts_max=1))
    def handle(record: Record[Any, Any]) -> None:
        moments.append((time.monotonic(), record.attempt))
        if len(moments) < 3:
            raise RetryLater(0.15)

    broker.produce("orders", records(1))
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id))
    assert [attempt for _, attempt in moments] == [1, 1, 1]
    assert moments[2][0] - moments[0][0] >= 0.3


@pytest.mark.parametrize("in_loop", [False, True], ids=["threads", "loop"])
def test_what_is_rejected_goes_to_the_dead_letters_at_once(
    broker: MockBroker, group_id: str, in_loop: bool
) -> None:
    tries: list[int] = []
    app = app_on(broker, group_id)

    def handle(record: Record[Any, Any]) -> None:
        tries.append(record.attempt)
        raise Reject("no such customer")

    async def handle_async(record: Record[Any, Any]) -> None:
        handle(record)

    app.subscribe("orders", dead_letter="dead")(handle_async if in_loop else handle)
    broker.produce("orders", [(b"key", b"value", [("trace", b"1")])], partition=1)
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id))
    (letter,) = _letters(broker, group_id)
    assert (letter.key(), letter.value()) == (b"key", b"value")
    headers = dict(letter.headers() or [])
    assert headers["trace"] == b"1"
    assert headers["headrace-original-topic"] == b"orders"
    assert headers["headrace-original-partition"] == b"1"
    assert headers["headrace-original-offset"] == b"0"
    assert headers["headrace-attempts"] == b"1"
    assert headers["headrace-group"] == group_id.encode()
    assert headers["headrace-error-message"] == b"no such customer"
    assert tries == [1]


def test_a_decoder_that_raises_leaves_the_raw_bytes_in_the_dead_letter(
    broker: MockBroker, group_id: str
) -> None:
    seen = Seen()
    app = app_on(broker, group_id)

    def decode(value: bytes) -> int:
        return int(value)

    @app.subscribe("orders", dead_letter="dead", value_decoder=decode)
    def handle(record: Record[bytes, int]) -> None:
        assert isinstance(record.value, int)
        seen.handle(record)

    broker.produce(
        "orders", [(b"a", b"1"), (b"a", b"\xff no number"), (b"a", b"3"), (b"a", None)], partition=0
    )
    with running(app):
        until(lambda: len(told(app, "record_dead_lettered")) >= 1)
        until(lambda: len(seen.starts) >= 2)
        app.request_stop()
    letters = _letters(broker, group_id)
    assert (letters[0].key(), letters[0].value()) == (b"a", b"\xff no number")
    error_type = str(dict(letters[0].headers() or [])["headrace-error-type"])
    assert "DecodeFailed" in error_type
    assert [offset for _, offset in sorted(seen.handled())] == [0, 2]


@pytest.mark.parametrize(("on_exhausted", "handled"), [("skip", True), ("stop", False), (None, False)])
def test_a_record_that_used_up_its_attempts(
    broker: MockBroker, group_id: str, on_exhausted: Literal["skip", "stop"] | None, handled: bool
) -> None:
    seen = Seen()
    app = app_on(broker, group_id)

    @app.subscribe("orders", retry=SOON, on_exhausted=on_exhausted)
    def handle(record: Record[Any, Any]) -> None:
        start = seen.begin(record)
        seen.end(start, handled=record.offset != 1)
        if record.offset == 1:
            raise ValueError("never")

    broker.produce("orders", records(3, keys=1), partition=0)
    if handled:
        app.start()
        until(lambda: committed_to_the_end(broker, group_id))
        app.stop()
        assert [start.offset for start in seen.starts] == [0, 1, 1, 1, 2]
        assert len(told(app, "record_skipped")) == 1
    else:
        with pytest.raises(RecordFailed) as raised:
            start_and_wait(app)
        assert (raised.value.partition, raised.value.offset, raised.value.attempts) == (0, 1, 3)
        assert [start.offset for start in seen.starts] == [0, 1, 1, 1]
        assert broker.committed(group_id, "orders")[0] == 1


def test_a_dead_letter_that_is_refused_for_good_stops_the_app_if_told_so(
    broker: MockBroker, group_id: str
) -> None:
    app = app_on(broker, group_id)

    @app.subscribe("orders", retry=SOON, dead_letter="dead", on_dead_letter_failure="stop")
    def handle(record: Record[Any, Any]) -> None:
        raise Reject("bad")

    broker.produce("orders", records(1), partition=0)
    broker.push_errors("Produce", "MSG_SIZE_TOO_LARGE")
    with pytest.raises(DeadLetterFailed):
        start_and_wait(app)
    assert broker.committed(group_id, "orders")[0] == 0


def test_a_dead_letter_that_is_refused_holds_up_its_key_alone(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    app = app_on(broker, group_id)

    @app.subscribe("orders", retry=SOON, dead_letter="dead")
    def handle(record: Record[Any, Any]) -> None:
        if record.offset == 0:
            raise Reject("bad")
        seen.handle(record)

    broker.produce("orders", records(20, keys=2), partition=0)
    broker.push_errors("Produce", "MSG_SIZE_TOO_LARGE")
    with running(app):
        until(lambda: len(seen.ends) == 10)
        until(lambda: told(app, "dead_letter_refused"))
        assert {start.key for start in seen.starts} == {b"key-1"}
        assert broker.committed(group_id, "orders")[0] == 0
        until(lambda: committed_to_the_end(broker, group_id))
    assert len(_letters(broker, group_id)) == 1


def test_batches_gather_company_and_keep_order(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    sizes: list[int] = []
    app = app_on(broker, group_id)

    @app.subscribe("orders", batch=Batching(records_max=40, wait_s=0.3))
    def handle(batch: Batch[Any, Any]) -> None:
        assert in_order([record.offset for record in batch])
        sizes.append(len(batch))
        for record in batch:
            seen.handle(record)

    with running(app):
        for number in range(10):
            broker.produce("orders", records(10, first=number * 10), partition=0)
        until(lambda: committed_to_the_end(broker, group_id))
    assert max(sizes) <= 40
    assert len(sizes) < 10, sizes
    assert set(seen.handled()) == places(broker)
    assert all(in_order(offsets) for offsets in seen.lanes().values())


def test_a_failed_record_of_a_batch_comes_again_before_its_key_goes_on(
    broker: MockBroker, group_id: str
) -> None:
    seen = Seen()
    app = app_on(broker, group_id)

    @app.subscribe("orders", batch=Batching(records_max=20), retry=SOON)
    async def handle(batch: Batch[Any, Any]) -> None:
        failed: set[bytes | None] = set()
        for record in batch:
            if record.offset == 3 and record.attempt == 1:
                batch.fail(record, ValueError("not yet"))
                failed.add(record.raw_key)
            elif record.raw_key not in failed:
                seen.handle(record)

    broker.produce("orders", records(20, keys=2), partition=0)
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id))
    assert set(seen.handled()) == places(broker)
    assert all(in_order(offsets) for offsets in seen.lanes().values())
    assert max(seen.handled().values()) == 1


def test_what_the_filter_refuses_is_finished_without_the_handler(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    app = app_on(broker, group_id)
    even: Callable[[Record[Any, Any]], bool] = lambda record: record.value % 2 == 0  # noqa: E731 - as users write it
    app.subscribe("orders", filter=even, value_decoder=int)(seen.handler())
    broker.produce("orders", records(20), partition=0)
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id))
    assert sorted(offset for _, offset in seen.handled()) == list(range(0, 20, 2))
    assert app.snapshot().engine.counters.filtered == 10


def test_an_async_handler_is_cancelled_after_its_timeout(broker: MockBroker, group_id: str) -> None:
    attempts: list[int] = []
    app = app_on(broker, group_id)

    @app.subscribe("orders", timeout_s=0.1, retry=SOON)
    async def handle(record: Record[Any, Any]) -> None:
        attempts.append(record.attempt)
        if record.attempt < 3:
            await asyncio.sleep(30)

    broker.produce("orders", records(1))
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id))
    assert attempts == [1, 2, 3]


def test_a_thread_cannot_be_timed_out_and_this_is_said(broker: MockBroker, group_id: str) -> None:
    app = app_on(broker, group_id)
    with pytest.raises(ConfigError, match="timeout_s"):
        app.subscribe("orders", timeout_s=1.0)(Seen().handler())


def test_at_most_once_commits_before_it_starts_and_never_repeats(broker: MockBroker, group_id: str) -> None:
    early: list[tuple[int, int]] = []
    starts: list[int] = []
    app = app_on(broker, group_id)

    @app.subscribe("orders", guarantee="at_most_once")
    def handle(record: Record[Any, Any]) -> None:
        held = broker.committed(group_id, "orders").get(0, 0)
        if held <= record.offset:
            early.append((record.offset, held))
        starts.append(record.offset)
        if record.offset == 2:
            raise ValueError("lost")

    broker.produce("orders", records(6, keys=6), partition=0)
    with running(app):
        until(lambda: len(starts) == 6)
    assert not early
    assert sorted(starts) == list(range(6))
    assert broker.committed(group_id, "orders")[0] == 6


def test_at_most_once_does_not_start_what_could_not_be_committed(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    app = app_on(broker, group_id)
    app.subscribe("orders", guarantee="at_most_once")(seen.handler())
    with running(app):
        until(lambda: set(broker.committed(group_id, "orders")) == {0, 1})
        broker.track_requests()
        broker.push_errors("OffsetCommit", *["REBALANCE_IN_PROGRESS"] * 1000)
        broker.produce("orders", records(6))
        until(lambda: len(broker.requests("OffsetCommit")) >= 3)
        assert not seen.starts
        broker.clear_errors("OffsetCommit")
        until(lambda: len(seen.ends) == 6)
    assert committed_to_the_end(broker, group_id)


def test_without_a_guarantee_positions_are_committed_whatever_handlers_do(
    broker: MockBroker, group_id: str
) -> None:
    release = threading.Event()
    app = app_on(broker, group_id, stop_s=3.0)

    @app.subscribe("orders", guarantee="none")
    def handle(record: Record[Any, Any]) -> None:
        release.wait()

    broker.produce("orders", records(6), partition=0)
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id))
        release.set()


def test_a_worker_process_that_dies_costs_its_record_one_attempt(
    broker: MockBroker, group_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv(process_handlers.LOG, str(log))
    app = app_on(broker, group_id)
    app.subscribe("orders", run_in="processes", workers=2, retry=SOON)(process_handlers.die_once)
    for partition in range(2):
        broker.produce("orders", [*records(20), (b"key-1", b"fatal"), *records(20)], partition=partition)
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id), timeout_s=40.0)
    lines = [line.split() for line in log.read_text().splitlines()]
    handled = [(int(partition), int(offset)) for what, partition, offset, _, _ in lines if what == "handled"]
    assert sorted(handled) == sorted(places(broker))
    assert sum(line[0] == "killed" for line in lines) == 2
    by_key: dict[tuple[str, str], list[int]] = {}
    for line in lines:
        if line[0] == "handled":
            by_key.setdefault((line[1], line[3]), []).append(int(line[2]))
    assert all(in_order(offsets) for offsets in by_key.values())


def test_snapshots_add_up_and_never_change(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    app = app_on(broker, group_id)

    @app.subscribe("orders", retry=SOON, dead_letter="dead", concurrency=8)
    async def handle(record: Record[Any, Any]) -> None:
        start = seen.begin(record)
        await asyncio.sleep(0.0005)
        fails = record.offset % 50 == 7
        seen.end(start, handled=not fails)
        if fails:
            raise ValueError("never")

    for partition in range(2):
        broker.produce("orders", records(1000, keys=50), partition=partition)
    kept: list[tuple[Snapshot, Snapshot]] = []
    with running(app):

        def done() -> bool:
            snapshot = app.snapshot()
            if not kept or snapshot is not kept[-1][0]:
                kept.append((snapshot, copy.deepcopy(snapshot)))
            return snapshot.engine.counters.finished == 2000

        until(done, timeout_s=30.0)
        until(lambda: committed_to_the_end(broker, group_id))
    assert len(kept) > 2
    assert all(snapshot == copied for snapshot, copied in kept)
    assert all(adds_up(snapshot) for snapshot, _ in kept)
    last = app.snapshot()
    assert adds_up(last)
    assert last.engine.counters.dead_lettered == 40
    assert not any(
        subscription.dispatched or subscription.stale for subscription in last.engine.subscriptions
    )
