"""`headrace lag GROUP`: how far a group is behind, partition by partition."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from headrace.cli.connection import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_TIMEOUT_S,
    Bootstrap,
    Librdkafka,
    TimeoutS,
    connection,
)
from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit, Unusable
from headrace.cli.texts import columns


def lag(
    group: Annotated[str, typer.Argument(metavar="GROUP", show_default=False)],
    topics: Annotated[
        list[str] | None,
        typer.Option("--topic", "-t", help="Only this topic, also if nothing is committed; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per partition.")] = False,
    above: Annotated[
        int | None, typer.Option("--fail-above", min=0, help="Exit code 1 if the whole lag is above this.")
    ] = None,
    bootstrap_servers: Bootstrap = DEFAULT_BOOTSTRAP,
    librdkafka: Librdkafka = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
    debug: Debug = False,  # noqa: ARG001 - noted by its callback
) -> Exit:
    """Show how far a group is behind, wherever it has committed anything."""
    from headrace._client.admin import Observer  # noqa: PLC0415 - loads the client library

    observer = Observer(connection(bootstrap_servers, librdkafka))
    found = observer.lag(group, topics or None, timeout_s)
    if not found:
        raise Unusable(f"group {group} has committed nothing; name topics with --topic")
    total = sum(partition.lag for partition in found)
    if as_json:
        for p in found:
            row = {"topic": p.topic, "partition": p.partition, "committed": p.committed, "start": p.start}
            typer.echo(json.dumps({**row, "end": p.end, "lag": p.lag}))
    else:
        rows = [
            (
                p.topic,
                p.partition,
                "-" if p.committed is None else f"{p.committed:,}",
                f"{p.end:,}",
                f"{p.lag:,}",
            )
            for p in found
        ]
        typer.echo(columns(("topic", "partition", "committed", "end", "lag"), rows))
        typer.echo(f"total {total:,}")
    return Exit.FAILED if above is not None and total > above else Exit.OK
