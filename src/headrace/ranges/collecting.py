"""Python's garbage collector, at rest while a list of records becomes a batch.

Decides when it rests and for how long; refuses to know what is made. It walks through thousands of records at a time that no
cycle holds, and with them through all that the process has. Invariant: whoever disabled it before finds it disabled; else it
is on between any two rests, after an exception, and in a process that is forked meanwhile.
"""

from __future__ import annotations

import functools
import gc
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Generator


# The collector is the process's own, so there is one of these; it holds nothing while nobody reads.
@functools.cache
def collector() -> Collector:
    """What lets this process's collector rest."""
    found = Collector()
    os.register_at_fork(after_in_child=found.forked)
    return found


@final
class Collector:
    """Callable from any thread. One rests at a time: many threads that took turns at it would leave it no turn."""

    def __init__(self) -> None:
        self._resting = threading.Lock()
        self._off = False
        """Whoever holds the lock; and the one thread of a process that was just forked."""

    @contextmanager
    def at_rest(self) -> Generator[None]:
        """Off for the block, which must be short, what it waits for included; as it is, if another one's block is under way."""
        if not gc.isenabled() or not self._resting.acquire(blocking=False):
            yield
            return
        try:
            self._off = True
            gc.disable()
            yield
        finally:
            gc.enable()
            self._off = False
            self._resting.release()

    def forked(self) -> None:
        """The thread whose block it was is not in this process."""
        if self._off:
            self._off = False
            self._resting = threading.Lock()
            gc.enable()
