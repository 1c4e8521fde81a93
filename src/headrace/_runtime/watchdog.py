"""The watchdog: sees from outside whether the owner thread turns, and lets those who wait go when it never will.

Everything else is watched by the owner itself; that it does not turn (a listener that blocks it, a call into the client
that hangs) only another thread can see. Makes no call of the client and takes no lock that the owner could hold.
Invariant: nothing that it calls may block it, so notices are told on threads of their own.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from headrace._core import notices
from headrace._runtime.evidence import stack_of_thread
from headrace.errors import Stalled

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._core.notices import Notice
    from headrace._runtime.owner import Owner
    from headrace.config import OnStall, Timeouts

LOOK_S = 1.0
STOP_GRACE_S = 3.0
"""How far beyond its budget a stop may be before the owner is given up: its own waits are all bounded by the budget."""


class Watchdog:
    """The watchdog of one owner. `start` before the owner runs, `stop` when it is over; both return at once."""

    def __init__(
        self,
        owner: Owner,
        thread: threading.Thread,
        tell: Callable[[Notice], None],
        let_go: Callable[[], None],
        timeouts: Timeouts,
        on_stall: OnStall,
    ) -> None:
        self._owner = owner
        self._watched = thread
        self._tell = tell
        self._let_go = let_go
        self._blocked_after_s = timeouts.blocked_after_s
        self._exits = on_stall == "exit"
        self._over = threading.Event()
        # All below is the watchdog thread's alone. The real clock: the owner's may jump.
        self._turned_at: float | None = None
        self._since = 0.0
        self._blocked = False
        self._stop_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="headrace-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._over.set()

    def _run(self) -> None:
        look_s = min(LOOK_S, self._blocked_after_s / 4)
        while not self._over.wait(look_s):
            if not self._look(time.monotonic()):
                return

    def _look(self, now: float) -> bool:
        """One look; False when there is nothing left to watch."""
        owner = self._owner
        if owner.ended.is_set() or not self._watched.is_alive():
            return self._see_to_the_end()
        turned_at = owner.signs.turned_at
        if turned_at is None:
            return True  # It has not begun to turn: lifespans may take their time, the wait for a broker is bounded.
        if turned_at != self._turned_at:
            if self._blocked:
                self._tell_aside(notices.OwnerResumed(now - self._since))
            self._turned_at, self._since, self._blocked = turned_at, now, False
        elif not self._blocked and now - self._since >= self._blocked_after_s:
            self._blocked = True
            self._report(now - self._since)
        return not self._stop_failed(now)

    def _see_to_the_end(self) -> bool:
        """The owner is over. What it takes apart is bounded, but for the user's own lifespans; a dead thread takes nothing."""
        if self._watched.is_alive():
            return True
        self._let_go()
        return False

    def _report(self, silent_s: float) -> None:
        stack = stack_of_thread(self._watched.ident)
        remedy = "exit" if self._exits else "report"
        self._tell_aside(notices.OwnerBlocked(silent_s, remedy, stack))
        if self._exits:
            self._owner.give_up(Stalled("the owner thread", silent_s, _last_line(stack)), quietly=True)

    def _stop_failed(self, now: float) -> bool:
        """Whether a stop was asked for and the owner is too far beyond its budget; then those who wait are let go."""
        if not self._owner.stop_asked.is_set():
            return False
        if self._stop_since is None:
            self._stop_since = now
        budget_s = self._owner.stop_timeout_s + STOP_GRACE_S
        if now - self._stop_since < budget_s or now - self._since < min(self._blocked_after_s, STOP_GRACE_S):
            return False
        stack = stack_of_thread(self._watched.ident)
        self._owner.give_up(Stalled("the stop", now - self._stop_since, _last_line(stack)), quietly=True)
        self._let_go()
        return True

    def _tell_aside(self, notice: Notice) -> None:
        """On a thread of its own: a listener may be what blocks the owner, and would block us too."""
        threading.Thread(
            target=self._tell, args=(notice,), name="headrace-watchdog-tells", daemon=True
        ).start()


def _last_line(stack: str) -> str:
    """Where a stack ends: its innermost frame."""
    lines = [line.strip() for line in stack.splitlines() if line.strip().startswith("File")]
    return lines[-1] if lines else "its stack cannot be had"
