"""Groups in a short notation, and what a plan gives to each member, for scenarios that are known by their numbers.

Topics: `"t:3 u:2"`. A member: `"C1 t,u | t-0 u-1 | 7"`, its name, subscription, what it claims, and in which generation
(1 if left out). Every plan made here is also certified.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.assign import Claim, CooperativeSticky, Member, Plan, Sticky, certify

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headrace.assign import Certificate, Topic


def topics_of(text: str) -> dict[str, int | Topic]:
    return {name: int(count) for name, count in (word.rsplit(":", 1) for word in text.split())}


def claim_of(owned: str, generation: int = 1) -> Claim:
    by_topic: dict[str, list[int]] = {}
    for word in owned.split():
        name, _, partition = word.rpartition("-")
        by_topic.setdefault(name, []).append(int(partition))
    return Claim(by_topic, generation)


def member_of(text: str) -> Member:
    parts = [part.strip() for part in text.split("|")]
    name, _, topics = parts[0].partition(" ")
    claim = claim_of(parts[1], int(parts[2]) if len(parts) > 2 else 1) if len(parts) > 1 else None
    return Member(name, [topic for topic in topics.split(",") if topic], claim)


class Planned:
    """A plan, certified, and easy to compare."""

    def __init__(self, plan: Plan, proof: Certificate) -> None:
        self.plan = plan
        self.proof = proof

    @property
    def loads(self) -> str:
        """In the order of the members' names, as 2/2/1."""
        return "/".join(str(count) for count in self.plan.loads().values())

    @property
    def moves(self) -> int:
        return self.proof.moves

    def owned(self, member: str) -> str:
        """Its partitions, as text."""
        return " ".join(f"{t}-{p}" for t, ps in self.plan.assignments()[member].items() for p in ps)

    def owns(self, member: str, owned: str) -> bool:
        """Whether all of these are the member's."""
        return set(owned.split()) <= set(self.owned(member).split())


def planned(topics: str, *members: str, strategy: Sticky | None = None) -> Planned:
    """Plan a group and certify the plan."""
    return plan_of(topics_of(topics), [member_of(text) for text in members], strategy=strategy)


def plan_of(
    topics: Mapping[str, int | Topic],
    members: Iterable[Member],
    *,
    strategy: Sticky | None = None,
    racks: bool = False,
) -> Planned:
    """The same for a group of values. The sticky strategy must be optimal, unless another one is given."""
    members = list(members)
    plan = (strategy or Sticky()).assign(members, topics)
    proof = certify(plan, members, topics, racks=racks)
    assert proof.valid, proof
    assert strategy is not None or proof.optimal, proof
    return Planned(plan, proof)


def then(before: Planned, members: Iterable[Member], generation: int = 2) -> list[Member]:
    """The members of the next round: who was there claims what it was given, who is new claims nothing."""
    claims = before.plan.claims(generation)
    return [replace(member, claim=claims.get(member.id)) for member in members]


def cooperative_rounds(topics: str, *members: str) -> list[Planned]:
    """Rounds until nothing is withheld, at most five. No round gives away what somebody still has."""
    sizes = topics_of(topics)
    group = [member_of(text) for text in members]
    rounds: list[Planned] = []
    for generation in range(100, 105):
        plan = CooperativeSticky().assign(group, sizes)
        proof = certify(plan, group, sizes)
        assert proof.valid
        assert proof.overlaps == 0
        rounds.append(Planned(plan, proof))
        if not plan.withheld:
            return rounds
        group = then(rounds[-1], group, generation)
    raise AssertionError("the rounds do not end")
