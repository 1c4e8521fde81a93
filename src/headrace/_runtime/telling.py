"""Where notices go: to `logging`, to counters, and to listeners.

Told and read by any thread. Knows nothing of what a notice means. Invariant: no count and no listener is lost, and no
reader iterates what a teller changes; listeners are called outside the lock, so they may tell and read themselves.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping

    from headrace._core.notices import Notice

RECENT_MAX = 200
"""Notices kept for `app.notices()`: enough to see what led to a stop."""


class Teller:
    """Hands notices on. `tell` is called on any thread that has something to tell; a listener that raises is logged."""

    __slots__ = ("_counts", "_listeners", "_lock", "_logger", "_recent")

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        # Guards the three below. A signal handler may tell, or read, in the midst of either: hence reentrant.
        self._lock = threading.RLock()
        self._counts: dict[str, int] = {}
        self._recent: deque[Notice] = deque(maxlen=RECENT_MAX)
        self._listeners: tuple[Callable[[Notice], None], ...] = ()

    def listen(self, listener: Callable[[Notice], None]) -> None:
        """Call `listener` with every notice from now on, on the telling thread: it must be quick."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

    def take_over(self, other: Teller) -> None:
        """Call the listeners registered there; before the app starts."""
        self._listeners += other._listeners

    def tell(self, notice: Notice) -> None:
        """Log it, count it, pass it on."""
        with self._lock:
            self._counts[notice.name] = self._counts.get(notice.name, 0) + 1
            self._recent.append(notice)
            listeners = self._listeners
        with contextlib.suppress(
            Exception
        ):  # A filter of the user's raised: it may not end the thread that tells.
            if self._logger.isEnabledFor(notice.level):
                self._logger.log(notice.level, "%s", notice)
        for listener in listeners:
            try:
                listener(notice)
            except BaseException:
                with contextlib.suppress(Exception):
                    self._logger.exception("a listener of notices raised")

    def counts(self) -> Mapping[str, int]:
        """How often each notice was told, by name; a copy."""
        with self._lock:
            return dict(self._counts)

    def recent(self) -> tuple[Notice, ...]:
        """The last notices, oldest first."""
        with self._lock:
            return tuple(self._recent)
