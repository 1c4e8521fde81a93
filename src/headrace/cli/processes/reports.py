"""What a worker process says to its supervisor: one JSON object a line, through a pipe.

Decides the form on both sides. Invariant: a line that is no report is evidence, the stacks that a dying process writes into
the same pipe; nothing that comes is trusted to be well formed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, cast

REASONS_CHARS_MAX = 1000
LINE_BYTES_MAX = 16_384
"""Of a line that is kept; the rest of a longer one is dropped."""


@dataclass(frozen=True, slots=True)
class Report:
    """How a process is. url: where its own site is; empty without one. stop_s: how long its app may take to stop."""

    live: bool
    ready: bool
    verdict: str = "starting"
    reasons: str = ""
    stop_s: float = 30.0
    url: str = ""

    def line(self) -> bytes:
        """As it is sent."""
        return json.dumps(asdict(self)).encode() + b"\n"


class Reports:
    """Takes the bytes of one process apart. One thread."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Report | str]:
        """The reports, and the lines of evidence, that are complete with these bytes; empty bytes: the pipe has ended."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data and self._rest:
            lines, self._rest = [*lines, self._rest], b""
        self._rest = self._rest[:LINE_BYTES_MAX]
        return [_parsed(line) for line in lines if line.strip()]


def _parsed(line: bytes) -> Report | str:
    try:
        found: object = json.loads(line)
        if isinstance(found, dict):
            given = cast("dict[str, Any]", found)
            return Report(
                bool(given["live"]),
                bool(given["ready"]),
                str(given["verdict"]),
                str(given["reasons"]),
                float(given["stop_s"]),
                str(given["url"]),
            )
    except (ValueError, KeyError, TypeError):
        pass
    return line.decode("utf-8", "replace")
