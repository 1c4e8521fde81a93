"""The act `sarama`: one planner serves two groups, and what it notes for one steers the plan of the other.

After Sarama's sticky strategy, which was one object for a whole process (its issues 2422 and 3018). The naive form has
its shape, none of its code. Go ends the process where two goroutines meet in a map; Python goes on with a wrong plan.
Needs no broker: a plan is made from what members said. Invariant: both forms are interleaved in the same ways.
"""

from __future__ import annotations

import importlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from headrace.assign import Claim, Member, Sticky, aiokafka, wire
from headrace.cli.gallery.turns import in_turns
from headrace.cli.gallery.verdict import Cell, Row, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.cli.gallery.stage import Stage

INTERLEAVINGS: Final = tuple(product((1, 3, 7, 13), repeat=2))
"""Lines of Python that one leader and the other run in their turns. How a line counts differs between versions of Python:
so many ways of interleaving, of which some meet in the wrong place on each."""

THREADS: Final = 64
THREADS_FOR_S: Final = 1.0

Plan = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group of one topic. Its first member owns all, the others join."""

    topic: str
    partitions: int
    members: tuple[str, ...]

    @property
    def places(self) -> list[str]:
        """Its partitions."""
        return [f"{self.topic}-{number}" for number in range(self.partitions)]

    @property
    def owned(self) -> dict[str, list[str]]:
        """What each member says it had."""
        return {name: self.places if name == self.members[0] else [] for name in self.members}


BILLING: Final = Group("orders", 12, ("billing-1", "billing-2", "billing-3"))
MAILING: Final = Group("mail", 8, ("mailing-1", "mailing-2"))


class SharedPlanner:
    """Sticky assignment in small: what is to move is noted first, then handed over. One object for all groups."""

    def __init__(self) -> None:
        self.movements: dict[str, str] = {}

    def plan(self, owned: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """What each member shall have. Called by the leader of each group, on that group's own thread."""
        self.movements = {}
        planned = {member: list(had) for member, had in owned.items()}
        loads = {member: len(had) for member, had in planned.items()}
        while True:
            most, least = max(loads, key=loads.__getitem__), min(loads, key=loads.__getitem__)
            if loads[most] - loads[least] < 2:
                break
            self.movements[planned[most].pop()] = least
            loads[most] -= 1
            loads[least] += 1
        for place, member in self.movements.items():
            planned.setdefault(member, []).append(place)
        return planned


@dataclass(slots=True)
class Judged:
    """What became of plans. A plan is right if it is the one that is made when nobody else plans."""

    plans: int = 0
    right: int = 0
    raised: int = 0
    orphans: int = 0
    foreign: int = 0

    def take(self, group: Group, found: Plan | BaseException, alone: Plan) -> None:
        """Count one plan."""
        self.plans += 1
        if isinstance(found, BaseException):
            self.raised += 1
            return
        given = [place for places in found.values() for place in places]
        self.right += found == alone
        self.orphans += len(set(group.places) - set(given))
        self.foreign += len(set(given) - set(group.places))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One form: its interleaved plans, those of many threads, and what a client's members claim."""

    turns: Judged
    threads: Judged
    claims: Cell


def play(stage: Stage) -> Verdict:
    """The shared planner and its living twin, then Headrace."""
    stage.tell("naive: two groups' leaders plan with one object, line by line in turns")
    naive = _naive()
    stage.tell(f"{naive.turns.plans - naive.turns.right} of {naive.turns.plans} plans are wrong")
    stage.tell(f"Headrace: the same with one strategy, then {THREADS} threads for {THREADS_FOR_S:g} s")
    return Verdict(_rows(naive, _headrace()))


def _naive() -> Outcome:
    shared = SharedPlanner()
    return _outcome(lambda group: shared.plan(group.owned), _twin())


def _headrace() -> Outcome:
    return _outcome(partial(_planned, Sticky()), _ours())


def _planned(strategy: Sticky, group: Group) -> Plan:
    everything = {group.topic: range(group.partitions)}
    members = [
        Member(name, [group.topic], Claim(everything, 1) if name == group.members[0] else None)
        for name in group.members
    ]
    plan = strategy.assign(members, {group.topic: group.partitions})
    return {
        name: [f"{topic}-{number}" for topic, numbers in owned.items() for number in numbers]
        for name, owned in plan.assignments().items()
    }


def _outcome(plan: Callable[[Group], Plan], claims: Cell) -> Outcome:
    groups = BILLING, MAILING
    alone = {group: plan(group) for group in groups}
    turns, threads = Judged(), Judged()
    for lines in INTERLEAVINGS:
        for group, found in zip(
            groups, in_turns([partial(plan, group) for group in groups], lines), strict=True
        ):
            turns.take(group, found, alone[group])
    until = time.monotonic() + THREADS_FOR_S

    def again_and_again(number: int) -> Judged:
        mine, group = Judged(), groups[number % 2]
        while time.monotonic() < until:
            mine.take(group, _caught(partial(plan, group)), alone[group])
        return mine

    with ThreadPoolExecutor(THREADS, "failures-sarama") as pool:
        for mine in pool.map(again_and_again, range(THREADS)):
            threads.plans += mine.plans
            threads.right += mine.right
    return Outcome(turns, threads, claims)


def _caught(plan: Callable[[], Plan]) -> Plan | BaseException:
    try:
        return plan()
    except Exception as error:  # noqa: BLE001 - counted, whatever it is
        return error


# ---- What a member claims, after another consumer of the process was given something


def _twin() -> Cell:
    """aiokafka's own sticky assignor, as one process with two consumers has it. Only shown where it is installed."""
    if find_spec("aiokafka") is None:
        return Cell("aiokafka is not installed")
    theirs: Any = importlib.import_module("aiokafka.coordinator.assignors.sticky.sticky_assignor")
    protocol: Any = importlib.import_module("aiokafka.coordinator.protocol")

    # A class of its own, so that what it remembers is not left behind in aiokafka's.
    twin: Any = type("Twin", (theirs.StickyPartitionAssignor,), {})
    given = protocol.ConsumerProtocolMemberAssignment
    twin.on_assignment(given(0, [("orders", [0, 1, 2])], b""))
    twin.on_assignment(given(0, [("mail", [7])], b""))
    claimed = wire.decode_sticky(twin.metadata({"orders"}).user_data).owned
    mixed = set(claimed) != {"orders"}
    # One that is mended proves nothing either way: the planner above is the naive form that must fail.
    return Cell(f"{_listed(claimed)} (aiokafka {version('aiokafka')})", True if mixed else None)


def _ours() -> Cell:
    """Our assignors for aiokafka, with one strategy between them. They need aiokafka only to be called by it."""
    strategy = Sticky()
    billing, mailing = aiokafka.Sticky(strategy), aiokafka.Sticky(strategy)
    told: Any = SimpleNamespace(assignment=[("orders", [0, 1, 2])], user_data=b"")
    told_elsewhere: Any = SimpleNamespace(assignment=[("mail", [7])], user_data=b"")
    billing.on_assignment(told)
    mailing.on_assignment(told_elsewhere)
    said = wire.decode_subscription(billing.metadata({"orders"}))
    claimed = wire.decode_sticky(said.user_data).owned
    return Cell(_listed(claimed), {t: list(ps) for t, ps in claimed.items()} == {"orders": [0, 1, 2]})


def _listed(owned: Mapping[str, Sequence[int]]) -> str:
    return (
        ", ".join(f"{topic}-{number}" for topic, numbers in owned.items() for number in numbers) or "nothing"
    )


def _rows(naive: Outcome, ours: Outcome) -> tuple[Row, ...]:
    theirs, own = naive.turns, ours.turns
    wrong = theirs.plans - theirs.right
    return (
        Row(
            "plans that differ, in turns",
            Cell(f"{wrong} of {theirs.plans}", wrong > 0),
            Cell(f"{own.plans - own.right} of {own.plans}", own.right == own.plans > 0),
        ),
        Row(
            "partitions with no owner",
            Cell(f"{theirs.orphans}", theirs.orphans > 0),
            Cell(f"{own.orphans}", own.orphans == 0),
        ),
        Row(
            "partitions of the other group",
            Cell(f"{theirs.foreign}", theirs.foreign > 0),
            Cell(f"{own.foreign}", own.foreign == 0),
        ),
        Row("plans that raised", Cell(f"{theirs.raised}"), Cell(f"{own.raised}", own.raised == 0)),
        Row(
            f"wrong with {THREADS} threads",
            Cell(f"{naive.threads.plans - naive.threads.right:,} of {naive.threads.plans:,}"),
            Cell(
                f"{ours.threads.plans - ours.threads.right:,} of {ours.threads.plans:,}",
                ours.threads.right == ours.threads.plans > 0,
            ),
        ),
        Row("given orders-0 to 2, claims", naive.claims, ours.claims),
    )
