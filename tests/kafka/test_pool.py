"""The consumer pool on a real broker: many threads in one partition, and ranges that end amid what was fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from headrace.errors import OffsetsMissing, RecordsLost
from headrace.pool import ConsumerPool, GrantReason, PoolSettings
from tests.kafka.leasing import Stress, fill
from tests.kafka.witness import WAIT_S

if TYPE_CHECKING:
    from tests.topics import Topics

pytestmark = pytest.mark.slow


def offsets(pool: ConsumerPool, topic: str, start: int, end: int) -> list[int | None]:
    """What a range gives."""
    return [
        record.offset() for records in pool.read(topic, 0, start, end, timeout_s=WAIT_S) for record in records
    ]


def test_many_threads_in_one_partition_read_exactly_their_ranges(kafka: str, topics: Topics) -> None:
    """A small form of tests/full/test_pool.py; every kind of lease occurs."""
    topic = topics.create()
    fill(kafka, topic)
    settings = PoolSettings(
        consumers_soft_max=4, consumers_hard_max=8, cached_per_key_max=4, wait_timeout_s=60
    )
    done = Stress(kafka, topic, settings, seed=6)
    done.run(threads=12, usages=25)
    assert done.failures == []
    assert done.records > 0
    assert {GrantReason.REUSED, GrantReason.UNCACHED, GrantReason.OPENED} <= set(done.reasons)
    assert any(reason.startswith("retry") for reason in done.reasons)
    assert done.counters.active == done.counters.closing == 0
    assert done.counters.idle <= 4
    assert done.counters.reused > 0
    done.close()
    assert done.counters.idle == 0


def test_a_range_that_ends_amid_what_was_fetched_leaves_the_rest(kafka: str, topics: Topics) -> None:
    """Ten ranges one after the other cost one consumer and no seek."""
    topic = topics.create()
    fill(kafka, topic)
    with ConsumerPool(kafka) as pool:
        for start in range(0, 1000, 100):
            assert offsets(pool, topic, start, start + 100) == list(range(start, start + 100))
        counters = pool.counters()
        assert (counters.created, counters.reused, counters.seeks) == (1, 9, 0)
        assert offsets(pool, topic, 17, 19) == [17, 18]
        assert pool.counters().seeks == 1


def test_ranges_end_at_markers_and_aborted_records(kafka: str, topics: Topics) -> None:
    """Every range over a partition with transactions ends, and has just what is visible in it."""
    topic = topics.create()
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic})
    producer.init_transactions(WAIT_S)
    visible: set[int] = set()
    at = 0
    for count, commit in ((3, True), (2, False), (1, True), (1, False)):
        producer.begin_transaction()
        for _ in range(count):
            producer.produce(topic, b"x", partition=0)
        assert producer.flush(WAIT_S) == 0
        if commit:
            visible |= set(range(at, at + count))
            producer.commit_transaction(WAIT_S)
        else:
            producer.abort_transaction(WAIT_S)
        at += count + 1  # a marker takes an offset
    with ConsumerPool(kafka) as pool:
        for start in range(at):
            for end in range(start, at + 1):
                expected = [offset for offset in range(start, end) if offset in visible]
                assert offsets(pool, topic, start, end) == expected, (start, end)
        # In a row: each begins in the middle of what the one before passed over.
        before = pool.counters().seeks
        assert [offset for start in range(at) for offset in offsets(pool, topic, start, start + 1)] == sorted(
            visible
        )
        assert pool.counters().seeks - before == 1, "back to the beginning, and then on"


def test_offsets_that_are_gone_or_not_there_yet_are_errors(kafka: str, topics: Topics) -> None:
    """Never a shorter range; and the consumer that met them is not lent again."""
    topic = topics.create()
    fill(kafka, topic)
    cut = TopicPartition(topic, 0, 400)
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_records([cut])[cut].result(WAIT_S)
    with ConsumerPool(kafka) as pool:
        with pytest.raises(RecordsLost) as lost:
            offsets(pool, topic, 100, 300)
        assert (lost.value.start, lost.value.end) == (100, 300)
        with pytest.raises(RecordsLost) as partly:
            offsets(pool, topic, 100, 500)
        assert (partly.value.start, partly.value.end) == (100, 400)
        with pytest.raises(OffsetsMissing) as missing:
            offsets(pool, topic, 2000, 2001)
        assert missing.value.end == 1000
        assert (pool.counters().idle, pool.counters().invalidated) == (0, 3)
        assert offsets(pool, topic, 400, 1000) == list(range(400, 1000))
        with pool.lease(topic, 0) as lease:
            assert lease.watermarks(WAIT_S) == (400, 1000)
