"""The verdict on an app of several connections."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from headrace._core.health import BrokersAway, ConnectionFailing, Health, LoopBlocked
from headrace._runtime.merging import verdict_of

if TYPE_CHECKING:
    from headrace._core.health import Reason

WELL = Health("ok", (), "running", 1, 0.1, 0.1, None, None, None, 0)


def ill(reason: Reason) -> Health:
    return replace(WELL, verdict=reason.severity, reasons=(reason,))


def test_a_connection_that_fails_is_told_and_takes_nothing_down() -> None:
    failing = ConnectionFailing(1, "Fenced: no", 2, 5.0)
    verdict = verdict_of([(0, WELL)], [failing])
    assert (verdict.verdict, verdict.reasons) == ("degraded", (failing,))
    assert verdict.live
    assert verdict.ready


def test_what_keeps_one_connection_from_work_is_told_as_a_connection_that_fails_while_another_works() -> None:
    verdict = verdict_of([(0, WELL), (1, ill(BrokersAway(7.0)))], [])
    assert verdict.reasons == (ConnectionFailing(1, "brokers_away", 1, 7.0),)
    assert verdict.ready


def test_what_keeps_all_from_work_is_told_as_it_is() -> None:
    away = BrokersAway(7.0)
    assert verdict_of([(0, ill(away)), (1, ill(away))], []).reasons == (away,)


def test_the_gravest_counts() -> None:
    verdict = verdict_of([(0, ill(BrokersAway(7.0))), (1, ill(LoopBlocked(31.0)))], [])
    assert verdict.verdict == "stuck"
    assert not verdict.live
