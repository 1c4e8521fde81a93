"""How far a bounded read is, as values that any thread may keep.

Decides what is counted; refuses to know who shows it. Counted is what was handed to the user, not what waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.ranges.bounds import Loss


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """One partition: how many offsets its ranges have, how many are behind, and how many of those were lost."""

    topic: str
    partition: int
    offsets: int
    done: int
    lost: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A bounded read at one moment.

    records, bytes: handed over so far; bytes of Arrow's columns, or of records' values. elapsed_s: since the read began.
    losses: what was lost so far, before the read began or during it. finished: all is handed over.
    """

    partitions: tuple[PartitionProgress, ...]
    records: int
    bytes: int
    elapsed_s: float
    losses: tuple[Loss, ...]
    finished: bool

    @property
    def offsets(self) -> int:
        """Offsets of all ranges."""
        return sum(partition.offsets for partition in self.partitions)

    @property
    def done(self) -> int:
        """Offsets that are behind."""
        return sum(partition.done for partition in self.partitions)

    @property
    def left_s(self) -> float | None:
        """Seconds to the end if it goes on as it went; None if nothing says so yet."""
        if self.finished:
            return 0.0
        done = self.done
        return self.elapsed_s * (self.offsets - done) / done if done and self.elapsed_s > 0 else None
