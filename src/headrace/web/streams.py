"""The dashboard's page, and the stream of states behind it.

Decides how often a state is sent and to how many viewers. Knows an app by its feed only: its own, or one far away.
Invariant: a state is sent whole, so that a viewer who missed some is up to date with the next; it is made once a tick,
however many look.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol

from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    import threading
    from collections.abc import AsyncIterator, Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute

log = logging.getLogger("headrace.web")

TICK_S = 1.0
SAMPLE_S = 4.0
"""How often the history is written: each sample has the broker asked for offsets, by the app's watch, also while nobody looks."""
NO_SUCH_APP = "no such app\n"
VIEWERS_MAX = 16
"""Streams at once; one more is answered 503. A viewer costs one state a second, some 30 kB for 512 partitions."""
ASSETS = {
    "dashboard.js": "text/javascript; charset=utf-8",
    "panels.js": "text/javascript; charset=utf-8",
    "looks.js": "text/javascript; charset=utf-8",
    "charts.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
}


class Feed(Protocol):
    """Where states of one app come from. Neither method waits."""

    @property
    def name(self) -> str:
        """What to call it."""
        ...

    def state(self) -> dict[str, Any]:
        """The latest, with `error` in it if there is none."""
        ...


class Pages:
    """The page and its streams. All methods run on the server's thread."""

    def __init__(self, feeds: Sequence[Feed], closing: threading.Event) -> None:
        self._feeds = tuple(feeds)
        self._closing = closing
        self._viewers = 0
        self._made_at = float("-inf")
        self._states: tuple[dict[str, Any], ...] = ()

    def routes(self) -> list[BaseRoute]:
        """Paths and what answers them."""
        return [
            Route("/", self.page),
            Route("/assets/{name}", self.asset),
            Route("/dashboard.json", self.one),
            Route("/events", self.events),
        ]

    async def page(self, _request: Request) -> Response:
        """The page itself."""
        return Response(_read("index.html"), media_type="text/html; charset=utf-8")

    async def asset(self, request: Request) -> Response:
        """What the page is made of; nothing that is not in the table."""
        name = request.path_params["name"]
        if name not in ASSETS:
            return PlainTextResponse("no such file\n", 404)
        return Response(_read(name), headers={"content-type": ASSETS[name]})

    async def one(self, request: Request) -> Response:
        """The state of the app `?app=N`, the first if none is named: what a dashboard elsewhere asks for."""
        number = self._number(request)
        return PlainTextResponse(NO_SUCH_APP, 404) if number is None else JSONResponse(self._latest()[number])

    async def events(self, request: Request) -> Response:
        """A stream of states of the app `?app=N`, beside a line on each of all."""
        number = self._number(request)
        if number is None:
            return PlainTextResponse(NO_SUCH_APP, 404)
        if self._viewers >= VIEWERS_MAX:
            return PlainTextResponse(f"{VIEWERS_MAX} are looking already\n", 503)
        return StreamingResponse(self._stream(number), media_type="text/event-stream")

    def _number(self, request: Request) -> int | None:
        number = request.query_params.get("app", "0")
        return int(number) if number.isdecimal() and int(number) < len(self._feeds) else None

    async def _stream(self, number: int) -> AsyncIterator[bytes]:
        self._viewers += 1
        try:
            yield b"retry: 2000\n\n"
            while not self._closing.is_set():
                states = self._latest()
                event = {"apps": [_line(state) for state in states], "app": states[number]}
                yield b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
                await asyncio.sleep(TICK_S)
        finally:
            self._viewers -= 1

    def _latest(self) -> tuple[dict[str, Any], ...]:
        now = time.monotonic()
        if now - self._made_at >= TICK_S / 2:
            self._states = tuple(feed.state() for feed in self._feeds)
            self._made_at = now
        return self._states


def _line(state: dict[str, Any]) -> dict[str, Any]:
    if "health" not in state:
        return {"name": state["name"], "verdict": "unknown", "lag": None, "error": state["error"]}
    return {
        "name": state["name"],
        "verdict": state["health"]["verdict"],
        "lag": state["totals"]["lag"],
        "error": state.get("error", ""),
    }


def _read(name: str) -> bytes:
    return (resources.files("headrace.web") / "assets" / name).read_bytes()
