"""What the next rebalance of a group will do: the plan, who hands over what, and what pauses meanwhile.

Decides by asking the strategy for the plan and comparing it with what is owned now. Refuses to know where a group was
read from, and how a forecast is shown. Invariant: every partition owned before or after is accounted for once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, final

from headrace.assign.memoryless import Range, RoundRobin
from headrace.assign.model import Claim, Member, Topic
from headrace.assign.sticky import CooperativeSticky, Sticky
from headrace.assign.weighted import Weighted
from headrace.errors import GroupInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.assign.model import Plan


class Strategy(Protocol):
    """What every strategy is."""

    name: ClassVar[str]

    def assign(
        self, members: Iterable[Member], topics: Mapping[str, int | Topic], previous: Plan | None = None
    ) -> Plan:
        """Plan the next assignment."""
        ...


def strategy_named(name: str) -> Strategy:
    """The strategy of an assignor's protocol name. Raises `GroupInvalid`. `uniform` is that of KIP-848 brokers."""
    known: dict[str, Strategy] = {
        "range": Range(),
        "roundrobin": RoundRobin(),
        "sticky": Sticky(),
        "cooperative-sticky": CooperativeSticky(),
        "uniform": CooperativeSticky(),
        "headrace-weighted": Weighted(),
    }
    if name not in known:
        raise GroupInvalid(f"strategy {name}", f"expected one of {', '.join(known)}")
    return known[name]


@final
@dataclass(frozen=True, slots=True)
class Situation:
    """A group as it is: members claim what they own now."""

    members: tuple[Member, ...]
    topics: Mapping[str, int | Topic]

    def changed(
        self, *, add_members: int = 0, remove: Sequence[str] = (), partitions: Mapping[str, int] | None = None
    ) -> Situation:
        """The group after members came and went and topics grew. New members subscribe to what all others do, together.

        Raises `GroupInvalid` for members that are not there, and for topics that would shrink.
        """
        present = {member.id for member in self.members}
        for name in remove:
            if name not in present:
                raise GroupInvalid(
                    f"member {name}", f"not in the group: {', '.join(sorted(present)) or 'it is empty'}"
                )
        every_topic = sorted(
            {topic for member in self.members for topic in member.topics} or self.topics.keys()
        )
        numbers = (
            number for number in range(1, add_members + len(present) + 1) if f"new-{number}" not in present
        )
        newcomers = [
            Member(f"new-{number}", every_topic)
            for number, _ in zip(numbers, range(add_members), strict=False)
        ]
        stay = [member for member in self.members if member.id not in remove]
        topics = dict(self.topics)
        for topic, count in (partitions or {}).items():
            topics[topic] = _grown(topic, topics.get(topic, 0), count)
        return Situation((*stay, *newcomers), topics)


def _grown(name: str, had: int | Topic, count: int) -> int | Topic:
    """Of what is new no rack is known, and no load."""
    more = count - (had.partitions if isinstance(had, Topic) else had)
    if more < 0:
        raise GroupInvalid(f"topic {name}", "topics never lose partitions")
    if not isinstance(had, Topic):
        return count
    return Topic(
        count,
        None if had.racks is None else [*had.racks, *[()] * more],
        None if had.loads is None else [*had.loads, *[0.0] * more],
    )


class Handover(NamedTuple):
    """One partition that gets another owner. No source: nobody owned it. No target: nobody will."""

    topic: str
    partition: int
    source: str | None
    target: str | None


@final
@dataclass(frozen=True, slots=True)
class Forecast:
    """What a rebalance will do. `plan` is where it ends, also where that takes two rounds."""

    plan: Plan
    before: Mapping[str, Mapping[str, Sequence[int]]]
    after: Mapping[str, Mapping[str, Sequence[int]]]
    handovers: tuple[Handover, ...]
    paused_eager: int
    """Partitions that nobody reads during an eager rebalance: all that were owned."""
    paused_cooperative: int
    """Partitions that nobody reads during a cooperative one: those that have another owner afterwards."""
    rounds_cooperative: int

    @property
    def imbalance_before(self) -> int:
        """The most partitions of any member less the fewest, now."""
        return _imbalance(self.before)

    @property
    def imbalance_after(self) -> int:
        """The same at the end."""
        return _imbalance(self.after)


def forecast(now: Situation, then: Situation, strategy: Strategy) -> Forecast:
    """What happens when the group goes from `now` to `then`. Raises `GroupInvalid`."""
    owned = {member.id: _owned(member) for member in now.members}
    present = {member.id for member in then.members}
    plan = strategy.assign(then.members, then.topics)
    rounds = 1
    if plan.withheld:
        claims = plan.claims(1)
        rounds = 2
        plan = strategy.assign([replace(m, claim=claims[m.id]) for m in then.members], then.topics)
    after = plan.assignments()
    was, will = _owners(owned), _owners(after)
    handovers = tuple(
        Handover(topic, partition, was.get((topic, partition)), will.get((topic, partition)))
        for topic, partition in sorted(was.keys() | will.keys())
        if was.get((topic, partition)) != will.get((topic, partition))
    )
    from_members = [one for one in handovers if one.source is not None]
    return Forecast(
        plan=plan,
        before=owned,
        after=after,
        handovers=handovers,
        paused_eager=len(was),
        paused_cooperative=len(from_members),
        rounds_cooperative=2 if rounds == 2 or any(one.source in present for one in from_members) else 1,
    )


def _owned(member: Member) -> dict[str, list[int]]:
    claim = member.claim or Claim({})
    return {topic: sorted(partitions) for topic, partitions in sorted(claim.owned.items()) if partitions}


def _owners(shares: Mapping[str, Mapping[str, Sequence[int]]]) -> dict[tuple[str, int], str]:
    return {
        (topic, partition): member
        for member, owned in shares.items()
        for topic, partitions in owned.items()
        for partition in partitions
    }


def _imbalance(shares: Mapping[str, Mapping[str, Sequence[int]]]) -> int:
    counts = [sum(map(len, owned.values())) for owned in shares.values()]
    return max(counts, default=0) - min(counts, default=0)
