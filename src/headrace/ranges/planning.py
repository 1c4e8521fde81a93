"""Ranges of offsets, and how they are cut into parts for many readers.

Decides by sizes alone; refuses to know brokers, threads or time: a range here has plain offsets, so that "earliest" and
"latest" were resolved before. Invariant: the parts of a range, in order, are that range: no gap, no overlap, none empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headrace.config import require_count
from headrace.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

OFFSET_MAX: Final = (1 << 63) - 1
"""Kafka's offsets are signed 64-bit numbers."""

COUNT_MAX: Final = 10_000_000


@dataclass(frozen=True, slots=True, order=True)
class OffsetRange:
    """Offsets `start` to `end` of one partition; `end` is the first that is not part of it.

    It counts offsets, not records: compaction and transactions leave offsets without one.
    """

    topic: str
    partition: int
    start: int
    end: int

    def __post_init__(self) -> None:
        if not self.topic or not isinstance(self.topic, str):  # pyright: ignore[reportUnnecessaryIsInstance] # users' input
            raise ConfigError("OffsetRange.topic", self.topic, "a non-empty string")
        require_count("OffsetRange.partition", self.partition, 0, (1 << 31) - 1)
        require_count("OffsetRange.start", self.start, 0, OFFSET_MAX)
        require_count("OffsetRange.end", self.end, self.start, OFFSET_MAX)

    @property
    def size(self) -> int:
        """Number of offsets."""
        return self.end - self.start

    @property
    def place(self) -> tuple[str, int]:
        """Topic and partition."""
        return self.topic, self.partition

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}] {self.start}..{self.end}"


def split(
    ranges: Sequence[OffsetRange], *, parts_min: int | None = None, records_max: int | None = None
) -> list[OffsetRange]:
    """Cut ranges into parts, in the order given; empty ranges are left out.

    parts_min: about so many parts in all, shared out by size. Rounding may give a few more or fewer, as Spark's
        `minPartitions` does; a range that is not empty is never dropped for it.
    records_max: no part has more offsets, as Spark's `maxRecordsPerPartition`.

    Parts of one range differ by at most one offset, the longer ones last. Raises `ConfigError` for a limit below 1.
    """
    for name, limit in (("parts_min", parts_min), ("records_max", records_max)):
        if limit is not None:
            require_count(name, limit, 1, OFFSET_MAX)
    parts = [part for part in ranges if part.size > 0]
    if records_max is not None:
        parts = [cut for part in parts for cut in _cut(part, -(-part.size // records_max))]
    if parts_min is None or parts_min <= len(parts):
        return parts
    total = sum(part.size for part in parts)
    shares = [_share(part.size, total, parts_min) for part in parts]
    # Ranges too small to be cut take a part each; what is left is shared out among the others.
    large_total = sum(part.size for part, share in zip(parts, shares, strict=True) if share > 1)
    large_parts = max(1, parts_min - shares.count(1))
    return [
        cut
        for part, share in zip(parts, shares, strict=True)
        for cut in _cut(part, 1 if share == 1 else _share(part.size, large_total, large_parts))
    ]


def preferred_worker(topic: str, partition: int, workers: int) -> int:
    """Which of so many workers, numbered from 0, should read a partition each time, so that what it keeps is of use.

    The choice is Spark's: the same partition prefers the same executor there and here.
    """
    require_count("workers", workers, 1, COUNT_MAX)
    units = topic.encode("utf-16-be")  # a Java string is hashed by its UTF-16 units
    name = 0
    for high, low in zip(units[::2], units[1::2], strict=True):
        name = _int32(31 * name + (high << 8 | low))
    return _int32(31 * (31 + partition) + name) % workers


def _share(size: int, total: int, parts: int) -> int:
    # Rounds half up, in whole numbers: floats would be wrong for large offsets, and Python's round() rounds half to even.
    return max(1, (2 * size * parts + total) // (2 * total))


def _cut(whole: OffsetRange, parts: int) -> list[OffsetRange]:
    cuts: list[OffsetRange] = []
    start = whole.start
    for left in range(parts, 0, -1):
        end = start + (whole.end - start) // left
        if end > start:
            cuts.append(OffsetRange(whole.topic, whole.partition, start, end))
        start = end
    return cuts


def _int32(number: int) -> int:
    return (number + (1 << 31)) % (1 << 32) - (1 << 31)
