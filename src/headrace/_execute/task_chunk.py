"""Claim lists on an event loop, where a handler may suspend in the middle of one.

Decides what of a list may go on while one of its records is suspended. Nothing has to be known of lanes until that
happens; then the rest of the list is split, once, into what is behind the suspended record, lists of one lane each,
and one list of records that are independent of each other.

Invariant: within a list that is not `mixed` no further question about lanes is needed.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from headrace._execute.claims import ClaimList

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from headrace.records import Record


class Order(Enum):
    """What is known of the order within a list."""

    MIXED = "mixed"
    """Lanes are unknown: while one record is suspended, the rest waits to be split."""
    FREE = "free"
    """No two records share a lane: any of them may run beside the others."""
    LANE = "lane"
    """All are of one lane: each waits for the one before it."""


class TaskChunk(ClaimList):
    """One list, or a part of it after a split. The loop thread's, but for `withdraw` under the executor's lock."""

    __slots__ = ("blocked", "order")

    def __init__(self, records: list[Record[Any, Any]], order: Order) -> None:
        super().__init__(records)
        self.order = order
        # Lanes of which nothing more is started.
        self.blocked: set[Hashable] = set()

    def parallel(self) -> int:
        """How many of its records could run at once, at most."""
        unclaimed = self.unclaimed()
        return min(unclaimed, 1) if self.order is Order.LANE else unclaimed


class Split:
    """The rest of a mixed list, by what may run beside its suspended record."""

    __slots__ = ("behind", "blocked", "parts")

    def __init__(
        self,
        rest: list[Record[Any, Any]],
        suspended: Record[Any, Any],
        lane_of: Callable[[Record[Any, Any]], Hashable | None],
        blocked: set[Hashable],
    ) -> None:
        lane_suspended = lane_of(suspended)
        behind: list[Record[Any, Any]] = []
        free: list[Record[Any, Any]] = []
        lanes: dict[Hashable, list[Record[Any, Any]]] = {}
        self.blocked: list[Record[Any, Any]] = []
        for record in rest:
            lane = lane_of(record)
            if lane is None:
                free.append(record)
            elif lane == lane_suspended:
                behind.append(record)
            elif lane in blocked:
                self.blocked.append(record)
            else:
                lanes.setdefault(lane, []).append(record)
        self.parts: list[TaskChunk] = []
        for run in lanes.values():
            if len(run) == 1:
                free.append(run[0])
            else:
                self.parts.append(TaskChunk(run, Order.LANE))
        if free:
            self.parts.append(TaskChunk(free, Order.FREE))
        self.behind = TaskChunk(behind, Order.LANE) if behind else None
