"""`--debug`, which every command knows: errors show their traceback.

Invariant: it belongs to one invocation; `main` makes the object that it is noted in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(slots=True)
class Invocation:
    """One run of the command line."""

    debug: bool = False


def _note(context: typer.Context, value: bool) -> bool:
    invocation = context.find_object(Invocation)
    if value and invocation is not None:
        invocation.debug = True
    return value


Debug = Annotated[
    bool,
    typer.Option(
        "--debug", envvar="HEADRACE_DEBUG", callback=_note, is_eager=True, help="Show tracebacks of errors."
    ),
]
