"""`headrace metrics`: which metrics there are, and which of them a filter keeps.

Decides nothing about filters: it asks the one that a reporter would have. Needs no broker.
"""

from __future__ import annotations

from typing import Annotated

import typer

from headrace._core.health import REASONS
from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit
from headrace.cli.texts import columns
from headrace.observe import Expressions
from headrace.observe.catalogue import CATALOGUE
from headrace.observe.metrics import Metric, key_of

EXAMPLES = {
    "partition": "0",
    "subscription": "billing.charge",
    "reporter": "console",
    "le": "0.1",
    "error": "ValueError",
    "activity": "poll",
    "cause": "revoked",
    "connection": "0",
    "why": "at_max",
}


def metrics(
    expression: Annotated[
        str | None,
        typer.Option(
            "--filter", metavar="RE", help="Keep what matches this, as a whole: name{label=value,...}."
        ),
    ] = None,
    exclude: Annotated[
        str | None, typer.Option("--exclude", metavar="RE", help="Drop what matches this, as a whole.")
    ] = None,
    topic: Annotated[
        str, typer.Option("--topic", "-t", help="The topic in the examples of labels.")
    ] = "orders",
    debug: Debug = False,  # noqa: ARG001 - noted by its callback
) -> Exit:
    """Print the names of all metrics, with example labels, and which a filter keeps and drops."""
    chosen = Expressions(expression, exclude)
    keys = [
        (metric, key_of(metric, labels))
        for _, found in CATALOGUE.sections()
        for metric in found
        for labels in _examples(metric, topic)
    ]
    rows = [("kept" if chosen.keeps(key) else "dropped", metric.kind, key) for metric, key in keys]
    typer.echo(columns(("filter", "kind", "metric"), rows))
    kept = sum(row[0] == "kept" for row in rows)
    typer.echo(f"kept {kept} of {len(rows)}")
    if exclude is not None and not any(chosen.drops(key) for _, key in keys):
        typer.echo(f"nothing here matches --exclude {exclude}", err=True)
    return Exit.OK


def _examples(metric: Metric, topic: str) -> list[tuple[str, ...]]:
    if metric.labels == ("reason",):
        return [(reason.name,) for reason in REASONS]
    return [tuple({**EXAMPLES, "topic": topic}[label] for label in metric.labels)]
