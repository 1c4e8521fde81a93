"""A supervisor of `headrace run --processes` as a test sees it: a process, and what it and its own wrote.

Decides how a test waits: for words in the log, and long. Invariant: no process outlives its test.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

WAIT_S = 90.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """A supervisor that runs, and what it and its processes wrote."""

    process: subprocess.Popen[bytes]
    directory: Path

    @property
    def said(self) -> str:
        return (self.directory / "log").read_text()

    def says(self, pattern: str, times: int = 1) -> list[str]:
        """Wait until it has said so; what was found."""
        until(lambda: len(re.findall(pattern, self.said)) >= times, pattern, lambda: self.said)
        return re.findall(pattern, self.said)

    def ends(self) -> int:
        """Wait for its exit code."""
        return self.process.wait(WAIT_S)


def until(condition: Callable[[], object], what: str, said: Callable[[], str]) -> None:
    give_up_at = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_at, f"{what} did not happen:\n{said()}"
        time.sleep(0.05)


@contextmanager
def running(directory: Path, *arguments: str, pass_fds: Sequence[int] = ()) -> Generator[Fleet]:
    """This Python, in this directory, with these arguments: what runs there is a supervisor, with no terminal."""
    # A handler is not inherited: so it hears of SIGHUP though the suite runs under nohup.
    before = signal.signal(signal.SIGHUP, lambda _number, _frame: None)
    try:
        with (directory / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=directory,
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"},
                start_new_session=True,
                pass_fds=pass_fds,
            )
    finally:
        signal.signal(signal.SIGHUP, before)
    fleet = Fleet(process, directory)
    try:
        yield fleet
        assert alive(fleet) == []
    finally:
        process.kill()
        process.wait()
        for pid in alive(fleet):
            os.kill(pid, signal.SIGKILL)


def alive(fleet: Fleet) -> list[int]:
    """Processes of this fleet that are still there."""
    found: list[int] = []
    for pid in map(int, re.findall(r"started(?: again)?, pid (\d+)", fleet.said)):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        found.append(pid)
    return found
