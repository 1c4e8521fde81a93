"""How far a group is behind on one partition: one formula, for the command line and for metrics.

Knows no client; whoever reads the offsets reads what is committed first, and the end last: then a lag may be a little
too large, and is never too small.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One partition of a group: where it stands and how much is behind it. None where nothing is committed."""

    topic: str
    partition: int
    committed: int | None
    start: int
    end: int

    @property
    def lag(self) -> int:
        """Records (offsets, to be exact) that the group has not finished; without a commit all that exist."""
        return max(0, self.end - max(self.start, self.committed or 0))
