"""Reporters are isolated: one that raises, hangs or is slow is counted, and delays neither another nor a stop."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from headrace.observe import Expressions, Gauge, Reporting
from headrace.observe.reporting import Reporters
from tests.unit.observe.views import source

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from headrace.observe import Report

EVERY_S = 0.02
WAIT_S = 10.0


class Kept:
    """Keeps its reports; does what it is told at each."""

    def __init__(self, during: Callable[[int], object] = lambda _count: None) -> None:
        self.reports: list[Report] = []
        self.threads: set[int] = set()
        self.closed = threading.Event()
        self._during = during
        self.tries = 0

    def report(self, report: Report) -> None:
        self.tries += 1
        self.threads.add(threading.get_ident())
        self._during(self.tries)
        self.reports.append(report)

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed.set()


def until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.002)


def running(*kept: Kept, **settings: object) -> Reporters:
    found = [Reporting(one, EVERY_S, name=f"r{i}", **settings) for i, one in enumerate(kept)]  # type: ignore[arg-type]
    reporters = Reporters(found, source())
    reporters.start()
    return reporters


def stopped(reporters: Reporters, timeout_s: float = WAIT_S) -> tuple[str, ...]:
    reporters.request_stop()
    return reporters.join(timeout_s)


def test_a_reporter_reports_at_once_and_again_and_once_more_at_the_end() -> None:
    kept = Kept()
    reporters = running(kept)
    until(lambda: len(kept.reports) >= 3)
    assert stopped(reporters) == ()
    assert kept.closed.is_set()
    assert len(kept.threads) == 1
    (state,) = reporters.states()
    assert state.reports == len(kept.reports)
    assert state.failures == 0
    assert state.running_s is None
    assert state.finished_age_s is not None
    assert kept.reports[0].group_id == "billing"

    slow = Reporters([Reporting(last := Kept(), 3600)], source())
    slow.start()
    until(lambda: last.reports)
    assert stopped(slow) == ()
    assert len(last.reports) == 2, "the last one is made when it is over, not when it is due"


def test_one_that_raises_is_counted_told_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    def fail(count: int) -> None:
        if count <= 3:
            raise SystemExit("even so") if count == 2 else OSError("disk full")

    failing, well = Kept(fail), Kept()
    with caplog.at_level(logging.INFO, "headrace.reporters"):
        reporters = running(failing, well)
        until(lambda: failing.reports and len(well.reports) > 3)
        assert stopped(reporters) == ()
    first, second = reporters.states()
    assert first.failures == 3
    assert first.last_error == ""
    assert second.failures == 0
    told = [record.getMessage() for record in caplog.records]
    assert [line for line in told if "failed" in line] == [
        "reporter r0 failed: OSError: disk full; it is tried again every 0.02 s"
    ]
    assert any("reports again, after 3 failures" in line for line in told)


def test_one_that_hangs_delays_nobody_and_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()
    hanging, well = Kept(lambda _count: release.wait(WAIT_S)), Kept()
    reporters = running(hanging, well)
    try:
        until(lambda: len(well.reports) >= 10)
        until(lambda: (reporters.states()[0].running_s or 0.0) > EVERY_S)
        stuck, fine = reporters.states()
        assert stuck.reports == 0
        until(lambda: reporters.states()[0].skipped >= 5)
        assert fine.failures == 0
        reporters.request_stop()
        until(well.closed.is_set)
        began_at = time.monotonic()
        assert stopped(reporters, 0.3) == ("r0",)
        assert time.monotonic() - began_at < 3.0
        assert not hanging.closed.is_set()
        assert "reporters r0" in caplog.text
    finally:
        release.set()
    until(hanging.closed.is_set)


def test_one_that_is_slow_skips_what_it_missed() -> None:
    slow = Kept(lambda _count: time.sleep(5 * EVERY_S))
    reporters = running(slow)
    until(lambda: len(slow.reports) >= 2)
    stopped(reporters)
    (state,) = reporters.states()
    assert state.skipped >= state.reports - 1
    gaps = [b.at - a.at for a, b in zip(slow.reports, slow.reports[1:-1], strict=False)]
    assert all(gap.total_seconds() >= 5 * EVERY_S for gap in gaps), "no burst to catch up"


def test_a_gauge_or_filter_that_fails_costs_itself_or_its_own_reporter() -> None:
    release = threading.Event()

    def hang() -> float:
        release.wait(WAIT_S)
        return 1.0

    class Broken:
        def keeps(self, key: str) -> bool:
            raise LookupError(key)

    spared, caught, filtered = Kept(), Kept(), Kept()
    reporters = Reporters(
        [
            Reporting(spared, EVERY_S, Expressions(exclude="hangs")),
            Reporting(caught, EVERY_S),
            Reporting(filtered, EVERY_S, Broken()),
        ],
        source(Gauge("hangs", hang)),
    )
    reporters.start()
    try:
        until(lambda: len(spared.reports) >= 5 and reporters.states()[2].failures >= 2)
        assert caught.reports == []
        assert filtered.reports == []
    finally:
        release.set()
        assert stopped(reporters) == ()


def test_an_exclude_that_matches_nothing_is_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    kept, other = Kept(), Kept()
    reporters = Reporters(
        [
            Reporting(kept, EVERY_S, Expressions(exclude="headrace_lga.*"), "typo"),
            Reporting(other, EVERY_S, Expressions(exclude=".*lag.*"), "right"),
        ],
        source(),
    )
    reporters.start()
    until(lambda: len(kept.reports) >= 6 and len(other.reports) >= 6)
    stopped(reporters)
    assert [record.getMessage() for record in caplog.records] == [
        "reporter typo: nothing matches exclude = 'headrace_lga.*'; is it misspelt?"
    ]


def test_a_close_that_raises_ends_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    class Closing(Kept):
        def close(self) -> None:
            super().close()
            raise OSError("gone")

    reporters = running(Closing())
    assert stopped(reporters) == ()
    assert "could not be closed: OSError: gone" in caplog.text
