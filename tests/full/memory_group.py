"""Members of one group over a Kafka in memory: partitions move one by one, from whom they were revoked to whom they are due.

Decides who is to have what: all members about the same, and whoever has a partition keeps it if it may. Any thread.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

from headrace.testing.memory_client import MemoryClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.ports import RebalanceListener, TopicPartition
    from headrace.testing.memory_kafka import MemoryKafka


class MemoryGroup:
    """The coordinator. Invariant: a partition is given to nobody before its last holder has let it go."""

    def __init__(self, kafka: MemoryKafka, places: Sequence[TopicPartition]) -> None:
        self.kafka = kafka
        self.places = tuple(places)
        self._lock = threading.Lock()
        # Behind the lock, both. A holder that is not among the members is on its way out.
        self._members: list[MemoryMember] = []
        self._holders: dict[TopicPartition, MemoryMember] = {}

    def join(self, member: MemoryMember) -> None:
        """One more."""
        with self._lock:
            self._members.append(member)
            self._balance()

    def leave(self, member: MemoryMember) -> None:
        """One fewer; what it holds it will release."""
        with self._lock:
            self._members = [each for each in self._members if each is not member]

    def bury(self, member: MemoryMember) -> None:
        """It is gone; what it was given and never took note of is free."""
        with self._lock:
            self._holders = {place: who for place, who in self._holders.items() if who is not member}
            self._balance()

    def release(self, member: MemoryMember, places: Sequence[TopicPartition]) -> None:
        """Let these go."""
        with self._lock:
            for place in places:
                assert self._holders.pop(place) is member, "two members held one partition"
            self._balance()

    def _balance(self) -> None:
        if not self._members:
            return
        most = -(-len(self.places) // len(self._members))
        due: dict[MemoryMember, int] = dict.fromkeys(self._members, 0)
        for place, holder in self._holders.items():
            if holder not in due:
                continue
            due[holder] += 1
            if due[holder] > most:
                holder.inner.revoke(place)
        for place in self.places:
            if place not in self._holders:
                least = min(due, key=lambda member: due[member])
                due[least] += 1
                self._holders[place] = least
                least.inner.give(place)


class MemoryMember:
    """A `ports.Client` that is one of several. Holds nothing until the group gives it something."""

    def __init__(self, group: MemoryGroup) -> None:
        self.inner = MemoryClient(group.kafka)
        self.inner._taken_away.update(group.places)
        self._group = group

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None:
        """Join the group."""
        self.inner.subscribe(topics, cast("RebalanceListener", _Listening(listener, self._group, self)))
        self._group.join(self)

    def close(self, timeout_s: float) -> bool:
        """Leave the group, and give everything back."""
        self._group.leave(self)
        closed = self.inner.close(timeout_s)
        self._group.bury(self)
        return closed


class _Listening:
    """The runtime's listener; the group hears first of what was given back."""

    def __init__(self, inner: RebalanceListener, group: MemoryGroup, member: MemoryMember) -> None:
        self._inner, self._group, self._member = inner, group, member

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        """Once the runtime has let go, the next holder may begin; and the rebalance ends here, as it does: with an assignment."""
        self._inner.on_revoke(partitions)
        self._member.inner._asked.append(lambda listener: listener.on_assign([]))
        self._group.release(self._member, partitions)
