"""In a worker process: says how its app is, leaves its stacks when it is ended, and ends with its supervisor.

Decides nothing about the app. Invariant: a report is made on a thread of its own from what the app published last; so a
process that reports has an interpreter that turns, and one that does not is stuck in C.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.cli.exits import Exit, Unusable
from headrace.cli.processes.numbering import NumberedLines
from headrace.cli.processes.reports import REASONS_CHARS_MAX, Report

if TYPE_CHECKING:
    from headrace import App

EVERY_S = 1.0
LOOK_S = 0.1
"""How often it is looked whether the next report must not wait, since an answer has changed."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which process this is, and its two pipes: for reports, and one whose end means that the supervisor is gone."""

    number: int
    label: str
    reports: int
    lifeline: int

    @classmethod
    def parsed(cls, text: str) -> Place:
        """From the command line. Raises `Unusable`."""
        try:
            number, label, reports, lifeline = text.split(":")
            return cls(int(number), label, int(reports), int(lifeline))
        except ValueError:
            raise Unusable("--member is for the supervisor's own use; say --processes") from None

    def __str__(self) -> str:
        return f"{self.number}:{self.label}:{self.reports}:{self.lifeline}"


class Member:
    """This process as one of several. Made before the app is imported, since that may take long or hang."""

    def __init__(self, place: Place) -> None:
        # Any thread of the command writes, the reporting one reads.
        self._app: App | None = None
        self._url = ""
        self._place = place
        self.number = place.number
        for descriptor in (place.reports, place.lifeline):
            os.set_inheritable(descriptor, False)
        lines = NumberedLines(2, place.label)
        atexit.register(lines.end)
        sys.stderr = lines
        # SIGABRT then writes all stacks without asking the interpreter, which may be what is stuck.
        faulthandler.enable(place.reports, all_threads=True)
        # For the supervisor alone. Not SIG_IGN, which programs started from here would inherit.
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)
        threading.Thread(target=self._report, name="headrace-reports", daemon=True).start()
        threading.Thread(target=self._outlive_nobody, name="headrace-lifeline", daemon=True).start()

    def watch(self, app: App, url: str) -> None:
        """From now on reports are about this app. url: where its site is."""
        self._url = url
        self._app = app

    def _now(self) -> Report:
        app = self._app
        if app is None:
            return Report(live=True, ready=False)
        health = app.health()
        reasons = "; ".join(str(reason) for reason in health.reasons)[:REASONS_CHARS_MAX]
        stop_s = app.settings.timeouts.stop_s
        return Report(health.live, health.ready, health.verdict, reasons, stop_s, self._url)

    def _report(self) -> None:
        pause = threading.Event()
        last, since_s = None, EVERY_S
        while True:
            report = self._now()
            if since_s >= EVERY_S or last is None or (report.live, report.ready) != (last.live, last.ready):
                try:
                    os.write(self._place.reports, report.line())
                except OSError:
                    return  # The supervisor is gone; the lifeline sees to that.
                last, since_s = report, 0.0
            pause.wait(LOOK_S)
            since_s += LOOK_S

    def _outlive_nobody(self) -> None:
        """A supervisor that was killed signals nothing: its end of the pipe closes. Whatever else breaks, this ends."""
        try:
            with suppress(OSError):
                while os.read(self._place.lifeline, 1):
                    continue
            app = self._app
            if app is not None:
                app.request_stop()
                # On a thread of its own: stderr may be a pipe that is broken, or that nobody empties.
                threading.Thread(target=_say_so, name="headrace-lifeline-says", daemon=True).start()
                threading.Event().wait(app.settings.timeouts.stop_s + 5)
        finally:
            os._exit(Exit.FORCED)


def _say_so() -> None:
    with suppress(Exception):  # whatever the app has made of stderr
        print("the supervisor is gone: ending", file=sys.stderr)
