"""Whether the event loop of the handlers turns: a callback is left with it now and then, and awaited.

Decides nothing. The owner asks, the loop answers; no call waits. Invariant: at most one question is open.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class LoopBeat:
    """One loop, its own or the caller's. `look` is the owner thread's."""

    __slots__ = ("_answered", "_asked_at", "_loop", "cause", "ended", "tells", "thread_ident")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        cause: Callable[[], BaseException | None],
        *,
        tells: bool = True,
    ) -> None:
        """`cause`: what the loop ended with, if that is known. `tells`: whether notices are told; one owner of several does."""
        self._loop = loop
        self.cause = cause
        self.tells = tells
        self._asked_at = 0.0
        # The owner clears it, the loop's thread sets it and the one below.
        self._answered = True
        self.thread_ident: int | None = None
        # Owner thread: whether the loop is closed.
        self.ended = False

    def look(self, now: float) -> float | None:
        """Since when the loop has not answered, or None if it has. Asks again then."""
        if not self._answered:
            return self._asked_at
        self._answered, self._asked_at = False, now
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:
            self.ended = True
        return None

    def _answer(self) -> None:
        self.thread_ident = threading.get_ident()
        self._answered = True
