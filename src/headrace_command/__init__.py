"""The entry point of the `headrace` command: Ctrl-C is heard from its first moment.

A package of its own, since importing anything of `headrace` first imports all of it, which takes a third of a second. An
interrupt then would show a traceback of whatever was being imported. Invariant: next to nothing is imported before interrupts
are seen to; what Python does before this file cannot be helped.
"""

from __future__ import annotations

import os

INTERRUPTED = 130
"""`headrace.cli.exits.Exit.INTERRUPTED`, which is not imported yet."""

try:
    import signal
except KeyboardInterrupt:
    os._exit(INTERRUPTED)

TYPE_CHECKING = False  # typing's own would take as long to import as all that stands here
if TYPE_CHECKING:
    from types import FrameType

__all__ = ["main"]


def main() -> None:
    """Import the command line and run it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        # Else it is ignored, as in a script's background job, and stays so.
        signal.signal(signal.SIGINT, _leave)
    from headrace.cli import main as command_line  # noqa: PLC0415 - the reason for this module

    signal.signal(signal.SIGINT, before)
    try:
        command_line()
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # between the commands' own handling and the end


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End at once: nothing has begun. An exception would be caught, or shown, by whatever is being imported."""
    os._exit(INTERRUPTED)
