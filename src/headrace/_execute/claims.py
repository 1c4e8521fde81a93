"""A submitted list of records as a claim list: workers take from its front, the owner takes back all that is left.

Refuses to know handlers and outcomes. Invariants: each record leaves the list once, to whoever took it; what was
claimed is a prefix of the list, so an index says how far a list has come without a write per record.

The claim is one step of the list's iterator, one C call that neither runs Python code nor lets go of the GIL; so is
the taking back, `list(iterator)`. That costs a third of a deque's popleft. It needs the GIL.
"""

from __future__ import annotations

from operator import length_hint
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from headrace.records import Record
    from headrace.subscriptions import OrderBy


class ClaimList:
    """One list of records. `claims` is shared by its one worker and the owner; see the module's docstring.

    `withdraw`, and `claimed` from any thread but the worker's, need the lock of whoever holds the list.
    """

    __slots__ = ("_end", "claims", "records")

    def __init__(self, records: list[Record[Any, Any]]) -> None:
        self.records = records
        self.claims: Iterator[Record[Any, Any]] = iter(records)
        self._end = -1

    def withdraw(self) -> list[Record[Any, Any]]:
        """Take all records that nobody has claimed; afterwards the worker finds none."""
        taken = list(self.claims)
        if taken or self._end < 0:
            self._end = len(self.records) - len(taken)
        return taken

    def claimed(self) -> int:
        """Count the records that a worker has claimed; the last of them may still run."""
        if self._end >= 0:
            return self._end
        return len(self.records) - length_hint(self.claims)

    def unclaimed(self) -> int:
        """Count the records that can still be claimed or taken back."""
        return length_hint(self.claims)


def lane_function(order_by: OrderBy) -> Callable[[Record[Any, Any]], Hashable | None]:
    """Return what tells the lane of a record; None for a record without one."""
    match order_by:
        case "key":
            return _lane_by_key
        case "partition":
            return _lane_by_partition
        case "none":
            return _no_lane


def separate(
    records: Iterable[Record[Any, Any]], tenures: Iterable[object] | None
) -> tuple[list[Record[Any, Any]], list[Record[Any, Any]]]:
    """Split records into those of these tenures (None: of all) and the others, both in order."""
    if tenures is None:
        return list(records), []
    wanted = {id(tenure) for tenure in tenures}
    mine: list[Record[Any, Any]] = []
    others: list[Record[Any, Any]] = []
    for record in records:
        (mine if id(record._tenure) in wanted else others).append(record)
    return mine, others


def _lane_by_key(record: Record[Any, Any]) -> Hashable | None:
    key = record.raw_key
    return None if key is None else (id(record._tenure), key)


def _lane_by_partition(record: Record[Any, Any]) -> Hashable | None:
    return id(record._tenure)


def _no_lane(_record: Record[Any, Any]) -> Hashable | None:
    return None
