"""What tests of a running app look at from outside: bounded waits, committed offsets, plain produce.

Refuses to know Headrace, but for reading an offset map back.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from confluent_kafka import Consumer, Producer, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from confluent_kafka import KafkaError, Message

    from headrace import App

Protocol = Literal["classic", "consumer"]
PROTOCOLS: tuple[Protocol, ...] = ("classic", "consumer")
WAIT_S = 20.0
ANY = -1
"""librdkafka's word for: the partitioner decides."""
_AGAIN_S = 0.02


def wait_until(condition: Callable[[], object], what: str, within_s: float = WAIT_S) -> None:
    """Wait for it, within a bound."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(_AGAIN_S)


@contextmanager
def running(app: App, *, stop_s: float | None = None) -> Generator[App]:
    """The app runs inside the block and is stopped after it."""
    app.start()
    try:
        yield app
    except BaseException:
        app.request_stop(hard=True)
        raise
    app.stop(stop_s)


def produce(
    kafka: str, topic: str, records: Iterable[tuple[bytes | None, bytes | None]], partition: int = ANY
) -> int:
    """Produce (key, value) pairs; returns when all are acknowledged."""
    producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True, "linger.ms": 2})
    refused: list[KafkaError] = []

    def answered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            refused.append(error)

    count = 0
    for key, value in records:
        producer.produce(topic, key=key, value=value, partition=partition, on_delivery=answered)
        count += 1
    assert producer.flush(WAIT_S) == 0
    assert not refused, refused
    return count


class Group:
    """One group's commits, as another client sees and makes them."""

    def __init__(self, kafka: str, group_id: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": kafka, "group.id": group_id})

    def place(self, topic: str, partition: int = 0) -> TopicPartition:
        """What is committed for one partition: offset (negative for none), metadata, leader epoch."""
        (found,) = self._consumer.committed([TopicPartition(topic, partition)], timeout=WAIT_S)
        return found

    def committed(self, topic: str, partition: int = 0) -> int | None:
        """The committed offset, None without one."""
        offset = self.place(topic, partition).offset
        return offset if offset >= 0 else None

    def commit(self, topic: str, partition: int, offset: int, metadata: str = "") -> None:
        """Commit as a client without membership does: only while the group has no members."""
        place = TopicPartition(topic, partition, offset, metadata)
        self._consumer.commit(offsets=[place], asynchronous=False)

    def ends(self, topic: str, partition: int = 0) -> tuple[int, int]:
        """First offset of a partition, and the one after its last."""
        low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=WAIT_S)
        return low, high

    def close(self) -> None:
        """Close the client; it never joined."""
        self._consumer.close()


@contextmanager
def group_of(kafka: str, group_id: str) -> Generator[Group]:
    """A look at the group from outside, while the block runs."""
    group = Group(kafka, group_id)
    try:
        yield group
    finally:
        group.close()
