"""A consumer that remembers what happened to it, and a wait that polls until something has.

It knows confluent-kafka only, nothing of Headrace: the broker is tested with a client that others wrote.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import Consumer, KafkaError, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Message

DEADLINE_S = 15.0
"""For things that take milliseconds, or three seconds at most, on a machine that may be busy with others."""

_CLOSE_S = 15.0
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class CommitAnswer:
    """What on_commit was told."""

    at: float
    error: str | None
    offsets: dict[int, int]


@dataclass(slots=True)
class History:
    """All that a member lived through, in order."""

    records: list[tuple[int, int, bytes | None]] = field(default_factory=list[tuple[int, int, bytes | None]])
    errors: list[str] = field(default_factory=list[str])
    commits: list[CommitAnswer] = field(default_factory=list[CommitAnswer])
    committed_at_assign: dict[int, tuple[int, str | None]] = field(
        default_factory=dict[int, tuple[int, str | None]]
    )


class GroupMember:
    """One member of a consumer group of one topic."""

    def __init__(self, settings: dict[str, Any], topic: str, **more: Any) -> None:
        self.topic = topic
        self.history = History()
        self._closing = False
        defaults = {"auto.offset.reset": "earliest", "enable.auto.commit": False}
        self.consumer = Consumer(defaults | settings | more | {"on_commit": self._on_commit})
        self.consumer.subscribe([topic], on_assign=self._on_assign)

    @property
    def assigned(self) -> set[int]:
        return {place.partition for place in self.consumer.assignment()}

    def poll(self, timeout_s: float = _POLL_S) -> None:
        message = self.consumer.poll(timeout_s)
        if message is not None:
            self._take(message)

    def commit(self, partition: int, offset: int, metadata: str = "") -> None:
        """Commit without waiting: the answer appears in `history.commits` while somebody polls."""
        place = TopicPartition(self.topic, partition, offset, metadata)
        self.consumer.commit(offsets=[place], asynchronous=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        # An assignment on its way that meets the close may never be answered, with the interpreter's lock held
        # (librdkafka issue 4884): it is taken before.
        self.consumer.unsubscribe()
        give_up_at = time.monotonic() + _CLOSE_S
        self.consumer.poll(_POLL_S)
        while self.consumer.assignment() and time.monotonic() < give_up_at:
            self.consumer.poll(_POLL_S)
        # In a thread, and not waited for long: librdkafka has been seen never to come back from this.
        closer = threading.Thread(target=self.consumer.close, name="group-member-close", daemon=True)
        closer.start()
        closer.join(_CLOSE_S)

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            self.history.errors.append(error.name())
            return
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        self.history.records.append((partition, offset, message.value()))

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # close() during a rebalance calls this too, and there committed() waits out its whole timeout and raises.
        if self._closing:
            return
        for place in consumer.committed(partitions, timeout=DEADLINE_S):
            self.history.committed_at_assign[place.partition] = (place.offset, place.metadata)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        refused = next((place.error for place in partitions if place.error is not None), error)
        offsets = {place.partition: place.offset for place in partitions}
        name = None if refused is None else refused.name()
        self.history.commits.append(CommitAnswer(time.monotonic(), name, offsets))


def poll_until(condition: Callable[[], bool], *members: GroupMember) -> None:
    """Poll the members in turn until the condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, (
            f"not within {DEADLINE_S:g} s: {[member.history for member in members]}"
        )
        if not members:
            time.sleep(_POLL_S)
        for member in members:
            member.poll()


def commit_and_wait(member: GroupMember, partition: int, offset: int, metadata: str = "") -> CommitAnswer:
    """Commit one offset and poll until it is answered."""
    before = len(member.history.commits)
    member.commit(partition, offset, metadata)
    poll_until(lambda: len(member.history.commits) > before, member)
    return member.history.commits[before]
