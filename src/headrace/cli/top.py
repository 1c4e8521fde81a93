"""`headrace top URL`: a running app in the terminal, as it says of itself over HTTP.

Decides when it is asked and what is shown while it does not answer: the last that it said, and why there is no more.
Refuses to change anything. Invariant: what an app sends is bounded, and taken for text.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

import typer

from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit, Unusable

BYTES_MAX = 64_000_000
"""A snapshot of 10,000 partitions has about 10 MB."""
TIMEOUT_S = 5.0


def top(
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="An app that runs with --serve, such as http://127.0.0.1:8080.",
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
    from rich.live import Live  # noqa: PLC0415 - the same

    from headrace.cli.top_screen import Sight, drawn  # noqa: PLC0415 - the same

    address = _address(url)
    console = Console()
    before = Sight(time.monotonic(), _asked(address))
    if once or not sys.stdout.isatty():
        time.sleep(every_s)
        now = Sight(time.monotonic(), _asked(address))
        console.print(drawn(now, before, address, "", rows_max=None))
        return Exit.OK
    now, error = before, ""
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            rows = max(3, console.height)
            live.update(drawn(now, before, address, error, rows_max=rows), refresh=True)
            time.sleep(every_s)
            try:
                found = _asked(address)
            except Unusable as unusable:
                error = str(unusable)
            else:
                before, now, error = now, Sight(time.monotonic(), found), ""


def _address(url: str) -> str:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unusable("URL is an address such as http://127.0.0.1:8080")
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
