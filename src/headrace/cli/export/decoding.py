"""What keys and values are taken for, and what becomes of a record that is not that.

Decides whether a record that does not decode ends the export or is left out; refuses to know files and formats. Invariant:
a record is written as what it was taken for, or it ends the export, or it is counted; it is never written as something else.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, final

import typer

from headrace.cli.exits import Failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.ranges import StoredRecord

T = TypeVar("T")

NAMED_MAX: Final = 5
"""So many of the records left out are named; the others are counted."""


class Decode(Enum):
    """What keys and values are taken for."""

    TEXT = "text"
    JSON = "json"
    AVRO = "avro"


class OnUndecodable(Enum):
    """What is done about a record that is not what it was taken for."""

    ERROR = "error"
    REPORT = "report"


class Undecodable(Exception):
    """These bytes are not what they were taken for. The text goes on after "the value"."""


class Codec(Protocol):
    """How bytes become something else. Both raise `Undecodable`."""

    def parsed(self, raw: bytes) -> Any:
        """What JSON can hold."""
        ...

    def text(self, raw: bytes) -> str:
        """The same in one text."""
        ...


@final
class Text:
    """UTF-8."""

    def parsed(self, raw: bytes) -> str:
        """The text."""
        return self.text(raw)

    def text(self, raw: bytes) -> str:
        """The text."""
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise Undecodable(
                f"is not UTF-8 ({error}); write .jsonl or .parquet without --decode, which keep bytes"
            ) from None


@final
class Json:
    """JSON in UTF-8. As a text it stays as it was written."""

    def parsed(self, raw: bytes) -> Any:
        """The value."""
        try:
            return json.loads(TEXT.text(raw))
        except ValueError as error:
            raise Undecodable(f"is not JSON ({error}); leave --decode out, or say --decode text") from None

    def text(self, raw: bytes) -> str:
        """The text, which was read and found good."""
        self.parsed(raw)
        return raw.decode()


TEXT: Final = Text()


@final
class Decoder:
    """What is made of the keys and values of one export. Used by one thread."""

    def __init__(self, key: Codec, value: Codec, on_undecodable: OnUndecodable = OnUndecodable.ERROR) -> None:
        self.codecs: Final[dict[str, Codec]] = {"key": key, "value": value}
        self._on_undecodable = on_undecodable
        self.left_out = 0
        """How many records so far."""
        self._named: list[str] = []

    def parsed(self, record: StoredRecord) -> tuple[Any, Any] | None:
        """Key and value as JSON has them; None if the record is left out. Raises `Failed`."""
        return self._decoded(record, self.codecs["key"].parsed, self.codecs["value"].parsed)

    def texts(self, record: StoredRecord) -> tuple[str | None, str | None] | None:
        """Key and value as texts; None if the record is left out. Raises `Failed`."""
        return self._decoded(record, self.codecs["key"].text, self.codecs["value"].text)

    def _decoded(
        self, record: StoredRecord, key: Callable[[bytes], T], value: Callable[[bytes], T]
    ) -> tuple[T | None, T | None] | None:
        name = "key"
        try:
            ours = None if record.key is None else key(record.key)
            name = "value"
            return ours, None if record.value is None else value(record.value)
        except Undecodable as error:
            self.leave_out(name, f"{record.topic}[{record.partition}]@{record.offset}", error)
            return None

    def leave_out(self, name: str, place: str, problem: Undecodable) -> None:
        """Count a record that does not decode. Raises `Failed`, if that is what is done about it."""
        if self._on_undecodable is OnUndecodable.ERROR:
            raise Failed(f"{place}: the {name} {problem}") from None
        self.left_out += 1
        if len(self._named) < NAMED_MAX:
            self._named.append(f"{place}: the {name} {problem}")

    def tell(self) -> None:
        """What was left out, on stderr."""
        for one in self._named:
            typer.echo(f"left out: {one}", err=True)
        if self.left_out > len(self._named):
            typer.echo(f"left out: {self.left_out - len(self._named)} more", err=True)
