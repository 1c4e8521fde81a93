"""The command line: `headrace run`, `demo`, `failures`, `rehearse`, `simulate`, `produce`, `tail`, `read`, `copy`, `lag`, `metrics`, `dashboard`, `plan`, `dead-letters`, `doctor`, `version`.

Decides nothing about Kafka: every command calls what the library offers. Invariant: an error is one line on stderr and
an exit code of `exits`, whatever raised it; a traceback appears with `--debug`, or for a bug of ours.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import typer

from headrace.cli import dead_letters
from headrace.cli.copy import copy
from headrace.cli.dashboard import dashboard
from headrace.cli.debugging import Debug, Invocation
from headrace.cli.demo import demo
from headrace.cli.doctor import doctor
from headrace.cli.exits import Exit, epilog, exit_of
from headrace.cli.failures import failures
from headrace.cli.interrupts import interruptible
from headrace.cli.lag import lag
from headrace.cli.metrics import metrics
from headrace.cli.plan import plan
from headrace.cli.produce import produce
from headrace.cli.read import read
from headrace.cli.rehearse import rehearse
from headrace.cli.run import run
from headrace.cli.simulate import simulate
from headrace.cli.tail import tail
from headrace.cli.top import top
from headrace.cli.version import version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["execute", "main"]


def main() -> None:
    """The entry point of the `headrace` command."""
    code = execute(sys.argv[1:])
    if code in {Exit.FORCED, Exit.STALLED, Exit.INTERRUPTED}:
        # What was abandoned, handlers or a wait for a broker, must not keep the interpreter from ending.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def execute(arguments: Sequence[str]) -> Exit:
    """Run one command line; prints, and returns how it ended. Raises nothing."""
    invocation = Invocation()
    try:
        command = typer.main.get_command(command_line())
        returned: Any = command.main(
            list(arguments), prog_name="headrace", standalone_mode=False, obj=invocation
        )
        sys.stdout.flush()
        return Exit(returned or 0)
    except BrokenPipeError:
        # The reader has seen enough, as in `headrace tail ... | head`. Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever it was, the user gets a line and a code
        return _complain(error, invocation.debug)


def command_line() -> typer.Typer:
    """All commands, as Typer knows them."""
    line = typer.Typer(
        name="headrace",
        help="A Kafka consumer runtime: keyed parallelism inside a partition, safe commits.",
        epilog=epilog(),
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    line.callback(invoke_without_command=True)(_top)
    commands: list[Callable[..., Exit]] = [
        run,
        demo,
        failures,
        rehearse,
        read,
        copy,
        top,
    ]  # these see to interrupts themselves
    commands += [interruptible(produce), interruptible(tail), interruptible(lag), interruptible(plan)]
    commands += [interruptible(doctor), interruptible(version), interruptible(metrics), simulate]
    commands.append(interruptible(dashboard))
    for command in commands:
        line.command(epilog=epilog())(command)
    line.add_typer(dead_letters.command(), name="dead-letters")
    return line


def _top(context: typer.Context, debug: Debug = False) -> None:  # noqa: ARG001 - noted by its callback
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _complain(error: Exception, debug: bool) -> Exit:
    known = exit_of(error)
    if debug or known is None:
        traceback.print_exception(error)
    if known is None:
        problem = f"{type(error).__name__}: {error}; this is a bug in Headrace, please report it"
        known = Exit.FAILED, problem
    code, line = known
    typer.echo(f"error: {' '.join(line.split())}", err=True)
    return code
