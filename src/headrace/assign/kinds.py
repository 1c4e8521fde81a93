"""Kinds of partitions: a plan need only say how many of each kind a member has.

Decides which partitions are alike: the same members subscribe to their topic and, where racks count, the same racks hold
them. Refuses to know balance. Invariant: every partition that somebody subscribes to is of exactly one kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from headrace.assign.problem import Problem


@final
@dataclass(frozen=True, slots=True)
class Kinds:
    """Partitions that a plan need not tell apart, and who may have them."""

    kind_of: list[int]
    """For each partition, or -1 where nobody subscribes."""
    supplies: list[int]
    subscribers: list[tuple[int, ...]]
    """For each kind, classes of members."""
    racks: list[frozenset[str]] | None
    """For each kind, the racks that hold it. None: racks do not count."""
    owned: list[dict[int, int]]
    """For each kind, how many partitions of it each member owns."""


def kinds_of(problem: Problem, *, racks: bool) -> Kinds:
    """Sort partitions into kinds."""
    subscribers = problem.subscribers()
    racks_of = _racks_that_count(problem) if racks else None
    number_of: dict[tuple[tuple[int, ...], frozenset[str]], int] = {}
    kind_of: list[int] = []
    owned: list[dict[int, int]] = []
    supplies: list[int] = []
    nowhere: frozenset[str] = frozenset()
    for topic, classes in enumerate(subscribers):
        first, end = problem.firsts[topic], problem.firsts[topic + 1]
        if not classes:
            kind_of += [-1] * (end - first)
            continue
        runs = [(first, end, nowhere)]
        if racks_of is not None:
            runs = [(index, index + 1, racks_of[index]) for index in range(first, end)]
        for start, stop, where in runs:
            if start == stop:
                continue
            kind = number_of.setdefault((classes, where), len(supplies))
            if kind == len(supplies):
                supplies.append(0)
                owned.append({})
            supplies[kind] += stop - start
            kind_of += [kind] * (stop - start)
            counts = owned[kind]
            for owner in problem.owner[start:stop]:
                if owner >= 0:
                    counts[owner] = counts.get(owner, 0) + 1
    keys = list(number_of)
    return Kinds(
        kind_of=kind_of,
        supplies=supplies,
        subscribers=[classes for classes, _ in keys],
        racks=None if racks_of is None else [where for _, where in keys],
        owned=owned,
    )


def _racks_that_count(problem: Problem) -> list[frozenset[str]] | None:
    """The racks of each partition, if they can make a difference to some member (KIP-881)."""
    if all(topic.racks is None for topic in problem.topics):
        return None
    of_members = {member.rack for member in problem.members if member.rack is not None}
    known: dict[frozenset[str], frozenset[str]] = {}
    racks_of: list[frozenset[str]] = []
    for topic in problem.topics:
        given = topic.racks if topic.racks is not None else [()] * topic.partitions
        racks_of += [known.setdefault(where, where) for where in map(frozenset, given)]
    everywhere = frozenset(rack for where in known for rack in where)
    if of_members.isdisjoint(everywhere) or all(where == everywhere for where in known):
        return None
    return racks_of
