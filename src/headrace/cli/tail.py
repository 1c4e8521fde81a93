"""`headrace tail TOPIC`: show records as they come. Joins no group and commits nothing."""

from __future__ import annotations

import itertools
import json
import sys
from enum import Enum
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
from headrace.cli.texts import as_json, moment, printable
from headrace.errors import TopicMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace._client.reading import Reader, Stored
    from headrace.ports import TopicPartition


class Form(Enum):
    """How a record is written."""

    TEXT = "text"
    JSON = "json"
    VALUE = "value"


def tail(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", show_default=False)],
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Begin with the oldest records.")
    ] = False,
    last: Annotated[
        int | None,
        typer.Option("--last", min=1, help="Begin so many offsets before the end of each partition."),
    ] = None,
    partitions: Annotated[
        list[int] | None, typer.Option("--partition", "-p", min=0, help="Only this partition; repeatable.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="End after so many records.")
    ] = None,
    end: Annotated[bool, typer.Option("--exit", "-e", help="End at what is the end now.")] = False,
    form: Annotated[
        Form, typer.Option("--form", "-f", help="A line of text, a JSON object, or the value's bytes alone.")
    ] = Form.TEXT,
    bootstrap_servers: Bootstrap = DEFAULT_BOOTSTRAP,
    librdkafka: Librdkafka = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
    debug: Debug = False,  # noqa: ARG001 - noted by its callback
) -> Exit:
    """Show the records of a topic, by default new ones until Ctrl-C."""
    from headrace._client.admin import Observer  # noqa: PLC0415 - loads the client library
    from headrace._client.reading import Reader  # noqa: PLC0415 - see above

    if from_beginning and last is not None:
        raise Unusable("give --from-beginning or --last, not both")
    settings = connection(bootstrap_servers, librdkafka)
    observer = Observer(settings)
    there = observer.topics(timeout_s).get(topic)
    if there is None:
        raise TopicMissing([topic])
    unknown = [p for p in partitions or [] if p >= there]
    if unknown:
        raise Unusable(f"topic {topic} has partitions 0 to {there - 1}, not {unknown[0]}")
    bounds = observer.offsets([(topic, p) for p in sorted(set(partitions or range(there)))], timeout_s)
    begin = {
        place: first if from_beginning else max(first, after - (last or 0))
        for place, (first, after) in bounds.items()
    }
    ends = {place: after for place, (_, after) in bounds.items()} if end else None
    with Reader(settings) as reader:
        reader.begin(begin)
        for record in itertools.islice(_records(reader, ends, timeout_s), count):
            _show(record, form)
    return Exit.OK


def _records(reader: Reader, ends: dict[TopicPartition, int] | None, timeout_s: float) -> Iterator[Stored]:
    for records in reader.follow() if ends is None else reader.read_to(ends, timeout_s):
        yield from records
        sys.stdout.flush()


def _show(record: Stored, form: Form) -> None:
    match form:
        case Form.JSON:
            typer.echo(json.dumps(as_json(record), ensure_ascii=False))
        case Form.VALUE:
            typer.echo(record.value or b"")
        case Form.TEXT:
            headers = "".join(f"  {printable(n.encode())}={printable(v)}" for n, v in record.headers)
            place = f"{record.topic}[{record.partition}]@{record.offset}"
            key, value = printable(record.key), printable(record.value)
            typer.echo(f"{moment(record.timestamp_ms)}  {place}  {key}  {value}{headers}")
