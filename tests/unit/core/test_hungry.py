"""When more records are asked for: a partition near its budget is given time if that is all it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headrace._core import effects as do
from headrace._core import events
from headrace._core.engine import Engine
from headrace._core.workload import Capacity
from headrace.config import Budgets, Commit
from tests.unit.core.engine_model import Source
from tests.unit.core.makers import make_settings

if TYPE_CHECKING:
    from headrace.records import Record

ORDERS, OTHERS = ("orders", 0), ("orders", 1)
BUDGET = 10_000


def engine_of() -> Engine:
    engine = Engine(
        [make_settings()],
        [Capacity("threads", 64)],
        commit=Commit(),
        budgets=Budgets(queued_records_max=BUDGET),
        rebuild_after_s=10.0,
        acknowledge=lambda _: True,
        jitter=lambda: 0.5,
    )
    engine.step(events.Assigned([events.Start(*key, 0, 0) for key in (ORDERS, OTHERS)]), 0.0)
    return engine


def fetched(engine: Engine, count: int, now: float) -> list[Record[Any, Any]]:
    """So many records of one key; returns what workers get."""
    first = engine.position_of(ORDERS) or 0
    sources = [Source(offset, b"one key") for offset in range(first, first + count)]
    return given(engine.step(events.Fetched([(*ORDERS, sources)]), now))


def given(effects: list[do.Effect]) -> list[Record[Any, Any]]:
    return [record for effect in effects if isinstance(effect, do.Dispatch) for record in effect.records]


def work_off(engine: Engine, records: list[Record[Any, Any]], each_s: float, until: int) -> float:
    """Handle what is given until so many are handled, one after the other; returns the time then."""
    now = 0.0
    for _ in range(until):
        done, records = records, []
        now += each_s * len(done)
        outcome = events.Finished(0, succeeded=done, started=len(done), busy_s=each_s * len(done))
        records = given(engine.step(outcome, now))
        if not records:
            break
    return now


@pytest.mark.parametrize(("each_s", "asks"), [(1e-6, False), (1e-3, True), (0.1, True)])
def test_one_quick_key_is_given_time_before_it_pauses(each_s: float, asks: bool) -> None:
    """Found by the benchmark: one lane behind a full queue paused, and every pause threw away what was fetched ahead."""
    engine = engine_of()
    now = work_off(engine, fetched(engine, 1000, 0.0), each_s, until=2000)
    records = fetched(engine, BUDGET * 3 // 4 - 1, now)
    assert records
    assert engine.hungry(), "one lane has one head, and a quarter of the budget is free"
    fetched(engine, 1, now)
    assert engine.hungry() is asks
    assert not engine.is_paused(ORDERS)


def test_more_is_asked_for_once_there_is_room_again() -> None:
    engine = engine_of()
    now = work_off(engine, fetched(engine, 1000, 0.0), 1e-6, until=10)
    records = fetched(engine, BUDGET * 3 // 4, now)
    assert not engine.hungry()
    engine.step(events.Finished(0, succeeded=records, started=len(records)), now)
    assert engine.hungry()


def test_a_partition_that_paused_or_went_keeps_no_other_from_being_asked_for() -> None:
    engine = engine_of()
    now = work_off(engine, fetched(engine, 1000, 0.0), 1e-6, until=10)
    fetched(engine, BUDGET * 3 // 4, now)
    assert not engine.hungry()
    fetched(engine, BUDGET // 4, now)
    assert engine.is_paused(ORDERS)
    assert engine.hungry()

    engine = engine_of()
    now = work_off(engine, fetched(engine, 1000, 0.0), 1e-6, until=10)
    fetched(engine, BUDGET * 3 // 4, now)
    assert not engine.hungry()
    engine.step(events.Lost([ORDERS]), now)
    assert engine.hungry()


def test_a_partition_that_the_user_paused_keeps_no_other_from_being_asked_for() -> None:
    engine = engine_of()
    now = work_off(engine, fetched(engine, 1000, 0.0), 1e-6, until=10)
    fetched(engine, BUDGET * 3 // 4, now)
    engine.step(events.PauseAsked([ORDERS]), now)
    assert engine.hungry()
