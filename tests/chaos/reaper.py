"""Kills what a run started, should the run itself be killed: nodes, and members that are stopped by a signal.

Decides nothing else. A process of its own reads names of process groups from a pipe; when the pipe ends, however the
other end came to its end, it kills those not struck off. Invariant: a group that was forgotten is not touched, since
its number may be somebody else's by then.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


class Reaper:
    """The living end of the pipe. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.reaper"], stdin=subprocess.PIPE, start_new_session=True
        )

    def watch(self, group: int) -> None:
        """From now on this process group dies with us."""
        self._say(f"+{group}")

    def forget(self, group: int) -> None:
        """It has ended."""
        self._say(f"-{group}")

    def close(self) -> None:
        """Kill what is left."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10.0)

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()


def main() -> None:
    """Read until the end, then kill."""
    alive: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            alive.add(group)
        else:
            alive.discard(group)
    for group in alive:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
