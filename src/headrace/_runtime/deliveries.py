"""The broker's answer to a record that `app.produce` was given, for whoever wants to wait for it.

Decides nothing. That the record which caused it waits too is the business of `_execute.scope`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


class Delivery:
    """The broker's answer to one produced record: `await` it, or call `result(timeout_s)` off the event loop.

    Need not be looked at: the record that caused it is finished only after the broker's acknowledgement anyway, and
    fails if that does not come.
    """

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: concurrent.futures.Future[None] = concurrent.futures.Future()

    def settle(self, error: Exception | None) -> None:
        """Internal: called once, by the producer."""
        if error is None:
            self._future.set_result(None)
        else:
            self._future.set_exception(error)

    def done(self) -> bool:
        """Whether the broker has answered."""
        return self._future.done()

    def result(self, timeout_s: float | None = None) -> None:
        """Wait for the acknowledgement; raises `ProduceFailed`, or `TimeoutError`."""
        self._future.result(timeout_s)

    def __await__(self) -> Generator[object, None, None]:
        return asyncio.wrap_future(self._future).__await__()
