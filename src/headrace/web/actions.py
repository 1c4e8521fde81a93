"""What a viewer of the dashboard may do to an app: pause, resume, seek, drain. Off unless a token is set.

Decides which requests are carried out. Invariant: without the token, sent in a header that no other site's page can make a
browser send, nothing happens; what is done is logged.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Protocol, cast

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.errors import HeadraceError
from headrace.web.guarding import holds_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request
    from starlette.routing import BaseRoute

log = logging.getLogger("headrace.web")

BODY_BYTES_MAX = 4096


class Steered(Protocol):
    """What is needed of an `App`."""

    def pause(self, *partitions: tuple[str, int]) -> None:
        """Take no more records of these."""
        ...

    def resume(self, *partitions: tuple[str, int]) -> None:
        """Undo `pause`."""
        ...

    def seek(self, topic: str, partition: int, to: Any) -> None:
        """Continue at another offset."""
        ...

    def request_stop(self, *, hard: bool = False, timeout_s: float | None = None) -> None:
        """Begin to stop."""
        ...


class Refused(Exception):
    """A request that is not carried out: a status and what to change."""

    def __init__(self, status: int, problem: str) -> None:
        self.status = status
        super().__init__(problem)


class Actions:
    """Carries out what is asked. All methods run on the server's thread; what they call of the app returns at once."""

    def __init__(self, app: Steered, token: str) -> None:
        self._token = token
        self._doings: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
            "pause": lambda asked: app.pause(_place(asked)),
            "resume": lambda asked: app.resume(_place(asked)),
            "seek": lambda asked: app.seek(*_place(asked), _target(asked)),
            "drain": lambda _asked: app.request_stop(),
        }

    def routes(self) -> list[BaseRoute]:
        """One path for each."""
        return [Route("/actions/{name}", self.act, methods=["POST"])]

    async def act(self, request: Request) -> Response:
        """202 when the app was told; else what is wrong."""
        name = request.path_params["name"]
        try:
            asked = await self._asked(request)
            self._doing(name)(asked)
        except Refused as refused:
            return JSONResponse({"error": str(refused)}, refused.status)
        except HeadraceError as error:
            return JSONResponse({"error": str(error)}, 409)
        who = request.client.host if request.client else "somebody"
        log.warning("%s asked for %s %s over HTTP", who, name, asked)
        return JSONResponse({"asked": name}, 202)

    def _doing(self, name: str) -> Callable[[Mapping[str, Any]], None]:
        if name not in self._doings:
            raise Refused(404, f"no such action; there are {', '.join(self._doings)}")
        return self._doings[name]

    async def _asked(self, request: Request) -> Mapping[str, Any]:
        origin, host = request.headers.get("origin"), request.headers["host"]
        if origin is not None and origin.partition("://")[2] != host:
            raise Refused(403, "asked by a page of another site")
        if not holds_token(request.headers.get("authorization"), self._token):
            raise Refused(401, "the token is wrong; send it as `Authorization: Bearer TOKEN`")
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise Refused(415, "send JSON as application/json")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > BODY_BYTES_MAX:
                raise Refused(413, f"at most {BODY_BYTES_MAX} bytes")
        try:
            asked: object = json.loads(body)
        except ValueError:
            raise Refused(400, "the body is no JSON") from None
        if not isinstance(asked, dict):
            raise Refused(400, "the body is no JSON object")
        return cast("dict[str, Any]", asked)


def _place(asked: Mapping[str, Any]) -> tuple[str, int]:
    topic, partition = asked.get("topic"), asked.get("partition")
    if (
        not isinstance(topic, str)
        or not isinstance(partition, int)
        or isinstance(partition, bool)
        or partition < 0
    ):
        raise Refused(400, "name a topic (a string) and a partition (a number)")
    return topic, partition


def _target(asked: Mapping[str, Any]) -> Any:
    to = asked.get("to")
    if not isinstance(to, int | str):
        raise Refused(400, 'to: an offset, "earliest" or "latest"')
    return to
