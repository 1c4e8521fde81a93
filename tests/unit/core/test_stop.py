"""What a stop does with records that wait for their own commit (guarantee="at_most_once")."""

from __future__ import annotations

from typing import Any

from headrace._core import effects as do
from headrace._core import events
from headrace._core.engine import Engine
from headrace._core.workload import Capacity
from headrace.config import Budgets, Commit
from headrace.ports import CommitResult
from tests.unit.core.engine_model import Source
from tests.unit.core.makers import make_settings


def engine_with_three_records() -> tuple[Engine, list[do.Effect]]:
    engine = Engine(
        [make_settings(guarantee="at_most_once")],
        [Capacity("threads", 4)],
        commit=Commit(every_s=1.0),
        budgets=Budgets(),
        rebuild_after_s=10.0,
        acknowledge=lambda _: True,
        jitter=lambda: 0.5,
    )
    engine.step(events.Assigned([events.Start("orders", 0, 0, 0)]), 0.0)
    sources = [Source(offset, b"key-%d" % offset, 10) for offset in range(3)]
    return engine, engine.step(events.Fetched([("orders", 0, sources)]), 2.0)


def commits_of(effects: list[do.Effect]) -> list[Any]:
    return [effect.requests for effect in effects if isinstance(effect, do.SendCommit)]


def test_what_is_being_committed_when_the_stop_begins_is_still_handled() -> None:
    engine, effects = engine_with_three_records()
    assert [request.offset for request in commits_of(effects)[0]] == [3]
    engine.step(events.StopBegan(), 2.1)
    assert not engine.drained()
    effects = engine.step(events.CommitAnswered([CommitResult("orders", 0, 3, None)]), 2.2)
    handed_out = [effect.records for effect in effects if isinstance(effect, do.Dispatch)]
    assert [record.offset for records in handed_out for record in records] == [0, 1, 2]


def test_what_could_not_be_committed_is_left_to_the_next_owner() -> None:
    engine, _ = engine_with_three_records()
    engine.step(events.StopBegan(), 2.1)
    answer = CommitResult("orders", 0, 3, "REBALANCE_IN_PROGRESS")
    effects = engine.step(events.CommitAnswered([answer]), 2.2)
    assert engine.drained()
    effects += engine.step(events.TICK, 30.0)
    assert not commits_of(effects)
    assert not [effect for effect in effects if isinstance(effect, do.Dispatch)]
