"""The judge on L1 to L6 and S7: each promise broken in a forged history is seen, and its lawful twin is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.testing.invariants import Bounds, Judge, PromiseBroken, TopicRules
from headrace.testing.simulation import history as told
from tests.simulation.forged import T0, Story

if TYPE_CHECKING:
    from collections.abc import Callable

BOUNDS = Bounds(callback_s=25, stop_s=25, stop_slack_s=5, turns_per_s=100, bytes_held=1000)
PATIENT = TopicRules(retry_after_s=0.1)
ONCE = TopicRules(guarantee="at_most_once")


def begun(count: int = 3, keys: str = "", rules: TopicRules | None = None) -> Story:
    """Records are there, and "m" has fetched them all."""
    story = Story(rules, BOUNDS).log(count, keys).member()
    return story.fetch(*range(count)) if count else story


def calm(*stuck: int) -> told.FaultsOver:
    return told.FaultsOver(tuple(("t", 0, offset) for offset in stuck))


def snapshot(
    fetched: int = 10,
    waiting: int = 0,
    in_flight: int = 0,
    finished: int = 10,
    bytes_held: int = 0,
    *,
    held_unchanged: bool = True,
) -> told.SnapshotTaken:
    return told.SnapshotTaken(
        "m", fetched, waiting, in_flight, 0, finished, 0, bytes_held, held_unchanged=held_unchanged
    )


BROKEN: dict[str, tuple[str, Callable[[], Story]]] = {
    "a record is never finished": ("L1", lambda: begun().handle(0, 1).commit(2).add(calm()).over()),
    "a record is never fetched": ("L1", lambda: Story().log(1).member().add(calm()).over()),
    "records are passed over at most once without a commit": (
        "L1",
        lambda: begun(rules=ONCE).add(calm()).over(),
    ),
    "the owner loop broke": (
        "L1",
        lambda: begun(0).add(told.MemberEnded("m", "InternalFailure")),
    ),
    "a stuck record stops another key": (
        "L2",
        lambda: begun(3, "aab").start(0).add(calm(0)).over(),
    ),
    "a stuck record stops another partition": (
        "L2",
        lambda: begun().start(0).add(told.Produced(("t", 1), 0, b"z")).add(calm(0)).over(),
    ),
    "a revoke returns too late": ("L3", lambda: begun(0).revoke(took_s=26)),
    "a revoke never returns": (
        "L3",
        lambda: begun(0).revoke_begins().wait(30).add(told.FaultBegan("any")),
    ),
    "an assignment takes too long": (
        "L3",
        lambda: begun(0).wait(26).add(told.AssignReturned("m", (T0,), 26.0)),
    ),
    "a loss takes too long": (
        "L3",
        lambda: begun(0).wait(26).add(told.LostReturned("m", (T0,), 26.0)),
    ),
    "a stop ends too late": (
        "L3",
        lambda: begun(0).add(told.StopAsked("m")).wait(31).add(told.MemberEnded("m", None)),
    ),
    "a stop never ends": (
        "L3",
        lambda: begun(0).add(told.StopAsked("m")).wait(31).add(told.FaultBegan("any")),
    ),
    "a refused commit is not sent again": (
        "L4",
        lambda: begun().handle(0, 1, 2).send(3).answer(3, "REBALANCE_IN_PROGRESS").add(calm()).over(),
    ),
    "what is finished before a stuck record is not committed": (
        "L4",
        lambda: begun().handle(0).start(1).add(calm(1)).over(),
    ),
    "a member ends though nobody stopped it": ("L1", lambda: begun(0).add(told.MemberEnded("m", None))),
    "a failed record is tried again at once": (
        "L5",
        lambda: begun(1, rules=PATIENT).start(0).ends(0, "raised").wait(0.05).start(0, attempt=2),
    ),
    "bytes are held of no records": ("S7", lambda: begun(0).add(snapshot(bytes_held=1))),
    "a busy loop": ("L5", lambda: begun(0).add(told.Turned("m", 201, 2.0, idle=True))),
    "too much is held": ("L6", lambda: begun(0).add(snapshot(waiting=1, finished=9, bytes_held=1001))),
    "less than nothing is held": ("L6", lambda: begun(0).add(snapshot(bytes_held=-1))),
    "a record is in no account": ("S7", lambda: begun(0).add(snapshot(fetched=11))),
    "a record is in two accounts": ("S7", lambda: begun(0).add(snapshot(in_flight=1))),
    "an account is below nothing": ("S7", lambda: begun(0).add(snapshot(waiting=-1, finished=11))),
    "a held snapshot changes": ("S7", lambda: begun(0).add(snapshot(held_unchanged=False))),
    "a member has ended and counts records in hand": (
        "S7",
        lambda: (
            begun(0)
            .add(told.StopAsked("m"))
            .add(snapshot(waiting=1, finished=9))
            .add(told.MemberEnded("m", None))
        ),
    ),
}

LAWFUL: dict[str, Callable[[], Story]] = {
    "all is finished and committed": lambda: begun().handle(0, 1, 2).commit(3).add(calm()).over(),
    "all but what a stuck record holds up": lambda: (
        begun(3, "aba").start(0).handle(1, key="b").add(calm(0)).over()
    ),
    "all that a stuck record of an ordered partition lets": lambda: (
        begun(3, "abc", TopicRules(order_by="partition")).handle(0).start(1).commit(1).add(calm(1)).over()
    ),
    "a removed record need not be finished": lambda: (
        Story(None, BOUNDS)
        .log(2)
        .add(told.Removed(T0, 1))
        .member()
        .fetch(1)
        .handle(1)
        .commit(2)
        .add(calm())
        .over()
    ),
    "at most once: what is committed is done with": lambda: begun(rules=ONCE).commit(3).add(calm()).over(),
    "a refused commit is sent again": lambda: (
        begun().handle(0, 1, 2).send(3).answer(3, "REBALANCE_IN_PROGRESS").commit(3).add(calm()).over()
    ),
    "a revoke takes its time": lambda: begun(0).revoke(took_s=24),
    "a revoke of a frozen member takes longer": lambda: (
        begun(0).revoke_begins().add(told.MemberFrozen("m", 40)).wait(45).revoke_ends(took_s=45)
    ),
    "a stop in time": lambda: begun(0).add(told.StopAsked("m")).wait(29).add(told.MemberEnded("m", None)),
    "a killed member never stops": lambda: (
        begun(0).add(told.StopAsked("m")).kill().wait(99).add(told.FaultBegan("any"))
    ),
    "a failed record is tried again after a pause": lambda: (
        begun(1, rules=PATIENT).start(0).ends(0, "raised").wait(0.2).start(0, attempt=2)
    ),
    "a record that asks for it is tried again at once": lambda: (
        begun(1, rules=PATIENT).start(0).ends(0, "later").start(0, attempt=2)
    ),
    "an expected end": lambda: (
        Story(None, Bounds(errors_expected=frozenset({"RecordFailed"})))
        .member()
        .add(told.MemberEnded("m", "RecordFailed"))
    ),
    "an idle loop turns now and then": lambda: begun(0).add(told.Turned("m", 199, 2.0, idle=True)),
    "a busy member's loop turns often": lambda: begun(0).add(told.Turned("m", 9999, 2.0, idle=False)),
    "all that is held is accounted for": lambda: begun(0).add(
        snapshot(fetched=13, waiting=2, in_flight=1, bytes_held=1000)
    ),
    "a member has ended and counts nothing": lambda: (
        begun(0).add(told.StopAsked("m")).add(snapshot()).add(told.MemberEnded("m", None))
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_seen(name: str) -> None:
    promise, tale = BROKEN[name]
    story = tale()
    assert story.broken == [promise], story.judge.violations


@pytest.mark.parametrize("name", LAWFUL)
def test_what_is_permitted_is_permitted(name: str) -> None:
    story = LAWFUL[name]()
    assert story.broken == [], story.judge.violations


def test_a_calm_world_may_end_when_all_is_finished_and_committed() -> None:
    story = begun(1).add(calm())
    assert not story.judge.finished()
    assert not story.handle(0).judge.finished()
    assert story.commit(1).judge.finished()


def test_a_violation_says_what_when_and_why() -> None:
    story = begun().wait(1.5).start(0).start(1)
    (violation,) = story.judge.violations
    assert str(violation).startswith("S3 broken at 1.5000 s: m started t[0] 1 while m was at work on 0")
    assert str(PromiseBroken(violation)) == str(violation)


def test_topics_that_are_nobodys_are_not_judged() -> None:
    judge = Judge({})
    judge.see(0.0, told.Produced(("dead", 0), 0, b"a"))
    assert judge.end(1.0) == []
