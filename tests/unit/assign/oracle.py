"""The best plan of a small group, found by trying every plan; and all small groups, up to symmetry.

Refuses to know how headrace.assign works: it shares no code with strategies or certificate. A case is a tuple of topic
sizes, of each member's subscription (a set of topics, as bits), and of each partition's owner (-1: none).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from typing import TYPE_CHECKING

from headrace.assign import Claim, Member

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Case:
    """One small group."""

    sizes: tuple[int, ...]
    subscriptions: tuple[int, ...]
    owners: tuple[tuple[int, ...], ...]

    def subscribes(self, member: int, topic: int) -> bool:
        return bool(self.subscriptions[member] >> topic & 1)

    @property
    def topics(self) -> dict[str, int]:
        return {f"t{topic}": size for topic, size in enumerate(self.sizes)}

    @property
    def members(self) -> list[Member]:
        return [
            Member(
                f"m{member}",
                [f"t{topic}" for topic in range(len(self.sizes)) if self.subscribes(member, topic)],
                Claim(
                    {
                        f"t{topic}": [p for p, owner in enumerate(owners) if owner == member]
                        for topic, owners in enumerate(self.owners)
                    },
                    1,
                ),
            )
            for member in range(len(self.subscriptions))
        ]


@dataclass(frozen=True, slots=True)
class Best:
    """What the best plan of a case is like: its loads, sorted, and how many partitions it moves."""

    loads: tuple[int, ...]
    moves: int


def best(case: Case) -> Best:
    """Try every plan. The fairest loads are those whose squares add up to least."""
    members = range(len(case.subscriptions))
    takers: list[list[int]] = []
    before: list[int] = []
    for topic, owners in enumerate(case.owners):
        allowed = [member for member in members if case.subscribes(member, topic)]
        if allowed:
            takers += [allowed] * len(owners)
            before += [owner if owner in allowed else -1 for owner in owners]
    found: tuple[int, int, tuple[int, ...]] | None = None
    for plan in product(*takers):
        loads = [0] * len(members)
        moves = 0
        for was, now in zip(before, plan, strict=True):
            loads[now] += 1
            moves += was != now and was >= 0
        judged = (sum(load * load for load in loads), moves, tuple(sorted(loads)))
        if found is None or judged < found:
            found = judged
    assert found is not None
    return Best(found[2], found[1])


def best_by_counts(case: Case) -> Best:
    """The same by dynamic programming over loads: a member keeps what it had as far as it is given as many."""
    members = range(len(case.subscriptions))
    cheapest = {(0,) * len(members): 0}
    for topic, owners in enumerate(case.owners):
        takers = [member for member in members if case.subscribes(member, topic)]
        if not takers:
            continue
        owned = [owners.count(member) if member in takers else 0 for member in members]
        following: dict[tuple[int, ...], int] = {}
        for share in shares(len(owners), len(takers)):
            given = [0] * len(members)
            for member, count in zip(takers, share, strict=True):
                given[member] = count
            cost = sum(max(0, had - has) for had, has in zip(owned, given, strict=True))
            for loads, moves in cheapest.items():
                reached = tuple(load + more for load, more in zip(loads, given, strict=True))
                if moves + cost < following.get(reached, moves + cost + 1):
                    following[reached] = moves + cost
        cheapest = following
    _, moves, loads = min(
        (sum(load * load for load in loads), moves, tuple(sorted(loads))) for loads, moves in cheapest.items()
    )
    return Best(loads, moves)


def shares(units: int, takers: int) -> Iterator[tuple[int, ...]]:
    """All ways to give units to takers."""
    if takers == 1:
        yield (units,)
        return
    for first in range(units + 1):
        for rest in shares(units - first, takers - 1):
            yield (first, *rest)


def small_cases(
    members_max: int, topics_max: int, partitions_each: int, partitions_all: int
) -> Iterator[Case]:
    """All groups within these sizes, up to the order of members, of topics, and of the partitions of a topic."""
    for members in range(1, members_max + 1):
        for topics in range(1, topics_max + 1):
            for sizes in combinations_with_replacement(range(1, partitions_each + 1), topics):
                if sum(sizes) <= partitions_all:
                    yield from _cases_of(members, sizes)


def _cases_of(members: int, sizes: tuple[int, ...]) -> Iterator[Case]:
    claims = [list(combinations_with_replacement(range(-1, members), size)) for size in sizes]
    for subscriptions in combinations_with_replacement(range(1 << len(sizes)), members):
        for owners in product(*claims):
            yield Case(sizes, subscriptions, owners)


def random_case(chance: random.Random, members_max: int, topics_max: int, partitions_each: int) -> Case:
    """One group within these sizes, by chance."""
    members, topics = chance.randint(1, members_max), chance.randint(1, topics_max)
    sizes = tuple(chance.randint(0, partitions_each) for _ in range(topics))
    return Case(
        sizes,
        tuple(chance.randrange(1 << topics) for _ in range(members)),
        tuple(tuple(chance.randrange(-1, members) for _ in range(size)) for size in sizes),
    )


def seeded(seed: int) -> random.Random:
    """Chance that can be repeated."""
    return random.Random(seed)  # noqa: S311 - for cases, not for secrets
