"""What is done to a process that belongs to one app: `App.run` and `headrace run`, never `App.start`.

The first signal to end drains, the second stops hard.

A command that imports an app runs it itself: an app that its own module starts meanwhile is refused. And the garbage
collector is tuned. Records and messages are freed by reference counts; the collector only walks
them, again and again, while they wait. At its default thresholds that is a sixth of the runtime's cost per record.
"""

from __future__ import annotations

import gc
import signal
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from headrace.errors import AppStateError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

YOUNG_MAX = 50_000
"""New objects before a young collection: a few polls' worth. Cycles that users make are still found, a little later."""

_LOADING: ContextVar[bool] = ContextVar("headrace_loading", default=False)


@contextmanager
def loaded_by_a_command() -> Generator[None]:
    """Within the block the module of an app is imported; no app may start there."""
    token = _LOADING.set(True)
    try:
        yield
    finally:
        _LOADING.reset(token)


def refuse_while_loading() -> None:
    """Raise `AppStateError` in the block of `loaded_by_a_command`."""
    if _LOADING.get():
        raise AppStateError(
            "run() or start()",
            "being imported by a headrace command",
            'put the call behind `if __name__ == "__main__":`, since `headrace run` runs the app itself',
        )


@contextmanager
def ended_by_signals(stop: Callable[[], None]) -> Generator[None]:
    """Within the block SIGINT and SIGTERM call `stop`; afterwards they do what they did. Main thread only."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def own_process() -> None:
    """Tune the collector for this process. Everything imported so far is taken out of its sight."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, 20, 50)
