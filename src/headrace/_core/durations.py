"""How long handlers took, counted in a fixed set of buckets.

Decides the buckets. Invariant: its size does not depend on how many records were handled, and what it counts costs one
step for a chunk of records, not one for each.

Owner thread only; `DurationsSnapshot` is for any thread.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BOUNDS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Upper ends of the buckets, three to a tenfold: from a handler that counts to one that calls a slow service."""


@dataclass(frozen=True, slots=True)
class DurationsSnapshot:
    """Handlers by how long they took, since the app started.

    counts: one for each of `bounds_s`, of those that took no longer than it and longer than the bound before; the last,
    beyond all bounds, comes on top. total_s: of all together.
    """

    counts: tuple[int, ...] = (0,) * (len(BOUNDS_S) + 1)
    total_s: float = 0.0
    bounds_s: tuple[float, ...] = BOUNDS_S

    @property
    def count(self) -> int:
        """How many handlers there were."""
        return sum(self.counts)

    def within(self, bound_s: float) -> int:
        """How many took no longer than one of the bounds."""
        return sum(self.counts[: self.bounds_s.index(bound_s) + 1])


class Durations:
    """The durations of one subscription's handlers. Owner thread only."""

    __slots__ = ("_counts", "_total_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._total_s = 0.0

    def add(self, started: int, busy_s: float, waits_s: Sequence[float]) -> None:
        """Take in `started` handlers: those that waited by themselves, the others with their mean.

        Executors tell the durations of all but the quickest one by one: a mean over microseconds hides little.
        """
        for wait_s in waits_s:
            self._counts[bisect_left(BOUNDS_S, wait_s)] += 1
            self._total_s += wait_s
        quick = started - len(waits_s)
        if quick > 0:
            self._counts[bisect_left(BOUNDS_S, busy_s / quick)] += quick
            self._total_s += busy_s

    def snapshot(self) -> DurationsSnapshot:
        """Freeze it."""
        return DurationsSnapshot(tuple(self._counts), self._total_s)
