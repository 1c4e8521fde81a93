"""Weighted assignment: what is balanced is a load per partition, against the capacity of each member.

Decides by placing what nobody owns, heaviest first, and then by moving single partitions off the members that are most
loaded for their capacity, while that gains enough. Refuses to promise the best: that is as hard as packing boxes. What
it does promise is measured by `weighed`, which knows how good any plan could be at best. Invariant: a partition moves
only if the heavier of the two members is then less loaded than the heavier was; so a group that fits stays as it is.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from headrace.assign.kinds import kinds_of
from headrace.assign.problem import compiled
from headrace.errors import GroupInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headrace.assign.kinds import Kinds
    from headrace.assign.model import Member, Plan, Topic
    from headrace.assign.problem import Problem

ROUNDING = 1e-9


@final
@dataclass(frozen=True, slots=True)
class Weighted:
    """Balance `Topic.loads` instead of counts, each member by its `capacity`. A topic without loads weighs 1 a partition.

    `tolerance` is hysteresis: members up to that part above the mean are left alone, and no move is made that gains less
    than half of it. Loads such as lag change all the time; with 0 every change of them would move partitions. Smooth them.
    """

    tolerance: float = 0.1

    name: ClassVar[str] = "headrace-weighted"

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if not 0 <= self.tolerance <= 10:
            raise GroupInvalid(f"tolerance {self.tolerance}", "expected 0 to 10")

    def assign(
        self, members: Iterable[Member], topics: Mapping[str, int | Topic], previous: Plan | None = None
    ) -> Plan:
        """Plan the next assignment. Raises `GroupInvalid`. Safe from any number of threads."""
        problem = compiled(members, topics, previous)
        balancing = _Balancing(problem, kinds_of(problem, racks=False))
        balancing.place_what_is_free()
        balancing.even_out(self.tolerance)
        return problem.plan(self.name, balancing.owners)


@final
@dataclass(frozen=True, slots=True)
class Weighing:
    """How evenly a plan spreads load. `heaviest` and `bound` are load per capacity."""

    loads: dict[str, float]
    heaviest: float
    """Of the member that is most loaded for its capacity."""
    bound: float
    """No plan has a lower one: all load on all capacity, one heavy partition, or topics that only some members read."""

    @property
    def ratio(self) -> float:
        """How far above the bound: 1.0 is as good as any plan can be."""
        return self.heaviest / self.bound if self.bound else 1.0


def weighed(plan: Plan, members: Iterable[Member], topics: Mapping[str, int | Topic]) -> Weighing:
    """Weigh any plan, of whatever strategy."""
    problem = compiled(members, topics)
    weights = _weights(problem)
    loads = [0.0] * len(problem.members)
    for index, owner in enumerate(plan.owners):
        if owner >= 0:
            loads[owner] += weights[index]
    capacity = [member.capacity for member in problem.members]
    kinds = kinds_of(problem, racks=False)
    takers = [frozenset(members) for members in _takers(problem, kinds)]
    weight_of = [0.0] * len(takers)
    bound = 0.0
    for index, kind in enumerate(kinds.kind_of):
        if kind >= 0:
            weight_of[kind] += weights[index]
            bound = max(bound, weights[index] / max(capacity[member] for member in takers[kind]))
    everybody = frozenset(member for some in takers for member in some)
    for cut in {*takers, everybody}:
        inside = sum(weight for weight, some in zip(weight_of, takers, strict=True) if some <= cut)
        bound = max(bound, inside / sum(capacity[member] for member in cut) if cut else 0.0)
    return Weighing(
        loads={member.id: load for member, load in zip(problem.members, loads, strict=True)},
        heaviest=max((load / c for load, c in zip(loads, capacity, strict=True)), default=0.0),
        bound=bound,
    )


def _weights(problem: Problem) -> list[float]:
    weights: list[float] = []
    for topic in problem.topics:
        weights += [1.0] * topic.partitions if topic.loads is None else map(float, topic.loads)
    return weights


def _takers(problem: Problem, kinds: Kinds) -> list[list[int]]:
    members_of = problem.members_of()
    return [
        sorted(member for number in classes for member in members_of[number]) for classes in kinds.subscribers
    ]


@final
class _Balancing:
    """One plan in the making."""

    def __init__(self, problem: Problem, kinds: Kinds) -> None:
        self.owners = list(problem.owner)
        self._kind_of = kinds.kind_of
        self._capacity = [member.capacity for member in problem.members]
        self._takers = [self._by_capacity(takers) for takers in _takers(problem, kinds)]
        self._weights = _weights(problem)
        self._load = [0.0] * len(self._capacity)
        self._count = [0] * len(self._capacity)
        # What each member has of each kind, lightest first.
        self._held: list[dict[int, list[tuple[float, int]]]] = [{} for _ in self._capacity]
        for index, owner in enumerate(self.owners):
            if owner >= 0:
                self._give(index, owner)

    def _by_capacity(self, takers: list[int]) -> list[list[int]]:
        """Members of one capacity are compared by what they have; others by what they would have."""
        alike: dict[float, list[int]] = {}
        for member in takers:
            alike.setdefault(self._capacity[member], []).append(member)
        return [alike[capacity] for capacity in sorted(alike)]

    def _give(self, index: int, member: int) -> None:
        self.owners[index] = member
        self._load[member] += self._weights[index]
        self._count[member] += 1
        insort(self._held[member].setdefault(self._kind_of[index], []), (self._weights[index], index))

    def _take(self, index: int, member: int) -> None:
        held = self._held[member][self._kind_of[index]]
        del held[bisect_left(held, (self._weights[index], index))]
        self._load[member] -= self._weights[index]
        self._count[member] -= 1

    def _rank(self, member: int) -> tuple[float, float, int]:
        """Least loaded first; of those, who has fewest, so that partitions without load spread too."""
        return (
            self._load[member] / self._capacity[member],
            self._count[member] / self._capacity[member],
            member,
        )

    def place_what_is_free(self) -> None:
        """Heaviest first, each to the member with the least load for its capacity."""
        free = [index for index, kind in enumerate(self._kind_of) if kind >= 0 > self.owners[index]]
        heaps: dict[int, list[list[tuple[float, float, int]]]] = {}
        for index in sorted(free, key=lambda index: (-self._weights[index], index)):
            kind = self._kind_of[index]
            if kind not in heaps:
                heaps[kind] = [sorted(map(self._rank, members)) for members in self._takers[kind]]
            _, _, heap = min(self._offer(heap, index, at) for at, heap in enumerate(heaps[kind]))
            member = heaps[kind][heap][0][2]
            self._give(index, member)
            heapq.heapreplace(heaps[kind][heap], self._rank(member))

    def _offer(
        self, heap: list[tuple[float, float, int]], index: int, at: int
    ) -> tuple[float, tuple[float, float, int], int]:
        """How loaded the least loaded of these would be with this partition."""
        while heap[0] != (rank := self._rank(heap[0][2])):  # it was given some of another kind
            heapq.heapreplace(heap, rank)
        member = heap[0][2]
        return (self._load[member] + self._weights[index]) / self._capacity[member], rank, at

    def even_out(self, tolerance: float) -> None:
        """Move partitions off the most loaded, until none of them can be relieved by enough."""
        mean = sum(self._load) / sum(self._capacity) if self._capacity else 0.0
        if not mean:
            return
        least_gain = max(tolerance / 2, ROUNDING) * mean
        relieved = True
        while relieved:
            relieved = False
            for member in sorted(range(len(self._load)), key=self._rank, reverse=True):
                while self._load[member] / self._capacity[member] > mean * (1 + tolerance):
                    if not self._relieve(member, least_gain):
                        break
                    relieved = True

    def _relieve(self, member: int, least_gain: float) -> bool:
        """Move the one partition that helps most. False if none helps enough."""
        before = self._load[member] / self._capacity[member]
        best = (before - least_gain, -1, -1)
        for kind, held in self._held[member].items():
            if not held:
                continue
            for target in (min(members, key=self._rank) for members in self._takers[kind]):
                if target == member:
                    continue
                for weight, index in self._candidates(member, target, held):
                    after = max(
                        (self._load[member] - weight) / self._capacity[member],
                        (self._load[target] + weight) / self._capacity[target],
                    )
                    best = min(best, (after, index, target))
        _, index, target = best
        if index < 0:
            return False
        self._take(index, member)
        self._give(index, target)
        return True

    def _candidates(self, member: int, target: int, held: list[tuple[float, int]]) -> list[tuple[float, int]]:
        """The two partitions next to the weight that would make both equally loaded."""
        ours, theirs = self._capacity[member], self._capacity[target]
        ideal = (self._load[member] * theirs - self._load[target] * ours) / (ours + theirs)
        at = bisect_left(held, (ideal, -1))
        return held[max(at - 1, 0) : at + 1]
