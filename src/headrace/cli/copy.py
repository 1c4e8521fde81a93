"""`headrace copy SOURCE...`: topics of one cluster, or Parquet files, into topics of another; exactly, and by name resumable."""

from __future__ import annotations

import re
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from headrace._client.settings import ConnectionSettings
from headrace.cli.connection import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_TIMEOUT_S,
    Bootstrap,
    Librdkafka,
    TimeoutS,
    parse_settings,
)
from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit, Failed, Unusable, exit_of
from headrace.cli.export.folders import tell_losses
from headrace.cli.export.meter import Meter
from headrace.cli.export.moments import moment
from headrace.cli.interrupts import interruptible
from headrace.cli.read import DataLoss, OnDataLoss, Quiet, Since, Until
from headrace.cli.transfer.course import Course
from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace._client.transactions import TransactionWriter

NOTE_CHARS_MAX: Final = 4000
"""A broker keeps 4096 characters beside an offset by default, one of which the client spends itself."""

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...", show_default=False, help="Topics; or Parquet files or folders, written with a /."
    ),
]
To = Annotated[
    str | None,
    typer.Option("--to", metavar="BROKERS", help="Brokers of the target; without it those of the source."),
]
ToSetting = Annotated[
    list[str] | None,
    typer.Option("--to-setting", metavar="KEY=VALUE", help="As -X, for the target, beside --to; repeatable."),
]
Topic = Annotated[str | None, typer.Option("--topic", help="The target topic; else that of the same name.")]
Name = Annotated[
    str | None,
    typer.Option("--name", help="What the copy is known by: again under this name, it goes on where it was."),
]
KeepPartitions = Annotated[
    bool, typer.Option("--keep-partitions", help="Each record into its own partition; else its key decides.")
]


def copy(
    sources: Sources,
    to: To = None,
    topic: Topic = None,
    name: Name = None,
    keep_partitions: KeepPartitions = False,
    since: Since = None,
    until: Until = "now",
    on_data_loss: DataLoss = OnDataLoss.ERROR,
    quiet: Quiet = False,
    bootstrap_servers: Bootstrap = DEFAULT_BOOTSTRAP,
    librdkafka: Librdkafka = None,
    to_setting: ToSetting = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
    debug: Debug = False,  # noqa: ARG001 - noted by its callback
) -> Exit:
    """Copy topics, or Parquet files, into topics: keys, values, headers and timestamps, in transactions.

    Read committed, the target has each record once. With --name an interrupted copy goes on where it was.
    """
    paths = _checked(sources, name, to, to_setting, since, until)
    ours = parse_settings(librdkafka or [])
    theirs = ours if to is None else parse_settings(to_setting or [])
    destination = _Destination(to or bootstrap_servers, topic, keep_partitions, timeout_s)
    if not paths and destination.servers == bootstrap_servers and any(map(destination.is_itself, sources)):
        raise Unusable("a topic is not copied into itself; say --topic, or --to")
    group = f"headrace-copy-{name or uuid.uuid4().hex}"
    meter = Meter(live=not quiet and sys.stderr.isatty())
    writer = interruptible(_opened)(ConnectionSettings(destination.servers, group, theirs), timeout_s)
    try:
        if paths:
            course = interruptible(destination.of_files)(paths, writer)
        else:
            bounds = {
                "start": "earliest" if since is None else moment(since, "--since"),
                "end": moment(until, "--until"),
            }
            where = {"bootstrap_servers": bootstrap_servers, "librdkafka": ours, "timeout_s": timeout_s}
            how = {"on_data_loss": on_data_loss.value, "progress": meter.show}
            course = interruptible(destination.of_topics)(sources, writer, bounds, where, how)
        _run(course, name, meter)
    finally:
        writer.close()
    tell_losses(course.origin.losses)
    if not quiet:
        typer.echo(f"{course.copied:,} records copied", err=True)
    return Exit.OK


@dataclass(frozen=True, slots=True)
class _Destination:
    """Where a copy goes to."""

    servers: str
    topic: str | None
    keep_partitions: bool
    timeout_s: float

    def into(self, source: str) -> str:
        """The target of a topic."""
        return self.topic or source

    def is_itself(self, source: str) -> bool:
        """Whether that has the same name."""
        return self.into(source) == source

    def of_topics(
        self,
        topics: Sequence[str],
        writer: TransactionWriter,
        bounds: Mapping[str, Any],
        where: Mapping[str, Any],
        how: Mapping[str, Any],
    ) -> Course:
        """A copy of topics, begun."""
        from headrace.cli.transfer.topics import TopicOrigin  # noqa: PLC0415 - one of the two is needed

        into = {self.into(one) for one in topics}
        there = writer.partitions(sorted(into), self.timeout_s)
        origin = TopicOrigin(self.into, keep_partitions=self.keep_partitions)
        tell_losses(origin.begin(topics, writer.note(min(into)), bounds, where, how))
        self._require(there, origin.partitions)
        return Course(origin, writer, min(into), NOTE_CHARS_MAX)

    def of_files(self, paths: Sequence[Path], writer: TransactionWriter) -> Course:
        """A copy of files, begun."""
        from headrace.cli.transfer.parquet import ParquetOrigin  # noqa: PLC0415 - one of the two is needed

        origin = ParquetOrigin(paths, self.topic, keep_partitions=self.keep_partitions)
        into = origin.topics()
        there = writer.partitions(sorted(into), self.timeout_s)
        self._require(there, origin.partitions() if self.keep_partitions else {})
        origin.begin(writer.note(min(into)))
        return Course(origin, writer, min(into), NOTE_CHARS_MAX)

    def _require(self, there: Mapping[str, int], needed: Mapping[str, int]) -> None:
        for topic, count in sorted(needed.items()):
            if self.keep_partitions and there[topic] < count:
                raise Unusable(
                    f"--keep-partitions: {topic} has {there[topic]} partitions, and {count} are needed; "
                    "add some, or leave it out"
                )


def _checked(
    sources: Sequence[str],
    name: str | None,
    to: str | None,
    to_setting: Sequence[str] | None,
    since: str | None,
    until: str,
) -> list[Path]:
    """The sources that are files. Raises `Unusable` for what does not go together."""
    if name is not None and not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", name):
        raise Unusable("--name takes letters, digits, dots, dashes and underscores")
    if to_setting and to is None:
        raise Unusable("--to-setting goes with --to; without it, -X is for both")
    paths = [Path(source) for source in sources if "/" in source or source.endswith(".parquet")]
    if paths and (len(paths) < len(sources) or since is not None or until != "now"):
        raise Unusable("files are copied whole, and not beside topics")
    return paths


def _opened(connection: ConnectionSettings, timeout_s: float) -> TransactionWriter:
    from headrace._client.transactions import TransactionWriter  # noqa: PLC0415 - loads the client library

    writer = TransactionWriter(connection, timeout_s)
    writer.begin()
    return writer


def _run(course: Course, name: str | None, meter: Meter) -> None:
    """The copy itself. Once it has begun, whatever is wrong is a failure, and no mistake in how it was asked for."""
    try:
        course.run()
    except BaseException as error:
        meter.clear()
        rest = (
            f"again with --name {name} it goes on there"
            if name is not None
            else "without --name another copy begins anew, and repeats them"
        )
        typer.echo(f"{course.copied:,} records copied; {rest}", err=True)
        known = exit_of(error) if isinstance(error, HeadraceError) else None
        if known is not None:
            raise Failed(known[1]) from error
        raise
    meter.clear()
