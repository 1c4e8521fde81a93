"""Several connections seen as one: states, verdicts, counts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from headrace._core.health import AppEnded, HandlerHanging, Health, HookHanging, LoopBlocked, PollOverdue
from headrace._core.snapshot import CountersSnapshot, EngineSnapshot
from headrace._runtime.merging import ended, merged, together_in, verdict_of
from headrace._runtime.snapshots import Snapshot
from tests.unit.runtime.fake_links import part

if TYPE_CHECKING:
    from headrace._core.health import Reason

WELL = Health("ok", (), "running", 1, 0.1, 0.1, None, None, None, 0)


def ill(*reasons: Reason) -> Health:
    return replace(WELL, verdict=reasons[0].severity, reasons=reasons)


@pytest.mark.parametrize(
    ("states", "app"),
    [
        (["running", "starting"], "running"),
        (["quiet", "quiet"], "quiet"),
        (["quiet", "running"], "quieting"),
        (["draining", "running"], "draining"),
        (["stopped", "running"], "closing"),
        (["failed", "draining"], "closing"),
        (["stopped", "closing", "stopped"], "closing"),
        (["stopped", "stopped", "failed"], "stopped"),
        (["failed", "stopped"], "failed"),
        (["stopped", "new"], "stopped"),
        (["stopped"], "stopped"),
    ],
)
def test_the_state_is_that_of_the_first_and_over_when_all_are(states: list[str], app: str) -> None:
    assert together_in(states) == app


def test_what_is_the_apps_is_told_once() -> None:
    healths = [
        (number, ill(LoopBlocked(31.0 + number), HookHanging("assigned", 61.0 + number)))
        for number in range(3)
    ]
    assert verdict_of(healths, []).reasons == (LoopBlocked(31.0), HookHanging("assigned", 61.0))


def test_what_is_of_each_connection_is_told_of_each() -> None:
    healths = [(number, ill(PollOverdue(200.0 + number, 300.0))) for number in range(2)]
    assert len(verdict_of(healths, []).reasons) == 2


def test_the_app_stops_until_the_last_connection_is_over() -> None:
    over = replace(WELL, verdict="ended", state="failed", reasons=(AppEnded("Stalled", "it was"),))
    hung = HandlerHanging("orders", 0, 1, 70.0, "w")
    drains = replace(WELL, verdict="stopping", state="draining", reasons=(hung,))
    verdict = verdict_of([(0, over), (1, drains)], [])
    assert (verdict.verdict, verdict.state, verdict.reasons) == ("stopping", "closing", (hung,))
    blocked = replace(drains, verdict="stuck", reasons=(LoopBlocked(31.0),))
    assert verdict_of([(0, over), (1, blocked)], []).verdict == "stuck"
    verdict = verdict_of([(0, over), (1, replace(over, state="stopped", reasons=()))], [])
    assert (verdict.verdict, verdict.reasons) == ("ended", over.reasons)


@pytest.mark.parametrize("verdict", ["starting", "ok", "degraded", "stuck", "stopping", "ended"])
def test_rebuilds_are_those_of_all_whatever_they_do(verdict: str) -> None:
    healths = [
        (0, replace(WELL, rebuilds=1)),
        (1, replace(WELL, verdict=verdict, rebuilds=2)),  # type: ignore[arg-type] # one of them
    ]
    assert verdict_of(healths, [], rebuilds=4).rebuilds == 7
    healths[0] = (0, replace(WELL, verdict=verdict, rebuilds=1))  # type: ignore[arg-type] # one of them
    assert verdict_of(healths, [], rebuilds=4).rebuilds == 7


def snapshot(*partitions: int, finished: int, as_of: float = 1.0, sequence: int = 1) -> Snapshot:
    engine = EngineSnapshot(tuple(map(part, partitions)), CountersSnapshot(finished=finished))
    return Snapshot(as_of, sequence, "running", engine)


def test_counts_of_those_that_are_over_stay_and_what_they_held_is_gone() -> None:
    past = ended(ended(None, snapshot(1, 2, finished=5)), snapshot(3, finished=7))
    whole = merged([snapshot(0, finished=1), snapshot(1, finished=2, as_of=0.5)], past)
    assert whole.engine.counters.finished == 15
    assert [each.partition for each in whole.engine.partitions] == [0, 1]
    assert whole.as_of == 0.5


def test_a_partition_that_two_tell_of_is_of_whoever_told_last() -> None:
    older, newer = snapshot(0, finished=0, as_of=1.0), snapshot(0, finished=0, as_of=2.0)
    newer = replace(newer, engine=replace(newer.engine, partitions=(part(0, epoch=9),)))
    for order in ([older, newer], [newer, older]):
        assert [each.epoch for each in merged(order, None).engine.partitions] == [9]


def test_one_that_was_just_opened_is_not_counted_before_it_tells() -> None:
    first = snapshot(0, finished=1)
    assert merged([first, Snapshot()], None) is first
    assert ended(None, Snapshot()) is None
