"""How a command ends: one table of exit codes, and which error means which.

Refuses to know the commands. Invariant: every error has a code and one line; only what is a bug shows a traceback.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from headrace.errors import (
    AppStateError,
    BrokerUnreachable,
    FatalError,
    Fenced,
    ForcedStop,
    HeadraceError,
    NotAuthorized,
    ReadStalled,
    RecordsLost,
    Stalled,
    TopicMissing,
    TopicRemade,
)


class Exit(IntEnum):
    """Exit codes; `EXIT_MEANINGS` explains them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    FORCED = 3
    FENCED = 4
    STALLED = 5
    INTERRUPTED = 130


EXIT_MEANINGS: dict[Exit, str] = {
    Exit.OK: "done; an app stopped cleanly",
    Exit.FAILED: "failed on the way: a fatal error, or a check that did not pass",
    Exit.USAGE: "could not begin: usage, settings, import, no broker, no topic",
    Exit.FORCED: "an app's stop was forced; handlers were abandoned",
    Exit.FENCED: "the group refuses this member for good: its instance_id is taken, or the group is full",
    Exit.STALLED: "an app was stuck, and on_stall says to exit; or its stop was",
    Exit.INTERRUPTED: "interrupted (a running app drains first, and ends with 0)",
}


def epilog() -> str:
    """The table as the foot of a help page."""
    rows = (f"{code.value:>3}  {meaning}" for code, meaning in EXIT_MEANINGS.items())
    return "\n".join(["Exit codes:", *rows])


class Unusable(Exception):
    """What was asked cannot be done as it was asked; the text says what to change."""


class Failed(Exception):
    """What was begun could not be brought to its end; the text says what to change."""


class RunFailed(Exception):
    """`run`: the app had begun when `error` ended it. Only there does an unreachable broker mean `Exit.FAILED`."""

    def __init__(self, error: FatalError) -> None:
        self.error = error
        super().__init__(str(error))


def exit_of(error: BaseException) -> tuple[Exit, str] | None:
    """Exit code and line of an error that is somebody's mistake or the world's; None if it is a bug."""
    match error:
        case RunFailed(error=ForcedStop() as forced):
            return Exit.FORCED, str(forced)
        case RunFailed(error=Fenced() as fenced):
            return Exit.FENCED, str(fenced)
        case RunFailed(error=Stalled() as stalled):
            return Exit.STALLED, str(stalled)
        case RunFailed(error=fatal):
            return Exit.FAILED, str(fatal)
        case BrokerUnreachable():
            return Exit.USAGE, _without_setting(str(error))
        case NotAuthorized() | TopicMissing():
            return Exit.USAGE, str(error)
        case FatalError() | AppStateError() | ReadStalled() | RecordsLost() | TopicRemade() | Failed():
            return Exit.FAILED, str(error)
        case HeadraceError() | Unusable():
            return Exit.USAGE, str(error)
        case _:
            # The parser's own complaints. Their classes moved between Typer's versions; the method did not.
            format_message: Callable[[], str] | None = getattr(error, "format_message", None)
            return None if format_message is None else (Exit.USAGE, format_message())


def _without_setting(text: str) -> str:
    """The advice without the setting of an app, which a command has not."""
    return text.partition(", or set Timeouts(")[0]
