"""A second opinion on a plan: is it valid, is it balanced, and could any plan as fair move less?

Decides from the group and the plan alone. Shares no code with the strategies, not even how claims are settled, so that
one mistake cannot make and approve a plan. Cheap enough to run after every plan: its cost is that of reading the group,
and of a few passes over who may own which kind of partition. Invariant: `minimum` is set only where it is proved.

The proof. A plan is fairest if no chain of hand-overs joins a member to one that has two fewer. A fairest plan moves
least if, among the hand-overs that keep the loads as fair, no cycle saves a move (Bellman and Ford: there is none where
distances exist). Where all members subscribe to the same topics, the least number of moves has a closed form.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from headrace.assign.handovers import Handovers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from headrace.assign.model import Member, Plan, Topic

PROBLEMS_MAX = 10


@final
@dataclass(frozen=True, slots=True)
class Certificate:
    """What is known of a plan."""

    problems: tuple[str, ...]
    """Why the plan is invalid: at most ten reasons. Empty: every partition has the one owner it should have."""
    imbalance: int
    """The most partitions of any member, less the fewest."""
    fairest: bool
    """No chain of hand-overs could even out two members."""
    kip54: bool
    """No single hand-over could."""
    moves: int
    """Partitions whose owner changes from one live member to another."""
    minimum: int | None
    """The fewest moves of any fairest plan; None if that was not proved, as for a plan that is not fairest."""
    far: int
    """Partitions whose owner has a rack where no replica is."""
    overlaps: int
    """Partitions given to a member while another says it owns them. A cooperative plan has none."""

    @property
    def valid(self) -> bool:
        """Nothing is wrong."""
        return not self.problems

    @property
    def optimal(self) -> bool:
        """Valid, fairest, and proved to move least."""
        return self.valid and self.fairest and self.moves == self.minimum


def certify(
    plan: Plan,
    members: Iterable[Member],
    topics: Mapping[str, int | Topic],
    previous: Plan | None = None,
    *,
    racks: bool = False,
) -> Certificate:
    """Judge a plan by the group it was made for. With `racks`, a move counts less than an owner in the wrong rack."""
    judged = _Judged(plan, {member.id: member for member in members}, topics, previous)
    kinds, owned, held, far_kinds = judged.kinds(racks=racks)
    handovers = Handovers(kinds, held, owned, judged.loads)
    fairest = handovers.are_fair()
    minimum = None
    if len(kinds) == 1 and len(kinds[0]) == len(judged.loads) and not racks:
        minimum = judged.moves_least_if_uniform()
    elif fairest:
        prices = far_kinds if racks else {}
        minimum = handovers.moves() if handovers.cannot_be_cheaper(prices) else None
    return Certificate(
        problems=tuple(judged.problems),
        imbalance=max(judged.loads, default=0) - min(judged.loads, default=0),
        fairest=fairest,
        kip54=handovers.are_fair_one_by_one(),
        moves=judged.moves,
        minimum=minimum,
        far=judged.far,
        overlaps=judged.overlaps,
    )


@final
class _Judged:
    """A plan, read against its group. Members are numbered in the order of their names."""

    def __init__(
        self,
        plan: Plan,
        members: Mapping[str, Member],
        topics: Mapping[str, int | Topic],
        previous: Plan | None,
    ) -> None:
        self.problems: list[str] = []
        self._members = [members[name] for name in sorted(members)]
        self._number = {member.id: number for number, member in enumerate(self._members)}
        self._sizes = {
            name: given if isinstance(given, int) else given.partitions for name, given in topics.items()
        }
        self._racks = {
            name: [frozenset(where) for where in given.racks]
            for name, given in topics.items()
            if not isinstance(given, int) and given.racks is not None
        }
        self._takers: dict[str, list[int]] = {name: [] for name in topics}
        for number, member in enumerate(self._members):
            for name in set(member.topics):
                if name in self._takers:
                    self._takers[name].append(number)
        self._withheld = set(plan.withheld)
        self._before, self._claimed = self._claims(previous)
        self._after = self._owners(plan)
        self.loads = [0] * len(self._members)
        self.moves = self.far = self.overlaps = 0
        self._count()

    def _complain(self, problem: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)

    def _claims(self, previous: Plan | None) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Whose claim holds, and how many claim, per topic and partition. Two of the newest generation cancel out."""
        holder = {name: [-1] * size for name, size in self._sizes.items()}
        newest = {name: [-2] * size for name, size in self._sizes.items()}
        claimed = {name: [0] * size for name, size in self._sizes.items()}
        given = {} if previous is None else previous.claims(0)
        for number, member in enumerate(self._members):
            claim = member.claim if previous is None else given.get(member.id)
            if claim is None:
                continue
            for name in claim.owned.keys() & self._sizes.keys():
                size, holders, generations, claims = (
                    self._sizes[name], holder[name], newest[name], claimed[name]
                )  # fmt: skip
                for partition in set(claim.owned[name]):
                    if 0 <= partition < size:
                        claims[partition] += 1
                        if claim.generation > generations[partition]:
                            generations[partition], holders[partition] = claim.generation, number
                        elif claim.generation == generations[partition]:
                            holders[partition] = -1
        for name, holders in holder.items():
            allowed = set(self._takers[name])
            if len(allowed) < len(self._members):
                holder[name] = [number if number in allowed else -1 for number in holders]
        return holder, claimed

    def _owners(self, plan: Plan) -> dict[str, list[int]]:
        """The plan by topic. Complains of what nobody owns, or somebody who may not."""
        if list(plan.members) != [member.id for member in self._members]:
            self._complain("the plan is for other members")
        after = {name: [-1] * size for name, size in self._sizes.items()}
        for number, name in enumerate(plan.topics):
            owners = list(plan.owners[plan.firsts[number] : plan.firsts[number + 1]])
            if len(owners) != self._sizes.get(name):
                self._complain(f"the plan has {len(owners)} partitions of {name}")
                continue
            after[name] = owners
            allowed = set(self._takers[name])
            if allowed.issuperset(owners):
                continue
            for partition, owner in enumerate(owners):
                if owner in allowed or (owner < 0 and not allowed):
                    continue
                if owner >= 0:
                    self._complain(
                        f"{name}[{partition}] is given to {plan.members[owner]}, which does not subscribe"
                    )
                elif plan.firsts[number] + partition not in self._withheld:
                    self._complain(f"{name}[{partition}] is given to nobody")
        self._complain_of_missing(plan)
        return after

    def _complain_of_missing(self, plan: Plan) -> None:
        for name in sorted(self._sizes.keys() - set(plan.topics)):
            self._complain(f"the plan leaves out {name}")

    def _count(self) -> None:
        for name, owners in self._after.items():
            for owner, count in Counter(owners).items():
                if owner >= 0:
                    self.loads[owner] += count
            before = self._before[name]
            if before != owners:
                claims = self._claimed[name]
                for was, now, claimants in zip(before, owners, claims, strict=True):
                    if was != now and now >= 0:
                        self.moves += was >= 0
                        self.overlaps += claimants > 0
        for name, places in self._racks.items():
            for owner, where in zip(self._after[name], places, strict=True):
                rack = self._members[owner].rack if owner >= 0 else None
                self.far += rack is not None and bool(where) and rack not in where

    def moves_least_if_uniform(self) -> int:
        """Closed form: of what it owned, a member keeps the floor of the average; and as many as may, one more."""
        owned = [0] * len(self._members)
        for owners in self._before.values():
            for owner, count in Counter(owners).items():
                if owner >= 0:
                    owned[owner] += count
        total = sum(size for name, size in self._sizes.items() if self._takers[name])
        floor, rest = divmod(total, len(owned))
        kept = sum(min(count, floor) for count in owned) + min(rest, sum(count > floor for count in owned))
        return sum(owned) - kept

    def kinds(
        self, *, racks: bool
    ) -> tuple[list[tuple[int, ...]], list[Counter[int]], list[Counter[int]], dict[tuple[int, int], int]]:
        """Kinds of partitions: who may have them, who had how many, who has how many; and (kind, member) that are far."""
        racks = racks and self._racks_count()
        number_of: dict[tuple[tuple[int, ...], frozenset[str] | None], int] = {}
        owned: defaultdict[int, Counter[int]] = defaultdict(Counter)
        held: defaultdict[int, Counter[int]] = defaultdict(Counter)
        for name, takers in self._takers.items():
            if not takers or not self._sizes[name]:
                continue
            for where, before, after in self._runs(name, racks=racks):
                kind = number_of.setdefault((tuple(takers), where), len(number_of))
                owned[kind].update(before)
                held[kind].update(after)
        total = sum(self._sizes.values()) + 1
        far = {
            (kind, member): total
            for (takers, where), kind in number_of.items()
            if where
            for member in takers
            if self._members[member].rack not in {None, *where}
        }
        kinds = [takers for takers, _ in number_of]
        return kinds, [owned[k] for k in range(len(kinds))], [held[k] for k in range(len(kinds))], far

    def _racks_count(self) -> bool:
        """KIP-881: members and partitions share a rack, and some partition is not where all are."""
        places = [
            where
            for name, size in self._sizes.items()
            for where in self._racks.get(name, [frozenset()] * size)
        ]
        everywhere = frozenset(rack for where in places for rack in where)
        shared = any(member.rack in everywhere for member in self._members)
        return shared and any(where != everywhere for where in places)

    def _runs(
        self, name: str, *, racks: bool
    ) -> Iterator[tuple[frozenset[str] | None, list[int], list[int]]]:
        """The partitions of a topic, whole or by where they are held."""
        before, after = self._before[name], self._after[name]
        if not racks or name not in self._racks:
            yield None, before, after
            return
        places = self._racks[name]
        for where in set(places):
            chosen = [partition for partition, place in enumerate(places) if place == where]
            yield (
                where,
                [before[partition] for partition in chosen],
                [after[partition] for partition in chosen],
            )
