"""A schedule of members coming and going, played with several strategies: what each moves, pauses, and leaves uneven.

Decides nothing itself: each step is a forecast. Refuses to know time beyond what one round of a rebalance takes, which
is given. Invariant: all strategies see the same schedule, and each goes on from its own plans.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

from headrace.assign.forecast import Situation, Strategy, forecast
from headrace.assign.model import Claim

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.assign.model import Member, Topic


@final
@dataclass(frozen=True, slots=True)
class Step:
    """One rebalance of one strategy. `paused_s`: partitions that nobody read, times seconds."""

    members: int
    moves: int
    imbalance: int
    rounds: int
    paused_s: float


@final
@dataclass(frozen=True, slots=True)
class Course:
    """What one strategy made of the schedule."""

    strategy: str
    steps: tuple[Step, ...]

    @property
    def moves(self) -> int:
        """Partitions that went from one live member to another, in all."""
        return sum(step.moves for step in self.steps)

    @property
    def paused_s(self) -> float:
        """Partitions times seconds without a reader, in all."""
        return sum(step.paused_s for step in self.steps)

    @property
    def imbalance_max(self) -> int:
        """The most that any plan left uneven."""
        return max((step.imbalance for step in self.steps), default=0)


def simulate(
    schedule: Iterable[Sequence[Member]],
    topics: Mapping[str, int | Topic],
    strategies: Sequence[Strategy],
    *,
    round_s: float = 3.0,
) -> list[Course]:
    """Play a schedule: the members that are there, rebalance by rebalance. Their claims are made here.

    `round_s` is how long one round of a rebalance takes: about a heartbeat interval and the slowest member's revoke.
    A cooperative strategy pauses what changes hands; any other pauses everything. Raises `GroupInvalid`.
    """
    groups = [tuple(members) for members in schedule]
    return [_course(groups, topics, strategy, round_s) for strategy in strategies]


def _course(
    groups: Sequence[tuple[Member, ...]],
    topics: Mapping[str, int | Topic],
    strategy: Strategy,
    round_s: float,
) -> Course:
    now = Situation((), topics)
    steps: list[Step] = []
    cooperative = strategy.name.startswith("cooperative")
    for members in groups:
        owned = {member.id: member.claim for member in now.members}
        then = Situation(tuple(replace(member, claim=owned.get(member.id)) for member in members), topics)
        found = forecast(now, then, strategy)
        present = {member.id for member in now.members} & {member.id for member in members}
        rounds = found.rounds_cooperative if cooperative else 1
        paused = found.paused_cooperative if cooperative else found.paused_eager
        steps.append(
            Step(
                members=len(members),
                moves=sum(one.source in present and one.target is not None for one in found.handovers),
                imbalance=found.imbalance_after,
                rounds=rounds,
                paused_s=paused * round_s,
            )
        )
        now = Situation(
            tuple(replace(member, claim=Claim(found.after[member.id], len(steps))) for member in members),
            topics,
        )
    return Course(strategy.name, tuple(steps))
