"""Between the threads that read and the one that uses what was read: a queue bounded in bytes.

Decides who waits; refuses to know what passes through. Invariant: what is queued is at most the limit and one item; an
error, an end and a close reach everyone who waits.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar, final

T = TypeVar("T")


class Closed(Exception):
    """The one who took has gone: nothing more is wanted."""


@final
class Buffer(Generic[T]):
    """Many writers, one reader. All methods may be called from any thread."""

    def __init__(self, bytes_max: int, writers: int) -> None:
        self._bytes_max = bytes_max
        self._changed = threading.Condition()
        # All below: whoever holds the condition.
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._writers = writers
        self._error: BaseException | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether writers should stop."""
        return self._closed

    @property
    def queued_bytes(self) -> int:
        """What waits to be taken."""
        return self._bytes

    def put(self, item: T, size: int) -> None:
        """Add an item of so many bytes; waits while there is no room. Raises `Closed`."""
        with self._changed:
            # An item above the limit passes alone: to wait for room that never comes would be for ever.
            while self._items and self._bytes + size > self._bytes_max and not self._closed:
                self._changed.wait()
            if self._closed:
                raise Closed
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify_all()

    def leave(self, error: BaseException | None = None) -> None:
        """A writer has ended; with an error all of them shall."""
        with self._changed:
            self._writers -= 1
            if error is not None and self._error is None and not self._closed:
                self._error = error
                self._closed = True
            self._changed.notify_all()

    def take(self, wait_s: float) -> T | None:
        """The oldest item; None if none came within `wait_s`. Raises what ended a writer, and `Closed` after the last item."""
        with self._changed:
            if not self._items and self._writers and not self._closed:
                self._changed.wait(wait_s)
            if self._error is not None:
                raise self._error
            if self._items:
                item, size = self._items.popleft()
                self._bytes -= size
                self._changed.notify_all()
                return item
            if self._closed or not self._writers:
                raise Closed
            return None

    def close(self) -> None:
        """Nothing more is wanted: what is queued is dropped, and writers stop."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._bytes = 0
            self._changed.notify_all()
