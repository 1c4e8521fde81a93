"""`headrace read TOPIC...`: a range of topics into a file, whole or not at all. Joins no group and commits nothing."""

from __future__ import annotations

import os
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.connection import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_TIMEOUT_S,
    Bootstrap,
    Librdkafka,
    TimeoutS,
    parse_settings,
)
from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit, Unusable
from headrace.cli.export.decoding import TEXT, Codec, Decode, Decoder, Json, OnUndecodable
from headrace.cli.export.files import whole
from headrace.cli.export.folder import By
from headrace.cli.export.folders import PART_RECORDS, FolderExport, tell_losses
from headrace.cli.export.meter import Meter, summary
from headrace.cli.export.moments import moment
from headrace.cli.export.writers import Format, format_of, write_csv, write_jsonl, write_parquet
from headrace.cli.interrupts import interruptible
from headrace.ranges import Committed, Last
from headrace.ranges import read as begin

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.ranges.bounds import Bound


REGISTRY = "HEADRACE_SCHEMA_REGISTRY"
"""In the environment, since others may read a command line: the registry of a call that names neither one nor a file."""


class OnDataLoss(Enum):
    """What is done about offsets that are gone."""

    ERROR = "error"
    REPORT = "report"


Topics = Annotated[list[str], typer.Argument(metavar="TOPIC...", show_default=False)]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="MOMENT", help="Begin so long ago (1h30m), at a moment, or earliest."),
]
Until = Annotated[
    str, typer.Option("--until", metavar="MOMENT", help="End so long ago, at a moment, or now.")
]
LastN = Annotated[
    int | None,
    typer.Option("--last", min=1, help="Begin so many offsets before the end of each partition."),
]
Group = Annotated[
    str | None, typer.Option("--committed", metavar="GROUP", help="Begin where this group would go on.")
]
Target = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="FILE",
        help="A name in .parquet, .csv or .jsonl; - for lines of JSON; a folder with --by.",
    ),
]
FolderBy = Annotated[
    By | None,
    typer.Option("--by", help="Parquet in folders: one for each partition, or for each hour in UTC."),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="With --by: go on with an export that was interrupted, if there is one."),
]
PartRecords = Annotated[
    int,
    typer.Option(
        "--part-records", min=1, max=1_000_000_000, help="With --by: offsets that files have at most."
    ),
]
Decoding = Annotated[
    Decode | None,
    typer.Option("--decode", help="Keys and values are text; or keys text, values JSON or Avro."),
]
Schema = Annotated[
    Path | None,
    typer.Option("--schema", metavar="FILE", help="With --decode avro: the schema of the values, as JSON."),
]
RegistryUrl = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="URL",
        help=f"With --decode avro: values begin with the number of a schema of this registry; else {REGISTRY}.",
    ),
]
AvroKeys = Annotated[bool, typer.Option("--avro-keys", help="With --registry: keys are as values are.")]
Undecodables = Annotated[
    OnUndecodable,
    typer.Option(
        "--on-undecodable",
        help="A record that is not what --decode says ends the read, or is left out and told.",
    ),
]
Columns = Annotated[
    str | None, typer.Option("--columns", metavar="NAME,...", help="For Parquet: only these columns.")
]
Uncommitted = Annotated[
    bool, typer.Option("--uncommitted", help="Records of open and aborted transactions, too.")
]
DataLoss = Annotated[
    OnDataLoss, typer.Option("--on-data-loss", help="Offsets that are gone end the read, or are reported.")
]
Parallelism = Annotated[int | None, typer.Option("--parallelism", min=1, max=256, help="Threads.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors and losses.")]


def read(
    topics: Topics,
    since: Since = None,
    until: Until = "now",
    last: LastN = None,
    group: Group = None,
    to: Target = "-",
    by: FolderBy = None,
    resume: Resume = False,
    part_records: PartRecords = PART_RECORDS,
    decode: Decoding = None,
    schema: Schema = None,
    registry: RegistryUrl = None,
    avro_keys: AvroKeys = False,
    on_undecodable: Undecodables = OnUndecodable.ERROR,
    columns: Columns = None,
    uncommitted: Uncommitted = False,
    on_data_loss: DataLoss = OnDataLoss.ERROR,
    parallelism: Parallelism = None,
    quiet: Quiet = False,
    bootstrap_servers: Bootstrap = DEFAULT_BOOTSTRAP,
    librdkafka: Librdkafka = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
    debug: Debug = False,  # noqa: ARG001 - noted by its callback
) -> Exit:
    """Read topics from a start to an end into a file, or as lines of JSON to stdout.

    The file appears when it is whole; Ctrl-C leaves none. Parquet needs the extra headrace[arrow].
    """
    target = None if to == "-" else Path(to)
    kind = Format.PARQUET if by is not None else format_of(target)
    if columns is not None and kind is not Format.PARQUET:
        raise Unusable("--columns is for Parquet; the others have all fields")
    if by is None and resume:
        raise Unusable("--resume is for exports into a folder: say --by partition or --by hour as well")
    decoder, taken_for = _decoder(decode, schema, registry, avro_keys, on_undecodable, timeout_s)
    names: list[Any] | None = None if columns is None else [name.strip() for name in columns.split(",")]
    # A line that is drawn over itself must not meet records on the same terminal.
    meter = Meter(live=not quiet and sys.stderr.isatty() and not (target is None and sys.stdout.isatty()))
    settings: dict[str, Any] = {
        "bootstrap_servers": bootstrap_servers,
        "isolation": "read_uncommitted" if uncommitted else "read_committed",
        "timeout_s": timeout_s,
        "librdkafka": parse_settings(librdkafka or []),
    }
    bounds: dict[str, Any] = {"start": _start(since, last, group), "end": moment(until, "--until")}
    how: dict[str, Any] = {
        "on_data_loss": on_data_loss.value,
        "parallelism": parallelism,
        "progress": meter.show,
    }
    if by is not None:
        if target is None:
            raise Unusable("--by needs a folder: --to FOLDER")
        moments = {"--since": since, "--until": until, "--last": last, "--committed": group}
        asked = {"topics": sorted(topics), **moments, "--by": by.value}
        asked |= {**taken_for, "--columns": names, "--uncommitted": uncommitted}
        export = FolderExport(target, by, decoder, names, resume, part_records, asked)
        return export.run(topics, settings, bounds, how, meter, quiet=quiet)
    resolve: Callable[..., Any] = interruptible(begin)  # which shape comes is known when it runs
    shape = "batches" if kind is Format.PARQUET else "records"
    reading = resolve(topics, as_=shape, columns=names, **bounds, **settings, **how)
    _export(reading, target, kind, decoder, meter)
    if not quiet:
        typer.echo(summary(reading.progress()), err=True)
    return Exit.OK


def _export(reading: Any, target: Path | None, kind: Format, decoder: Decoder | None, meter: Meter) -> None:
    write: Any = {Format.JSONL: write_jsonl, Format.CSV: write_csv, Format.PARQUET: write_parquet}[kind]
    try:
        with reading, whole(target) as file:
            write(reading, file, decoder)
    finally:
        meter.clear()
    tell_losses(reading.losses)
    if decoder is not None:
        decoder.tell()


def _decoder(
    decode: Decode | None,
    schema: Path | None,
    registry: str | None,
    avro_keys: bool,
    on_undecodable: OnUndecodable,
    timeout_s: float,
) -> tuple[Decoder | None, dict[str, Any]]:
    """What --decode and its companions ask for; and what an export notes of that, which must be the same to go on."""
    if decode is not Decode.AVRO and (schema is not None or registry is not None or avro_keys):
        raise Unusable("--schema, --registry and --avro-keys go with --decode avro")
    reported = on_undecodable is OnUndecodable.REPORT
    if decode is None and reported:
        raise Unusable("--on-undecodable goes with --decode")
    taken_for: dict[str, Any] = {
        "--decode": decode and decode.value,
        "--on-undecodable": on_undecodable.value if reported else None,
        "--schema": None,
        "--registry": None,
        "--avro-keys": None,
    }
    if decode is None:
        return None, taken_for
    codecs: tuple[Codec, Codec] = (TEXT, Json() if decode is Decode.JSON else TEXT)
    if decode is Decode.AVRO:
        codecs = _avro(schema, registry, avro_keys, timeout_s, taken_for)
    return Decoder(*codecs, on_undecodable), taken_for


def _avro(
    schema: Path | None, registry: str | None, avro_keys: bool, timeout_s: float, taken_for: dict[str, Any]
) -> tuple[Codec, Codec]:
    from headrace.cli.export.avro import PlainAvro, RegistryAvro, schema_of  # noqa: PLC0415 - for this alone
    from headrace.cli.export.registry import Registry  # noqa: PLC0415 - the same

    if registry is None and (schema is None or avro_keys):
        registry = os.environ.get(REGISTRY)
    ours, digest = (None, None) if schema is None else schema_of(schema)
    # Not its address: that may hold a password, and change.
    taken_for |= {"--schema": digest, "--registry": bool(registry) or None, "--avro-keys": avro_keys or None}
    if registry:
        schemas = Registry(registry, timeout_s)
        return RegistryAvro(schemas) if avro_keys else TEXT, RegistryAvro(schemas, ours)
    if ours is None:
        raise Unusable("--decode avro needs --schema FILE, or --registry URL")
    if avro_keys:
        raise Unusable("--avro-keys needs --registry URL: keys have a schema of their own")
    return TEXT, PlainAvro(ours)


def _start(since: str | None, last: int | None, group: str | None) -> Bound:
    given = [option for option in (since, last, group) if option is not None]
    if len(given) > 1:
        raise Unusable("give one of --since, --last and --committed")
    if last is not None:
        return Last(last)
    if group is not None:
        return Committed(group)
    return "earliest" if since is None else moment(since, "--since")
