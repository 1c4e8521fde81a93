"""Topics of the benchmark: filled once for each shape, and producers that keep a rate.

Decides how records are spread; refuses to know who reads them. Invariant: a topic has exactly the records that its shape
says, or filling raises.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

if TYPE_CHECKING:
    from benchmarks.peers.cells import Shape

WAIT_S = 120
CREATE_S = 30
SEED = 7
TEXT_BYTES = 4_000_000
STRIDE = 7919
"""Between the places of the text that values are cut from: far enough that those of one batch differ."""


def create(servers: str, topic: str, partitions: int) -> None:
    """With one replica; the broker's clock stamps its records."""
    admin = AdminClient({"bootstrap.servers": servers})
    config = {"message.timestamp.type": "LogAppendTime"}
    new = NewTopic(topic, partitions, 1, config=config)
    next(iter(admin.create_topics([new]).values())).result(CREATE_S)


def delete(servers: str, topics: list[str]) -> None:
    """What is not there is no trouble, nor is a broker that takes its time: it is housekeeping."""
    for future in AdminClient({"bootstrap.servers": servers}).delete_topics(topics).values():
        try:
            future.result(CREATE_S)
        except (KafkaException, TimeoutError):
            continue


def held(servers: str, topic: str) -> int:
    """Records of the topic, or -1 if there is no such topic."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench-look"})
    found = consumer.list_topics(timeout=CREATE_S).topics
    total = -1
    if topic in found:
        parts = [TopicPartition(topic, number) for number in found[topic].partitions]
        total = sum(consumer.get_watermark_offsets(part, timeout=CREATE_S)[1] for part in parts)
    consumer.close()
    return total


def fill(servers: str, shape: Shape) -> str:
    """The topic's name. Keys of 16 bytes in turns; values that compress about as hexadecimal text does.

    One that an earlier run filled whole is taken as it is.
    """
    if held(servers, shape.name) == shape.records:
        return shape.name
    create(servers, shape.name, shape.partitions)
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "linger.ms": 1000,  # full batches, however many partitions there are
            "batch.size": 128_000,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 400_000,
            "compression.type": shape.codec,
            "partitioner": "murmur2_random",  # as Java's producers do
        }
    )
    refused: list[object] = []

    def told(error: object, _message: object) -> None:
        if error is not None:
            refused.append(error)

    draw = random.Random(SEED)  # noqa: S311 - spreads keys, guards nothing
    text = draw.randbytes(TEXT_BYTES // 2).hex().encode()
    starts = TEXT_BYTES - shape.value_bytes
    keys = [b"key-%012d" % number for number in range(shape.keys)]
    for number in range(shape.records):
        hot = shape.hot_share and draw.random() < shape.hot_share
        key = keys[0] if hot else keys[number % shape.keys]
        start = number * STRIDE % starts
        value = text[start : start + shape.value_bytes]
        while True:
            try:
                producer.produce(shape.name, value, key, on_delivery=told)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 1000 == 0:
            producer.poll(0)
    left = producer.flush(WAIT_S)
    if left or refused:
        raise RuntimeError(f"{shape.name}: {left} records left, {len(refused)} refused: {refused[:1]}")
    return shape.name


class Pace:
    """A producer in a thread of its own that keeps a rate until closed; record after record, without lingering."""

    def __init__(self, servers: str, topic: str, per_s: float, shape: Shape) -> None:
        self._producer = Producer(
            {"bootstrap.servers": servers, "linger.ms": 0, "partitioner": "murmur2_random"}
        )
        self._topic, self._per_s, self._shape = topic, per_s, shape
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        draw = random.Random(SEED)  # noqa: S311 - the same
        value = b"x" * self._shape.value_bytes
        began = time.monotonic()
        number = 0
        while not self._stop.is_set():
            due = int((time.monotonic() - began) * self._per_s)
            while number < due:
                hot = self._shape.hot_share and draw.random() < self._shape.hot_share
                key = b"key-%012d" % (0 if hot else 1 + number % self._shape.keys)
                self._producer.produce(self._topic, value, key)
                number += 1
            self._producer.poll(0)
            self._stop.wait(1 / min(self._per_s, 500))
        self._producer.flush(CREATE_S)

    def close(self) -> None:
        """Stop and wait for it."""
        self._stop.set()
        self._thread.join(CREATE_S)
