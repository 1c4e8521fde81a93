"""What a viewer of the dashboard may do to an app: pause, resume, seek, drain. Off unless a token is set.

Decides which requests are carried out. Invariant: without the token, sent in a header that no other site's page can make a
browser send, nothing happens; what is done is logged.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.errors import HeadraceError
from headrace.web.asked import Refused, asked_of, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request
    from starlette.routing import BaseRoute

log = logging.getLogger("headrace.web")


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


class Actions:
    """Carries out what is asked. All methods run on the server's thread; what they call of the app returns at once."""

    def __init__(self, app: Steered, token: str) -> None:
        self._token = token
        self._doings: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
            "pause": lambda asked: app.pause(place_of(asked)),
            "resume": lambda asked: app.resume(place_of(asked)),
            "seek": lambda asked: app.seek(*place_of(asked), _target(asked)),
            "drain": lambda _asked: app.request_stop(),
        }

    def routes(self) -> list[BaseRoute]:
        """One path for each."""
        return [Route("/actions/{name}", self.act, methods=["POST"])]

    async def act(self, request: Request) -> Response:
        """202 when the app was told; else what is wrong."""
        name = request.path_params["name"]
        try:
            asked = await asked_of(request, self._token)
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


def _target(asked: Mapping[str, Any]) -> Any:
    to = asked.get("to")
    if not isinstance(to, int | str):
        raise Refused(400, 'to: an offset, "earliest" or "latest"')
    return to
