"""Which fault comes when, to whom, for how long: a pure function of the seed.

Decides the order and the mix; refuses to know how a fault is done. Invariant: the same seed, duration and protocols
give the same schedule, and every kind of fault comes once to every crew before any comes again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.chaos.crew import Protocol

SESSION_S = 6.0
MAX_POLL_S = 10.0
FIRST_AT_S = 4.0
BUSY_S, REST_S = 60.0, 40.0
"""After so long no fault begins for a while: the last one ends, and whoever is stuck then is stuck for good."""
MEMBERS = ("a", "b", "c", "crowd-1", "crowd-2", "many-1", "many-2")
"""The processes of a crew: three with one app of its main group each, two with an app of each side group, and two with one
app each of a group whose members have several connections, which come and go."""
MAIN_MEMBERS = MEMBERS[:3]
SCALING_MEMBERS = MEMBERS[5:]


class Kind(StrEnum):
    """What is done. The value is its name in reports."""

    KILL = "kill -9"
    STOP = "clean stop and start"
    ROLL = "rolling restart"
    FREEZE_BRIEFLY = "SIGSTOP, within the session"
    FREEZE_PAST_SESSION = "SIGSTOP beyond the session"
    FREEZE_PAST_POLL = "SIGSTOP beyond the poll interval"
    WEDGE = "interpreter held beyond the poll interval"
    CUT = "connections cut"
    CUT_PAST_SESSION = "connections cut beyond the session"
    HALF_OPEN = "connections half-open"
    DEAF = "answers lost"
    DELAY = "connections delayed"
    HOSTILE_IDLE = "hostile member that never polls"
    HOSTILE_LAPSED = "hostile member that stops to poll"
    NODE_RESTART = "broker restart"
    COORDINATOR_MOVE = "coordinator move"
    PARTITIONS_ADDED = "partitions added"


EVERYBODYS = (Kind.NODE_RESTART, Kind.COORDINATOR_MOVE, Kind.PARTITIONS_ADDED)
"""Done to the cluster, not to one crew."""
ADDED_AT_MOST = 3

_FOR_S: dict[Kind, tuple[float, float]] = {
    Kind.KILL: (0.5, 4.0),  # until it is started again
    Kind.STOP: (0.0, 2.0),
    Kind.FREEZE_BRIEFLY: (1.0, 3.0),
    Kind.FREEZE_PAST_SESSION: (SESSION_S + 1.0, SESSION_S + 3.0),
    Kind.FREEZE_PAST_POLL: (MAX_POLL_S + 1.0, MAX_POLL_S + 3.0),
    Kind.WEDGE: (MAX_POLL_S + 2.0, MAX_POLL_S + 2.0),
    Kind.CUT: (0.0, 3.0),
    Kind.CUT_PAST_SESSION: (SESSION_S + 1.0, SESSION_S + 4.0),
    Kind.HALF_OPEN: (2.0, SESSION_S + 4.0),
    Kind.DEAF: (2.0, SESSION_S + 4.0),
    Kind.DELAY: (4.0, 10.0),
    Kind.HOSTILE_IDLE: (MAX_POLL_S + 1.0, MAX_POLL_S + 4.0),
    Kind.HOSTILE_LAPSED: (MAX_POLL_S + 1.0, MAX_POLL_S + 4.0),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `crew` is None for the cluster's own; `number` is its place in the schedule."""

    number: int
    at_s: float
    kind: Kind
    crew: Protocol | None
    member: str
    for_s: float

    def __str__(self) -> str:
        whom = f" {self.crew}-{self.member}" if self.crew else ""
        return f"{self.kind}{whom}"


def schedule(
    seed: int, duration_s: float, crews: Sequence[Protocol], gap_s: float = 4.0
) -> tuple[Fault, ...]:
    """All faults of a run. They begin `gap_s` apart, more or less, and are over by `duration_s`."""
    chance = random.Random(seed)  # noqa: S311 # a seed has to repeat it
    faults: list[Fault] = []
    added = 0
    at_s = busy_since_s = FIRST_AT_S
    for kind, crew in _decks(chance, crews):
        for_s = chance.uniform(*_FOR_S.get(kind, (0.0, 0.0)))
        members = MAIN_MEMBERS if kind is Kind.WEDGE else MEMBERS
        member = chance.choice(members)
        if at_s >= duration_s:
            break
        if at_s + for_s > duration_s or (kind is Kind.PARTITIONS_ADDED and added == ADDED_AT_MOST):
            continue
        added += kind is Kind.PARTITIONS_ADDED
        faults.append(Fault(len(faults), round(at_s, 1), kind, crew, member, round(for_s, 1)))
        at_s += chance.uniform(0.5, 1.5) * gap_s / len(crews)
        if at_s - busy_since_s > BUSY_S and at_s + REST_S < duration_s:
            at_s += REST_S
            busy_since_s = at_s
    return tuple(faults)


def _decks(chance: random.Random, crews: Sequence[Protocol]) -> Iterator[tuple[Kind, Protocol | None]]:
    """All kinds for all crews in random order, again and again; the limit keeps a late, full deck from going on."""
    for _ in range(10_000):
        deck: list[tuple[Kind, Protocol | None]] = [(kind, None) for kind in EVERYBODYS]
        for kind in Kind:
            if kind not in EVERYBODYS:
                deck.extend((kind, crew) for crew in crews)
        chance.shuffle(deck)
        yield from deck
