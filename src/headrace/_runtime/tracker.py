"""The assignments of one app: swapped in whole by the owner threads, read by anyone.

Decides nothing; what follows from a change is `_core.assignments`'s. Invariants: a change is made before the owner polls
again; readers take no lock and never see half a change; listeners are told in the order of the changes, on the hooks' thread.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from headrace._core.assignments import Assignments, AssignmentsChange, changed, without

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._core.effects import HoldingsChanged


class Tracker:
    """What an app holds. `changed` and `gone` are the owners' calls; `latest` is anyone's."""

    __slots__ = ("_dropped", "_lock", "_offer", "latest")

    def __init__(self, offer: Callable[[AssignmentsChange], bool], dropped: Callable[[], None]) -> None:
        """`offer`: pass a change on to listeners, without waiting; False if there is no room. `dropped` tells of that."""
        self._offer = offer
        self._dropped = dropped
        # Owners of several connections write; none may build on a value that another is about to replace.
        self._lock = threading.Lock()
        # Written under the lock, whole; anyone reads.
        self.latest = Assignments()

    def changed(self, connection: int, effect: HoldingsChanged) -> None:
        """Owner thread: take in what the engine of this connection opened and closed."""
        with self._lock:
            self.latest = after = changed(self.latest, connection, effect)
            opened = tuple((topic, partition) for topic, partition, _ in effect.opened)
            closed = tuple((topic, partition) for topic, partition, _ in effect.closed)
            taken = self._offer(AssignmentsChange(connection, effect.reason, opened, closed, after))
        # Outside the lock: a listener of notices may block, and the watchdog must still come by here.
        if not taken:
            self._dropped()

    def gone(self, connection: int) -> None:
        """The connection ended, or was abandoned: nothing is held by it any more."""
        with self._lock:
            held = self.latest.partitions(connection)
            if not held:
                return
            self.latest = after = without(self.latest, connection)
            taken = self._offer(AssignmentsChange(connection, "closed", (), held, after))
        if not taken:
            self._dropped()
