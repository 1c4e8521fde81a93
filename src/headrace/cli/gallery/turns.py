"""Functions that run in turns on threads of their own: after so many lines of Python, the next one goes on.

Decides which thread runs, and nothing else; refuses to know what runs. Invariant: no wait is without a bound. One that
waits for a lock which another holds misses its turns; then all run freely to their ends.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

T = TypeVar("T")

TURN_TIMEOUT_S: Final = 1.0
"""A turn is a few lines, microseconds: who has not used it by then is blocked."""


class _Turns:
    """Whose turn it is. All threads read and write under the condition."""

    def __init__(self, runners: int) -> None:
        self._changed = threading.Condition()
        self._running = list(range(runners))
        self._turn = 0
        self._free = False

    def wait(self, runner: int) -> None:
        """Until it is this one's turn."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._free or self._turn == runner, TURN_TIMEOUT_S):
                self._free = True
                self._changed.notify_all()

    def next(self, runner: int) -> None:
        """This one's turn is over."""
        with self._changed:
            later = [other for other in self._running if other > runner]
            self._turn = later[0] if later else self._running[0]
            self._changed.notify_all()

    def leave(self, runner: int) -> None:
        """This one has ended."""
        with self._changed:
            self._running.remove(runner)
        if self._running:
            self.next(runner)


def in_turns(works: Sequence[Callable[[], T]], lines: Sequence[int]) -> list[T | BaseException]:
    """Run all, each for its number of lines at a time, and give what each returned or raised."""
    turns = _Turns(len(works))
    found: list[Any] = [None] * len(works)

    def run(runner: int) -> None:
        spent = 0

        def at_line(_frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal spent
            spent += event == "line"
            if spent >= lines[runner]:
                spent = 0
                turns.next(runner)
                turns.wait(runner)
            return at_line

        turns.wait(runner)
        sys.settrace(at_line)  # of this thread only
        try:
            found[runner] = works[runner]()
        except Exception as error:  # noqa: BLE001 - what it raised is what it gave
            found[runner] = error
        finally:
            sys.settrace(None)
            turns.leave(runner)

    threads = [
        threading.Thread(target=run, args=(n,), name=f"failures-turns-{n}", daemon=True)
        for n in range(len(works))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
