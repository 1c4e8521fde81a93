"""Balance as KIP-54 defines it: no partition could go from one member to another that has two fewer.

Decides shares by single hand-overs, as Kafka's own assignor does, and never moves more than each step gains. Refuses to
look for chains of hand-overs: `sticky` with `balance="fair"` does. Invariant: when it ends, no such pair is left.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.assign.kinds import Kinds
    from headrace.assign.problem import Problem


def balanced_directly(problem: Problem, kinds: Kinds) -> list[dict[int, int]]:
    """For each kind of partitions, how many each member shall have."""
    members_of = problem.members_of()
    takers = [
        sorted(member for number in classes for member in members_of[number]) for classes in kinds.subscribers
    ]
    shares = [dict(owned) for owned in kinds.owned]
    loads = [0] * len(problem.members)
    for owned in shares:
        for member, count in owned.items():
            loads[member] += count
    # Partitions that few may have are placed first: they have the least choice.
    for kind in sorted(range(len(shares)), key=lambda kind: (len(takers[kind]), kind)):
        free = kinds.supplies[kind] - sum(shares[kind].values())
        heap = [(loads[member], member) for member in takers[kind]] if free else []
        heapq.heapify(heap)
        for _ in range(free):
            _, member = heap[0]
            shares[kind][member] = shares[kind].get(member, 0) + 1
            loads[member] += 1
            heapq.heapreplace(heap, (loads[member], member))
    changed = True
    while changed:
        changed = False
        for share, owned, may_take in zip(shares, kinds.owned, takers, strict=True):
            changed |= _evened_out(share, owned, may_take, loads)
    return shares


def _evened_out(share: dict[int, int], owned: dict[int, int], takers: list[int], loads: list[int]) -> bool:
    """Hand over partitions of one kind, from who has most to who has least. True if any was.

    Of givers with the same load, one that would give up what it did not own before comes first: that moves nothing.
    """

    def giver(member: int) -> tuple[int, bool, int]:
        return (-loads[member], share[member] <= owned.get(member, 0), member)

    givers = [giver(member) for member, count in share.items() if count]
    heapq.heapify(givers)
    lightest = [(loads[member], member) for member in takers]
    heapq.heapify(lightest)
    changed = False
    while givers:
        load, _, source = givers[0]
        if -load != loads[source] or givers[0] != giver(source):  # it has taken some meanwhile
            heapq.heapreplace(givers, giver(source))
            continue
        least, target = lightest[0]
        if least != loads[target]:
            heapq.heapreplace(lightest, (loads[target], target))
            continue
        if loads[source] < least + 2:
            break
        share[source] -= 1
        loads[source] -= 1
        share[target] = share.get(target, 0) + 1
        loads[target] += 1
        changed = True
        heapq.heappop(givers)
        if share[source]:
            heapq.heappush(givers, giver(source))
        heapq.heapreplace(lightest, (loads[target], target))
    return changed
