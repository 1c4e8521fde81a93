"""The demonstration's own record of what handlers did: a line at every start and end, in a file per member.

Knows nothing of offsets, commits or the runtime: it is told a record's number and writes down the moment. Invariant: a
line is in the file before the call returns, so that a killed member loses none.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


@dataclass(slots=True)
class Run:
    """One call of a handler. Moments are of the monotonic clock, which all processes of a machine share.

    `ended_at` is None if it was cut off; `ok` says whether it returned.
    """

    number: int
    member: str
    attempt: int
    started_at: float
    ended_at: float | None = None
    ok: bool = False


class LedgerWriter:
    """One member's file. Calls may come from any thread: a line is one append."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def started(self, number: int, attempt: int) -> None:
        """A handler begins."""
        self._write(f"start {number} {attempt} {time.monotonic():.6f}\n")

    def ended(self, number: int, attempt: int, ok: bool) -> None:
        """It returned, or is about to raise."""
        self._write(f"{'ok' if ok else 'failed'} {number} {attempt} {time.monotonic():.6f}\n")

    def _write(self, line: str) -> None:
        os.write(self._file, line.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)


def read_runs(path: Path, member: str) -> list[Run]:
    """All calls in a member's file, in order of their start."""
    runs: list[Run] = []
    running: dict[tuple[int, int], Run] = {}
    for line in path.read_text(encoding="ascii").splitlines():
        what, number, attempt, moment = line.split()
        key = int(number), int(attempt)
        if what == "start":
            running[key] = Run(*key[:1], member, key[1], float(moment))
            runs.append(running[key])
        else:
            run = running.pop(key)
            run.ended_at, run.ok = float(moment), what == "ok"
    return runs
