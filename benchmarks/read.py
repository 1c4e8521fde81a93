"""What a bounded read into Arrow costs beside a careful hand-written loop, on a real Kafka in a process of its own.

    eval "$(scripts/kafka start | grep HEADRACE_KAFKA)"; .venv/bin/python benchmarks/read.py

Fills a topic (8 partitions, 16-byte keys, 100-byte values), then reads all of it into Arrow batches with all columns, each
contender in a process of its own, interleaved with the loop: `hand` is one consumer, `consume(10_000)`, a list for each
column, librdkafka tuned as Headrace tunes it. `hand-default` is the same with librdkafka's own settings. Prints records/s,
CPU microseconds per record, the most memory, and both as ratios to `hand` of the same round. Ratios matter; absolute numbers
are this machine's on this day. Bar (median of the rounds): `headrace` with one thread does at least 1.0 times the records of
`hand` per second of CPU. Every contender checks that it read everything.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
PARTITIONS = 8
BAR = 1.0
TUNED = {
    "fetch.queue.backoff.ms": 10,
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 65_536,
}


def used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def hand(servers: str, topic: str, settings: dict[str, Any]) -> int:
    import pyarrow as pa
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": uuid.uuid4().hex,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            **settings,
        }
    )
    ends = {
        p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in range(PARTITIONS)
    }
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    left = sum(ends.values())
    rows = 0
    header = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
    while left > 0:
        messages = consumer.consume(10_000, 0.05)
        if not messages:
            continue
        stamps = [m.timestamp() for m in messages]
        batch = pa.RecordBatch.from_arrays(
            [
                pa.array([m.key() for m in messages], pa.binary()),
                pa.array([m.value() for m in messages], pa.binary()),
                pa.array([m.topic() for m in messages], pa.string()).dictionary_encode(),
                pa.array([m.partition() for m in messages], pa.int32()),
                pa.array([m.offset() for m in messages], pa.int64()),
                pa.array([ms for _, ms in stamps], pa.timestamp("ms", tz="UTC")),
                pa.array([kind for kind, _ in stamps], pa.int8()),
                pa.array([m.headers() for m in messages], header),
            ],
            names=["key", "value", "topic", "partition", "offset", "timestamp", "timestamp_type", "headers"],
        )
        rows += batch.num_rows
        left -= batch.num_rows
    consumer.close()
    return rows


def headrace(servers: str, topic: str, **how: Any) -> int:
    from headrace import read

    return sum(batch.num_rows for batch in read(topic, bootstrap_servers=servers, **how))


def records(servers: str, topic: str) -> int:
    from headrace import read

    return sum(1 for _ in read(topic, bootstrap_servers=servers, as_="records", parallelism=1))


CONTENDERS: dict[str, Callable[[str, str], int]] = {
    "hand": lambda servers, topic: hand(servers, topic, TUNED),
    "hand-default": lambda servers, topic: hand(servers, topic, {}),
    "headrace": lambda servers, topic: headrace(servers, topic, parallelism=1),
    "headrace-threads": headrace,
    "headrace-values": lambda servers, topic: headrace(servers, topic, parallelism=1, columns=["value"]),
    "headrace-records": records,
}


def child(name: str, servers: str, topic: str, expected: int) -> None:
    # Imports are not counted: what is measured is reading.
    import confluent_kafka.admin
    import pyarrow as pa

    import headrace.ranges.fetching

    assert confluent_kafka.admin
    assert pa
    assert headrace.ranges.fetching
    began, cpu = time.perf_counter(), used_s()
    rows = CONTENDERS[name](servers, topic)
    wall_s, cpu_s = time.perf_counter() - began, used_s() - cpu
    assert rows == expected, f"{name} read {rows} of {expected}"
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"per_s": rows / wall_s, "cpu_us": cpu_s / rows * 1e6, "peak_mb": peak_mb}))


def measured(name: str, servers: str, topic: str, count: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", name, "--topic", topic, "--records", str(count)]
    done = subprocess.run(
        command,
        env=os.environ | {"HEADRACE_KAFKA": servers},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=600,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def fill(servers: str, count: int) -> str:
    from confluent_kafka.admin import AdminClient, NewTopic

    topic = f"read-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, num_partitions=PARTITIONS, replication_factor=1)])[topic].result(30)
    command = [sys.executable, "-m", "tests.full.fill_topic", servers, topic, str(PARTITIONS), str(count)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=1200)
    return topic


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    options.add_argument("--records", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", nargs="*", choices=CONTENDERS, default=list(CONTENDERS))
    options.add_argument("--topic")
    options.add_argument("--child", choices=CONTENDERS)
    given = options.parse_args()
    servers = os.environ.get("HEADRACE_KAFKA", "localhost:9092")
    if given.child:
        child(given.child, servers, given.topic, given.records)
        return 0
    topic = given.topic or fill(servers, given.records)
    ratios: dict[str, list[tuple[float, float]]] = {}
    print(f"{given.records:,} records of {PARTITIONS} partitions, {given.rounds} rounds, topic {topic}")
    for number in range(given.rounds):
        base = measured("hand", servers, topic, given.records)
        for name in given.only:
            one = base if name == "hand" else measured(name, servers, topic, given.records)
            rate, per_cpu = one["per_s"] / base["per_s"], base["cpu_us"] / one["cpu_us"]
            ratios.setdefault(name, []).append((rate, per_cpu))
            print(
                f"{number + 1}  {name:17}  {one['per_s']:12,.0f}/s  {one['cpu_us']:6.2f} us CPU  "
                f"{one['peak_mb']:6.0f} MB  x{rate:.2f} rate  x{per_cpu:.2f} per CPU"
            )
    for name, pairs in ratios.items():
        rate, per_cpu = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"median  {name:17}  x{rate:.2f} rate  x{per_cpu:.2f} per CPU")
    missed = "headrace" in ratios and statistics.median(per_cpu for _, per_cpu in ratios["headrace"]) < BAR
    print(f"bar: headrace at least x{BAR} per CPU: {'MISSED' if missed else 'held'}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
