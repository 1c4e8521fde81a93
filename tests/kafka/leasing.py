"""Many threads that read ranges of one partition through one pool: SPARK-22606 and SPARK-23623.

In Spark two tasks met in one cached consumer: an exception, or records of the other's range. Here every range is compared
record by record, and every consumer is under `headrace.guard`: a second thread in one is a failure. Refuses to know how many
threads are many.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer

from headrace import guard
from headrace.pool import CloseFailed, ConsumerPool, LeaseGranted, LeaseRefused, OpenFailed
from headrace.pool.consumers import connect

if TYPE_CHECKING:
    from headrace.pool import GrantReason, PoolCounters, PooledConsumer, PoolEvent, PoolSettings

RECORDS = 1000
RANGE_MAX = 100
RETRIES = 0.01
"""A retry gives up all consumers of the key."""
TIMEOUT_S = 60.0


def fill(kafka: str, topic: str) -> None:
    """Records of one partition, each with its offset for a value."""
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5})
    for number in range(RECORDS):
        producer.produce(topic, str(number).encode(), partition=0)
    assert producer.flush(30) == 0


class Stress:
    """Threads in one partition. What came of it stands in the fields once `run` has returned."""

    def __init__(self, kafka: str, topic: str, settings: PoolSettings, seed: int) -> None:
        self._topic = topic
        self._seed = seed
        self._lock = threading.Lock()
        self._pool = ConsumerPool(kafka, settings=settings, listener=self._told, connect=self._opened)
        self.failures: list[str] = []
        self.reasons: Counter[GrantReason] = Counter()
        self.records = 0

    @property
    def counters(self) -> PoolCounters:
        """The pool's."""
        return self._pool.counters()

    def run(self, threads: int, usages: int) -> None:
        """Every thread reads so many ranges; some are retries, some want no cache, some go on where they stopped."""
        running = [threading.Thread(target=self._work, args=(number, usages)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    def close(self) -> None:
        """Close the pool."""
        self._pool.close()

    def _work(self, number: int, usages: int) -> None:
        chance = random.Random(self._seed * 1000 + number)  # noqa: S311 - a seed repeats a run
        start = RECORDS
        try:
            for _ in range(usages):
                if chance.random() < 0.5 or start >= RECORDS:
                    start = chance.randrange(RECORDS)
                start = self._use(chance, start)
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.failures.append(repr(error))

    def _use(self, chance: random.Random, start: int) -> int:
        end = min(RECORDS, start + chance.randint(0, RANGE_MAX))
        lists = self._pool.read(
            self._topic,
            0,
            start,
            end,
            attempt=int(chance.random() < RETRIES),
            use_cache=chance.random() < 0.95,
            records_max=chance.randint(1, 2 * RANGE_MAX),
            timeout_s=TIMEOUT_S,
        )
        found = [(record.offset(), record.value()) for records in lists for record in records]
        if found != [(offset, str(offset).encode()) for offset in range(start, end)]:
            self.failures.append(f"[{start}, {end}): {found}")
        with self._lock:
            self.records += len(found)
        return end

    def _opened(self, *arguments: Any) -> PooledConsumer:
        # Not kept here: a client library has room for a thousand clients, and those that were closed count while they live.
        return guard(connect(*arguments))

    def _told(self, event: PoolEvent) -> None:
        if isinstance(event, LeaseGranted):
            with self._lock:
                self.reasons[event.reason] += 1
        elif isinstance(event, CloseFailed | OpenFailed | LeaseRefused):
            self.failures.append(repr(event))
