"""What the code of a handler can reach while it runs: its worker's resource, and the account of what it produced.

Decides when everything that one handler call produced is acknowledged, by the broker and together with that call's own
end: counting either alone would settle too early. Refuses to know what is done about it.

Invariant: one context variable per worker or pump, set when its context is made and never per record.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Produced:
    """The records that one handler call produced and the broker has not acknowledged yet. Any thread."""

    __slots__ = ("_closed", "_error", "_lock", "_outstanding", "_settled")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outstanding = 0
        self._closed = False
        self._error: Exception | None = None
        self._settled: Callable[[Exception | None], None] | None = None

    def add(self) -> bool:
        """Count one more; False if the handler call has ended, and this belongs to whatever runs now."""
        with self._lock:
            if self._closed:
                return False
            self._outstanding += 1
            return True

    def acknowledged(self, error: Exception | None) -> None:
        """The broker answered for one of them. Call it once for every `note_produced`."""
        with self._lock:
            self._outstanding -= 1
            if error is not None and self._error is None:
                self._error = error
            if self._outstanding or not self._closed:
                return
            settled, self._settled = self._settled, None
        if settled is not None:
            settled(self._error)

    def close(self, settled: Callable[[Exception | None], None] | None) -> bool:
        """The handler call ended. True if nothing is outstanding; else `settled` is called later, once, on any thread.

        None abandons what is outstanding: the call failed, and its retry will produce again.
        """
        with self._lock:
            self._closed = True
            if self._outstanding:
                self._settled = settled
            return not self._outstanding

    @property
    def error(self) -> Exception | None:
        """The first error among the answers so far."""
        return self._error


class Scope:
    """What one worker or pump makes reachable for its handlers.

    The worker reads and clears `produced` after each handler call; handlers, their child tasks and threads create it.
    """

    __slots__ = ("_lock", "produced", "resource")

    def __init__(self, resource: object = None) -> None:
        self._lock = threading.Lock()
        self.produced: Produced | None = None
        self.resource: Any = resource

    def note(self) -> Produced:
        """Count one produced record for the handler call that runs in this scope."""
        with self._lock:
            produced = self.produced
            if produced is None or not produced.add():
                produced = self.produced = Produced()
                produced.add()
            return produced

    def take(self) -> Produced:
        """End the account of the handler call that just ended. Only when `produced` is not None."""
        with self._lock:
            produced = self.produced
            assert produced is not None
            self.produced = None
            return produced


_SCOPE: ContextVar[Scope | None] = ContextVar("headrace_scope", default=None)


def enter_scope(scope: Scope) -> None:
    """Make this the scope of the current context."""
    _SCOPE.set(scope)


def current_record_scope() -> Scope | None:
    """Return the scope of the handler that runs in this context; None outside of handlers."""
    return _SCOPE.get()


def current_worker_resource() -> Any:
    """Return what `per_worker` gave to this worker or loop; None outside of handlers, or if there is none."""
    scope = _SCOPE.get()
    return None if scope is None else scope.resource


def note_produced() -> Produced | None:
    """Say that the current handler call produces a record; pass the broker's answer to `acknowledged` of the result.

    None outside of handlers: nobody waits for such a record.
    """
    scope = _SCOPE.get()
    return None if scope is None else scope.note()
