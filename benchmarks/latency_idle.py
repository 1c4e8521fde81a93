"""Latency from the broker's clock to the handler's start at 100 records a second, and what an idle app costs.

    benchmarks/latency_idle.py 127.0.0.1:9092 [classic|consumer]

Needs a running Kafka (scripts/kafka start). The topic stamps records when it appends them (LogAppendTime, whole
milliseconds), so a measured latency is up to 1 ms too long. The producer runs in this process, too: what it costs
the handlers is part of the number. Prints one line per measurement.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from headrace import App, Record

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDS = 1500
PER_SECOND = 100
WARM_UP = 100
IDLE_S = 5.0
WAIT_S = 30.0


def latencies_ms(kafka: str, topic: str, protocol: Any, kind: str) -> list[float]:
    found: list[float] = []
    warm, done = threading.Event(), threading.Event()

    def note(record: Record[Any, Any]) -> None:
        found.append(time.time() * 1000 - (record.timestamp_ms or 0))
        if len(found) >= WARM_UP:
            warm.set()
        if len(found) >= RECORDS:
            done.set()

    async def note_on_loop(record: Record[Any, Any]) -> None:
        note(record)

    handler: Callable[[Record[Any, Any]], Any] = note_on_loop if kind == "asyncio" else note
    app = App(kafka, f"latency-{uuid.uuid4().hex[:8]}", group_protocol=protocol)
    app.subscribe(topic, start_if_no_offset="latest")(handler)
    app.start()
    wait_for(lambda: bool(app.snapshot().engine.partitions))
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 0})
    began = time.monotonic()
    for number in range(RECORDS):
        producer.produce(topic, b"value", f"key-{number % 50}")
        producer.poll(0)
        time.sleep(max(0.0, began + (number + 1) / PER_SECOND - time.monotonic()))
    assert done.wait(WAIT_S)
    assert producer.flush(WAIT_S) == 0
    app.stop()
    return sorted(found[WARM_UP:])


def idle_share(kafka: str, topic: str, protocol: Any) -> float:
    app = App(kafka, f"idle-{uuid.uuid4().hex[:8]}", group_protocol=protocol)
    app.subscribe(topic, start_if_no_offset="latest")(print)
    app.start()
    wait_for(lambda: bool(app.snapshot().engine.partitions))
    time.sleep(1.0)  # joining is not idling
    cpu, wall = time.process_time(), time.monotonic()
    time.sleep(IDLE_S)
    share = (time.process_time() - cpu) / (time.monotonic() - wall)
    app.stop()
    return share


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def main(kafka: str, protocol: str) -> None:
    topic = f"latency-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})
    config = {"message.timestamp.type": "LogAppendTime"}
    admin.create_topics([NewTopic(topic, num_partitions=4, replication_factor=1, config=config)])[
        topic
    ].result(WAIT_S)
    try:
        for kind in ("threads", "asyncio"):
            found = latencies_ms(kafka, topic, protocol, kind)
            p50, p99 = statistics.median(found), found[int(len(found) * 0.99)]
            print(
                f"{protocol} {kind}: {PER_SECOND} records/s, append to handler start: "
                f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {found[-1]:.1f} ms"
            )
        print(f"{protocol} idle: {idle_share(kafka, topic, protocol):.2%} of one core over {IDLE_S:g} s")
    finally:
        admin.delete_topics([topic])[topic].result(WAIT_S)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "classic")
