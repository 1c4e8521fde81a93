"""`headrace failures`: real failures happening to naive code, and not to Headrace, on an embedded broker.

Decides how an act is told and what the exit code is; what is shown comes from the acts, as values. Invariant: exit code
0 only if every act saw its naive form fail and Headrace hold.
"""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit
from headrace.cli.quiet import quiet
from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from headrace.cli.gallery.acts import Act
    from headrace.cli.gallery.verdict import Verdict

WIDTH_MAX: Final = 110
PATIENCE_S: Final = 15.0
"""Each naive form fails within three on two busy cores."""

NAIVE: Final = {True: ("✗ ", "yellow"), False: ("DID NOT FAIL: ", "bold red"), None: ("", "dim")}
HEADRACE: Final = {True: ("✓ ", "green"), False: ("✗ ", "bold red"), None: ("", "dim")}
"""How a fact is drawn. Shapes tell what colours tell, for those who see none."""


class ActName(Enum):
    """What can be played; the table is `gallery.acts`."""

    STORM = "storm"
    KARAFKA = "karafka"
    SPARK = "spark"
    SARAMA = "sarama"
    FASTSTREAM = "faststream"


def failures(
    acts: Annotated[
        list[ActName] | None, typer.Argument(help="Which to play; all if none is named.", show_default=False)
    ] = None,
    patience_s: Annotated[
        float,
        typer.Option(
            "--patience",
            min=1,
            max=600,
            metavar="SECONDS",
            help="Longest wait for what must happen: for a naive form to fail, for Headrace to be done.",
        ),
    ] = PATIENCE_S,
    debug: Debug = False,
) -> Exit:
    """Watch real failures happen to naive code, and not to Headrace.

    Each act plays the naive form of a failure on an embedded broker until it fails, then the same load on Headrace, and
    shows both side by side. Needs neither Kafka nor Docker. Exit code 0 only if every naive form failed and Headrace
    held.
    """
    from headrace.cli.gallery.acts import ACTS  # noqa: PLC0415 - loads the client library

    console = Console(highlight=False)
    console.width = min(console.width, WIDTH_MAX)
    outcomes: dict[str, tuple[bool, float]] = {}
    with quiet(debug=debug, who="failures"):
        for name in [name.value for name in acts or ActName]:
            began_at = time.monotonic()
            verdict = _play(console, name, ACTS[name], patience_s)
            outcomes[name] = verdict.proved, time.monotonic() - began_at
    if len(outcomes) > 1:
        _print_summary(console, outcomes)
    return Exit.OK if all(proved for proved, _ in outcomes.values()) else Exit.FAILED


def _play(console: Console, name: str, act: Act, patience_s: float) -> Verdict:
    from headrace.cli.gallery.stage import Stage  # noqa: PLC0415 - loads the client library
    from headrace.cli.gallery.verdict import Cell, Row, Verdict  # noqa: PLC0415 - see above

    began_at = time.monotonic()

    def tell(text: str) -> None:
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_row(Text(f"{time.monotonic() - began_at:5.1f} s", "dim"), Text(text))
        console.print(line)

    console.print(Text(name, "bold").append(f"   after {act.after}", "dim"))
    console.print(act.what, markup=False)
    console.print()
    try:
        verdict = act.play(Stage(tell, patience_s))
    except HeadraceError as error:
        verdict = Verdict(
            (Row("ended by", headrace=Cell(f"{type(error).__name__}: {error}", as_told=False)),)
        )
    _print_verdict(console, verdict)
    return verdict


def _print_verdict(console: Console, verdict: Verdict) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, expand=True)
    table.add_column("", no_wrap=True)
    table.add_column("naive", ratio=1)
    table.add_column("Headrace", ratio=1)
    for row in verdict.rows:
        cells = (row.naive, NAIVE), (row.headrace, HEADRACE)
        table.add_row(
            row.what, *(Text(drawn[c.as_told][0] + c.text, drawn[c.as_told][1]) for c, drawn in cells)
        )
    console.print(table)
    said = (
        Text("The naive form failed", "yellow")
        if verdict.naive_failed
        else Text("THE NAIVE FORM DID NOT FAIL", "bold red")
    )
    said.append(", ", "default")
    said.append_text(
        Text("Headrace held.", "bold green") if verdict.held else Text("HEADRACE DID NOT HOLD.", "bold red")
    )
    console.print(said)
    console.print()


def _print_summary(console: Console, outcomes: dict[str, tuple[bool, float]]) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, (proved, seconds) in outcomes.items():
        said = Text("✓ failed as told, and held in Headrace", "green")
        table.add_row(
            name, said if proved else Text("✗ not proved", "bold red"), Text(f"{seconds:3.0f} s", "dim")
        )
    console.print(table)
