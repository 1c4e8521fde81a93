"""Reporters, and the thread that each of them has: a report when it is due, and nobody else held up by it.

Decides when a report is made and what is counted; what becomes of it is the reporter's business. Knows no app: a view is
given to it. Invariant: nothing that a reporter or filter does, raising and hanging included, reaches another thread; a
stop takes no longer than its budget.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from headrace.observe.evaluation import evaluate
from headrace.observe.filters import Selection
from headrace.observe.states import ReporterState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.observe.metrics import Gauge, Sample
    from headrace.observe.settings import Reporting
    from headrace.observe.views import View

log = logging.getLogger("headrace.reporters")

USELESS_EXCLUDE_REPORTS = 3
"""An exclude expression that matched nothing in so many reports is warned about: partitions are assigned by then."""


class Reporter(Protocol):
    """Passes metrics on. Both methods are called on a thread that this reporter alone has.

    What `report` raises is counted and logged, and the next report is made when it is due. What hangs holds up nobody
    else; reports that are due meanwhile are skipped and counted.
    """

    def report(self, report: Report) -> None:
        """Pass this report on. The first comes at once when the app starts, the last when it is over."""
        ...

    def close(self) -> None:
        """Let go of files and sockets. Nothing comes after it."""
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """The metrics of one moment, all from one snapshot, as far as the filter keeps them.

    at: when it was made, in UTC. group_id: the app's. samples: in the order of the reference; unknown ones are there,
    with their reason. again: makes a new report with the same filter; any thread may call it. For reporters that are
    asked, as by Prometheus, rather than tell.
    """

    at: datetime
    group_id: str
    samples: tuple[Sample, ...]
    again: Callable[[], Report]


@dataclass(frozen=True, slots=True)
class Source:
    """Where reports come from: the app, as reporters see it. `view` may be called from any thread, and never waits."""

    group_id: str
    view: Callable[[], View]
    gauges: tuple[Gauge, ...] = ()


class ReporterThread:
    """Runs one reporter. `start` once; `state` from any thread."""

    def __init__(self, assigned: Reporting, source: Source) -> None:
        self._assigned = assigned
        self._source = source
        self._stopping = threading.Event()
        # The reporter's thread writes, whole; anyone reads. Moments are on the monotonic clock.
        self._state = ReporterState(assigned.name, assigned.every_s)
        self._began_at: float | None = None
        self._finished_at: float | None = None
        # The reporter's thread's alone.
        self._selection = Selection(assigned.chosen())
        self._failing = 0
        self._thread = threading.Thread(
            target=self._run, name=f"headrace-reporter-{assigned.name}", daemon=True
        )

    @property
    def name(self) -> str:
        """The reporter's."""
        return self._assigned.name

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def request_stop(self) -> None:
        """Make a last report and close, soon; returns at once."""
        self._stopping.set()

    def join(self, timeout_s: float) -> bool:
        """Wait until it has closed; False if it did not in time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def state(self) -> ReporterState:
        """How it fares now. Reports that are due while one hangs count as skipped already."""
        now = time.monotonic()
        state, began_at, finished_at = self._state, self._began_at, self._finished_at
        running_s = None if began_at is None else now - began_at
        return replace(
            state,
            skipped=state.skipped + (0 if running_s is None else int(running_s / state.every_s)),
            running_s=running_s,
            finished_age_s=None if finished_at is None else now - finished_at,
        )

    # The reporter's thread

    def _run(self) -> None:
        due_at = time.monotonic()
        while True:
            stopping = self._stopping.is_set()
            self._report()
            if stopping:
                break
            now = time.monotonic()
            missed = int((now - due_at) / self._assigned.every_s)
            if missed:
                self._state = replace(self._state, skipped=self._state.skipped + missed)
            due_at += (missed + 1) * self._assigned.every_s
            self._stopping.wait(max(0.0, due_at - now))
        try:
            self._assigned.reporter.close()
        except BaseException as error:  # noqa: BLE001 - of a user's reporter: it may only end itself
            log.warning("reporter %s could not be closed: %s", self.name, _told(error))

    def _report(self) -> None:
        self._began_at = time.monotonic()
        try:
            self._assigned.reporter.report(self._made())
        except BaseException as error:  # noqa: BLE001 - as above; SystemExit, too, must not end the thread
            self._failed(error)
        else:
            self._made_one()
        finally:
            self._began_at = None

    def _made(self) -> Report:
        report = make_report(self._source, self._selection)
        self._selection.end_report()
        return report

    def _made_one(self) -> None:
        self._finished_at = time.monotonic()
        self._state = replace(self._state, reports=self._state.reports + 1, last_error="")
        if self._failing:
            log.info("reporter %s reports again, after %d failures", self.name, self._failing)
            self._failing = 0
        if self._state.reports == USELESS_EXCLUDE_REPORTS and (useless := self._selection.useless_exclude()):
            log.warning("reporter %s: nothing matches exclude = %r; is it misspelt?", self.name, useless)

    def _failed(self, error: BaseException) -> None:
        told = _told(error)
        self._state = replace(self._state, failures=self._state.failures + 1, last_error=told)
        self._failing += 1
        if self._failing == 1:
            log.warning(
                "reporter %s failed: %s; it is tried again every %g s",
                self.name,
                told,
                self._assigned.every_s,
            )


class Reporters:
    """All reporters of one app. `start` and `stop` once each; the rest from any thread."""

    def __init__(self, assigned: Sequence[Reporting], source: Source) -> None:
        self._threads = tuple(ReporterThread(one, source) for one in assigned)

    def start(self) -> None:
        """Begin to report; returns at once."""
        for thread in self._threads:
            thread.start()

    def request_stop(self) -> None:
        """Let each make a last report and close; returns at once."""
        for thread in self._threads:
            thread.request_stop()

    def join(self, timeout_s: float) -> tuple[str, ...]:
        """Wait for all of them together; names those that did not end in time and were left behind."""
        give_up_at = time.monotonic() + timeout_s
        late = tuple(
            thread.name
            for thread in self._threads
            if not thread.join(max(0.0, give_up_at - time.monotonic()))
        )
        if late:
            log.warning(
                "left behind, since they did not end within %g s: reporters %s", timeout_s, ", ".join(late)
            )
        return late

    def states(self) -> tuple[ReporterState, ...]:
        """How each of them fares now."""
        return tuple(thread.state() for thread in self._threads)


def make_report(source: Source, selection: Selection) -> Report:
    """A report of this moment."""
    chosen = selection.filter

    def again() -> Report:
        return make_report(source, Selection(chosen))

    samples = evaluate(source.view(), source.gauges, selection)
    return Report(datetime.now(UTC), source.group_id, samples, again)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
