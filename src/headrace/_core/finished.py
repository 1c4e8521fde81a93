"""Which offsets of a partition are finished, as values: read back from a commit, and about to be written into one.

Decides nothing: it counts, looks up and lists. Refuses to know how either is written (`offset_map`) and where the
second comes from (`ledger`).

Invariant: offsets ascend, and no look at them takes longer or more memory because a run of finished offsets is long:
what was read from a commit may name a run of any length.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Iterator, Sequence


@dataclass(frozen=True, slots=True)
class FinishedMap:
    """Offsets of one partition that are finished, as runs [start, end): ascending, apart from each other, not empty.

    Nothing is finished at or after `horizon`. `base` is the committed offset that the map was written with.
    """

    base: int
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def horizon(self) -> int:
        """First offset of which the map says nothing."""
        return self.ends[-1] if self.ends else self.base

    def __contains__(self, offset: int) -> bool:
        run = bisect_right(self.starts, offset) - 1
        return run >= 0 and offset < self.ends[run]

    def __len__(self) -> int:
        return sum(self.ends) - sum(self.starts)

    def __iter__(self) -> Iterator[int]:
        for start, end in self.runs():
            yield from range(start, end)

    def runs(self) -> Iterator[tuple[int, int]]:
        """Iterate over the runs [start, end) of finished offsets."""
        return zip(self.starts, self.ends, strict=True)

    def flags(self, offsets: Sequence[int]) -> bytearray:
        """Return a byte for each of these ascending offsets: 1 where it is finished."""
        flags = bytearray(len(offsets))
        if offsets:
            run = bisect_right(self.ends, offsets[0])
            for start, end in islice(self.runs(), run, bisect_right(self.starts, offsets[-1])):
                first, stop = bisect_left(offsets, start), bisect_left(offsets, end)
                flags[first:stop] = b"\x01" * (stop - first)
        return flags

    def count_below(self, offset: int) -> int:
        """Count the finished offsets below this one."""
        run = bisect_left(self.starts, offset)
        whole = sum(self.ends[:run]) - sum(self.starts[:run])
        return whole - max(0, self.ends[run - 1] - offset) if run else 0

    def beyond(self, position: int) -> FinishedMap | None:
        """Return the part at and after `position`; None when nothing is left."""
        run = bisect_right(self.ends, position)
        if run == len(self.ends):
            return None
        starts = (max(self.starts[run], position), *self.starts[run + 1 :])
        return FinishedMap(self.base, starts, self.ends[run:])


@dataclass(frozen=True, slots=True)
class FinishedBeyond:
    """What a commit's offset map must say of one partition. A ledger makes it.

    `offsets` are the delivered ones from `base` (the offset to be committed) on, as far as they matter; `flags` has a
    byte for each, 1 if finished. `carried` is the part of an older map beyond `position`, not delivered again yet.
    Without it the last flag is 1; with it every delivered offset is needed, or an unfinished one would look like a gap.
    """

    base: int
    offsets: array[int]
    flags: bytes
    position: int
    carried: FinishedMap | None = None

    def __post_init__(self) -> None:
        # Raised, not asserted: what breaks these would be written as finished, and skipped.
        if len(self.offsets) != len(self.flags):
            raise ValueError(f"{len(self.offsets)} offsets have {len(self.flags)} flags")
        if self.offsets and not self.base <= self.offsets[0] <= self.offsets[-1] < self.position:
            raise ValueError(f"delivered offsets are not between {self.base} and {self.position}")
        if self.carried is not None:
            if not self.base <= self.position <= self.carried.starts[0]:
                raise ValueError(f"what is carried begins before the position {self.position}")
        elif self.flags[-1:] == b"\x00":
            raise ValueError("the last flag is of an unfinished offset")

    @property
    def finished(self) -> int:
        """How many offsets are finished."""
        return self.flags.count(1) + (0 if self.carried is None else len(self.carried))

    @property
    def unfinished(self) -> int:
        """How many offsets are not finished, counting all that were not delivered yet up to the horizon."""
        ahead = 0 if self.carried is None else self.carried.horizon - self.position - len(self.carried)
        return self.flags.count(0) + ahead

    @property
    def runs(self) -> int:
        """How many runs of finished offsets there are, counting across gaps of the log."""
        carried = 0 if self.carried is None else len(self.carried.starts)
        return self.flags.startswith(b"\x01") + self.flags.count(b"\x00\x01") + carried

    @property
    def horizon(self) -> int:
        """One more than the last finished offset."""
        if self.carried is not None:
            return self.carried.horizon
        last = self.flags.rfind(1)
        return self.base if last < 0 else self.offsets[last] + 1

    def finished_below(self, offset: int) -> int:
        """Count the finished offsets below this one."""
        carried = 0 if self.carried is None else self.carried.count_below(offset)
        return self.flags.count(1, 0, bisect_left(self.offsets, offset)) + carried

    def finished_offsets(self, count_max: int) -> list[int]:
        """Return the first finished offsets, at most `count_max`."""
        found = self._flagged(1, count_max)
        if self.carried is not None:
            _extend(found, self.carried.runs(), count_max)
        return found

    def unfinished_offsets(self, count_max: int) -> list[int]:
        """Return the first unfinished offsets and, after the last, the horizon; at most `count_max` in all."""
        found = self._flagged(0, count_max)
        if self.carried is not None:
            edges = zip((self.position, *self.carried.ends), self.carried.starts, strict=False)
            _extend(found, edges, count_max)
        _extend(found, [(self.horizon, self.horizon + 1)], count_max)
        return found

    def run_edges(self, count_max: int) -> list[int]:
        """Return start and end of each finished run, the first `count_max` of them."""
        found: list[int] = []
        start = self.flags.find(1)
        while start >= 0 and len(found) < count_max:
            end = self.flags.find(0, start)
            end = len(self.flags) if end < 0 else end
            found += (self.offsets[start], self.offsets[end - 1] + 1)
            start = self.flags.find(1, end)
        if self.carried is not None:
            for start, end in islice(self.carried.runs(), max(0, count_max - len(found))):
                if found and found[-1] == start:
                    found[-1] = end
                else:
                    found += (start, end)
        return found[:count_max]

    def cells(self, count: int) -> bytearray:
        """Return a byte for each of `count` offsets from the base on, 1 where it is finished."""
        cells = bytearray(count)
        known = min(count, len(self.flags))
        if self.carried is None and self.offsets[known - 1] - self.base == known - 1:
            cells[:known] = self.flags[:known]  # no gap in the log
            return cells
        edges = self.run_edges(count + 1)
        for start, end in zip(edges[::2], edges[1::2], strict=False):
            first, stop = start - self.base, min(end - self.base, count)
            if first < stop:
                cells[first:stop] = b"\x01" * (stop - first)
        return cells

    def _flagged(self, flag: int, count_max: int) -> list[int]:
        found: list[int] = []
        at = self.flags.find(flag)
        while at >= 0 and len(found) < count_max:
            found.append(self.offsets[at])
            at = self.flags.find(flag, at + 1)
        return found


def _extend(found: list[int], runs: Iterable[tuple[int, int]], count_max: int) -> None:
    """Add the offsets of the runs while there is room: a run of a decoded map may be as long as it likes."""
    for start, end in runs:
        if len(found) >= count_max:
            return
        found.extend(range(start, min(end, start + count_max - len(found))))
