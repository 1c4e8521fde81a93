"""Kafka's assignors without memory: range and round-robin, owner for owner as Kafka's own make them.

Decides by position alone. Refuses to know claims, except to say afterwards what moved. Invariant: each is a pure
function of members and topics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from headrace.assign.model import NO_MEMBER
from headrace.assign.problem import compiled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headrace.assign.model import Member, Plan, Topic
    from headrace.assign.problem import Problem


@final
@dataclass(frozen=True, slots=True)
class Range:
    """Each topic by itself, in ranges: its first members get one more. Equal partitions of equal topics meet in one member."""

    name: ClassVar[str] = "range"

    def assign(
        self, members: Iterable[Member], topics: Mapping[str, int | Topic], previous: Plan | None = None
    ) -> Plan:
        """Plan the next assignment. Raises `GroupInvalid`. Safe from any number of threads."""
        problem = compiled(members, topics, previous)
        owners: list[int] = []
        for topic, takers in enumerate(_takers(problem)):
            partitions = problem.topics[topic].partitions
            if not takers:
                owners += [NO_MEMBER] * partitions
                continue
            each, rest = divmod(partitions, len(takers))
            for place, member in enumerate(takers):
                owners += [member] * (each + (place < rest))
        return problem.plan(self.name, owners)


@final
@dataclass(frozen=True, slots=True)
class RoundRobin:
    """All partitions in turn, to the next member that subscribes to their topic."""

    name: ClassVar[str] = "roundrobin"

    def assign(
        self, members: Iterable[Member], topics: Mapping[str, int | Topic], previous: Plan | None = None
    ) -> Plan:
        """Plan the next assignment. Raises `GroupInvalid`. Safe from any number of threads."""
        problem = compiled(members, topics, previous)
        owners: list[int] = []
        turn = 0
        for topic, takers in enumerate(_takers(problem)):
            partitions = problem.topics[topic].partitions
            if not takers:
                owners += [NO_MEMBER] * partitions
                continue
            start = next((place for place, member in enumerate(takers) if member >= turn), 0)
            order = takers[start:] + takers[:start]
            rounds, rest = divmod(partitions, len(order))
            owners += order * rounds + order[:rest]
            if partitions:
                turn = (owners[-1] + 1) % len(problem.members)
        return problem.plan(self.name, owners)


def _takers(problem: Problem) -> list[list[int]]:
    """For each topic, the members that subscribe to it, ascending."""
    members_of = problem.members_of()
    known: dict[tuple[int, ...], list[int]] = {}
    for classes in problem.subscribers():
        if classes not in known:
            known[classes] = sorted(member for number in classes for member in members_of[number])
    return [known[classes] for classes in problem.subscribers()]
