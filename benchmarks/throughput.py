"""What Headrace costs per record beside a raw loop, on a real Kafka in a process of its own.

    eval "$(scripts/kafka start | grep HEADRACE_KAFKA)"; .venv/bin/python benchmarks/throughput.py

Fills a topic (8 partitions, 16-byte keys of 10,007, 100-byte values), then runs each contender in a process of its own,
interleaved with the raw loop, and prints pairs: records/s, CPU microseconds per record (consuming process only), and
both as ratios to the raw loop of the same round. Ratios matter; absolute numbers are this machine's on this day.
Bars (median of the rounds): a no-op `def` handler in key order takes at most 5 times raw's CPU and runs at no less than
0.25 of its rate; an `async` handler that awaits 10 ms with concurrency 1000 does 20,000 records/s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from headrace import App, Batch, Batching, Record

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS = 10_007
BARS = {"def": (5.0, 0.25), "async": (None, None), "batch": (None, None)}
AWAIT_BAR_PER_S = 20_000


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Meter:
    """Counts from the first record on; whoever counts calls `add`."""

    def __init__(self, goal: int) -> None:
        self.goal = goal
        self.count = 0
        self.first = 0
        self.began = (0.0, 0.0)
        self.done = threading.Event()
        self.ended = (0.0, 0.0)

    def add(self, records: int) -> None:
        """Count records; the clocks start with the first."""
        if not self.count:
            self.began = (time.perf_counter(), cpu_s())
            self.first = records
        self.count += records
        if self.count >= self.goal and not self.done.is_set():
            self.ended = (time.perf_counter(), cpu_s())
            self.done.set()

    def result(self) -> dict[str, float]:
        """Rates without the first batch, which only started the clocks."""
        wall_s, used_s = self.ended[0] - self.began[0], self.ended[1] - self.began[1]
        counted = self.count - self.first
        return {
            "records": self.count,
            "per_s": counted / wall_s,
            "cpu_us": used_s / counted * 1e6,
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def raw(servers: str, topic: str, records: int) -> dict[str, float]:
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 10,
        }
    )
    consumer.subscribe([topic])
    meter = Meter(records)
    while not meter.done.is_set():
        messages = consumer.consume(500, 0.2)
        for message in messages:
            message.key()
            message.value()
            message.offset()
            message.partition()
        if messages:
            meter.add(len(messages))
    consumer.close()
    return meter.result()


def headrace(servers: str, topic: str, records: int, kind: str, options: dict[str, Any]) -> dict[str, float]:
    app = App(servers, uuid.uuid4().hex)
    meter = Meter(records)
    if kind == "batch":
        options = {"batch": Batching(500), **options}

    def no_op(_record: Record) -> None:
        return

    async def async_no_op(_record: Record) -> None:
        return

    async def awaits(_record: Record) -> None:
        await asyncio.sleep(0.01)

    def takes_batch(_batch: Batch) -> None:
        return

    handlers: dict[str, Callable[..., Any]] = {
        "def": no_op,
        "async": async_no_op,
        "await": awaits,
        "batch": takes_batch,
    }
    app.subscribe(topic, **options)(handlers[kind])

    def watch() -> None:
        # Finished records as the engine counts them: what the handlers did, the ledger took in, and nothing less.
        seen = 0
        while not meter.done.is_set():
            finished = app.snapshot().engine.counters.finished
            if finished > seen:
                meter.add(finished - seen)
                seen = finished
            time.sleep(0.01)
        app.request_stop()

    threading.Thread(target=watch, daemon=True).start()
    app.run()
    return meter.result()


def fill(servers: str, topic: str, records: int, partitions: int, value_bytes: int) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    next(iter(admin.create_topics([NewTopic(topic, partitions, 1)]).values())).result(30)
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "linger.ms": 50,
            "batch.size": 128_000,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    value = os.urandom(value_bytes // 2).hex().encode()
    for number in range(records):
        while True:
            try:
                producer.produce(topic, value, f"key-{number % KEYS:012d}".encode())
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush(120)


def child(arguments: argparse.Namespace, contender: str, options: dict[str, Any]) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", contender, "--topic", arguments.topic]
    command += [
        "--records",
        str(arguments.records),
        "--servers",
        arguments.servers,
        "--options",
        json.dumps(options),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def show(name: str, pairs: list[tuple[dict[str, float], dict[str, float]]]) -> tuple[float, float]:
    cpu = statistics.median(ours["cpu_us"] / base["cpu_us"] for base, ours in pairs)
    rate = statistics.median(ours["per_s"] / base["per_s"] for base, ours in pairs)
    middle = statistics.median(ours["per_s"] for _, ours in pairs)
    print(
        f"{name:28} {middle:12,.0f} records/s  {statistics.median(o['cpu_us'] for _, o in pairs):6.2f} us CPU"
        f"   CPU x{cpu:.2f}   rate x{rate:.2f}   peak {max(o['rss_mb'] for _, o in pairs):.0f} MB"
    )
    return cpu, rate


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--servers", default=os.environ.get("HEADRACE_KAFKA"))
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", help="def, async, batch, await")
    parser.add_argument("--topic")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child")
    parser.add_argument("--options", default="{}")
    arguments = parser.parse_args()
    if arguments.child:
        options = json.loads(arguments.options)
        found = (
            raw(arguments.servers, arguments.topic, arguments.records)
            if arguments.child == "raw"
            else headrace(arguments.servers, arguments.topic, arguments.records, arguments.child, options)
        )
        print(json.dumps(found))
        return 0
    if not arguments.servers:
        parser.error("no broker: set HEADRACE_KAFKA or --servers (scripts/kafka start prints one)")
    if not arguments.topic:
        arguments.topic = f"bench-{uuid.uuid4().hex[:8]}"
        fill(
            arguments.servers, arguments.topic, arguments.records, arguments.partitions, arguments.value_bytes
        )
    return measure(arguments)


def measure(arguments: argparse.Namespace) -> int:
    print(
        f"{arguments.records:,} records, {arguments.partitions} partitions, {arguments.value_bytes}-byte values, "
        f"{arguments.rounds} rounds, {os.cpu_count()} CPUs, Python {sys.version.split()[0]}"
    )
    chosen = arguments.only or ["def", "async", "batch", "await"]
    missed = []
    for kind in chosen:
        if kind == "await":
            few = argparse.Namespace(**{**vars(arguments), "records": min(arguments.records, 200_000)})
            found = [child(few, "await", {"concurrency": 1000}) for _ in range(arguments.rounds)]
            rate = statistics.median(one["per_s"] for one in found)
            print(f"{'async, awaits 10 ms, 1000':28} {rate:12,.0f} records/s  (bar {AWAIT_BAR_PER_S:,})")
            if rate < AWAIT_BAR_PER_S:
                missed.append(kind)
            continue
        pairs = [(child(arguments, "raw", {}), child(arguments, kind, {})) for _ in range(arguments.rounds)]
        if kind == chosen[0]:
            show("raw consume(500)", [(base, base) for base, _ in pairs])
        cpu, rate = show(f"{kind}, no-op, key order", pairs)
        cpu_bar, rate_bar = BARS[kind]
        if cpu_bar is not None and rate_bar is not None and (cpu > cpu_bar or rate < rate_bar):
            missed.append(kind)
    if missed:
        print("below the bar: " + ", ".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
