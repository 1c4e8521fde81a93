"""One site of all processes: their health as one, their metrics with a label, their dashboards side by side.

Decides what the whole is: live while the supervisor turns, ready while every process is that should be. Knows a process by
the site that it serves on loopback for this one. Invariant: one that hangs costs a request its patience, and no more.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headrace.cli.exits import Unusable
from headrace.cli.processes.joining import joined, own_metrics
from headrace.cli.processes.slots import Phase
from headrace.cli.processes.supervisor import STALE_S
from headrace.web.guarding import Guard
from headrace.web.remote import RemoteFeed
from headrace.web.server import Server, listening, require_web

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from headrace.cli.processes.supervisor import Fleet, Member

ASK_S = 6.0
"""Patience with one process, each time it says something."""
ANSWER_S = 8.0
"""When all is said that will be said, whatever was asked before. Below the usual timeout of a scrape, 10 s."""
ASKS_EACH_MAX = 2
"""Questions to one process at once; more wait. A hung one then holds so many threads, and none of another's."""
BYTES_MAX = 64_000_000
PASSED_ON = ("health/live", "health/ready", "metrics", "snapshot.json", "dashboard.json")
"""What is served of one process, below /process/N/."""


@dataclass(frozen=True, slots=True)
class FleetHealth:
    """The health of all processes together."""

    live: bool
    ready: bool
    rolling: bool
    stopping: bool
    processes: tuple[dict[str, Any], ...]
    reasons: tuple[Any, ...] = ()


class Judge:
    """What probes are told. Any thread."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def health(self) -> FleetHealth:
        """One that is being replaced in a rolling restart is not missed meanwhile."""
        state = self._fleet.state
        wanted = [member.view for member in state.members if member.view.phase != Phase.OVER.value]
        missing = sum(not view.ready for view in wanted)
        allowed = 1 if state.rolling and len(wanted) > 1 else 0
        return FleetHealth(
            live=time.monotonic() - state.at < STALE_S,
            ready=bool(wanted) and missing <= allowed and not state.stopping,
            rolling=state.rolling,
            stopping=state.stopping,
            processes=tuple(_facts(member) for member in state.members),
        )


class Asker:
    """Asks processes over HTTP. Any thread; it waits."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        # The proxies of the environment are for the world outside.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, number: int, path: str) -> tuple[int, str, bytes]:
        """Status, media type and body of an answer; a process that gives none is answered for with 503."""
        url = self._fleet.state.members[number].url
        if not url:
            return 503, "text/plain", b"this process serves nothing yet\n"
        try:
            with self._opener.open(url + path, timeout=ASK_S) as answer:
                return answer.status, answer.headers["content-type"], answer.read(BYTES_MAX)
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.headers["content-type"], refusal.read(BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            return 503, "text/plain", f"{type(error).__name__}: {error}\n".encode()


class ProcessFeed(RemoteFeed):
    """States of one process for the dashboard, whichever process has this number."""

    def __init__(self, fleet: Fleet, number: int, closing: threading.Event) -> None:
        super().__init__("http://127.0.0.1/", closing)
        self._fleet = fleet
        self._number = number

    def state(self) -> dict[str, Any]:
        """As its own, under a name that tells it from the others."""
        found = super().state()
        group = found["name"] if "health" in found else "process"
        return found | {"name": f"{group} {self._number}"}

    def _asked(self) -> dict[str, Any]:
        member = self._fleet.state.members[self._number]
        if not member.url:
            raise ConnectionError(f"the process is {member.view.phase}")
        self._url = f"{member.url}dashboard.json"
        return super()._asked()


def _facts(member: Member) -> dict[str, Any]:
    return asdict(member.view) | {"pid": member.pid}


class FleetAnswers:
    """The answers about all processes. All methods run on the server's thread."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._judge = Judge(fleet)
        self._asker = Asker(fleet)
        self._lanes = [
            ThreadPoolExecutor(ASKS_EACH_MAX, f"headrace-ask-{number}")
            for number in range(len(fleet.state.members))
        ]

    @asynccontextmanager
    async def open(self, _site: object) -> AsyncGenerator[None]:
        """While the server serves."""
        try:
            yield
        finally:
            for lane in self._lanes:
                lane.shutdown(wait=False, cancel_futures=True)

    def routes(self) -> list[Any]:
        """Paths and what answers them."""
        from starlette.routing import Route  # noqa: PLC0415 - an extra

        return [
            Route("/health/live", self.probe),
            Route("/health/ready", self.probe),
            Route("/metrics", self.metrics),
            Route("/snapshot.json", self.snapshot),
            Route("/process/{number:int}/{path:path}", self.one),
        ]

    async def probe(self, request: Any) -> Any:
        """200, or 503; with every process in the body."""
        from starlette.responses import JSONResponse  # noqa: PLC0415 - an extra

        facts = asdict(self._judge.health())
        return JSONResponse(facts, 200 if facts[request.url.path.rpartition("/")[2]] else 503)

    async def metrics(self, _request: Any) -> Any:
        """One page for Prometheus: what each process says, with its number as a label."""
        from starlette.responses import Response  # noqa: PLC0415 - an extra

        pages: dict[int, str] = {}
        media_type = "text/plain; version=0.0.4; charset=utf-8"
        for number, (status, kind, body) in enumerate(await self._all("metrics")):
            if status == http.HTTPStatus.OK:
                pages[number], media_type = body.decode(), kind
        page = await asyncio.to_thread(joined, pages)
        return Response(page + own_metrics(self._fleet.state.members), headers={"content-type": media_type})

    async def snapshot(self, _request: Any) -> Any:
        """Every process as JSON: what the supervisor knows of it, and what it says itself."""
        from starlette.responses import Response  # noqa: PLC0415 - an extra

        found: list[str] = []
        for member, (status, _, body) in zip(
            self._fleet.state.members, await self._all("snapshot.json"), strict=True
        ):
            said = body.decode() if status == http.HTTPStatus.OK else "null"
            found.append(f'{{"process": {json.dumps(_facts(member))}, "app": {said}}}')
        return Response(f'{{"processes": [{", ".join(found)}]}}', media_type="application/json")

    async def one(self, request: Any) -> Any:
        """What one process serves, passed on."""
        from starlette.responses import PlainTextResponse, Response  # noqa: PLC0415 - an extra

        number, path = request.path_params["number"], request.path_params["path"]
        if number >= len(self._fleet.state.members) or path not in PASSED_ON:
            return PlainTextResponse("no such process, or nothing of it at this path\n", 404)
        status, kind, body = await self._ask(number, path)
        return Response(body, status, headers={"content-type": kind})

    async def _all(self, path: str) -> Sequence[tuple[int, str, bytes]]:
        return await asyncio.gather(*(self._ask(number, path) for number in range(len(self._lanes))))

    async def _ask(self, number: int, path: str) -> tuple[int, str, bytes]:
        loop = asyncio.get_running_loop()
        asked = loop.run_in_executor(self._lanes[number], self._asker.ask, number, path)
        try:
            return await asyncio.wait_for(asked, ANSWER_S)
        except TimeoutError:
            return 503, "text/plain", b"this process does not answer\n"


def serve_fleet(fleet: Fleet, host: str, port: int, hosts: Sequence[str] = ()) -> Server:
    """Serve all of it, from now on, on a thread of its own. Raises `ExtraMissing`, `Unusable` if the port is taken."""
    require_web("--serve")
    from starlette.applications import Starlette  # noqa: PLC0415 - an extra

    from headrace.web.streams import Pages  # noqa: PLC0415 - an extra

    closing = threading.Event()
    try:
        here = listening(host, port)
    except OSError as error:
        raise Unusable(f"--serve {host}:{port}: {error}") from error
    feeds = [ProcessFeed(fleet, number, closing) for number in range(len(fleet.state.members))]
    answers = FleetAnswers(fleet)
    site = Starlette(routes=answers.routes() + Pages(feeds, closing).routes(), lifespan=answers.open)
    return Server(Guard(site, (*hosts, host)), here, closing)
