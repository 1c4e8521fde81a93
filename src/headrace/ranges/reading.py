"""`headrace.read`: a finite read of topics, in parallel, into Arrow or into Python values.

Decides what a user's words mean and puts the parts together; refuses to know how a range is fetched (`fetching`) and
handed over (`results`). Invariant: what it returns ends at offsets that were fixed before the first record was read.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from headrace._client.settings import ConnectionSettings, checked_librdkafka
from headrace.config import require_choice, require_count, require_function, require_range
from headrace.errors import ConfigError, HeadraceError, RecordsLost, TopicRemade
from headrace.ranges.arrow import Batcher, checked_columns
from headrace.ranges.buffer import Buffer
from headrace.ranges.planning import OffsetRange
from headrace.ranges.records import records_of
from headrace.ranges.resolving import check, resolve
from headrace.ranges.results import Batches, Records

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace._client.range_consumer import Chunk
    from headrace.ranges.arrow import Column
    from headrace.ranges.bounds import Bounds
    from headrace.ranges.fetching import Made, OnDataLoss
    from headrace.ranges.progress import Progress
    from headrace.ranges.records import StoredRecord
    from headrace.ranges.resolving import Resolved

Isolation = Literal["read_committed", "read_uncommitted"]
Shape = Literal["batches", "table", "records"]

READ_GROUP: Final = "headrace-read"
"""The client wants a group id even where it joins none; nothing is ever committed to this one."""

THREADS_MAX: Final = 4
"""By default, and at most one for two processors: threads take turns at making Python objects of records."""

VERIFY_S: Final = 5.0
_MIB: Final = 1024 * 1024
_RECORD_BYTES: Final = 400  # what a record's Python objects take beside its payload


@overload
def read(
    topics: str | Sequence[str] | Sequence[OffsetRange],
    *,
    bootstrap_servers: str,
    start: Bounds = ...,
    end: Bounds = ...,
    columns: Sequence[Column] | None = ...,
    as_: Literal["batches"] = ...,
    parallelism: int | None = ...,
    on_data_loss: OnDataLoss = ...,
    isolation: Isolation = ...,
    progress: Callable[[Progress], None] | None = ...,
    timeout_s: float = ...,
    memory_bytes_max: int = ...,
    batch_records_max: int = ...,
    librdkafka: Mapping[str, Any] | None = ...,
) -> Batches: ...
@overload
def read(
    topics: str | Sequence[str] | Sequence[OffsetRange],
    *,
    bootstrap_servers: str,
    as_: Literal["table"],
    start: Bounds = ...,
    end: Bounds = ...,
    columns: Sequence[Column] | None = ...,
    parallelism: int | None = ...,
    on_data_loss: OnDataLoss = ...,
    isolation: Isolation = ...,
    progress: Callable[[Progress], None] | None = ...,
    timeout_s: float = ...,
    memory_bytes_max: int = ...,
    batch_records_max: int = ...,
    librdkafka: Mapping[str, Any] | None = ...,
) -> Any: ...
@overload
def read(
    topics: str | Sequence[str] | Sequence[OffsetRange],
    *,
    bootstrap_servers: str,
    as_: Literal["records"],
    start: Bounds = ...,
    end: Bounds = ...,
    columns: None = ...,
    parallelism: int | None = ...,
    on_data_loss: OnDataLoss = ...,
    isolation: Isolation = ...,
    progress: Callable[[Progress], None] | None = ...,
    timeout_s: float = ...,
    memory_bytes_max: int = ...,
    batch_records_max: int = ...,
    librdkafka: Mapping[str, Any] | None = ...,
) -> Records: ...


def read(
    topics: str | Sequence[str] | Sequence[OffsetRange],
    *,
    bootstrap_servers: str,
    start: Bounds = "earliest",
    end: Bounds = "latest",
    columns: Sequence[Column] | None = None,
    as_: Shape = "batches",
    parallelism: int | None = None,
    on_data_loss: OnDataLoss = "error",
    isolation: Isolation = "read_committed",
    progress: Callable[[Progress], None] | None = None,
    timeout_s: float = 60.0,
    memory_bytes_max: int = 128 * _MIB,
    batch_records_max: int = 10_000,
    librdkafka: Mapping[str, Any] | None = None,
) -> Any:
    """Read topics from `start` to `end`, once and exactly, without a consumer group.

    Start and end become offsets before this returns: "earliest", "latest", an offset, a `datetime`, a `timedelta` (so
    long ago), `Last(n)`, `Committed(group)`, or a dictionary of these by (topic, partition). `topics` may be
    `OffsetRange`s instead. A range ends when the position reaches its end, also over markers, aborted records and
    compacted ones. Order is kept within a partition.

    as_: "batches" streams `pyarrow.RecordBatch`es, "table" reads all into a `pyarrow.Table`, "records" streams
        `StoredRecord`s and needs no pyarrow. columns: of Arrow; all if None.
    parallelism: threads; by default one for each two processors, at most four. on_data_loss: "report" counts offsets that
        are gone in `losses` and goes on. progress: called about twice a second, in the thread that iterates.
    timeout_s: longest wait for offsets at the start, and for anything to come later. memory_bytes_max: what waits in
        queues, half in the client and half as results; beside it is what the caller holds, and a chunk for each thread.

    Raises `ConfigError`, `TopicMissing`, `NotAuthorized`, `BrokerUnreachable`, `ClientFailed`, `ExtraMissing` and
    `OffsetsMissing`; `RecordsLost`, `ReadStalled` and `TopicRemade` as well where it is iterated over. What it returns is for one thread.
    """
    settings = ReadSettings(
        connection=read_connection(bootstrap_servers, librdkafka),
        columns=columns,
        shape=as_,
        threads_max=_processors() if parallelism is None else parallelism,
        on_data_loss=on_data_loss,
        isolation=isolation,
        progress=progress,
        timeout_s=timeout_s,
        memory_bytes_max=memory_bytes_max,
        batch_records_max=batch_records_max,
    )
    found = _found(topics, settings, start, end)
    if as_ == "records":
        return settings.records(found)
    batches = settings.batches(found)
    return batches.to_table() if as_ == "table" else batches


def find_ranges(
    topics: str | Sequence[str],
    *,
    bootstrap_servers: str,
    start: Bounds = "earliest",
    end: Bounds = "latest",
    isolation: Isolation = "read_committed",
    timeout_s: float = 60.0,
    librdkafka: Mapping[str, Any] | None = None,
) -> Resolved:
    """What `read` would read, as plain offsets: to look at it, to cut it with `split`, to read parts of it elsewhere.

    Meaning and errors are those of `read`. Returns ranges in the order of topics and partitions, empty ones too, and what
    is lost of them already. Callable from any thread.
    """
    settings = ReadSettings(
        read_connection(bootstrap_servers, librdkafka),
        isolation=isolation,
        timeout_s=timeout_s,
        on_data_loss="report",
    )
    return _found(topics, settings, start, end)


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """The arguments of one read, checked. What each means: `read`."""

    connection: ConnectionSettings
    columns: Sequence[Column] | None = None
    shape: Shape = "batches"
    threads_max: int = 1
    on_data_loss: OnDataLoss = "error"
    isolation: Isolation = "read_committed"
    progress: Callable[[Progress], None] | None = None
    timeout_s: float = 60.0
    memory_bytes_max: int = 128 * _MIB
    batch_records_max: int = 10_000

    def __post_init__(self) -> None:
        require_choice("as_", self.shape, ("batches", "table", "records"))
        require_choice("on_data_loss", self.on_data_loss, ("error", "report"))
        require_choice("isolation", self.isolation, ("read_committed", "read_uncommitted"))
        require_range("timeout_s", self.timeout_s, 0.1, 86_400)
        require_count("memory_bytes_max", self.memory_bytes_max, _MIB, 1 << 40)
        require_count("batch_records_max", self.batch_records_max, 1, 1_000_000)
        require_count("parallelism", self.threads_max, 1, 256)
        if self.progress is not None:
            require_function("progress", self.progress)
        if self.shape == "records" and self.columns is not None:
            raise ConfigError("columns", self.columns, 'as_="batches" or "table"; records have all fields')
        checked_columns(self.columns)
        if "isolation.level" in self.connection.librdkafka:
            level = self.connection.librdkafka["isolation.level"]
            raise ConfigError("librdkafka['isolation.level']", level, "it to be absent; use isolation=")

    def batches(self, found: Resolved) -> Batches:
        """A read into Arrow, not begun."""
        from headrace.ranges.fetching import Made  # noqa: PLC0415 - loads the client library

        batcher = Batcher(checked_columns(self.columns), [one.topic for one in found.ranges])

        def content(chunk: Chunk) -> Made[Any]:
            batch = batcher.batch(chunk)
            return Made(batch, batch.nbytes, batch.nbytes)

        return Batches(batcher.schema, *self._parts(found, content))

    def records(self, found: Resolved) -> Records:
        """A read into Python values, not begun."""
        from headrace.ranges.fetching import Made  # noqa: PLC0415 - loads the client library

        def content(chunk: Chunk) -> Made[list[StoredRecord]]:
            payload = chunk.payload_bytes
            return Made(records_of(chunk), payload, payload + _RECORD_BYTES * len(chunk))

        return Records(*self._parts(found, content))

    def _parts(self, found: Resolved, content: Callable[[Chunk], Made[Any]]) -> tuple[Any, ...]:
        from headrace._client.range_consumer import RangeConsumer  # noqa: PLC0415 - loads the client library
        from headrace.ranges.fetching import Part, Share, share_out  # noqa: PLC0415 - the same

        shares = share_out([one for one in found.ranges if one.size], self.threads_max)
        budget = self.memory_bytes_max // 2
        buffer: Buffer[Part[Any]] = Buffer(budget, len(shares))
        connect = functools.partial(
            RangeConsumer,
            self.connection,
            isolation=self.isolation,
            queue_bytes=budget // max(1, len(shares)),
            partitions=-(-len({one.place for one in found.ranges}) // max(1, len(shares))),
        )
        threads = [
            Share(
                ranges,
                connect,
                content,
                buffer,
                time.monotonic,
                records_max=self.batch_records_max,
                chunk_bytes=budget // (2 * len(shares)),
                timeout_s=self.timeout_s,
                on_data_loss=self.on_data_loss,
            ).run
            for ranges in shares
        ]
        verify = functools.partial(_verify_topics, self.connection, found)
        return found.ranges, found.losses, buffer, threads, self.progress, verify


def read_connection(bootstrap_servers: str, librdkafka: Mapping[str, Any] | None) -> ConnectionSettings:
    """What a read tells its clients. Raises `ConfigError`."""
    return ConnectionSettings(bootstrap_servers, READ_GROUP, checked_librdkafka(librdkafka or {}))


def _found(
    topics: str | Sequence[str] | Sequence[OffsetRange], settings: ReadSettings, start: Bounds, end: Bounds
) -> Resolved:
    from headrace._client.range_lookups import RangeLookups  # noqa: PLC0415 - loads the client library

    given: list[Any] = [topics] if isinstance(topics, str) else list(topics)
    ranges: list[OffsetRange] = [one for one in given if isinstance(one, OffsetRange)]
    names: list[str] = [one for one in given if isinstance(one, str) and one]
    if not given or len(given) not in (len(ranges), len(set(names))):
        raise ConfigError("topics", topics, "names of topics, each once, or OffsetRanges; at least one")
    lookups = RangeLookups(settings.connection)
    committed_only = settings.isolation == "read_committed"
    if ranges:
        if (start, end) != ("earliest", "latest"):
            raise ConfigError("start, end", (start, end), "them to be absent beside OffsetRanges")
        found = check(lookups, ranges, timeout_s=settings.timeout_s, committed_only=committed_only)
    else:
        found = resolve(
            lookups,
            names,
            start,
            end,
            now_ms=time.time_ns() // 1_000_000,
            timeout_s=settings.timeout_s,
            committed_only=committed_only,
        )
    if found.losses and settings.on_data_loss == "error":
        first = found.losses[0]
        raise RecordsLost(first.topic, first.partition, first.start, first.end)
    return found


def _verify_topics(connection: ConnectionSettings, found: Resolved) -> None:
    """Raise `TopicRemade` if a topic is not the one that it was. The client itself reads on in a new one without a word."""
    from headrace._client.admin import Observer  # noqa: PLC0415 - loads the client library

    if not found.topic_ids:
        return
    now: Mapping[str, str] = {}
    # All was read: that nobody answers now, or that a topic went since, takes nothing from it.
    with contextlib.suppress(HeadraceError):
        now = Observer(connection).topic_ids(sorted(found.topic_ids), VERIFY_S)
    remade = [topic for topic, one in now.items() if found.topic_ids[topic] != one]
    if remade:
        raise TopicRemade(remade)


def _processors() -> int:
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(THREADS_MAX, there // 2))
