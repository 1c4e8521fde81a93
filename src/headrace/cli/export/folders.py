"""An export into a folder, from its beginning, or from where it was interrupted, to its end.

Decides what is read anew and what is there; refuses to know files (`folder`) and notes (`manifest`). Invariant: offsets
are fixed when an export begins, and stay; what a finished folder holds does not depend on interruptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import typer

from headrace.cli.exits import Exit
from headrace.cli.export import manifest as manifests
from headrace.cli.export.folder import By, FolderWriter, columns_read, columns_written
from headrace.cli.export.meter import Meter, summary
from headrace.cli.interrupts import interruptible
from headrace.errors import RecordsLost, TopicRemade
from headrace.ranges import find_ranges
from headrace.ranges import read as begin_read
from headrace.ranges.arrow import arrow, checked_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from headrace.cli.export.decoding import Decoder
    from headrace.cli.export.manifest import Manifest
    from headrace.ranges import Loss

PART_RECORDS: Final = 1_000_000
"""What a part has at most, and what an interruption costs of each partition."""


def tell_losses(losses: Iterable[Loss]) -> None:
    """What is gone, on stderr."""
    for loss in losses:
        place = f"{loss.topic}[{loss.partition}]"
        typer.echo(f"lost: {place} offsets {loss.start} to {loss.end} ({loss.offsets})", err=True)


@final
@dataclass(frozen=True, slots=True)
class FolderExport:
    """What was asked for. `asked` are the words of the command that must not change between two tries."""

    folder: Path
    by: By
    decoder: Decoder | None
    columns: Sequence[Any] | None
    resume: bool
    part_records: int
    asked: Mapping[str, Any]

    def run(
        self,
        topics: Sequence[str],
        settings: Mapping[str, Any],
        bounds: Mapping[str, Any],
        how: Mapping[str, Any],
        meter: Meter,
        *,
        quiet: bool,
    ) -> Exit:
        """All of it, or what is left. settings, bounds, how: arguments of `headrace.read`."""
        arrow("Parquet")
        columns = columns_written(self.by, None if self.columns is None else checked_columns(self.columns))
        with manifests.held(self.folder):
            manifest = self._manifest(topics, settings, bounds, how["on_data_loss"])
            before, left_out = len(manifest.done), sum(manifest.left_out.values())
            if manifest.left:
                read: Callable[..., Any] = interruptible(begin_read)
                reading = read(
                    manifest.left, as_="batches", columns=columns_read(self.by, columns), **settings, **how
                )
                try:
                    with reading, FolderWriter(manifest, self.by, columns, self.decoder) as writer:
                        writer.write(reading)
                except BaseException:
                    meter.clear()
                    # Now: what is in whole parts is not read again.
                    self._tell(reading)
                    done, parts = len(manifest.done), len(manifest.parts)
                    typer.echo(
                        f"{done} of {parts} parts are whole; the same command with --resume goes on", err=True
                    )
                    raise
                meter.clear()
                self._tell(reading)
                if not quiet:
                    typer.echo(summary(reading.progress()), err=True)
            if left_out:
                typer.echo(f"left out: {left_out} in parts that were there", err=True)
            if before and not quiet:
                typer.echo(f"{before} of {len(manifest.parts)} parts were there", err=True)
        return Exit.OK

    def _tell(self, reading: Any) -> None:
        tell_losses(reading.losses)
        if self.decoder is not None:
            self.decoder.tell()

    def _manifest(
        self,
        topics: Sequence[str],
        settings: Mapping[str, Any],
        bounds: Mapping[str, Any],
        on_data_loss: str,
    ) -> Manifest:
        find: Callable[..., Any] = interruptible(find_ranges)
        there = manifests.resume(self.folder, self.asked) if self.resume else None
        if there is None:
            if not self.resume:
                manifests.require_empty(self.folder)
            found = find(topics, **bounds, **settings)
            if found.losses and on_data_loss == "error":
                first = found.losses[0]
                raise RecordsLost(first.topic, first.partition, first.start, first.end)
            tell_losses(found.losses)
            return manifests.begin(self.folder, self.asked, found, self.part_records)
        if there.left and there.topic_ids:
            now = find(topics, start="latest", end="latest", **settings).topic_ids
            remade = [topic for topic, one in there.topic_ids.items() if now.get(topic, one) != one]
            if remade:
                raise TopicRemade(remade)
        return there
