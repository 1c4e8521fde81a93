"""A dashboard of apps in other processes: each asked over HTTP, on a thread of its own.

Decides how often an app is asked, and what is shown of one that does not answer: the last that it said, and why there is no
more. Invariant: one that hangs delays no other, what it sends is bounded and taken for text, and none is asked for nobody.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from headrace.config import require_count
from headrace.errors import ConfigError
from headrace.web.guarding import Guard
from headrace.web.server import Server, listening, require_names, require_web

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger("headrace.web")

EVERY_S = 1.0
TIMEOUT_S = 5.0
UNSEEN_S = 10.0
"""An app is asked for so long after somebody looked last."""
BYTES_MAX = 16_000_000
"""A state of 10,000 partitions has about 1 MB."""


class RemoteFeed:
    """States of an app elsewhere, asked for while somebody looks. `state` from any thread."""

    def __init__(self, url: str, closing: threading.Event) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("app", url, "an address such as http://10.2.3.4:8080")
        self.name = parts.netloc.rpartition("@")[2]
        self._url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/dashboard.json"
        self._closing = closing
        # The proxies of the environment are for the world outside, and a redirect could lead anywhere.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect())
        # The feed's thread writes, whole; anyone reads.
        self._state: dict[str, Any] = {"name": self.name, "error": "it has not been asked yet"}
        self._looking = threading.Lock()
        # Under the lock: who looks, and the thread that ends since nobody does.
        self._looked_at = float("-inf")
        self._asking = False

    def state(self) -> dict[str, Any]:
        """The last that it said, with `error` in it if it does not answer now, or is asked again from now on only."""
        with self._looking:
            self._looked_at = time.monotonic()
            if not self._asking and not self._closing.is_set():
                thread = threading.Thread(target=self._run, name=f"headrace-feed-{self.name}", daemon=True)
                thread.start()
                self._asking = True
            return self._state

    def _run(self) -> None:
        while True:
            began_at = time.monotonic()
            try:
                self._state = self._asked()
            except Exception as error:  # noqa: BLE001 - whatever it was, it is what the page says of this app
                self._state = self._state | {"error": f"{type(error).__name__}: {error}"}
            closing = self._closing.wait(max(0.1, EVERY_S - (time.monotonic() - began_at)))
            with self._looking:
                if closing or time.monotonic() - self._looked_at > UNSEEN_S:
                    self._state = self._state | {
                        "error": "nobody has looked for a while; it is asked again now"
                    }
                    self._asking = False
                    return

    def _asked(self) -> dict[str, Any]:
        with self._opener.open(self._url, timeout=TIMEOUT_S) as answer:
            text = answer.read(BYTES_MAX + 1)
        if len(text) > BYTES_MAX:
            raise ValueError(f"it sent more than {BYTES_MAX} bytes")
        found: object = json.loads(text)
        if not isinstance(found, dict) or not {"name", "health", "totals", "partitions"} <= found.keys():
            raise ValueError("what it sent is no state of a Headrace app")
        # Actions are for the app's own page: their token is not passed on.
        return cast("dict[str, Any]", found) | {"actions": False, "looks": False, "error": ""}


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Goes where it was told, and nowhere else: an answer that leads elsewhere is an `HTTPError`."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        """Follow none: the answer is then an error that says so."""


def serve_dashboard(
    apps: Sequence[str], port: int = 8090, *, host: str = "127.0.0.1", hosts: Sequence[str] = ()
) -> Server:
    """Serve one dashboard of several apps, which `serve` their own addresses, such as "http://10.2.3.4:8080".

    Nothing can be done to the apps from there. port, host, hosts: as of `serve`. Raises `ConfigError`, `ExtraMissing`,
    `OSError` if the port is taken; an app that does not answer is shown as away, and asked again each second
    while somebody looks.
    """
    require_count("port", port, 0, 65_535)
    require_names(host, hosts)
    if isinstance(apps, str) or not apps:
        raise ConfigError("apps", apps, "a list of addresses")
    require_web("the dashboard")
    from starlette.applications import Starlette  # noqa: PLC0415 - an extra

    from headrace.web.streams import Pages  # noqa: PLC0415 - an extra

    closing = threading.Event()
    here = listening(host, port)
    try:
        feeds = [RemoteFeed(app, closing) for app in apps]
    except BaseException:
        closing.set()
        here.close()
        raise
    return Server(Guard(Starlette(routes=Pages(feeds, closing).routes()), (*hosts, host)), here, closing)
