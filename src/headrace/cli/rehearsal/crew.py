"""Member processes, seen from the rehearsal's: started, told to leave, killed, and their ledgers.

Invariant: every wait is bounded, and no child survives `close`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import headrace
from headrace.cli.rehearsal.ledger import Account, read_account

if TYPE_CHECKING:
    from headrace.cli.rehearsal.plan import MemberPlan

LEAVE_MARGIN_S = 12.0
"""Beyond the stop budget: what closes after the connection, and a loaded machine."""


class Member:
    """One child process with the user's app."""

    def __init__(self, plan: MemberPlan, folder: Path) -> None:
        self.name = plan.member
        self._stop_s = plan.stop_s
        self._ledger = folder / f"{plan.member}.ledger"
        self._complaints = folder / f"{plan.member}.stderr"
        self.killed_at: float | None = None
        root = str(Path(headrace.__file__).parents[1])
        # The working directory too, as `headrace run` has it: the app is imported from there.
        path = os.pathsep.join(
            part for part in (root, str(Path.cwd()), os.environ.get("PYTHONPATH", "")) if part
        )
        with self._complaints.open("wb") as stderr:
            # A session of its own: Ctrl-C is the parent's to hear.
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and arguments of ours
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "headrace.cli.rehearsal.member",
                    replace(plan, ledger=str(self._ledger)).to_json(),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=None if plan.debug else stderr,
                env=os.environ | {"PYTHONPATH": path, "HEADRACE_REHEARSAL": "1"},
                start_new_session=True,
            )

    @property
    def account(self) -> Account:
        """What its ledger says by now."""
        return read_account(self._ledger, self.name)

    @property
    def gone(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def begin_to_leave(self) -> None:
        """Let it drain, commit and leave; returns at once."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()

    def kill(self, now: float) -> None:
        """End it with SIGKILL."""
        if not self.gone:
            self.killed_at = now
        self._process.kill()
        self._process.wait()

    def leave(self) -> str | None:
        """Wait for its end, or end it; returns what went wrong beside the ledger, if something did."""
        self.begin_to_leave()
        try:
            code = self._process.wait(self._stop_s + LEAVE_MARGIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return f"the {self.name} member did not end within {self._stop_s + LEAVE_MARGIN_S:g} s of being told, and was killed"
        if code == 0 or self.killed_at is not None:
            return None
        return f"the {self.name} member ended with exit code {code}: {self.complaint() or 'it said nothing'}"

    def complaint(self) -> str:
        """The last line that it wrote to stderr."""
        said = self._complaints.read_text(errors="replace").strip().splitlines()
        return said[-1] if said else ""

    def close(self) -> None:
        """End it, whatever it does."""
        self.begin_to_leave()
        self._process.kill()
        self._process.wait()
