"""The outside ledger: an append-only file of what happened, written by everyone but Headrace.

Decides the form of a line; refuses to judge (`verifier` does). Invariant: a line is one write to a file opened for
appending, so that lines of many processes never mix, and a process that is killed leaves whole lines.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal[
    "acked",  # the broker acknowledged a produced record
    "start",  # a handler began
    "end",  # it returned ("ok", or "ok:" and the value) or raised ("raised"), by `detail`
    "committed",  # an outside observer read this committed offset
    "assigned",  # the member may start records of the partition from now on
    "revoked",  # and not any more; `detail` is "clean" or "abandoned"
    "unconfirmed",  # the last commit of a revoked partition was refused, or the partition was lost
    "killed",  # the member was killed
    "confirmed",  # what the broker held for a partition right after the kill; finished beyond it: `detail`
    "stopped",  # the member ended; `detail` is its exit code
    "stopping",  # it was asked to end
    "started",  # a process was started
    "adrift",  # from now on the process may not know what the group decides: `detail` is why
    "back",  # it can know again
    "fault",  # a fault that is nobody's alone began: `detail` names it
    "fault over",  # and ended
    "generation",  # the group's log holds a new generation or group epoch: its number is the offset
    "told",  # the runtime told this notice: its name, and its code
]


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `at` is the machine's monotonic clock, the same for all its processes; `wall` the time of day."""

    kind: Kind
    at: float
    wall: float
    member: str = ""
    topic: str = ""
    partition: int = -1
    offset: int = -1
    key: str | None = None
    attempt: int = 0
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Of an end: whether the handler returned."""
        return self.detail.startswith("ok")


class Ledger:
    """Writes lines; any thread, any process. Handlers hold one open for the life of their process."""

    def __init__(self, path: Path, member: str = "") -> None:
        self._member = member
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, kind: Kind, **facts: Any) -> None:
        """Append one line of now, of this member unless `facts` name another; they may name another time too."""
        ours: dict[str, Any] = {"at": time.monotonic(), "wall": time.time(), "member": self._member}
        line = Line(kind, **(ours | facts))
        told = {name: value for name, value in asdict(line).items() if value is not None}
        os.write(self._file, json.dumps(told).encode() + b"\n")

    def close(self) -> None:
        """Close the file; what was written stays."""
        os.close(self._file)


class Reader:
    """Reads a ledger that is still being written, each time only what is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self.lines: list[Line] = []

    def refresh(self) -> list[Line]:
        """All lines so far."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read += len(whole)
            self.lines += [Line(**json.loads(text)) for text in whole.splitlines()]
        return self.lines
