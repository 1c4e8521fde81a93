"""`headrace top URL|FILE`: a running app in the terminal, as it says of itself over HTTP, or as a file of reports tells.

Decides when it is asked and what is shown while it does not answer: the last that it said, and why there is no more.
Refuses to change anything. Invariant: what an app sends is bounded, and taken for text.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast
from urllib.parse import urlsplit

import typer

from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit, Unusable

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.cli.top_file import ReportFile
    from headrace.cli.top_screen import Sight

BYTES_MAX = 64_000_000
"""A snapshot of 10,000 partitions has about 10 MB."""
TIMEOUT_S = 5.0
SNAPSHOT_S_MAX = 2.0
"""An app of very many partitions makes a snapshot no more often than that."""
SUFFIXES = (".jsonl", ".json", ".ndjson")
"""Of a file, also of one that is not there: no address ends so."""


def top(
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL|FILE",
            help="An app that runs with --serve, such as http://127.0.0.1:8080, or a file of the JSON lines reporter.",
            show_default=False,
        ),
    ],
    every_s: Annotated[
        float, typer.Option("--every", min=0.2, max=60, metavar="SECONDS", help="How often it is asked.")
    ] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Show it once, with rates over one period, and end.")
    ] = False,
    debug: Debug = False,  # noqa: ARG001 - noted by its callback
) -> Exit:
    """Watch a running app in the terminal, until Ctrl-C."""
    from rich.console import Console  # noqa: PLC0415 - not every command draws

    from headrace.cli.top_file import ReportFile  # noqa: PLC0415 - the same
    from headrace.cli.top_screen import drawn  # noqa: PLC0415 - the same

    path = Path(url)
    of_file = "://" not in url and (path.suffix in SUFFIXES or path.is_file())
    source: _App | ReportFile = ReportFile(path) if of_file else _App(url)
    console = Console()
    if once or not sys.stdout.isatty():
        before, now = source.newest() if isinstance(source, ReportFile) else source.two(every_s)
        console.print(drawn(now, before, url, "", rows_max=None))
        return Exit.OK
    _watch(source, url, every_s, console)
    return Exit.OK


def _watch(source: _App | ReportFile, url: str, every_s: float, console: Console) -> None:
    """Until Ctrl-C."""
    from rich.live import Live  # noqa: PLC0415 - see above

    from headrace.cli.top_screen import drawn  # noqa: PLC0415 - see above

    (before, now), error = source.newest(), ""
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            rows = max(3, console.height)
            live.update(drawn(now, before, url, error, rows_max=rows), refresh=True)
            time.sleep(every_s)
            try:
                (before, now), error = source.newest(), ""
            except Unusable as unusable:
                error = str(unusable)


class _App:
    """An app that is asked over HTTP. One thread's alone."""

    def __init__(self, url: str) -> None:
        self._address = _address(url)
        self._before: Sight | None = None
        self._now: Sight | None = None

    def newest(self) -> tuple[Sight, Sight]:
        """The last two that differ: between two looks there may be no new snapshot, and no rate. Raises `Unusable`."""
        from headrace.cli.top_screen import Sight  # noqa: PLC0415 - see above

        found = Sight(time.monotonic(), _asked(self._address))
        last, self._now = self._now, found
        if self._before is None or last is None:
            self._before = found
        elif found.as_of != last.as_of:
            self._before = last
        return self._before, found

    def two(self, every_s: float) -> tuple[Sight, Sight]:
        """Two that differ, a period apart, or what an app of very many partitions takes for one. Raises `Unusable`."""
        first, _ = self.newest()
        give_up_at = first.at + every_s + SNAPSHOT_S_MAX
        time.sleep(every_s)
        before, now = self.newest()
        while now.as_of == first.as_of and now.at < give_up_at:
            time.sleep(SNAPSHOT_S_MAX / 10)
            before, now = self.newest()
        return before, now


def _address(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unusable("URL is an address such as http://127.0.0.1:8080, or the path of a file of reports")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/snapshot.json"


def _asked(address: str) -> dict[str, Any]:
    # The proxies of the environment are for the world outside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=TIMEOUT_S) as answer:
            found: object = json.loads(answer.read(BYTES_MAX))
    except (OSError, ValueError) as error:
        raise Unusable(f"{address}: {error}; does the app run with --serve?") from None
    if not isinstance(found, dict) or "snapshot" not in found:
        raise Unusable(f"{address} is not the snapshot of an app")
    return cast("dict[str, Any]", found)
