"""A consumer of one partition, as a pool lends it: where it stands, and what it keeps, on the embedded broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace._client.partition_consumer import PartitionConsumer
from headrace._client.settings import ConnectionSettings
from headrace.errors import ConfigError, OffsetsMissing, RecordsLost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.testing.broker import MockBroker

WAIT_S = 10.0


@pytest.fixture
def consumer(broker: MockBroker) -> Iterator[PartitionConsumer]:
    """Of a partition with 100 records."""
    made = PartitionConsumer(ConnectionSettings(broker.bootstrap_servers, "group"), "orders", 1, 1 << 20)
    yield made
    made.close()


def taken(consumer: PartitionConsumer, count: int, end: int | None = None) -> list[int | None]:
    """Offsets until there are so many."""
    found: list[int | None] = []
    while len(found) < count:
        found += [m.offset() for m in consumer.consume(count - len(found), WAIT_S, end)]
    return found


def test_it_stands_nowhere_before_it_was_placed(consumer: PartitionConsumer) -> None:
    """And says so, rather than begin somewhere."""
    assert consumer.position is None
    with pytest.raises(ConfigError):
        consumer.consume(1, 0.0, None)


def test_what_lies_beyond_an_end_is_kept(consumer: PartitionConsumer) -> None:
    """Whoever goes on at the end finds it; placing it there again is no move."""
    assert consumer.place(0)
    assert taken(consumer, 100, end=None)[:3] == [0, 1, 2]
    assert consumer.place(10)
    assert taken(consumer, 5, end=15) == list(range(10, 15))
    assert consumer.position == 15
    assert consumer.consume(50, WAIT_S, 15) == []
    assert not consumer.place(15)
    assert taken(consumer, 85) == list(range(15, 100))
    assert consumer.position == 100


def test_a_move_drops_what_was_kept(consumer: PartitionConsumer) -> None:
    """Nothing of the old place comes after it."""
    consumer.place(0)
    taken(consumer, 3, end=3)
    for offset in (50, 20, 90, 0):
        assert consumer.place(offset)
        assert taken(consumer, 5) == list(range(offset, offset + 5))


def test_an_end_beyond_the_last_record_is_waited_for(consumer: PartitionConsumer, broker: MockBroker) -> None:
    """An empty answer is no end: the position says where it stands."""
    consumer.place(98)
    assert taken(consumer, 2, end=101) == [98, 99]
    for _ in range(3):
        assert consumer.consume(10, 0.05, 101) == []
    assert consumer.position == 100
    broker.produce("orders", [(b"key", b"late")], partition=1)
    assert taken(consumer, 1, end=101) == [100]


def test_offsets_that_are_gone(consumer: PartitionConsumer, broker: MockBroker) -> None:
    """What of the range is lost; afterwards it must be placed anew."""
    broker.delete_records("orders", 1, 30)
    consumer.place(10)
    with pytest.raises(RecordsLost) as lost:
        taken(consumer, 1, end=20)
    assert (lost.value.start, lost.value.end) == (10, 20)
    assert consumer.position is None
    consumer.place(30)
    assert taken(consumer, 2) == [30, 31]


def test_offsets_that_are_not_there_yet(consumer: PartitionConsumer) -> None:
    """Not waited for: something is wrong with the range."""
    consumer.place(500)
    with pytest.raises(OffsetsMissing) as missing:
        taken(consumer, 1, end=501)
    assert missing.value.end == 100


def test_watermarks(consumer: PartitionConsumer) -> None:
    """First and next."""
    assert consumer.watermarks(WAIT_S) == (0, 100)
