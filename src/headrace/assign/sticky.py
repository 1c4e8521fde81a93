"""Sticky assignment: fair first, then, of all fair plans, one that moves the fewest partitions.

Decides how many partitions of each kind each member has, by `transport`, within the levels of `fairness`. Refuses to
know clients and wire formats. Invariant: a pure function of members, topics and claims; with `balance="fair"` the loads
are the fairest there are, and no plan of such loads moves less.

Partitions are alike where the same members subscribe to their topic and, if racks count, the same racks hold them. A
plan only has to say how many of each kind a member has; which ones is `placement`'s to choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, final

from headrace.assign.direct_moves import balanced_directly
from headrace.assign.fairness import fairest_levels
from headrace.assign.kinds import kinds_of
from headrace.assign.placement import placed
from headrace.assign.problem import compiled
from headrace.assign.transport import Transport
from headrace.errors import GroupInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headrace.assign.kinds import Kinds
    from headrace.assign.model import Member, Plan, Topic
    from headrace.assign.problem import Problem

Balance = Literal["fair", "kip54"]


@final
@dataclass(frozen=True, slots=True)
class Sticky:
    """Kafka's eager sticky assignor (KIP-54), made optimal.

    `balance="fair"`: no chain of hand-overs could even out two members, and the fewest partitions that allow this move.
    `balance="kip54"`: what Kafka's own assignor asks for, that no single hand-over could; it may move less, and is then
    less even. `tolerance` (fair only) lets each load differ from its fair level by that many partitions, to move less.
    With `racks`, members are given partitions that a broker in their rack holds, as far as balance allows; that goes
    before stickiness (KIP-881). It counts only if members and partitions share racks, and some partition is not in all.
    """

    balance: Balance = "fair"
    tolerance: int = 0
    racks: bool = True

    name: ClassVar[str] = "sticky"

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        _check(self.balance, self.tolerance)

    def assign(
        self, members: Iterable[Member], topics: Mapping[str, int | Topic], previous: Plan | None = None
    ) -> Plan:
        """Plan the next assignment. Raises `GroupInvalid`. Safe from any number of threads."""
        problem = compiled(members, topics, previous)
        return problem.plan(self.name, _owners(problem, self.balance, self.tolerance, racks=self.racks))


@final
@dataclass(frozen=True, slots=True)
class CooperativeSticky:
    """Kafka's cooperative sticky assignor (KIP-429): the plan of `Sticky`, reached without stopping everybody.

    A partition that must change hands is withheld for one round, in which its owner gives it up; the next round, which
    that owner asks for, gives it to its new one. Members keep all others meanwhile.
    """

    balance: Balance = "fair"
    tolerance: int = 0
    racks: bool = True

    name: ClassVar[str] = "cooperative-sticky"

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        _check(self.balance, self.tolerance)

    def assign(
        self, members: Iterable[Member], topics: Mapping[str, int | Topic], previous: Plan | None = None
    ) -> Plan:
        """Plan the next round. Raises `GroupInvalid`. Safe from any number of threads."""
        problem = compiled(members, topics, previous)
        owners = _owners(problem, self.balance, self.tolerance, racks=self.racks)
        withheld = [
            index
            for index, (now, then) in enumerate(zip(problem.owner, owners, strict=True))
            if then >= 0 and now != then and (now >= 0 or index in problem.disputed)
        ]
        for index in withheld:
            owners[index] = -1
        return problem.plan(self.name, owners, withheld)


def _check(balance: str, tolerance: int) -> None:
    if balance not in {"fair", "kip54"}:
        raise GroupInvalid(f"balance {balance!r}", 'expected "fair" or "kip54"')
    if tolerance < 0 or (tolerance and balance == "kip54"):
        raise GroupInvalid(f"tolerance {tolerance}", 'expected 0 or more, and balance="fair"')


def _owners(problem: Problem, balance: Balance, tolerance: int, *, racks: bool) -> list[int]:
    kinds = kinds_of(problem, racks=racks)
    if balance == "kip54":
        shares = balanced_directly(problem, kinds)
    else:
        shares = _fewest_moves(problem, kinds, tolerance)
    return placed(problem, kinds.kind_of, shares)


def _fewest_moves(problem: Problem, kinds: Kinds, tolerance: int) -> list[dict[int, int]]:
    """For each kind, how many partitions each member shall have."""
    members_of = problem.members_of()
    topics_alike = list(dict.fromkeys(kinds.subscribers))
    group_of = {classes: group for group, classes in enumerate(topics_alike)}
    supplies = [0] * len(topics_alike)
    for classes, supply in zip(kinds.subscribers, kinds.supplies, strict=True):
        supplies[group_of[classes]] += supply
    levels = fairest_levels(supplies, topics_alike, [len(members) for members in members_of])
    flow = Transport(kinds.supplies, len(problem.members))
    for kind, classes in enumerate(kinds.subscribers):
        block = levels.block_of_group[group_of[classes]]
        owned = kinds.owned[kind]
        for number in classes:
            if levels.block_of_class[number] != block and not tolerance:
                continue  # in no fairest plan: whoever owns such a partition must give it up
            for member in members_of[number]:
                rack = problem.members[member].rack
                where = (
                    kinds.racks[kind] if kinds.racks else frozenset[str]()
                )  # empty: not known, far from nobody
                far = bool(where) and rack is not None and rack not in where
                price = problem.partitions + 1 if far else 0  # more than all moves together
                flow.join(kind, member, kept=owned.get(member, 0), price=price)
    for member, number in enumerate(problem.class_of):
        flow.bound(member, max(levels.low[number] - tolerance, 0), levels.high[number] + tolerance)
    placed_all = flow.settle()
    assert placed_all, "the fairest levels admit a plan"
    return _shares(flow, len(kinds.supplies))


def _shares(flow: Transport, kinds: int) -> list[dict[int, int]]:
    shares: list[dict[int, int]] = [{} for _ in range(kinds)]
    for kind, member, count in zip(flow.edge_group, flow.edge_bin, flow.held, strict=True):
        if count:
            shares[kind][member - kinds] = count
    return shares
