"""The page of metrics, made on a thread of its own: a gauge of the user's that hangs must hold up no probe.

Decides that one page is made at a time, and shared by all who asked meanwhile. Invariant: whoever asks is answered within
`PAGE_S`, also while an earlier page never ends.
"""

from __future__ import annotations

import importlib
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from headrace.errors import ExtraMissing
from headrace.observe.filters import Selection
from headrace.observe.prometheus import Prometheus
from headrace.observe.reporting import make_report

if TYPE_CHECKING:
    from headrace.observe.reporting import Source

PAGE_S = 8.0
"""Below Prometheus's usual scrape_timeout of 10 s: it then reads why there is no page."""


class Scrapes:
    """Pages of metrics. `page` is called by the server's thread alone."""

    def __init__(self, source: Source) -> None:
        try:
            library: Any = importlib.import_module("prometheus_client")
        except ImportError:
            raise ExtraMissing("serving metrics", "web") from None
        self._library = library
        self._source = source
        # The server's thread writes and reads.
        self._began_at = 0.0
        self._making: Future[bytes] | None = None

    @property
    def media_type(self) -> str:
        """The text format of Prometheus."""
        found: str = self._library.CONTENT_TYPE_LATEST
        return found

    def page(self) -> Future[bytes]:
        """The page that is being made, or a new one. Do not cancel it: others may wait for it."""
        if self._making is None or self._making.done():
            self._making = Future()
            self._began_at = time.monotonic()
            # Daemon: what hangs here must not keep the process alive.
            threading.Thread(
                target=self._make, args=(self._making,), name="headrace-metrics", daemon=True
            ).start()
        return self._making

    def running_s(self) -> float:
        """How long the page has been in the making."""
        return time.monotonic() - self._began_at

    def _make(self, page: Future[bytes]) -> None:
        try:
            registry = self._library.CollectorRegistry(auto_describe=False)
            Prometheus(registry=registry).report(make_report(self._source, Selection(None)))
            page.set_result(self._library.generate_latest(registry))
        except BaseException as error:  # noqa: BLE001 - of a user's gauge: it may end no more than this page
            page.set_exception(error)
