"""When a failed record is tried again, and the records that wait for it.

The delay is a pure function of policy, attempt and a number drawn by the caller. The queue is a heap ordered by a
moment fixed when the record is parked, never by a field that changes while queued. Knows no clock.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.config import RetryPolicy
    from headrace.records import Record


def backoff_s(policy: RetryPolicy, attempt: int, spread: float) -> float:
    """Seconds to wait after try number `attempt` failed. `spread` in [0, 1) chooses within the jitter.

    Exponential with a cap and jitter in both directions; saturates, since `attempts_max` bounds the exponent.
    """
    delay_s = min(
        policy.backoff_initial_s * math.pow(policy.backoff_factor, attempt - 1), policy.backoff_max_s
    )
    return delay_s * (1.0 + policy.jitter * (2.0 * spread - 1.0))


class ParkingLot:
    """Records that wait for a moment: a retry, or another try at their dead letter. Owner thread only."""

    __slots__ = ("_heap", "_tie")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, Record[Any, Any]]] = []
        self._tie = 0

    def __len__(self) -> int:
        return len(self._heap)

    def park(self, record: Record[Any, Any], due_at: float) -> None:
        """Keep `record` until `due_at`. A record that was finished or dropped meanwhile is sorted out by the caller."""
        self._tie += 1
        heapq.heappush(self._heap, (due_at, self._tie, record._tenure.epoch, record))

    def next_due(self) -> float | None:
        """The earliest moment at which a record is due."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> list[Record[Any, Any]]:
        """Take out what is due, earliest first."""
        due: list[Record[Any, Any]] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[3])
        return due

    def forget(self, closed: object) -> None:
        """Drop what belongs to a closed tenure, so that it does not hold memory until it is due."""
        kept = [entry for entry in self._heap if entry[3]._tenure is not closed]
        if len(kept) != len(self._heap):
            heapq.heapify(kept)
            self._heap = kept
