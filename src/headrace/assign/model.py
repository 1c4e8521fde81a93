"""The words of an assignment: members, their claims, topics, and the plan that gives each partition an owner.

Decides what a well-formed group is, and refuses one that is not. Knows no strategy and no client.
Invariant: all of these are values; a plan does not change once it is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, final

from headrace.errors import GroupInvalid

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

NO_GENERATION = -1
NO_MEMBER = -1


@final
@dataclass(frozen=True, slots=True)
class Claim:
    """What a member says it owned, and in which generation of the group it was given that.

    Claims come from other processes and are not trusted: what names a partition that does not exist is left out and
    counted in `Plan.claims_ignored`. `generation` is -1 where the member does not know it.
    """

    owned: Mapping[str, Sequence[int]]
    generation: int = NO_GENERATION

    def __post_init__(self) -> None:
        """Refuse a generation that no broker gives."""
        if self.generation < NO_GENERATION:
            raise GroupInvalid(f"generation {self.generation}", "generations are -1 (none) or more")


@final
@dataclass(frozen=True, slots=True)
class Member:
    """One member of a group. A topic named twice counts once. `capacity` weighs members for `Weighted` only."""

    id: str
    topics: Collection[str]
    claim: Claim | None = None
    rack: str | None = None
    capacity: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what would only show as a strange plan."""
        if isinstance(self.topics, str):
            raise GroupInvalid(
                f"member {self.id}", f"topics is the text {self.topics!r}: give a list of names"
            )
        if not (0 < self.capacity < math.inf):
            raise GroupInvalid(
                f"member {self.id}", f"capacity is {self.capacity}: expected more than 0, and finite"
            )


@final
@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: how many partitions it has and, where a strategy asks for it, the racks and the load of each.

    `racks[p]` are the racks that hold a replica of partition p. `loads[p]` is any number that adds up: lag, records or
    bytes per second.
    """

    partitions: int
    racks: Sequence[Collection[str]] | None = None
    loads: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Refuse counts that disagree."""
        if self.partitions < 0:
            raise GroupInvalid("topic", f"{self.partitions} partitions: expected 0 or more")
        for name, values in (("racks", self.racks), ("loads", self.loads)):
            if values is not None and len(values) != self.partitions:
                raise GroupInvalid("topic", f"{len(values)} {name} for {self.partitions} partitions")
        if self.loads is not None and not all(0 <= load < math.inf for load in self.loads):
            raise GroupInvalid("topic", "a load is negative or not finite")


class Move(NamedTuple):
    """One partition that changes hands. `source` lives on: what a member that left had owned is placed, not moved."""

    topic: str
    partition: int
    source: str
    target: str


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """Which member owns which partition from now on.

    `members` and `topics` are sorted. Partitions are numbered through all topics: those of `topics[t]` are
    `firsts[t]` to `firsts[t + 1] - 1`. `owners[i]` and `previous[i]` are positions in `members`, or -1: nobody
    subscribes (`owners`), nobody's claim holds (`previous`). Reading a plan is safe from any thread.
    """

    strategy: str
    members: tuple[str, ...]
    topics: tuple[str, ...]
    firsts: tuple[int, ...]
    owners: tuple[int, ...] = field(repr=False)
    previous: tuple[int, ...] = field(repr=False)
    withheld: tuple[int, ...] = ()
    """Cooperative only: partitions that nobody is given in this round, since another member must first give them up."""
    unknown_topics: tuple[str, ...] = ()
    """Subscribed topics that the cluster does not know. They are left out, as Kafka does."""
    claims_ignored: int = 0
    """Claims that named partitions which do not exist."""

    def assignments(self) -> dict[str, dict[str, list[int]]]:
        """The plan as every client wants it: for each member, for each topic, the partitions in ascending order."""
        mine: list[dict[str, list[int]]] = [{} for _ in self.members]
        owners = self.owners
        for number, topic in enumerate(self.topics):
            first, end = self.firsts[number], self.firsts[number + 1]
            for partition, owner in enumerate(owners[first:end]):
                if owner < 0:
                    continue
                given = mine[owner].get(topic)
                if given is None:
                    mine[owner][topic] = [partition]
                else:
                    given.append(partition)
        return dict(zip(self.members, mine, strict=True))

    def loads(self) -> dict[str, int]:
        """How many partitions each member owns."""
        counts = [0] * len(self.members)
        for owner in self.owners:
            if owner >= 0:
                counts[owner] += 1
        return dict(zip(self.members, counts, strict=True))

    def moves(self) -> Iterator[Move]:
        """Every partition whose owner changes, in the order of topics and partitions."""
        for number, topic in enumerate(self.topics):
            first, end = self.firsts[number], self.firsts[number + 1]
            for index in range(first, end):
                source, target = self.previous[index], self.owners[index]
                if source >= 0 <= target and source != target:
                    yield Move(topic, index - first, self.members[source], self.members[target])

    def claims(self, generation: int) -> dict[str, Claim]:
        """What each member would claim when it joins next, after it was given this plan in `generation`."""
        return {member: Claim(owned, generation) for member, owned in self.assignments().items()}
