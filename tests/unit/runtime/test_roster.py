"""The connections beside the first: opened, closed, opened anew, abandoned, and stopped with the app."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from headrace._core.effects import HoldingsChanged
from headrace._core.events import PauseAsked, QuietAsked
from headrace._core.health import Health, Vitals
from headrace._core.states import AppState
from headrace._runtime.connections_told import ScalingSnapshot
from headrace._runtime.roster import WELL_AFTER_S, Roster
from headrace.errors import ClientFailed, Fenced, ForcedStop
from tests.unit.runtime.fake_links import Scene, part, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace._runtime.owner import Owner

WELL = Health("ok", (), "running", 1, 0.1, 0.1, None, None, None, 0)


class Play(Scene):
    """A roster in its scene. Threads of its connections end with the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch)
        self.roster = Roster(self.lead, self.shared, self.ends.append)

    def numbers(self) -> list[int]:
        return [link.number for link in self.roster.standing.links]

    def gone(self, index: int) -> None:
        """Wait until the thread of this connection is over."""
        link: Any = self.links[index]
        sibling = next(each for each in self.roster._siblings if each.link is link)
        sibling.thread.join(10)
        assert not sibling.thread.is_alive()

    def fail(self, index: int, error: Exception) -> None:
        """The connection ends with this error, and is seen to."""
        self.links[index].owner.fail(error)
        self.gone(index)
        self.roster.look_after(self.now)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    play = Play(monkeypatch)
    yield play
    for link in play.links:
        link.owner.may_end.set()
        link.owner.request_stop()


def broken() -> ClientFailed:
    return ClientFailed("_FATAL", "broken")


def test_numbers_are_the_lowest_that_are_free_and_shares_follow(play: Play) -> None:
    play.roster.open()
    play.roster.open()
    assert play.numbers() == [0, 1, 2]
    assert play.lead.shares == [2, 3]
    play.roster.close(1)
    assert play.roster.closing
    play.gone(0)
    play.roster.look_after(play.now)
    assert play.numbers() == [0, 2]
    assert play.lead.shares[-1] == play.links[1].shares[-1] == 2
    play.roster.open()
    assert play.numbers() == [0, 2, 1]
    assert play.ends == []


def test_what_was_asked_of_all_is_asked_of_those_to_come(play: Play) -> None:
    play.roster.ask(PauseAsked((("orders", 1),)))
    play.roster.ask(QuietAsked())
    play.roster.open()
    assert play.lead.inbox.items == play.links[0].inbox.items == [PauseAsked((("orders", 1),)), QuietAsked()]


def test_one_that_failed_is_opened_anew_later_and_later_under_its_number(play: Play) -> None:
    play.roster.open()
    for count, pause_s in enumerate((1.0, 2.0, 4.0), 1):
        play.fail(count - 1, broken())
        assert play.named("connection_failed")[-1].again_in_s == pause_s
        play.now += pause_s - 0.1
        play.roster.look_after(play.now)
        assert play.numbers() == [0]
        play.now += 0.2
        play.roster.look_after(play.now)
        assert play.numbers() == [0, 1]
    until(play.links[-1].owner.running.is_set)
    for _ in range(2):
        play.roster.look_after(play.now)
        play.now += WELL_AFTER_S
    assert play.roster.standing.failures == {}
    assert play.ends == []


def test_what_another_connection_cannot_cure_ends_the_app(play: Play) -> None:
    play.roster.open()
    play.fail(0, Fenced("FENCED_INSTANCE_ID", "orders-1"))
    assert [type(end) for end in play.ends] == [Fenced]


def test_a_forced_end_of_one_that_was_closed_is_not_the_apps(play: Play) -> None:
    play.roster.open()
    play.roster.close(1)
    play.fail(0, ForcedStop(1.0, []))
    assert play.ends == []
    assert play.roster.standing.failures == {}


def test_the_number_of_an_abandoned_connection_is_never_used_again(play: Play) -> None:
    """It failed, and then a listener held it: its first error stays the reason, and its thread may wake at any time."""
    play.roster.open()
    abandoned = play.links[0].owner
    abandoned.may_end.clear()
    abandoned.fail(broken())
    play.watchdogs[0].abandon()
    play.roster.look_after(play.now)
    assert list(play.roster.standing.failures) == [2]
    play.now += 1.1
    play.roster.look_after(play.now)
    assert play.numbers() == [0, 2]
    play.tracker.changed(2, HoldingsChanged("assigned", [("orders", 0, 1)], [], 1.0))
    abandoned.may_end.set()
    until(abandoned.ended.is_set)
    assert play.tracker.latest.partitions(2) == (("orders", 0),)
    play.roster.open()
    assert play.numbers() == [0, 2, 3]


def test_failures_in_a_row_are_counted_on_under_a_new_number(play: Play) -> None:
    play.roster.open()
    play.fail(0, broken())
    play.now += 1.1
    play.roster.look_after(play.now)
    play.links[1].owner.may_end.clear()
    play.links[1].owner.fail(broken())
    play.watchdogs[1].abandon()
    play.roster.look_after(play.now)
    assert {number: each.count for number, each in play.roster.standing.failures.items()} == {2: 2}


def test_a_late_watchdog_takes_nothing_away_from_the_next_of_that_number(play: Play) -> None:
    play.roster.open()
    play.roster.close(1)
    play.gone(0)
    play.roster.look_after(play.now)
    play.roster.open()
    play.tracker.changed(1, HoldingsChanged("assigned", [("orders", 0, 1)], [], 1.0))
    play.watchdogs[0].abandon()
    assert play.tracker.latest.partitions(1) == (("orders", 0),)


def test_one_that_nobody_can_watch_is_a_failure_and_does_not_stay(play: Play) -> None:
    play.watchdogs_start = False
    play.roster.open()
    assert play.links[0].owner.stop_asked.is_set()
    assert [notice.error for notice in play.named("connection_failed")] == ["RuntimeError"]
    play.gone(0)
    play.watchdogs_start = True
    play.now += 1.1
    play.roster.look_after(play.now)
    assert play.numbers() == [0, 1]
    assert not play.links[1].owner.stop_asked.is_set()
    assert play.ends == []


def test_a_thread_that_cannot_be_had_is_a_failure(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more)
        play.roster.open()
    assert play.links[0].closed
    assert play.numbers() == [0]
    assert list(play.roster.standing.failures) == [1]


def test_a_stop_reaches_all_at_once_and_none_comes_after_it(play: Play) -> None:
    play.roster.open()
    play.roster.request_stop(timeout_s=1.5)
    assert play.links[0].owner.stops == [(False, 1.5)]
    assert not play.lead.owner.stop_asked.is_set(), "the first one is the app's"
    play.roster.open()
    assert play.numbers() == [0, 1]
    play.roster.request_stop(hard=True)
    assert play.links[0].owner.stops[-1] == (True, None)
    play.roster.close_all(1.5, threading.Event())
    assert play.numbers() == [0]


def test_a_stop_reaches_one_that_is_being_opened(play: Play) -> None:
    play.when_inbox = lambda: play.roster.request_stop(timeout_s=1.5)
    play.roster.open()
    assert play.links[0].owner.stops == [(False, 1.5)]


def test_one_that_fails_while_the_app_stops_is_not_opened_anew(play: Play) -> None:
    play.roster.open()
    play.roster.request_stop()
    play.fail(0, broken())
    assert play.roster.standing.failures == {}
    assert play.named("connection_failed") == []


def test_counts_of_those_that_are_over_stay(play: Play) -> None:
    def judged(owner: Owner) -> Health:
        return Health("ok", (), "running", 1, None, None, None, None, None, owner.snapshots.vitals.rebuilds)

    play.lead.owner.tell(part(0), finished=1, vitals=Vitals(rebuilds=1))
    play.roster.open()
    play.links[0].owner.tell(part(1), finished=10, vitals=Vitals(rebuilds=3))
    before = play.roster.snapshot(ScalingSnapshot())
    assert (before.engine.counters.finished, play.roster.health(judged).rebuilds) == (11, 4)
    play.roster.close(1)
    play.gone(0)
    play.roster.look_after(play.now)
    after = play.roster.snapshot(ScalingSnapshot())
    assert (after.engine.counters.finished, play.roster.health(judged).rebuilds) == (11, 4)
    assert [each.partition for each in after.engine.partitions] == [0]


def test_one_that_is_away_shows_in_health(play: Play) -> None:
    def well(_owner: Any) -> Health:
        return WELL

    play.roster.open()
    play.fail(0, broken())
    play.now += 5.0
    (reason,) = play.roster.health(well).reasons
    assert reason.facts()["connection"] == 1
    assert reason.facts()["age_s"] == 5.0
    assert play.lead.owner.state is AppState.NEW
