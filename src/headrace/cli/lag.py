"""`headrace lag GROUP`: how far a group is behind, partition by partition; once, or again and again.

Decides what is shown, and how a rate follows from two looks. Refuses to show a rate after one look, and to show numbers
of an earlier look as if they were new.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

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
from headrace.errors import BrokerUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace._client.lag import PartitionLag

EVERY_S = 2.0
CLEAR = "\x1b[H\x1b[J"
"""To a terminal: go home, and clear what comes after."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was found at one moment, on the monotonic clock."""

    at: float
    found: tuple[PartitionLag, ...]

    @property
    def total(self) -> int:
        """The whole lag."""
        return sum(partition.lag for partition in self.found)

    def finished_per_s(self, before: Look) -> dict[tuple[str, int], float]:
        """Records that were committed per second since then. Where nothing was committed before, there is no rate."""
        known = {(p.topic, p.partition): p.committed for p in before.found}
        rates: dict[tuple[str, int], float] = {}
        for p in self.found:
            then = known.get((p.topic, p.partition))
            if then is not None and p.committed is not None and self.at > before.at:
                rates[p.topic, p.partition] = (p.committed - then) / (self.at - before.at)
        return rates


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
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again and again, until Ctrl-C; with rates.")
    ] = False,
    every_s: Annotated[
        float, typer.Option("--every", min=0.2, max=3600, metavar="SECONDS", help="How often, with --watch.")
    ] = EVERY_S,
    bootstrap_servers: Bootstrap = DEFAULT_BOOTSTRAP,
    librdkafka: Librdkafka = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
    debug: Debug = False,  # noqa: ARG001 - noted by its callback
) -> Exit:
    """Show how far a group is behind, wherever it has committed anything."""
    from headrace._client.admin import Observer  # noqa: PLC0415 - loads the client library

    if watch and above is not None:
        raise Unusable("--fail-above is for one look; leave out --watch")
    observer = Observer(connection(bootstrap_servers, librdkafka))

    def look() -> Look:
        found = observer.lag(group, topics or None, timeout_s)
        return Look(time.monotonic(), tuple(found))

    if watch:
        _watch(group, look, every_s, as_json=as_json)
    now = look()
    if not now.found:
        raise Unusable(f"group {group} has committed nothing; name topics with --topic")
    if as_json:
        for line in _lines(now):
            typer.echo(line)
    else:
        typer.echo(table(now))
    return Exit.FAILED if above is not None and now.total > above else Exit.OK


def table(now: Look, before: Look | None = None) -> str:
    """The partitions as a table, the whole lag last; with what was finished per second where there was a look before."""
    rates = {} if before is None else now.finished_per_s(before)
    header: tuple[str, ...] = ("topic", "partition", "committed", "end", "lag")
    rows: list[Sequence[object]] = []
    for p in now.found:
        row = (
            p.topic,
            p.partition,
            "-" if p.committed is None else f"{p.committed:,}",
            f"{p.end:,}",
            f"{p.lag:,}",
        )
        rate = rates.get((p.topic, p.partition))
        rows.append(row if before is None else (*row, "-" if rate is None else f"{rate:,.0f}"))
    total = f"total {now.total:,}"
    if before is not None:
        header = (*header, "finished/s")
        total += f", {sum(rates.values()):,.0f} finished/s"
        grown = (now.total - before.total) / (now.at - before.at)
        total += f", lag {grown:+,.0f}/s"
        if grown < 0:
            total += f": gone in {now.total / -grown:,.0f} s if it goes on so"
    return f"{columns(header, rows)}\n{total}"


def _lines(now: Look) -> list[str]:
    return [
        json.dumps(
            {
                "topic": p.topic,
                "partition": p.partition,
                "committed": p.committed,
                "start": p.start,
                "end": p.end,
                "lag": p.lag,
            }
        )
        for p in now.found
    ]


def _watch(group: str, look: Callable[[], Look], every_s: float, *, as_json: bool) -> None:
    """Until it is interrupted. On a terminal each table replaces the last one; elsewhere they follow each other."""
    # Not rich's live display: a command that asks a broker is abandoned by Ctrl-C, and would leave the cursor hidden.
    clear = CLEAR if sys.stdout.isatty() and not as_json else ""
    before: Look | None = None
    while True:
        began_at = time.monotonic()
        try:
            now = look()
        except BrokerUnreachable as error:
            typer.echo(f"{time.strftime('%H:%M:%S')} {error}", err=True)
        else:
            for text in _lines(now) if as_json else [clear + _titled(group, now, before)]:
                typer.echo(text)
            before = now
        time.sleep(max(0.0, began_at + every_s - time.monotonic()))


def _titled(group: str, now: Look, before: Look | None) -> str:
    title = f"{group}, {time.strftime('%H:%M:%S')}"
    if not now.found:
        return f"{title}: nothing is committed"
    return f"{title}\n{table(now, before)}"
