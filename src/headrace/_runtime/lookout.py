"""What deciding about connections needs to know from outside: the group as a whole, and the ends of partitions.

Refuses to decide. Invariant: what cannot be learnt is None, never a guess. Used by one thread, that of `questions`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace._core.scaling import GroupView
    from headrace.ports import TopicPartition


class Lookout(Protocol):
    """Questions to the cluster, on clients of its own; each waits at most about its timeout."""

    def group(self, timeout_s: float) -> GroupView | None:
        """Partitions and processes of the group, or None if they cannot be had."""
        ...

    def ends(
        self, partitions: Sequence[TopicPartition], timeout_s: float
    ) -> dict[TopicPartition, int] | None:
        """The offsets behind the last records, or None if they cannot be had."""
        ...

    def close(self) -> None:
        """End the clients, and with them any question that is out."""
        ...
