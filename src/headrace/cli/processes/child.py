"""One worker process as its supervisor holds it: started by exec, heard through a pipe, signalled by its id.

Decides how a process is started. Invariant: nothing of the supervisor's but two pipes and its stdout and stderr reaches the
process; it is in a process group of its own, so Ctrl-C in a terminal reaches the supervisor alone, which passes it on once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from headrace.cli.processes.member import Place
from headrace.cli.processes.reports import Report, Reports

if TYPE_CHECKING:
    from collections.abc import Sequence

READ_BYTES_MAX = 65_536
EVIDENCE_LINES_MAX = 2000
SIGNALS = {"drain": signal.SIGTERM, "abort": signal.SIGABRT, "kill": signal.SIGKILL}
NOT_PASSED_ON = ("HEADRACE_ACTIONS_TOKEN",)
"""The site of one process is for the supervisor alone."""


class Child:
    """A process that was started. The supervisor's thread."""

    def __init__(self, number: int, label: str, arguments: Sequence[str]) -> None:
        self.number = number
        self.evidence: list[str] = []
        self._reports = Reports()
        environment = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
        with ExitStack() as ours, ExitStack() as theirs:
            self.pipe, reports = _pipe(ours, theirs)
            lifeline, self._lifeline = _pipe(theirs, ours)
            os.set_blocking(self.pipe, False)
            place = Place(number, label, reports, lifeline)
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, with this command
                [sys.executable, "-m", "headrace", "run", *arguments, "--member", str(place)],
                stdin=subprocess.DEVNULL,
                pass_fds=(reports, lifeline),
                process_group=0,
                env=environment,
            )
            ours.pop_all()  # Kept, until `close`.

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        return self._process.pid

    def read(self) -> Report | None:
        """The last that it said since; what is no report is kept as evidence."""
        last: Report | None = None
        while True:
            try:
                data = os.read(self.pipe, READ_BYTES_MAX)
            except BlockingIOError:
                return last
            for said in self._reports.feed(data):
                if isinstance(said, Report):
                    last = said
                elif len(self.evidence) < EVIDENCE_LINES_MAX:
                    self.evidence.append(said)
            if not data:
                return last

    def ended(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        return self._process.poll()

    def send(self, what: str) -> None:
        """Signal it. One that is gone already is not an error; a killed one takes its group along."""
        if what == "kill":
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return
        else:
            self._process.send_signal(SIGNALS[what])

    def close(self) -> None:
        """Give the pipes back; the process must have ended."""
        os.close(self.pipe)
        os.close(self._lifeline)


def _pipe(read_by: ExitStack, written_by: ExitStack) -> tuple[int, int]:
    """The end to read and the end to write, each closed with its stack: one pipe may be there when there is no more room."""
    ends = os.pipe()
    read_by.callback(os.close, ends[0])
    written_by.callback(os.close, ends[1])
    return ends
