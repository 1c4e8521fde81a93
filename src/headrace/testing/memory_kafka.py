"""Topics and one group's commits in memory: what a trial's client reads and its producer writes.

Decides offsets and partitions as a broker does; refuses to know groups, generations and time. Any thread may use it.
Invariant: offsets of a partition are dense, from 0.
"""

from __future__ import annotations

import threading
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from headrace.ports import Committed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from headrace.ports import CommitRequest, TopicPartition
    from headrace.records import Headers


@final
@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as Kafka holds it: bytes, without an offset. What goes into a trial, and what comes out of it.

    partition: None leaves it to the key's hash; records without a key go to partition 0.
    """

    topic: str
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()
    partition: int | None = None
    timestamp_ms: int | None = None


@final
class StoredRecord:
    """`records.Source`: one record of a partition, with the calls of confluent-kafka's `Message`."""

    __slots__ = ("_offset", "_raw")

    def __init__(self, raw: RawRecord, offset: int) -> None:
        self._raw = raw
        self._offset = offset

    @property
    def raw(self) -> RawRecord:
        """The record as it was given, with the partition it went to."""
        return self._raw

    def offset(self) -> int:
        """Offset of the record."""
        return self._offset

    def key(self) -> Any:
        """The key's bytes, or None."""
        return self._raw.key

    def value(self) -> Any:
        """The value's bytes, or None."""
        return self._raw.value

    def headers(self) -> Any:
        """A list of (name, bytes or None), or None."""
        return list(self._raw.headers) or None

    def timestamp(self) -> tuple[int, int]:
        """(kind, milliseconds); kind 0 is "none"."""
        return (0, 0) if self._raw.timestamp_ms is None else (1, self._raw.timestamp_ms)

    def leader_epoch(self) -> int | None:
        """None: there is no leader."""
        return None

    def __len__(self) -> int:
        return len(self._raw.value or b"")


@final
class MemoryKafka:
    """Topics and commits. `changed` is notified when records come."""

    def __init__(self, topics: Mapping[str, int] | None = None) -> None:
        self.changed = threading.Condition()
        # `changed` guards both.
        self._topics: dict[str, list[list[StoredRecord]]] = {}
        self._commits: dict[TopicPartition, Committed] = {}
        for topic, partitions in (topics or {}).items():
            self.create(topic, partitions)

    def create(self, topic: str, partitions: int = 1) -> None:
        """Make a topic, or add partitions to it; never takes any away."""
        with self.changed:
            logs = self._topics.setdefault(topic, [])
            logs.extend([] for _ in range(partitions - len(logs)))
            self.changed.notify_all()

    def topics(self) -> dict[str, int]:
        """Topics and their numbers of partitions."""
        with self.changed:
            return {topic: len(logs) for topic, logs in self._topics.items()}

    def append(self, record: RawRecord) -> StoredRecord:
        """Write one record; a topic or partition that is missing is made."""
        self.create(record.topic, (record.partition or 0) + 1)
        with self.changed:
            logs = self._topics[record.topic]
            number = record.partition
            if number is None:
                number = 0 if record.key is None else zlib.crc32(record.key) % len(logs)
            raw = RawRecord(
                record.topic, record.key, record.value, tuple(record.headers), number, record.timestamp_ms
            )
            stored = StoredRecord(raw, len(logs[number]))
            logs[number].append(stored)
            self.changed.notify_all()
        return stored

    def read(self, place: TopicPartition, offset: int, records_max: int) -> list[StoredRecord]:
        """Records from `offset` on."""
        topic, number = place
        with self.changed:
            return self._topics[topic][number][offset : offset + records_max]

    def end(self, place: TopicPartition) -> int:
        """Offset of the next record to be written."""
        topic, number = place
        with self.changed:
            logs = self._topics.get(topic, [])
            return len(logs[number]) if number < len(logs) else 0

    def offset_at(self, place: TopicPartition, timestamp_ms: int) -> int:
        """Offset of the first record at or after a moment, else the end."""
        for stored in self.read(place, 0, self.end(place)):
            kind, at_ms = stored.timestamp()
            if kind and at_ms >= timestamp_ms:
                return stored.offset()
        return self.end(place)

    def commit(self, requests: Iterable[CommitRequest]) -> None:
        """Write commits of the one group."""
        with self.changed:
            for asked in requests:
                self._commits[asked.topic, asked.partition] = Committed(
                    asked.topic, asked.partition, asked.offset, asked.metadata, asked.leader_epoch
                )

    def committed(self, places: Sequence[TopicPartition]) -> list[Committed]:
        """What the group committed."""
        with self.changed:
            return [self._commits.get(place, Committed(*place, None)) for place in places]


@final
class MemoryProducer:
    """`ports.Producer`: writes to a `MemoryKafka` at once, on the caller's thread."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self._kafka = kafka
        # Appended by any thread; read when nothing produces any more.
        self.produced: list[RawRecord] = []

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        partition: int | None,
        done: Callable[[Exception | None], None],
    ) -> None:
        """Write it and answer at once."""
        self.produced.append(self._kafka.append(RawRecord(topic, key, value, tuple(headers), partition)).raw)
        done(None)

    def close(self, timeout_s: float) -> int:
        """Nothing is ever unacknowledged."""
        del timeout_s
        return 0
