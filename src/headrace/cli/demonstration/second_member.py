"""The second member, seen from the first's process: started early, told to join, told to leave, read all the while.

Invariant: every wait is bounded, and no child survives `close`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import headrace
from headrace.cli.demonstration.members import Report

if TYPE_CHECKING:
    from headrace.cli.demonstration.plan import Plan

LEAVE_WAIT_S = 35.0
"""A little more than an app's whole stop budget and what closes after it."""


class SecondMember:
    """A child process with one App. The stage's thread calls; a thread of its own reads the reports."""

    def __init__(self, plan: Plan, ledger: Path, complaints: Path) -> None:
        root = str(Path(headrace.__file__).parents[1])
        path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
        self._complaints = complaints
        with complaints.open("wb") as stderr:
            # A session of its own: Ctrl-C is the parent's to hear, which then lets the child drain.
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and arguments of ours
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "headrace.cli.demonstration.members",
                    plan.to_json(),
                    str(ledger),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if plan.debug else stderr,
                env=os.environ | {"PYTHONPATH": path},
                text=True,
                start_new_session=True,
            )
        # The reader writes, whole; the stage reads.
        self.report = Report()
        self._reader = threading.Thread(target=self._read, name="second-member-reports", daemon=True)
        self._reader.start()

    def join(self) -> None:
        """Let it join the group; returns at once."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write("join\n")
            stdin.flush()
        except BrokenPipeError:
            return  # it died; `leave` says so

    def begin_to_leave(self) -> None:
        """Let it drain, commit and leave; returns at once."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.close()
        except BrokenPipeError:
            return

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def close(self) -> str | None:
        """Wait for its end, or end it; returns what went wrong, if something did."""
        self.begin_to_leave()
        try:
            code = self._process.wait(LEAVE_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return f"the second member did not leave within {LEAVE_WAIT_S:g} s and was killed"
        self._reader.join(1.0)
        if code == 0:
            return None
        said = self._complaints.read_text(errors="replace").strip().splitlines()
        return f"the second member ended with exit code {code}: {said[-1] if said else 'it said nothing'}"

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        with stdout:
            for line in stdout:
                self.report = Report.from_json(line)
