"""A web server on a thread of its own, for one app.

Decides when it begins and ends; what it says is decided in `routes`. Invariant: neither waits for the other: the app
never calls into it, and it reads nothing of the app that waits.
"""

from __future__ import annotations

import importlib.util
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

from headrace.config import require_choice, require_count
from headrace.errors import ConfigError, ExtraMissing
from headrace.web.guarding import Guard, require_token
from headrace.web.showing import Showing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from headrace.app import App

log = logging.getLogger("headrace.web")

REQUESTS_MAX = 64
"""Requests at once; more are answered 503. Probes and scrapes need a handful, each viewer of a dashboard one."""
CLOSE_S = 2.0
"""Longest wait of `Server.close`: answers under way get half of it, then they are cut off."""


class Server:
    """A server that runs; made by `serve`. Any thread.

    host, port: where it listens. It ends with `close`, with the `with` block, or with the process, not with the app: one
    that ended by an error still says so to probes.
    """

    def __init__(self, asgi: Any, listening: socket.socket, closing: threading.Event) -> None:
        import uvicorn  # noqa: PLC0415 - an extra

        address: tuple[str, int] = listening.getsockname()[:2]
        self.host, self.port = address
        config = uvicorn.Config(
            asgi,
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=REQUESTS_MAX,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._socket = listening
        self._closing = closing
        self._thread = threading.Thread(target=self._run, name="headrace-web", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address to open in a browser on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"

    def close(self) -> None:
        """Serve no more; returns when the port is free, or after `CLOSE_S`. May be called again."""
        self._closing.set()  # Streams end by themselves within a tick; what does not is cut off.
        self._server.should_exit = True
        self._thread.join(CLOSE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except BaseException:
            log.exception("the web server ended; probes and scrapes will fail")
        finally:
            self._socket.close()

    def __repr__(self) -> str:
        return f"<headrace.web.Server at {self.url}>"


def serve(
    app: App,
    port: int = 8080,
    *,
    host: str = "127.0.0.1",
    hosts: Sequence[str] = (),
    actions_token: str | None = None,
    show_records: bool = False,
) -> Server:
    """Serve `/health/live`, `/health/ready`, `/metrics`, `/snapshot.json` and the dashboard at `/`, from now on.

    Call it before the app starts, so that probes are answered during the start, or at any time later. port: 0 lets the
    system choose, see `Server.port`. host: loopback unless you say otherwise: there is no password. hosts: names by which
    others ask for it, such as "billing.default.svc"; addresses, `host` and localhost always do.
    actions_token: lets who has it pause, resume, seek and drain; without one nobody can. At least 16 characters.
    show_records: lets everybody who looks see keys that many records have, and who has the token whole records.
    Raises `ExtraMissing` without `headrace[web]`, `OSError` if the port is taken, `ConfigError`.
    """
    require_count("port", port, 0, 65_535)
    require_token(actions_token)
    require_choice("show_records", show_records, (True, False))
    require_names(host, hosts)
    require_web("the web server")
    from headrace.web.routes import site_of  # noqa: PLC0415 - an extra

    closing = threading.Event()
    asgi = site_of(app, closing, actions_token, Showing(records=show_records))
    return Server(Guard(asgi, (*hosts, host)), listening(host, port), closing)


def require_web(what: str) -> None:
    """Raise `ExtraMissing` where `headrace[web]` is not installed."""
    if not all(importlib.util.find_spec(name) for name in ("starlette", "uvicorn")):
        raise ExtraMissing(what, "web")


def require_names(host: str, hosts: Sequence[str]) -> None:
    """Raise `ConfigError` unless these are a name and a list of names."""
    if not isinstance(host, str) or not host:
        raise ConfigError("host", host, "a host name or address")
    if isinstance(hosts, str) or not all(isinstance(name, str) for name in hosts):
        raise ConfigError("hosts", hosts, "a list of names")


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; raises `OSError` at once, in the caller's thread."""
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(128)
    except BaseException:
        made.close()
        raise
    return made
