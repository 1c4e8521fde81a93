"""`headrace dead-letters list|replay TOPIC`: look at dead letters, and give their records a second life.

Decides which dead letters are records to replay and where they go. Invariant: the place is kept only after the broker
has acknowledged everything before it, so that an interrupted replay repeats records rather than lose one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from headrace._runtime import dead_letters as names
from headrace.cli.connection import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_TIMEOUT_S,
    Bootstrap,
    Librdkafka,
    TimeoutS,
    connection,
)
from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit, epilog
from headrace.cli.interrupts import interruptible
from headrace.cli.texts import as_json, columns, moment, printable
from headrace.errors import ProduceFailed, TopicMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace._client.admin import Observer
    from headrace._client.reading import Reader, Stored
    from headrace.cli.sending import Sending
    from headrace.ports import TopicPartition

REPLAYED_FROM = names.PREFIX + "replayed-from"
"""A header of a replayed record: topic[partition]@offset of its dead letter, by which a reader can tell a repeat."""

ERROR_CHARS_MAX = 100
Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="The dead-letter topic.")]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a dead letter's record came from. It is of the record, so a repeated dead letter has the same."""

    topic: str
    partition: int
    offset: int


def list_letters(
    topic: Topic,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="At most so many.")] = None,
    as_json_lines: Annotated[bool, typer.Option("--json", help="One JSON object per dead letter.")] = False,
    bootstrap_servers: Bootstrap = DEFAULT_BOOTSTRAP,
    librdkafka: Librdkafka = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
    debug: Debug = False,  # noqa: ARG001 - noted by its callback
) -> Exit:
    """Show dead letters, oldest first: where each came from, how often it was tried, and what it failed with."""
    from headrace._client.admin import Observer  # noqa: PLC0415 - loads the client library
    from headrace._client.reading import Reader  # noqa: PLC0415 - see above

    settings = connection(bootstrap_servers, librdkafka)
    bounds = _bounds(Observer(settings), topic, timeout_s)
    found: list[tuple[Stored, Origin]] = []
    strangers = 0
    with Reader(settings) as reader:
        reader.begin({place: start for place, (start, _) in bounds.items()})
        for records in reader.read_to({place: end for place, (_, end) in bounds.items()}, timeout_s):
            letters = [(record, origin) for record in records if (origin := origin_of(record)) is not None]
            strangers += len(records) - len(letters)
            found += letters
            if count is not None and len(found) >= count:
                found = found[:count]
                break
    if as_json_lines:
        for record, origin in found:
            typer.echo(json.dumps(as_json(record) | {"origin": asdict(origin)}, ensure_ascii=False))
        return Exit.OK
    if found:
        typer.echo(columns(("dead letter", "when", "from", "tries", "key", "error"), list(_rows(found))))
    letters_text = "1 dead letter" if len(found) == 1 else f"{len(found)} dead letters"
    left_out = f"; left out: {strangers} without the headers of one" if strangers else ""
    typer.echo(f"{letters_text} in {topic}{left_out}")
    return Exit.OK


def replay(
    topic: Topic,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="TOPIC", help="Produce to this topic, not to where each came from."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", help="Where the place is kept; headrace-replay.TOPIC if not given."),
    ] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="Replay at most so many.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be replayed; produce nothing.")
    ] = False,
    bootstrap_servers: Bootstrap = DEFAULT_BOOTSTRAP,
    librdkafka: Librdkafka = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
    debug: Debug = False,  # noqa: ARG001 - noted by its callback
) -> Exit:
    """Produce dead letters back to the topic and partition they came from.

    Key, value and the record's own headers stay as they were; the headers of the dead letter go, but for one that says
    which dead letter it was. Every record is acknowledged before the place is kept, as the committed offset of a group of
    its own. So run it again after an interruption, or when there are new dead letters: it goes on where it was, and at
    most the 500 records before an interruption are repeated. Run one replay of a topic at a time.
    """
    from headrace._client.admin import Observer  # noqa: PLC0415 - loads the client library
    from headrace._client.reading import Reader  # noqa: PLC0415 - see above
    from headrace.cli.sending import Sending  # noqa: PLC0415 - see above

    settings = connection(bootstrap_servers, librdkafka, group or f"headrace-replay.{topic}")
    observer = Observer(settings)
    bounds = _bounds(observer, topic, timeout_s)
    round_ = _Round(topics=observer.topics(timeout_s), to=to, left=count, dry_run=dry_run)
    round_.check_target()
    with Reader(settings) as reader, Sending(settings) as sending:
        kept = reader.committed(list(bounds), timeout_s)
        reader.begin({place: max(start, kept.get(place, 0)) for place, (start, _) in bounds.items()})
        try:
            for records in reader.read_to({place: end for place, (_, end) in bounds.items()}, timeout_s):
                if not round_.replay(records, reader, sending):
                    break
        except ProduceFailed as failure:
            typer.echo(f"error: {failure}; run it again: it goes on where the place was last kept", err=True)
            return Exit.FAILED
    typer.echo(round_.summary())
    return Exit.OK


class _Round:
    """One replay: what was sent, what was left out, and how much may still be."""

    def __init__(self, topics: dict[str, int], to: str | None, left: int | None, dry_run: bool) -> None:
        self._topics = topics
        self._to = to
        self._left = left
        self._dry_run = dry_run
        self._seen: set[Origin] = set()
        self._replayed = 0
        self._repeats = 0
        self._strangers = 0

    def check_target(self) -> None:
        """Raises `TopicMissing` for a target that does not exist."""
        if self._to is not None and self._to not in self._topics:
            raise TopicMissing([self._to])

    def replay(self, records: list[Stored], reader: Reader, sending: Sending) -> bool:
        """Send a chunk, wait for it, keep the place; False when the limit is reached."""
        places: dict[TopicPartition, int] = {}
        for record in records:
            if self._left == 0:
                break
            self._one(record, sending)
            places[record.topic, record.partition] = record.offset + 1
        sending.flush()
        if places and not self._dry_run:
            reader.commit(places)
        return self._left != 0

    def summary(self) -> str:
        """What was done, in one line."""
        parts = [f"{self._replayed} {'would be replayed' if self._dry_run else 'replayed and acknowledged'}"]
        if self._repeats:
            parts.append(f"{self._repeats} left out: the same dead letter again")
        if self._strangers:
            parts.append(
                f"{self._strangers} left out: not dead letters of Headrace (name a topic with --to, and a new --group)"
            )
        return "; ".join(parts)

    def _one(self, record: Stored, sending: Sending) -> None:
        origin = origin_of(record)
        if origin is None and self._to is None:
            self._strangers += 1
            return
        if origin in self._seen:
            self._repeats += 1
            return
        if origin is not None:
            self._seen.add(origin)
        topic, partition = self._target(origin)
        self._replayed += 1
        if self._left is not None:
            self._left -= 1
        if self._dry_run:
            where = topic if partition is None else f"{topic}[{partition}]"
            typer.echo(f"{_place(record)}  ->  {where}  {printable(record.key)}")
            return
        sending.send(topic, record.value, record.key, headers_for(record), partition)

    def _target(self, origin: Origin | None) -> tuple[str, int | None]:
        if self._to is not None:
            return self._to, None
        assert origin is not None, "strangers are left out without --to"
        if origin.topic not in self._topics:
            raise TopicMissing([origin.topic])
        # Its partition, not its key's: another client may have chosen it by another hash.
        return origin.topic, origin.partition if origin.partition < self._topics[origin.topic] else None


def origin_of(record: Stored) -> Origin | None:
    """What the headers say of the record; None if they are not a dead letter's."""
    headers = dict(record.headers)
    try:
        topic = (headers[names.TOPIC] or b"").decode()
        return Origin(topic, int(headers[names.PARTITION] or b""), int(headers[names.OFFSET] or b""))
    except (KeyError, ValueError):
        return None


def headers_for(record: Stored) -> list[tuple[str, bytes | None]]:
    """The record's own headers, and one that says where it was replayed from."""
    own = [(name, value) for name, value in record.headers if not name.startswith(names.PREFIX)]
    return [*own, (REPLAYED_FROM, _place(record).encode())]


def _bounds(observer: Observer, topic: str, timeout_s: float) -> dict[TopicPartition, tuple[int, int]]:
    partitions = observer.topics(timeout_s).get(topic)
    if partitions is None:
        raise TopicMissing([topic])
    return observer.offsets([(topic, partition) for partition in range(partitions)], timeout_s)


def _rows(letters: list[tuple[Stored, Origin]]) -> Iterator[tuple[object, ...]]:
    seen: set[Origin] = set()
    for record, origin in letters:
        headers = dict(record.headers)
        again = " (again)" if origin in seen else ""
        seen.add(origin)
        place = f"{origin.topic}[{origin.partition}]@{origin.offset}{again}"
        kind = printable(headers.get(names.ERROR_TYPE) or b"?").rpartition(".")[2]
        problem = f"{kind}: {printable(headers.get(names.ERROR_MESSAGE) or b'')}"
        if len(problem) > ERROR_CHARS_MAX:
            problem = problem[: ERROR_CHARS_MAX - 1] + "…"
        tries = printable(headers.get(names.ATTEMPTS) or b"?")
        letter = f"[{record.partition}]@{record.offset}"
        yield letter, moment(record.timestamp_ms), place, tries, printable(record.key, 40), problem


def _place(record: Stored) -> str:
    return f"{record.topic}[{record.partition}]@{record.offset}"


def command() -> typer.Typer:
    """`dead-letters` with its two commands."""
    line = typer.Typer(help="Look at dead letters, or produce them back.", epilog=epilog())
    line.callback(invoke_without_command=True)(_show_help)
    line.command("list", epilog=epilog())(interruptible(list_letters))
    line.command("replay", epilog=epilog())(interruptible(replay))
    return line


def _show_help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
