"""Slow, idle, waiting, or stuck: each told from the others, at the moment and not before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace._core.stalls import STARVED_FACTOR, Stall, Stalls, Standing, Surrounds

AFTER_S, HUNG_S = 120.0, 60.0
IDLE = Standing(
    topic="orders",
    partition=0,
    epoch=1,
    active=True,
    position=10,
    committed=10,
    finished=10,
    waiting=0,
    in_flight=0,
    parked=0,
    settling=0,
    unacked=0,
    held=0,
    gated=False,
    paused=False,
    waits_s=0.0,
    subscription=0,
)
KEY = IDLE.key


def watched(standing: Standing, around: Surrounds | None = None, for_s: float = AFTER_S) -> list[Stall]:
    """The stalls that began when a partition stood like this for so long, looked at every second."""
    stalls = Stalls(AFTER_S, HUNG_S)
    began: list[Stall] = []
    outside = {} if around is None else {KEY: around}
    for moment in range(int(for_s) + 1):
        began += stalls.look([standing], outside, 1000.0 + moment)[0]
    return began


STUCK = [
    ("silent", IDLE, Surrounds(end=11)),
    ("not_started", replace(IDLE, waiting=1), None),
    ("not_reported", replace(IDLE, in_flight=1), None),
    ("hung", replace(IDLE, in_flight=1), Surrounds(running_s=HUNG_S)),
    ("silent", replace(IDLE, paused=False), Surrounds(end=12)),
    ("not_started", replace(IDLE, waiting=1, paused=True), None),
]


@pytest.mark.parametrize(("cause", "standing", "around"), STUCK)
def test_what_stands_still_is_stuck_once(cause: str, standing: Standing, around: Surrounds | None) -> None:
    assert watched(standing, around, AFTER_S - 1) == []
    (stall,) = watched(standing, around, 10 * AFTER_S)
    assert (stall.key, stall.cause, stall.since) == (KEY, cause, 1000.0)


NOT_STUCK = {
    "nothing to do": (IDLE, Surrounds(end=10)),
    "end unknown": (IDLE, None),
    "slow handler": (replace(IDLE, in_flight=1, waiting=5), Surrounds(running_s=HUNG_S - 1)),
    "paused by the user": (replace(IDLE, paused=True), Surrounds(end=99)),
    "being given back": (replace(IDLE, active=False, waiting=1), None),
    "waits for its own commit": (replace(IDLE, gated=True, waiting=1), None),
    "waits for a retry": (replace(IDLE, parked=1, held=3), Surrounds(end=99)),
    "waits for the user": (replace(IDLE, unacked=1), Surrounds(end=99)),
    "waits for a dead letter": (replace(IDLE, settling=1), Surrounds(end=99)),
}


@pytest.mark.parametrize("why", NOT_STUCK)
def test_what_has_an_excuse_is_never_stuck(why: str) -> None:
    assert watched(*NOT_STUCK[why], for_s=10 * AFTER_S) == []


def test_a_busy_pool_excuses_for_a_while_only() -> None:
    waiting, busy = replace(IDLE, waiting=1), Surrounds(saturated=True)
    assert watched(waiting, busy, AFTER_S * STARVED_FACTOR - 1) == []
    assert len(watched(waiting, busy, AFTER_S * STARVED_FACTOR)) == 1


def test_a_batch_may_wait_for_company() -> None:
    waiting = replace(IDLE, waiting=1, waits_s=300.0)
    assert watched(waiting, None, AFTER_S + 299) == []
    assert len(watched(waiting, None, AFTER_S + 300)) == 1


def progress(before: Standing, after: Standing) -> bool:
    """Whether going from one to the other, a second before it would be stuck, starts the count anew."""
    stalls = Stalls(AFTER_S, HUNG_S)
    stalls.look([before], {}, 0.0)
    stalls.look([after], {}, AFTER_S - 1)
    return not stalls.look([after], {}, AFTER_S)[0]


def test_what_counts_as_progress() -> None:
    stuck = replace(IDLE, waiting=5)
    assert not progress(stuck, stuck)
    assert not progress(stuck, replace(stuck, waiting=50, position=55)), "records that are fetched are none"
    assert not progress(stuck, replace(stuck, waiting=4, in_flight=1)), "nor is to hand one out"
    assert progress(stuck, replace(stuck, finished=11))
    assert progress(stuck, replace(stuck, unacked=1))
    assert progress(stuck, replace(stuck, parked=1))
    assert progress(stuck, replace(stuck, settling=1))
    assert progress(stuck, replace(stuck, epoch=2))


def test_work_that_has_just_come_is_not_old() -> None:
    """An idle partition's long rest does not count against its first record."""
    stalls = Stalls(AFTER_S, HUNG_S)
    for moment in range(1000):
        stalls.look([IDLE], {KEY: Surrounds(end=10)}, float(moment))
    assert stalls.look([replace(IDLE, waiting=1)], {}, 1000.0) == ([], [])
    assert stalls.look([replace(IDLE, waiting=1)], {}, 1000.0 + AFTER_S - 2) == ([], [])


def test_an_episode_ends_with_progress_and_may_begin_anew() -> None:
    stalls = Stalls(AFTER_S, HUNG_S)
    stuck = replace(IDLE, waiting=1)
    stalls.look([stuck], {}, 0.0)
    (first,) = stalls.look([stuck], {}, AFTER_S)[0]
    assert stalls.current == {KEY: first}
    moving = replace(stuck, finished=11)
    assert [stall.key for stall in stalls.look([moving], {}, AFTER_S + 1)[1]] == [KEY]
    assert not stalls.current
    assert len(stalls.look([moving], {}, 2 * AFTER_S + 1)[0]) == 1


def test_a_partition_that_goes_ends_its_episode() -> None:
    stalls = Stalls(AFTER_S, HUNG_S)
    stuck = replace(IDLE, waiting=1)
    stalls.look([stuck], {}, 0.0)
    stalls.look([stuck], {}, AFTER_S)
    assert len(stalls.look([], {}, AFTER_S + 1)[1]) == 1


def test_one_stuck_partition_of_many_is_found() -> None:
    """Others that flow hide nothing."""
    stalls = Stalls(AFTER_S, HUNG_S)
    found: list[Stall] = []
    for moment in range(int(AFTER_S) + 1):
        standings = [replace(IDLE, partition=n, waiting=1, finished=10 + moment) for n in range(1, 50)]
        found += stalls.look([replace(IDLE, waiting=1), *standings], {}, float(moment))[0]
    assert [stall.key for stall in found] == [KEY]
