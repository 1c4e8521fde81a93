"""`headrace demo`: show the runtime at work on an embedded broker, and prove from outside that its promises held."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit
from headrace.cli.quiet import quiet

if TYPE_CHECKING:
    from headrace.cli.demonstration.verdict import Verdict


class GroupProtocol(Enum):
    """Kafka's two."""

    CLASSIC = "classic"
    CONSUMER = "consumer"


class SabotageKind(Enum):
    """Promises that can be broken on purpose."""

    LOSS = "loss"
    ORDER = "order"


def demo(
    seconds: Annotated[float, typer.Option(min=2, max=600, help="How long records are produced.")] = 20.0,
    records: Annotated[
        int | None,
        typer.Option(min=10, max=200_000, help="How many in that time; 400 a second if not given."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Lines instead of the live view; so without a terminal, too.")
    ] = False,
    group_protocol: Annotated[
        GroupProtocol,
        typer.Option(
            help="Of the members: consumer is KIP-848; classic rebalances are slow on an embedded broker, and may repeat records."
        ),
    ] = GroupProtocol.CONSUMER,
    sabotage: Annotated[
        SabotageKind | None,
        typer.Option(
            help="Configure the members wrongly, to see the verdict notice it: skip failed records, or give up order."
        ),
    ] = None,
    debug: Debug = False,
) -> Exit:
    """Watch an App at work, through failures and a rebalance.

    Starts an embedded broker in a process of its own, produces records, handles them unevenly (some are slow, some fail
    once, a few always), lets a second member join and leave, and then counts from records of its own what was lost, out
    of order or repeated. Needs neither Kafka nor Docker. Exit code 0 only if every promise held.
    """
    from headrace.cli.demonstration.plain import PlainView  # noqa: PLC0415 - loads the client library
    from headrace.cli.demonstration.plan import RATE_DEFAULT, Plan  # noqa: PLC0415 - see above
    from headrace.cli.demonstration.stage import play  # noqa: PLC0415 - see above
    from headrace.cli.demonstration.verdict import judge  # noqa: PLC0415 - see above
    from headrace.cli.demonstration.view import LiveView  # noqa: PLC0415 - see above

    console = Console(highlight=False)
    plan = Plan(
        bootstrap_servers="",
        seconds=seconds,
        records=records or int(seconds * RATE_DEFAULT),
        sabotage=None if sabotage is None else sabotage.value,
        protocol=group_protocol.value,
        debug=debug,
    )
    with quiet(debug=debug, who="first member"):
        if plain or not console.is_terminal:
            evidence, problems = play(plan, PlainView(console))
        else:
            with LiveView(console) as view:
                evidence, problems = play(plan, view)
    verdict = judge(evidence)
    _print_verdict(console, verdict, problems)
    return Exit.OK if verdict.held else Exit.FAILED


def _print_verdict(console: Console, verdict: Verdict, problems: list[str]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("produced", f"{verdict.produced:,}", "acknowledged by the broker")
    table.add_row("handled", f"{verdict.handled:,}", "the handler returned")
    table.add_row("dead-lettered", f"{verdict.dead_lettered:,}", "read back from their topic")
    for name, count, meaning in (
        ("lost", verdict.lost, "neither handled nor dead-lettered"),
        ("out of order", verdict.out_of_order, "before an earlier record of their key, or beside it"),
        ("uncommitted", verdict.uncommitted, "the group would read them again"),
        ("damaged", verdict.damaged, "dead letters that differ from their record"),
    ):
        table.add_row(name, Text(f"{count:,}", style="bold red" if count else "bold green"), meaning)
    table.add_row("duplicates", f"{verdict.duplicates:,}", "handled again: allowed, and rare")
    console.print()
    console.print("What happened, from the demo's own ledger:", style="bold")
    console.print(table)
    for problem in problems:
        console.print(f"note: {problem}", style="yellow", markup=False)
    if verdict.held:
        console.print("Every promise held.", style="bold green")
    else:
        console.print(
            "A PROMISE WAS BROKEN." if verdict.produced else "NOTHING WAS PRODUCED.", style="bold red"
        )
