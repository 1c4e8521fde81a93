"""Ctrl-C at any moment, also while the client waits for a broker in C.

Such a wait hears no signal until it returns, and one that reaches Python within a callback of the client's may be lost
there. So commands that ask brokers run on a thread, and the main thread listens. Invariant: an interrupt is raised at
once, in the main thread only; the command is abandoned where it stands, so it must be safe to kill.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

SLICE_S = 0.2
"""A wait without a timeout would not let Python run its signal handlers on every platform."""


def interruptible(command: Callable[P, T]) -> Callable[P, T]:
    """The same command, run on a daemon thread; raises what it raises."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        results: list[T] = []
        errors: list[BaseException] = []
        ended = threading.Event()

        def body() -> None:
            try:
                results.append(command(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                errors.append(error)
            finally:
                ended.set()

        threading.Thread(target=body, name=f"headrace-{command.__name__}", daemon=True).start()
        while not ended.wait(SLICE_S):
            continue
        if errors:
            raise errors[0]
        return results[0]

    return run
