"""Health in files, for probes without HTTP: each file is young while its answer is yes.

Decides when a file is written, and that one rule tells all: younger than so many seconds means yes. Knows no probe.
Invariant: a file is replaced whole; one whose answer is no is as old as a file can be, so nobody takes it for yes, and
still says why.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from headrace.config import require_range
from headrace.web.facts import health_facts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any

    from headrace.app import App

log = logging.getLogger("headrace.web")

EVERY_S = 5.0
"""A third of the shortest age that a probe should ask for: one write may be missed."""


class HealthFiles:
    """Keeps `live` and `ready` in a directory, on a thread of its own, until `close`.

    While `app.health().live` is True the file `live` is written anew every `every_s` seconds; `ready` the same. When the
    answer is no its time is set to 1970. Both hold the health as JSON. A probe: `find DIR/live -newermt '-15 seconds' |
    grep -q .`. Begins at once, before the app starts if you like. Any thread. Raises `OSError` if the directory cannot be
    made or written at the beginning; later failures are logged once, and the files grow old.
    """

    def __init__(self, app: App, directory: str | Path, *, every_s: float = EVERY_S) -> None:
        require_range("every_s", every_s, 0.01, 3600)
        self._app = app
        self._directory = Path(directory)
        self._every_s = every_s
        self._closing = threading.Event()
        # The thread's alone, but for the first writing.
        self._failing = False
        self._directory.mkdir(parents=True, exist_ok=True)
        self._write_both()
        self._thread = threading.Thread(target=self._run, name="headrace-health-files", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write no more, and take both files away. Waits for the writing that runs, two periods at most."""
        self._closing.set()
        self._thread.join(2 * self._every_s)
        for name in ("live", "ready"):
            (self._directory / name).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        while not self._closing.wait(self._every_s):
            try:
                self._write_both()
            except Exception as error:  # noqa: BLE001 - a full disk, say: the files grow old, and the next try comes
                if not self._failing:
                    log.warning("health files in %s cannot be written: %s", self._directory, error)
                self._failing = True
            else:
                self._failing = False

    def _write_both(self) -> None:
        facts = health_facts(self._app.health())
        self._write("live", facts)
        self._write("ready", facts)

    def _write(self, name: str, facts: Mapping[str, Any]) -> None:
        path = self._directory / name
        made = path.with_name(f".{name}.new")
        made.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        if not facts[name]:
            os.utime(made, (0, 0))
        made.replace(path)
