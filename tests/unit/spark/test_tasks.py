"""Tasks: a range is read to its end, through a pool; a retry, a loss, a silence, and what outlives a task."""

from __future__ import annotations

import gc
import pickle
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Message

from headrace.errors import OffsetsMissing, ReadStalled, RecordsLost
from headrace.pool import ConsumerPool
from headrace.ranges import OffsetRange
from headrace.spark.tasks import RECORDS_MAX, batches, pool_of
from tests.unit.spark.given import options

if TYPE_CHECKING:
    from collections.abc import Generator

    from headrace._client.settings import ConnectionSettings


@dataclass
class Log:
    """One partition's: its first and next offset, and how large its records are. Counts who read it."""

    first: int = 0
    following: int = 10_000
    value_bytes: int = 10
    per_call: int = 300
    is_slow: bool = False
    opened: int = 0
    takes: list[int] = field(default_factory=list[int])
    collected: set[bool] = field(default_factory=set[bool])
    """Whether the collector was on when it was read."""

    def connect(self, _settings: ConnectionSettings, topic: str, partition: int, _queue_bytes: int, /) -> Any:
        self.opened += 1
        return Consumer(self, topic, partition)


@dataclass
class Consumer:
    """A `PooledConsumer` of it."""

    log: Log
    topic: str
    partition: int
    position: int | None = None
    trouble: str = "no broker has complained"

    def place(self, offset: int) -> bool:
        moved, self.position = self.position != offset, offset
        return moved

    def consume(self, records_max: int, timeout_s: float, end: int | None) -> list[Message]:
        assert self.position is not None
        assert end is not None
        at, self.log.takes = self.position, [*self.log.takes, records_max]
        if at < self.log.first or at > self.log.following:
            self.position = None
            if at < self.log.first:
                raise RecordsLost(self.topic, self.partition, at, min(self.log.first, end))
            raise OffsetsMissing(self.topic, self.partition, at, self.log.following)
        self.log.collected.add(gc.isenabled())
        if self.log.is_slow and timeout_s < 0.01:
            return []
        to = min(at + min(records_max, self.log.per_call), end, self.log.following)
        self.position = to
        value = bytes(self.log.value_bytes)
        return [Message(self.topic, self.partition, n, None, value, timestamp=(1, n)) for n in range(at, to)]

    def watermarks(self, timeout_s: float) -> tuple[int, int] | None:
        return (self.log.first, self.log.following)

    def close(self) -> None: ...

    def abandon(self) -> None: ...


def pool(log: Log) -> ConsumerPool:
    """Of consumers of that log."""
    return ConsumerPool("localhost:9092", connect=log.connect)


def read(log: Log, start: int, end: int, attempt: int = 0, /, **given: str) -> list[int]:
    """The offsets that one task gives."""
    return offsets(task(pool(log), start, end, attempt, **given))


def task(pool: ConsumerPool, start: int, end: int, attempt: int = 0, /, **given: str) -> Generator[Any]:
    """One task."""
    return batches(pool, OffsetRange("t", 0, start, end), options(**given), headers=True, attempt=attempt)


def offsets(parts: Any) -> list[int]:
    """Of all batches."""
    return [offset for part in parts for offset in part["offset"].to_pylist()]


def test_a_range_is_read_to_its_end_and_no_further() -> None:
    assert read(Log(), 17, 4021) == list(range(17, 4021))
    assert read(Log(), 17, 17) == []


def test_tasks_share_a_consumer_one_after_the_other() -> None:
    log = Log()
    one = pool(log)
    for start in range(0, 5000, 1000):
        assert offsets(task(one, start, start + 1000)) == list(range(start, start + 1000))
    counters = one.counters()
    assert (log.opened, counters.created, counters.reused, counters.seeks) == (1, 1, 4, 0)


def test_a_retry_gets_a_consumer_that_nobody_used() -> None:
    log = Log()
    one = pool(log)
    assert len(offsets(task(one, 0, 10))) == 10
    assert len(offsets(task(one, 0, 10, 1))) == 10
    counters = one.counters()
    assert (log.opened, counters.invalidated, counters.idle) == (2, 1, 0)


def test_a_task_that_is_left_early_gives_back() -> None:
    """Spark closes the generator of a task that it kills, and of one that needs no more rows."""
    one = pool(Log())
    part = task(one, 0, 5000)
    next(part)
    part.close()
    assert (one.counters().active, one.counters().idle) == (0, 1)


def test_batches_are_smaller_where_records_are_larger() -> None:
    small, large = Log(per_call=20_000, following=40_000), Log(value_bytes=100_000, following=3000)
    assert len(read(small, 0, 40_000)) == 40_000
    assert max(small.takes) == RECORDS_MAX
    sizes = [part.nbytes for part in task(pool(large), 0, 1500)]
    assert max(sizes) < 64 * 1024 * 1024


@pytest.mark.parametrize(("start", "end", "there"), [(0, 100, 60), (0, 30, 0)])
def test_records_that_are_gone(start: int, end: int, there: int) -> None:
    log = Log(first=40)
    with pytest.raises(RecordsLost) as raised:
        read(log, start, end)
    assert "failOnDataLoss" in raised.value.__notes__[0]
    assert read(log, start, end, failOnDataLoss="false") == list(range(40, 40 + there))


def test_records_that_go_while_they_are_read() -> None:
    """What came before is kept."""
    log = Log(per_call=10)
    one = pool(log)
    part = task(one, 0, 3000, failOnDataLoss="false")
    found = next(part)["offset"].to_pylist()
    log.first = 2000
    assert found + offsets(part) == [*range(len(found)), *range(2000, 3000)]


def test_a_log_that_is_shorter_than_it_was() -> None:
    log = Log(following=10)
    with pytest.raises(OffsetsMissing):
        read(log, 20, 30)
    assert read(log, 20, 30, failOnDataLoss="false") == []


def test_silence_is_an_error_and_no_end() -> None:
    with pytest.raises(ReadStalled, match=r"t\[0\] at 50 of 60"):
        read(Log(following=50), 0, 60, **{"kafkaConsumer.pollTimeoutMs": "100"})


def test_what_spark_takes_to_use_a_batch_is_no_silence() -> None:
    part = task(pool(Log(is_slow=True)), 0, 2000, **{"kafkaConsumer.pollTimeoutMs": "200"})
    found = next(part)["offset"].to_pylist()
    time.sleep(0.3)
    assert found + offsets(part) == list(range(2000))


def test_the_collector_rests_only_while_a_batch_is_made() -> None:
    """What Spark runs between batches is not ours to keep from it; and off stays off."""
    log = Log()
    for on in (True, False):
        (gc.enable if on else gc.disable)()
        try:
            part = task(pool(log), 0, 3000)
            assert {gc.isenabled() for _ in part} == {on}
            assert log.collected == {False}
            with pytest.raises(RecordsLost):
                read(Log(first=40), 0, 100)
            assert gc.isenabled() is on
        finally:
            gc.enable()


def test_a_process_has_one_pool_for_the_same_options() -> None:
    """Also where they came by pickle, as they do in each task."""
    given = options()
    assert pool_of(given) is pool_of(pickle.loads(pickle.dumps(given)))  # noqa: S301 - our own
    assert pool_of(given) is not pool_of(options(**{"kafka.client.id": "other"}))
    assert pool_of(given).counters().created == 0
