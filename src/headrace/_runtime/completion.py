"""The end of an app, to wait for from a thread or from an event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

    from headrace._runtime.assembly import Assembly


class Completion:
    """What `App.wait` returns: awaitable in async code, done already in sync code."""

    __slots__ = ("_assembly",)

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly

    def block(self) -> None:
        """Block until the app is over; raises what ended it."""
        # In slices: a wait without a timeout would not let Python run its signal handlers on every platform.
        while not self._assembly.over.wait(0.5):
            pass
        self._assembly.raise_if_failed()

    def __await__(self) -> Generator[object, None, None]:
        return self._arrive().__await__()

    async def _arrive(self) -> None:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[None] = loop.create_future()

        def tell() -> None:
            if not arrived.done():
                arrived.set_result(None)

        def tell_loop() -> None:
            loop.call_soon_threadsafe(tell)

        self._assembly.when_over(tell_loop)
        await arrived
        self._assembly.raise_if_failed()
