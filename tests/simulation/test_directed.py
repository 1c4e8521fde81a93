"""Worlds made for one question each, that others asked before us: each promise is kept, and the question was asked.

A world in which what it is about did not happen proves nothing: each says by its history what must have been seen, and
in how many of the ways in which it may go.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from headrace.config import Commit, RetryPolicy, Timeouts
from headrace.subscriptions import SubscriptionSettings
from headrace.testing.simulation import history as told
from headrace.testing.simulation.faults import Faults
from headrace.testing.simulation.handlers import Handlers
from headrace.testing.simulation.notation import written
from headrace.testing.simulation.scenario import Deed, Refusal, Scenario
from headrace.testing.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from headrace.ports import TopicPartition
    from headrace.testing.simulation.history import Entry
    from headrace.testing.simulation.model.settings import Protocol

    Happened = Sequence[tuple[float, Entry]]

E = TypeVar("E")

PROTOCOLS: tuple[Protocol, ...] = ("eager", "cooperative", "kip848")
WAYS = 5
"""In so many orders of things each world is played."""
SOON_S = 2.0


@dataclass(frozen=True, slots=True)
class Directed:
    """A world, and what must be seen in at least `seen_min` of its ways.

    repeats: whether a record may be handled again although no commit was refused.
    """

    scenario: Scenario
    shows: Callable[[Happened], bool]
    repeats: bool = False
    protocols: tuple[Protocol, ...] = PROTOCOLS
    seen_min: int = 1


def subscription(**changes: Any) -> SubscriptionSettings:
    """Handlers on threads that read one topic and skip what they cannot handle."""
    base = SubscriptionSettings(name="directed", topics=("orders",), run_in="threads", on_exhausted="skip")
    return replace(base, **changes)


def world(subscribed: SubscriptionSettings | None = None, **changes: Any) -> Scenario:
    """A group without a fault but for those named."""
    base = Scenario(
        seed=1,
        protocol="cooperative",
        subscriptions=(subscribed or subscription(),),
        records=40,
        members=2,
        troubled_s=40.0,
        commit=Commit(every_s=0.5),
        timeouts=Timeouts(drain_s=10.0, stop_s=25.0),
        inbox_stretch=20.0,
    )
    return replace(base, **changes)


# What was seen


def of(happened: Happened, kind: type[E]) -> Iterator[tuple[float, E]]:
    """The entries of one kind, with their moments."""
    return ((now, entry) for now, entry in happened if isinstance(entry, kind))


def gives_back(entry: Entry) -> bool:
    """Whether partitions went, asked for or not."""
    return isinstance(entry, told.RevokeReturned | told.LostReturned)


def assigned_often(happened: Happened) -> bool:
    """Some partition came to its member five times, and was taken without asking at least once."""
    times = Counter(place for _, entry in of(happened, told.Assigned) for place in entry.places)
    return max(times.values()) >= 5 and any(entry.places for _, entry in of(happened, told.LostReturned))


def reclaimed(happened: Happened) -> bool:
    """One life of a member was given the same partition three times."""
    times = Counter(
        (entry.member, place) for _, entry in of(happened, told.Assigned) for place in entry.places
    )
    return max(times.values()) >= 3


def cancelled_at_revoke(happened: Happened) -> bool:
    """A handler was cancelled because its partition went, others of that member's ended well, and the record came again."""
    cancelled = {
        (entry.place, entry.offset)
        for _, entry in of(happened, told.HandlerEnded)
        if entry.outcome == "cancelled"
    }
    again = {(entry.place, entry.offset) for _, entry in of(happened, told.Settled)}
    return bool(cancelled) and cancelled <= again


def unstarted_at_loss(happened: Happened) -> bool:
    """A member gave back records that it had fetched and not begun."""
    fetched: dict[tuple[str, TopicPartition], set[int]] = {}
    for _, entry in happened:
        match entry:
            case told.Fetched(member, place, offsets):
                fetched.setdefault((member, place), set()).update(offsets)
            case told.HandlerStarted(member, place, offset):
                fetched.get((member, place), set()).discard(offset)
            case told.RevokeReturned() | told.LostReturned():
                if any(fetched.pop((entry.member, place), None) for place in entry.places):
                    return True
            case _:
                pass
    return False


def hostile_came(happened: Happened) -> bool:
    """The unhealthy member was there, and partitions moved because of it."""
    began = [now for now, entry in of(happened, told.FaultBegan) if entry.kind == "hostile_members"]
    return bool(began) and any(now > began[0] and gives_back(entry) for now, entry in happened)


def stopped_beside_a_hostile_member(happened: Happened) -> bool:
    """A stop was asked for while the group waited for the one that never polls; it was clean and soon over."""
    began = [now for now, entry in of(happened, told.FaultBegan) if entry.kind == "hostile_members"]
    return bool(began) and any(
        began[0] < asked_at < began[0] + 20.0 and took_s < SOON_S and error is None
        for asked_at, took_s, error, _ in stops(happened)
    )


def stops(happened: Happened) -> Iterator[tuple[float, float, str | None, bool]]:
    """Each stop that was asked for: when, how long it took, the error that it ended with, whether it ever held a partition."""
    asked: dict[str, float] = {}
    held: set[str] = set()
    for now, entry in happened:
        match entry:
            case told.Assigned(member, places) if places:
                held.add(member)
            case told.StopAsked(member):
                asked.setdefault(member, now)
            case told.MemberEnded(member, error) if member in asked:
                yield asked[member], now - asked[member], error, member in held
            case _:
                pass


def stopped_without_partitions(happened: Happened) -> bool:
    """One that never held a partition stopped cleanly and soon."""
    return any(not held and error is None and took_s < SOON_S for _, took_s, error, held in stops(happened))


def stopped_by_force(happened: Happened) -> bool:
    """A stop gave up what hung."""
    return any(error == "ForcedStop" for _, _, error, _ in stops(happened))


def came_back_unnoticed(happened: Happened) -> bool:
    """The static member had its own again, and the other was not asked for anything in between."""
    (first, ended_at), *_ = [
        (entry.member, now) for now, entry in of(happened, told.MemberEnded) if slot_of(entry.member) == "m1"
    ]
    given = [(now, entry) for now, entry in of(happened, told.Assigned) if slot_of(entry.member) == "m1"]
    back_at = next((now for now, entry in given if entry.member != first and entry.places), None)
    if back_at is None:
        return False
    before = {place for _, entry in given if entry.member == first for place in entry.places}
    after = {place for _, entry in given if entry.member != first for place in entry.places}
    disturbed = any(
        ended_at < now < back_at and slot_of(entry.member) == "m0"
        for now, entry in happened
        if isinstance(entry, told.Assigned | told.RevokeBegan | told.LostReturned)
    )
    return bool(before) and before == after and not disturbed


def slot_of(member: str) -> str:
    """The pod of which this is one life."""
    return member.partition(".")[0]


def handled_elsewhere_while_paused(happened: Happened) -> bool:
    """m0 paused a partition, m1 handled its records, m0 got it again, began nothing until it was resumed, and then went on."""
    told_of: dict[TopicPartition, list[str]] = {}
    for _, entry in happened:
        match entry:
            case told.PauseAsked(_, (place,), paused):
                told_of.setdefault(place, []).append("paused" if paused else "resumed")
            case told.Assigned(member, places) if slot_of(member) == "m0":
                for place in places:
                    told_of.setdefault(place, []).append("given")
            case told.HandlerStarted(member, place):
                told_of.setdefault(place, []).append(f"{slot_of(member)} begins")
            case _:
                pass
    wanted = ["paused", "m1 begins", "given", "resumed", "m0 begins"]
    return any(
        _changes(steps[steps.index("paused") :])[:5] == wanted
        for steps in told_of.values()
        if "paused" in steps
    )


def _changes(steps: Sequence[str]) -> list[str]:
    """Without what only says the same again."""
    return [step for step, before in zip(steps, ["", *steps], strict=False) if step != before]


def went_while_a_retry_waited(happened: Happened) -> bool:
    """A partition went while a failed record of it waited to be tried again; it was finished in a later assignment."""
    waiting: set[tuple[TopicPartition, int]] = set()
    orphans: set[tuple[TopicPartition, int]] = set()
    for _, entry in happened:
        match entry:
            case told.HandlerEnded(_, place, offset, "raised"):
                waiting.add((place, offset))
            case told.HandlerStarted(_, place, offset):
                waiting.discard((place, offset))
            case told.RevokeReturned(_, places) | told.LostReturned(_, places):
                orphans.update(each for each in waiting if each[0] in places)
            case told.Settled(_, place, offset) if (place, offset) in orphans:
                return True
            case _:
                pass
    return False


def came_back_to_its_own_handler(happened: Happened) -> bool:
    """A member was given a partition again while its handler of the assignment before still ran."""
    running: dict[int, tuple[str, TopicPartition]] = {}
    gone: set[tuple[str, TopicPartition]] = set()
    for _, entry in happened:
        match entry:
            case told.HandlerStarted(member, place, run=run):
                running[run] = (member, place)
            case told.HandlerEnded(run=run):
                running.pop(run, None)
            case told.RevokeReturned(member, places):
                gone.update((member, place) for place in places)
            case told.Assigned(member, places):
                if any((member, place) in gone and (member, place) in running.values() for place in places):
                    return True
            case _:
                pass
    return False


def refused_at_the_loss(happened: Happened) -> bool:
    """A commit that no coordinator took was followed by the loss of its partitions, and others began where it had not reached."""
    refused: set[tuple[str, TopicPartition]] = set()
    for _, entry in happened:
        match entry:
            case told.CommitAnswered(member, place, _, error) if error is not None:
                refused.add((member, place))
            case told.LostReturned(member, places) if any((member, place) in refused for place in places):
                return True
            case _:
                pass
    return False


def committed_in_the_revoke(happened: Happened) -> bool:
    """The only commits of a life were those with which it gave its partitions back."""
    revoking: set[str] = set()
    for _, entry in happened:
        match entry:
            case told.RevokeBegan(member, _, closing=False):
                revoking.add(member)
            case told.CommitSent(member, offsets) if member in revoking and any(
                offset for _, _, offset in offsets
            ):
                return True
            case told.RevokeReturned(member):
                revoking.discard(member)
            case _:
                pass
    return False


def ended_by_its_handler(happened: Happened) -> bool:
    """An error that stops the app did, and its record was handled by another."""
    ends = [entry for _, entry in of(happened, told.MemberEnded) if entry.error == "HandlerStopped"]
    fatal = {
        (entry.place, entry.offset)
        for _, entry in of(happened, told.HandlerEnded)
        if entry.outcome == "fatal"
    }
    settled = {(entry.place, entry.offset) for _, entry in of(happened, told.Settled)}
    return bool(ends) and fatal <= settled


SLOW = Handlers(quick_s=0.2, slow=0.5, slow_s=8.0)
NEVER = Commit(every_s=60.0)
PATIENT = RetryPolicy(attempts_max=50, backoff_initial_s=8.0, backoff_max_s=8.0)

DIRECTED: dict[str, Directed] = {
    "a partition is lost and regained many times": Directed(
        world(
            deeds=(
                Deed(6.0, "kill", 1),
                Deed(8.0, "start", 1),
                Deed(14.0, "freeze", 0, 14.0),
                Deed(30.0, "bounce", 1, 1.0),
                Deed(38.0, "freeze", 1, 14.0),
            ),
            troubled_s=60.0,
        ),
        assigned_often,
        repeats=True,
    ),
    "a member reclaims its own partitions again and again": Directed(
        world(members=1, faults=Faults(rebalances=5)), reclaimed, protocols=("eager",), seen_min=4
    ),
    "handlers end when their partition goes": Directed(
        world(
            subscription(run_in="asyncio", concurrency=8),
            handlers=SLOW,
            timeouts=Timeouts(drain_s=0.5),
            faults=Faults(rebalances=3),
        ),
        cancelled_at_revoke,
        repeats=True,
    ),
    "what was fetched and not begun is left to the next owner": Directed(
        world(
            subscription(concurrency=1),
            records=60,
            workers=1,
            handlers=Handlers(quick_s=1.0),
            faults=Faults(rebalances=3),
            deeds=(Deed(10.0, "freeze", 0, 14.0),),
        ),
        unstarted_at_loss,
        repeats=True,
        seen_min=WAYS - 2,
    ),
    "an unhealthy member disturbs no order": Directed(
        world(
            commit=Commit(every_s=0.2, every_records=1),
            handlers=Handlers(quick_s=0.5),
            faults=Faults(hostile_members=1),
            troubled_s=60.0,
        ),
        hostile_came,
        repeats=True,
    ),
    "a stop while the group waits for one that never polls": Directed(
        world(
            faults=Faults(hostile_members=1),
            troubled_s=20.0,
            deeds=(Deed(10.0, "stop", 0), Deed(15.0, "stop", 1)),
        ),
        stopped_beside_a_hostile_member,
        repeats=True,
    ),
    "a static member that comes back in time": Directed(
        world(static=True, partitions=4, deeds=(Deed(20.0, "bounce", 1, 2.0),)),
        came_back_unnoticed,
        seen_min=WAYS - 2,
    ),
    "paused here, handled elsewhere, resumed here": Directed(
        world(
            records=60,
            deeds=(
                Deed(7.0, "stop", 1),
                Deed(12.0, "pause", 0, 25.0),
                Deed(12.0, "pause", 0, 25.2),
                Deed(14.0, "start", 1),
                Deed(30.0, "stop", 1),
            ),
        ),
        handled_elsewhere_while_paused,
        seen_min=WAYS - 2,
    ),
    "a partition goes while its failed record waits": Directed(
        world(
            subscription(retry=PATIENT),
            handlers=Handlers(quick_s=0.1, raises=0.5),
            faults=Faults(rebalances=3),
        ),
        went_while_a_retry_waited,
        repeats=True,
    ),
    "given back to whose handler still runs": Directed(
        world(
            members=1,
            handlers=SLOW,
            timeouts=Timeouts(drain_s=0.0),
            faults=Faults(rebalances=4),
        ),
        came_back_to_its_own_handler,
        repeats=True,
        protocols=("eager",),
        seen_min=4,
    ),
    "a commit is refused at the moment of loss": Directed(
        world(
            handlers=Handlers(quick_s=0.3),
            refusals=(Refusal("run", "UNKNOWN_MEMBER_ID", commits=1, rounds=5),),
            faults=Faults(member_forgotten=0.1),
        ),
        refused_at_the_loss,
        repeats=True,
    ),
    "finished records are committed when their partition goes": Directed(
        world(
            commit=NEVER, deeds=(Deed(12.0, "stop", 1), Deed(18.0, "start", 1), Deed(26.0, "bounce", 0, 2.0))
        ),
        committed_in_the_revoke,
    ),
    "an error that stops the app passes over nothing": Directed(
        world(handlers=Handlers(quick_s=0.1, fatal=0.1)), ended_by_its_handler, repeats=True
    ),
    "a stop without a partition": Directed(
        world(partitions=1, deeds=(Deed(5.0, "stop", 0), Deed(5.0, "stop", 1)), troubled_s=10.0),
        stopped_without_partitions,
    ),
    "a stop before the first assignment": Directed(
        world(members=3, deeds=tuple(Deed(0.5 * n, "stop", n % 3) for n in range(1, 11)), troubled_s=10.0),
        stopped_without_partitions,
    ),
    "a stop while a handler hangs": Directed(
        world(
            handlers=Handlers(hangs=0.3),
            deeds=(Deed(10.0, "stop", 0),),
            timeouts=Timeouts(drain_s=1.0, stop_s=5.0),
        ),
        stopped_by_force,
        repeats=True,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "protocol"), [(name, protocol) for name, each in DIRECTED.items() for protocol in each.protocols]
)
def test_a_directed_world_keeps_every_promise(name: str, protocol: Protocol) -> None:
    directed = DIRECTED[name]
    seen = 0
    for chance in range(WAYS):
        scenario = replace(directed.scenario, protocol=protocol, chance=chance)
        played = World(scenario)
        outcome = played.play()
        assert not outcome.violations, f"{outcome.violations}; the world: {written(scenario)}"
        happened = outcome.history.entries
        refused = any(entry.error is not None for _, entry in of(happened, told.CommitAnswered))
        assert directed.repeats or refused or not played.judge.duplicates, f"repeated: {written(scenario)}"
        seen += directed.shows(happened)
    assert seen >= directed.seen_min, f"seen in {seen} of {WAYS} ways: this world does not ask its question"
