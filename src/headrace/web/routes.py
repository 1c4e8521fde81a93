"""What is served of one app: probes, metrics, the snapshot; and the dashboard's page where it is wanted.

Decides paths and status codes. Invariant: an answer to a probe is made of what the owner published last and of nothing
that may wait.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from headrace.web.actions import Actions
from headrace.web.chronicle import Chronicle
from headrace.web.facts import app_facts, health_facts
from headrace.web.looking import Looking, dead_letter_topics
from headrace.web.scrapes import PAGE_S, Scrapes
from headrace.web.state import DashboardState
from headrace.web.streams import SAMPLE_S, Pages

if TYPE_CHECKING:
    import threading
    from collections.abc import AsyncGenerator, Callable

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from headrace._core.health import Health
    from headrace.app import App
    from headrace.observe.reporting import Source
    from headrace.web.showing import Showing

log = logging.getLogger("headrace.web")


class Answers:
    """The answers about one app. All methods run on the server's thread."""

    def __init__(self, source: Source, health: Callable[[], Health], showing: Showing) -> None:
        self._source = source
        self._health = health
        self._showing = showing
        self._scrapes = Scrapes(source)

    def routes(self) -> list[BaseRoute]:
        """Paths and what answers them; each also to HEAD."""
        return [
            Route("/health/live", self.live),
            Route("/health/ready", self.ready),
            Route("/metrics", self.metrics),
            Route("/snapshot.json", self.snapshot),
        ]

    async def live(self, _request: Request) -> Response:
        """200, or 503 where a restart would help."""
        return self._probe("live")

    async def ready(self, _request: Request) -> Response:
        """200, or 503 while records cannot flow."""
        return self._probe("ready")

    async def metrics(self, _request: Request) -> Response:
        """The page for Prometheus; 503 while one does not end, 500 with the error if it raised."""
        # Shielded: another scrape may wait for the same page.
        page = asyncio.shield(asyncio.wrap_future(self._scrapes.page()))
        try:
            async with asyncio.timeout(PAGE_S):
                made = await page
        except TimeoutError:
            running_s = self._scrapes.running_s()
            return PlainTextResponse(f"metrics have been in the making for {running_s:.0f} s\n", 503)
        except Exception as error:  # noqa: BLE001 - a user's gauge raised what only BaseException catches
            return PlainTextResponse(f"metrics could not be made: {type(error).__name__}: {error}\n", 500)
        return Response(made, headers={"content-type": self._scrapes.media_type})

    async def snapshot(self, _request: Request) -> Response:
        """Everything as JSON."""
        return JSONResponse(app_facts(self._source, self._showing))

    def _probe(self, name: str) -> Response:
        facts = health_facts(self._health())
        body = json.dumps(facts, indent=1) + "\n"
        return Response(body, 200 if facts[name] else 503, media_type="application/json")


class OwnFeed:
    """States of the app of this process. The server's thread."""

    def __init__(self, state: DashboardState, name: str, allowed: Callable[[], dict[str, Any]]) -> None:
        self.name = name
        self._state = state
        self._allowed = allowed

    def state(self) -> dict[str, Any]:
        """Made now; a gauge of the user's has no part in it."""
        return self._state.state() | self._allowed()


def site_of(app: App, closing: threading.Event, actions_token: str | None, showing: Showing) -> Any:
    """The ASGI application of one app: all that is served."""
    source = app._attached.source()  # noqa: SLF001 - what reporters get; no user needs it
    chronicle = Chronicle(time.time)
    app.listen(chronicle.note)
    state = DashboardState(source, chronicle, showing)
    looks = actions_token is not None and showing.records

    def allowed() -> dict[str, Any]:
        letters = dead_letter_topics(app) if looks else []
        return {"actions": actions_token is not None, "looks": looks, "dead_letter_topics": letters}

    feed = OwnFeed(state, source.group_id, allowed)
    routes = Answers(source, app.health, showing).routes() + Pages([feed], closing).routes()
    if actions_token is not None:
        routes += Actions(app, actions_token).routes()
    if actions_token is not None and looks:
        routes += Looking(app, actions_token).routes()

    @asynccontextmanager
    async def sampling(_site: Starlette) -> AsyncGenerator[None]:
        task = asyncio.create_task(_sample(state))
        yield
        task.cancel()

    return Starlette(routes=routes, lifespan=sampling)


async def _sample(state: DashboardState) -> None:
    failed = False
    while True:
        try:
            state.sample()
        except Exception:
            if not failed:
                log.exception("the dashboard's history has a gap")
            failed = True
        await asyncio.sleep(SAMPLE_S)
