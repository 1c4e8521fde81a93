"""Three ways to let many threads read ranges of one partition, on a real Kafka: what is right, and what it costs.

    eval "$(scripts/kafka start | grep HEADRACE_KAFKA)"; .venv/bin/python benchmarks/pool.py

Jobs come one after the other, each with threads of its own; every thread reads some ranges of one partition. `shared` is
one consumer for the partition, with no lease: whoever wants a range places it and reads. `by-thread` is a cache whose key
has the thread's id in it. `leases` is `headrace.pool`. Each in a process of its own. Prints ranges that were wrong or never
ended, consumers that were made, the most threads and open files of the process, and the time. Ratios matter; absolute
numbers are this machine's on this day. Exit code 0 only if `by-thread` and `leases` were right throughout, and leases made
fewer consumers. What `shared` shows depends on when threads meet: nothing keeps them apart, and they may still not meet.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from headrace.pool import ConsumerPool, PoolSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[int, int], list[int]]

RECORDS: Final = 20_000
RANGE: Final = 200
BATCH: Final = 50
GIVE_UP_S: Final = 1.0
CONTENDERS: Final = ("shared", "by-thread", "leases")


def fill(servers: str, topic: str) -> None:
    admin: Any = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])[topic].result(30)
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})
    for number in range(RECORDS):
        producer.produce(topic, str(number).encode().rjust(100, b"0"), partition=0)
        producer.poll(0)
    assert producer.flush(60) == 0


class Naive:
    """Consumers in a cache, without leases."""

    def __init__(self, servers: str, topic: str, *, by_thread: bool) -> None:
        self._servers, self._topic, self._by_thread = servers, topic, by_thread
        self._lock = threading.Lock()
        self.cache: dict[int, Consumer] = {}

    def read(self, start: int, end: int) -> list[int]:
        key = threading.get_native_id() if self._by_thread else 0
        with self._lock:  # the cache is guarded; what comes out of it is not
            if key not in self.cache:
                self.cache[key] = self._consumer()
            consumer = self.cache[key]
        consumer.assign([TopicPartition(self._topic, 0, start)])
        found: list[int] = []
        moved_at = time.monotonic()
        while len(found) < end - start and time.monotonic() - moved_at < GIVE_UP_S:
            for message in consumer.consume(min(BATCH, end - start - len(found)), 0.05):
                if message.error() is None:
                    found.append(int(message.value() or b"-1"))
                    moved_at = time.monotonic()
        return found

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self._servers,
                "group.id": uuid.uuid4().hex,
                "enable.auto.commit": False,
                "fetch.queue.backoff.ms": 10,
                "fetch.wait.max.ms": 50,
            }
        )


def leased(pool: ConsumerPool, topic: str) -> Read:
    def read(start: int, end: int) -> list[int]:
        lists = pool.read(topic, 0, start, end, records_max=BATCH)
        return [int(record.value()) for records in lists for record in records]

    return read


class Jobs:
    """Waves of threads that read. The fields are what was seen."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._lock = threading.Lock()
        self.ranges = self.wrong = self.raised = self.threads = self.files = 0

    def run(self, jobs: int, threads: int, usages: int) -> None:
        for job in range(jobs):
            running = [
                threading.Thread(target=self._work, args=(job * threads + number, usages))
                for number in range(threads)
            ]
            for thread in running:
                thread.start()
            for thread in running:
                thread.join()
            self.threads = max(self.threads, sum(1 for _ in Path("/proc/self/task").iterdir()))
            self.files = max(self.files, sum(1 for _ in Path("/proc/self/fd").iterdir()))

    def _work(self, seed: int, usages: int) -> None:
        for start in starts(seed, usages):
            expected = list(range(start, start + RANGE))
            try:
                right, raised = self._read(start, start + RANGE) == expected, False
            except Exception:  # noqa: BLE001 - counted
                right, raised = False, True
            with self._lock:
                self.ranges += 1
                self.wrong += not right
                self.raised += raised


def starts(seed: int, usages: int) -> Iterator[int]:
    """Half go on where the last one ended, as tasks of a stream do."""
    chance = random.Random(seed)  # noqa: S311 - a seed repeats a run
    start = RECORDS
    for _ in range(usages):
        start += RANGE
        if start > RECORDS - RANGE or chance.random() < 0.5:
            start = chance.randrange(RECORDS - RANGE)
        yield start


def contend(name: str, servers: str, topic: str, options: argparse.Namespace) -> dict[str, Any]:
    pool = ConsumerPool(
        servers, settings=PoolSettings(consumers_soft_max=4, consumers_hard_max=4, cached_per_key_max=4)
    )
    naive = Naive(servers, topic, by_thread=name == "by-thread")
    jobs = Jobs(leased(pool, topic) if name == "leases" else naive.read)
    began = time.monotonic(), sum(os.times()[:2])
    jobs.run(options.jobs, options.threads, options.usages)
    elapsed, cpu = time.monotonic() - began[0], sum(os.times()[:2]) - began[1]
    made = pool.counters().created if name == "leases" else len(naive.cache)
    pool.close()
    return {
        "ranges": jobs.ranges,
        "wrong": jobs.wrong,
        "raised": jobs.raised,
        "consumers": made,
        "threads": jobs.threads,
        "open files": jobs.files,
        "elapsed s": round(elapsed, 1),
        "CPU s": round(cpu, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--usages", type=int, default=5, help="ranges that each thread reads")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--topic", default=f"benchmark-pool-{uuid.uuid4().hex[:8]}")
    options = parser.parse_args()
    servers = os.environ["HEADRACE_KAFKA"]
    if options.contender:
        print(json.dumps(contend(options.contender, servers, options.topic, options)))
        return 0
    fill(servers, options.topic)
    seen: dict[str, dict[str, Any]] = {}
    for name in CONTENDERS:
        command = [
            sys.executable,
            str(Path(__file__)),
            *sys.argv[1:],
            "--contender",
            name,
            "--topic",
            options.topic,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seen[name] = json.loads(done.stdout)
    for what in seen["leases"]:
        print(f"{what:12}" + "".join(f"{name:>12} {seen[name][what]:>7}" for name in CONTENDERS))
    right = seen["by-thread"]["wrong"] == seen["leases"]["wrong"] == 0
    return 0 if right and seen["leases"]["consumers"] < seen["by-thread"]["consumers"] else 1


if __name__ == "__main__":
    sys.exit(main())
