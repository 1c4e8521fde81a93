"""Quiet: a member that starts nothing new, lets what runs end, and keeps what waits."""

from __future__ import annotations

from typing import Any

import pytest

from headrace._core import effects as do
from headrace._core import events
from headrace._core.engine import Engine
from headrace._core.quiet import quiet_trigger
from headrace._core.stalls import Stalls
from headrace._core.states import APP_TRANSITIONS, AppState, AppTrigger, advance
from headrace._core.workload import Capacity
from headrace.config import Budgets, Commit
from headrace.ports import CommitResult
from tests.unit.core.engine_model import Source
from tests.unit.core.makers import make_settings

ORDERS = ("orders", 0)


def engine_of(**settings: Any) -> Engine:
    """An engine with one partition, which begins at 0."""
    engine = Engine(
        [make_settings(concurrency=2, **settings)],
        [Capacity("threads", 2)],
        commit=Commit(every_s=1.0),
        budgets=Budgets(),
        rebuild_after_s=10.0,
        acknowledge=lambda _: True,
        jitter=lambda: 0.5,
    )
    engine.step(events.Assigned([events.Start(*ORDERS, 0, 0)]), 0.0)
    return engine


def fetched(engine: Engine, first: int, count: int, now: float) -> list[do.Effect]:
    """So many records of so many keys come."""
    sources = [Source(offset, b"key-%d" % offset, 10) for offset in range(first, first + count)]
    return engine.step(events.Fetched([(*ORDERS, sources)]), now)


def handed_out(effects: list[do.Effect]) -> list[Any]:
    """Records that workers get."""
    return [record for effect in effects if isinstance(effect, do.Dispatch) for record in effect.records]


def kinds(effects: list[do.Effect]) -> list[type]:
    """What is done, in order."""
    return [type(effect) for effect in effects]


def test_what_runs_ends_and_is_committed_and_what_waits_is_kept_for_later() -> None:
    engine = engine_of()
    running = handed_out(fetched(engine, 0, 12, 1.0))
    assert running[0].offset == 0
    asked = engine.step(events.QuietAsked(), 1.1)
    assert kinds(asked) == [do.Pause, do.Recall]
    # The workers had begun the first one; they give the rest back.
    assert not handed_out(engine.step(events.Finished(0, returned=running[1:]), 1.2))
    assert not engine.drained()
    assert not handed_out(engine.step(events.Finished(0, succeeded=running[:1], started=1), 1.3))
    assert engine.drained()
    effects = engine.step(events.TICK, 2.5)
    assert [r.offset for e in effects if isinstance(e, do.SendCommit) for r in e.requests] == [1]
    assert not engine.settled()
    engine.step(events.CommitAnswered([CommitResult(*ORDERS, 1, None)]), 2.6)
    assert engine.settled()
    resumed = engine.step(events.QuietEnded(), 3.0)
    assert do.Resume in kinds(resumed)
    assert [record.offset for record in handed_out(resumed)][:2] == [1, 2]


def test_records_that_were_on_their_way_are_taken_in_and_wait() -> None:
    engine = engine_of()
    engine.step(events.QuietAsked(), 1.0)
    assert not handed_out(fetched(engine, 0, 5, 1.1))
    assert engine.snapshot([0], 1.2).partitions[0].waiting == 5
    assert engine.snapshot([0], 1.2).partitions[0].paused == ("quiet",)
    assert len(handed_out(engine.step(events.QuietEnded(), 1.3))) > 0


@pytest.mark.parametrize("how", ["assigned", "sought"])
def test_partitions_that_come_are_quiet_too(how: str) -> None:
    engine = engine_of()
    engine.step(events.QuietAsked(), 1.0)
    if how == "assigned":
        engine.step(events.Lost([ORDERS]), 1.1)
        effects = engine.step(events.Assigned([events.Start(*ORDERS, 0, 0)]), 1.2)
    else:
        effects = engine.step(events.SeekAsked(*ORDERS, 0), 1.2)
    assert do.Pause in kinds(effects)
    assert do.Resume not in kinds(effects)
    assert not handed_out(fetched(engine, 0, 3, 1.3))
    assert handed_out(engine.step(events.QuietEnded(), 1.4))


def test_a_pause_of_the_user_outlasts_quiet_and_quiet_outlasts_a_resume() -> None:
    engine = engine_of()
    engine.step(events.PauseAsked([ORDERS]), 1.0)
    assert do.Pause not in kinds(engine.step(events.QuietAsked(), 1.1))
    assert do.Resume not in kinds(engine.step(events.ResumeAsked([ORDERS]), 1.2))
    engine.step(events.PauseAsked([ORDERS]), 1.3)
    assert do.Resume not in kinds(engine.step(events.QuietEnded(), 1.4))
    assert do.Resume in kinds(engine.step(events.ResumeAsked([ORDERS]), 1.5))


def test_a_retry_that_falls_due_waits_for_the_end_of_quiet() -> None:
    engine = engine_of()
    (record,) = handed_out(fetched(engine, 0, 1, 1.0))
    engine.step(events.Finished(0, failed=[(record, ValueError("later"))], started=1), 1.1)
    engine.step(events.QuietAsked(), 1.15)
    assert not handed_out(engine.step(events.TICK, 5.0))
    deadline = engine.next_deadline()
    assert deadline is None or deadline > 5.0
    assert handed_out(engine.step(events.QuietEnded(), 6.0)) == [record]


def test_what_was_committed_in_advance_is_still_run() -> None:
    """Nobody else would read it."""
    engine = engine_of(guarantee="at_most_once")
    effects = fetched(engine, 0, 2, 2.0)
    assert [r.offset for e in effects if isinstance(e, do.SendCommit) for r in e.requests] == [2]
    engine.step(events.QuietAsked(), 2.1)
    answered = engine.step(events.CommitAnswered([CommitResult(*ORDERS, 2, None)]), 2.2)
    assert [record.offset for record in handed_out(answered)] == [0, 1]


def test_a_stop_in_the_midst_of_quiet_drains_as_ever() -> None:
    engine = engine_of()
    running = handed_out(fetched(engine, 0, 2, 1.0))
    engine.step(events.QuietAsked(), 1.1)
    engine.step(events.StopBegan(), 1.2)
    assert not engine.drained()
    engine.step(events.Finished(0, succeeded=running, started=len(running)), 1.3)
    assert engine.drained()
    assert not handed_out(engine.step(events.QuietEnded(), 1.4))


def test_what_is_held_back_is_no_stall() -> None:
    engine = engine_of()
    engine.step(events.QuietAsked(), 1.0)
    fetched(engine, 0, 3, 1.1)
    stalls = Stalls(stalled_after_s=10.0, hung_after_s=5.0)
    for now in (2.0, 100.0):
        assert stalls.look(engine.standings(), {}, now) == ([], [])
    engine.step(events.QuietEnded(), 101.0)
    stalls.look(engine.standings(), {}, 101.0)
    began, _ = stalls.look(engine.standings(), {}, 112.0)
    assert [stall.cause for stall in began] == ["not_reported"]


def test_the_state_follows_what_was_asked() -> None:
    engine = engine_of()
    running = handed_out(fetched(engine, 0, 1, 1.0))
    assert quiet_trigger(AppState.RUNNING, engine) is None
    engine.step(events.QuietAsked(), 1.1)
    assert quiet_trigger(AppState.RUNNING, engine) is AppTrigger.QUIET
    assert quiet_trigger(AppState.QUIETING, engine) is None
    engine.step(events.Finished(0, succeeded=running, started=1), 1.2)
    assert quiet_trigger(AppState.QUIETING, engine) is None, "not committed yet"
    engine.step(events.TICK, 3.0)
    engine.step(events.CommitAnswered([CommitResult(*ORDERS, 1, None)]), 3.1)
    assert quiet_trigger(AppState.QUIETING, engine) is AppTrigger.STILL
    assert quiet_trigger(AppState.QUIET, engine) is None
    engine.step(events.QuietEnded(), 4.0)
    for state in (AppState.QUIETING, AppState.QUIET):
        assert quiet_trigger(state, engine) is AppTrigger.RESUME


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("state", AppState)
def test_whatever_it_says_the_table_knows(state: AppState, quiet: bool) -> None:
    engine = engine_of()
    engine.step(events.QuietAsked() if quiet else events.QuietEnded(), 1.0)
    trigger = quiet_trigger(state, engine)
    if trigger is not None:
        assert advance(APP_TRANSITIONS, state, trigger) is not state
