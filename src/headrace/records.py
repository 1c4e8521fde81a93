"""The records a handler sees: `Record` and `Batch`.

A record wraps the client's message and decodes nothing until asked; that is what keeps the no-op path cheap.
It also carries the engine's bookkeeping (underscored slots), because a second object per record would double the
cost. Refuses to know how it is scheduled or committed.

Threads: the owner thread writes the underscored slots `_sequence`, `_next`, `_previous` and `_state`; one worker at
a time, the one that claimed the record, reads it and sets `_value`, `_key`. `ack()` may be called from any thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, final, overload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import TypeVar

    # A bare `Record` is one without decoders. Type checkers know the defaults of Python 3.13 from their own stubs.
    K = TypeVar("K", default=bytes | None)
    V = TypeVar("V", default=bytes | None)
else:
    from typing import TypeVar

    K = TypeVar("K")
    V = TypeVar("V")

Headers = tuple[tuple[str, bytes | None], ...]


class Source(Protocol):
    """What the client hands over for one record: confluent-kafka's `Message`, or a stand-in with the same calls."""

    def offset(self) -> int | None:
        """Offset of the record."""
        ...

    def key(self) -> Any:
        """The key's bytes, or None."""
        ...

    def value(self) -> Any:
        """The value's bytes, or None."""
        ...

    def headers(self) -> Any:
        """A list of (name, bytes or None), or None."""
        ...

    def timestamp(self) -> tuple[int, int]:
        """(kind, milliseconds); kind 0 is "none"."""
        ...

    def leader_epoch(self) -> int | None:
        """Epoch of the partition's leader, or None."""
        ...

    def __len__(self) -> int: ...


class Holder(Protocol):
    """The tenure a record belongs to: one epoch of one partition on this member."""

    topic: str
    partition: int
    epoch: int
    open: bool

    def acknowledge(self, record: Record[Any, Any]) -> bool:
        """Pass `record.ack()` on."""
        ...


_UNSET: Any = object()


@final
class Record(Generic[K, V]):
    """One Kafka record as a handler gets it.

    `key` and `value` are what the subscription's decoders made of `raw_key` and `raw_value` (the same bytes without
    decoders). `attempt` starts at 1 and counts tries since the partition was assigned to this member.
    Not thread-safe, but for `ack()`.
    """

    __slots__ = (
        "_key",
        "_next",
        "_previous",
        "_sequence",
        "_source",
        "_state",
        "_tenure",
        "_value",
        "attempt",
        "offset",
        "raw_key",
    )

    _source: Source
    _tenure: Holder
    _sequence: int
    _next: Record[Any, Any] | None
    _previous: Record[Any, Any] | None
    _state: int
    attempt: int
    offset: int
    raw_key: bytes | None

    def __init__(
        self,
        source: Source,
        tenure: Holder,
        offset: int,
        raw_key: bytes | None,
        sequence: int,
    ) -> None:
        self._source = source
        self._tenure = tenure
        self.offset = offset
        self.raw_key = raw_key
        self._sequence = sequence
        self.attempt = 1
        self._next = None
        self._previous = None
        self._state = 0
        self._value = _UNSET
        self._key = _UNSET

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self._tenure.topic

    @property
    def partition(self) -> int:
        """Number of the partition."""
        return self._tenure.partition

    @property
    def epoch(self) -> int:
        """Epoch of the assignment this record was delivered in; every assign and every seek begins a new one."""
        return self._tenure.epoch

    @property
    def raw_value(self) -> bytes | None:
        """The value's bytes as stored by Kafka; None for a tombstone."""
        value: bytes | None = self._source.value()
        return value

    @property
    def key(self) -> K:
        """The decoded key; `raw_key` without a `key_decoder`."""
        key: Any = self._key
        return self.raw_key if key is _UNSET else key  # type: ignore[return-value] # K is bytes | None then

    @property
    def value(self) -> V:
        """The decoded value; `raw_value` without a `value_decoder`."""
        value: Any = self._value
        return self._source.value() if value is _UNSET else value  # type: ignore[no-any-return] # V is bytes | None then

    @property
    def headers(self) -> Headers:
        """Headers in order, duplicates kept."""
        headers: list[tuple[str, bytes | None]] | None = self._source.headers()
        return tuple(headers) if headers else ()

    @property
    def timestamp_ms(self) -> int | None:
        """Milliseconds since the Unix epoch (creation or log-append time, as the topic is set), or None if there is none."""
        kind, timestamp_ms = self._source.timestamp()
        return timestamp_ms if kind else None

    def ack(self) -> bool:
        """Say that this record is finished; only with `ack="manual"`.

        Callable from any thread and in any order; a second call changes nothing. Returns False if the partition is no
        longer ours: the record will be handled by its new owner, and this acknowledgement is counted and dropped.
        Raises `AppStateError` on a subscription with `ack="on_return"`.
        """
        return self._tenure.acknowledge(self)

    def __repr__(self) -> str:
        # Never the value: records are logged, and values may be secret.
        return f"<Record {self.topic}[{self.partition}]@{self.offset} attempt {self.attempt}>"


@final
class Batch(Generic[K, V]):
    """Records of one partition, in offset order, for a handler that takes many at a time.

    If the handler returns, every record is finished but those given to `fail`. If it raises, every record has failed.
    Not thread-safe.
    """

    __slots__ = ("_failures", "records")

    def __init__(self, records: Sequence[Record[K, V]]) -> None:
        self.records: tuple[Record[K, V], ...] = tuple(records)
        self._failures: dict[int, BaseException] = {}

    @property
    def topic(self) -> str:
        """Name of the topic."""
        return self.records[0].topic

    @property
    def partition(self) -> int:
        """Number of the partition."""
        return self.records[0].partition

    def fail(self, record: Record[K, V], error: BaseException) -> None:
        """Say that this one record failed with `error`; only it is retried.

        Later records of its key in this batch count as not handled: they are delivered again after it. The last call
        for a record wins. Raises `ValueError` if the record is not of this batch.
        """
        if all(record is not mine for mine in self.records):
            msg = f"{record!r} is not in this batch"
            raise ValueError(msg)
        self._failures[id(record)] = error

    @overload
    def __getitem__(self, index: int) -> Record[K, V]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record[K, V]]: ...
    def __getitem__(self, index: int | slice) -> Record[K, V] | Sequence[Record[K, V]]:
        return self.records[index]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record[K, V]]:
        return iter(self.records)

    def __repr__(self) -> str:
        first, last = self.records[0], self.records[-1]
        return f"<Batch {self.topic}[{self.partition}]@{first.offset}..{last.offset}, {len(self.records)} records>"
