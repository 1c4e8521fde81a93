"""Records of a bounded read as Python values, for those who need no tables.

Decides what a record is there; refuses to know threads and ends. Nothing is decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from headrace._client.range_consumer import Chunk


class StoredRecord(NamedTuple):
    """One record as the broker has it. Immutable.

    timestamp_ms: ms since the Unix epoch; None if it has none. headers: in order, duplicates kept.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def records_of(chunk: Chunk) -> list[StoredRecord]:
    """The records of a chunk."""
    topics = [chunk.topics] * len(chunk) if isinstance(chunk.topics, str) else chunk.topics
    times = [ms if kind > 0 else None for kind, ms in chunk.timestamps()]
    headers = [tuple(some) if some else () for some in chunk.headers()]
    columns = zip(
        topics, chunk.partitions, chunk.offsets, times, chunk.keys(), chunk.values(), headers, strict=True
    )
    return list(map(StoredRecord._make, columns))
