"""SPARK-22606 and SPARK-23623 at Spark's own size: 100 threads, 500 usages each, 1,000 records, one partition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.pool import PoolSettings
from tests.kafka.leasing import Stress, fill

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.topics import Topics

THREADS, USAGES = 100, 500


def test_a_hundred_threads_in_one_partition(
    kafka: str, topics: Topics, record_property: Callable[[str, object], None]
) -> None:
    """Every range exact, no error, no consumer used by two threads, and few consumers for 50,000 usages."""
    topic = topics.create()
    fill(kafka, topic)
    settings = PoolSettings(
        consumers_soft_max=8, consumers_hard_max=10, cached_per_key_max=8, wait_timeout_s=600
    )
    done = Stress(kafka, topic, settings, seed=23623)
    done.run(THREADS, USAGES)
    counters = done.counters
    record_property("leases", done.reasons.total())
    record_property("records", done.records)
    record_property("counters", str(counters))
    assert done.failures == []
    assert done.reasons.total() == counters.created + counters.reused
    assert counters.created < done.reasons.total() / 2
    assert counters.active == counters.closing == 0
    done.close()
    assert done.counters.idle == 0
