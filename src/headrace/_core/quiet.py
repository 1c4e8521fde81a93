"""When an app that was asked to be quiet is, and when it is not any more: what moves its state.

Decides only that. What quiet means for partitions is `custody`'s: nothing is taken in or started, what runs ends. Invariant:
the state follows what was asked, also across a rebuilding of the connection, which comes back as running.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace._core.states import AppState, AppTrigger

if TYPE_CHECKING:
    from headrace._core.engine import Engine


def quiet_trigger(state: AppState, engine: Engine) -> AppTrigger | None:
    """What moves this state now, or None. Owner thread only."""
    match state:
        case AppState.RUNNING if engine.quiet:
            return AppTrigger.QUIET
        case AppState.QUIETING | AppState.QUIET if not engine.quiet:
            return AppTrigger.RESUME
        case AppState.QUIETING if engine.drained() and engine.settled():
            return AppTrigger.STILL
        case _:
            return None
