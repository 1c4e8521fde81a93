"""Records as lines of JSON, as CSV, as Parquet.

Decides how bytes become text where a format has only text; refuses to guess: what cannot be written as asked is an error
that names the record. Invariant: null and empty stay apart in every format.
"""

from __future__ import annotations

import importlib
import json
from enum import Enum
from typing import IO, TYPE_CHECKING, Any, Final

from headrace.cli.exits import Failed, Unusable
from headrace.cli.texts import as_json
from headrace.ranges.arrow import arrow

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from headrace.ranges import Batches, StoredRecord

ROW_GROUP_BYTES: Final = 64 * 1024 * 1024
"""Row groups of about so much are read well by everything; more is held in memory while it is written."""

CSV_FIELDS: Final = ("topic", "partition", "offset", "timestamp_ms", "key", "value", "headers")


class Decode(Enum):
    """What keys and values are taken for."""

    TEXT = "text"
    JSON = "json"


class Format(Enum):
    """What is written."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


_SUFFIXES: Final = {
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".csv": Format.CSV,
    ".parquet": Format.PARQUET,
}


def format_of(target: Path | None) -> Format:
    """By the name's end; lines of JSON for stdout. Raises `Unusable`."""
    if target is None:
        return Format.JSONL
    found = _SUFFIXES.get(target.suffix.lower())
    if found is None:
        raise Unusable(
            f"--to {target}: the name must end in {', '.join(_SUFFIXES)}; or be - for lines of JSON"
        )
    return found


def write_jsonl(records: Iterable[StoredRecord], file: IO[bytes], decode: Decode | None) -> None:
    """An object a line, as `headrace tail --form json` has them. With JSON the value is the value itself."""
    for record in records:
        row = as_json(record)
        if decode is not None:
            row["key"], row["value"] = _text(record, "key"), _text(record, "value")
        if decode is Decode.JSON and row["value"] is not None:
            row["value"] = _parsed(record, row["value"])
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def write_csv(records: Iterable[StoredRecord], file: IO[bytes], decode: Decode | None) -> None:
    """Text in quotes, null as nothing at all; headers as JSON. With JSON the value must be JSON, and stays as it is."""
    file.write(",".join(CSV_FIELDS).encode() + b"\n")
    for record in records:
        key, value = _text(record, "key"), _text(record, "value")
        if decode is Decode.JSON and value is not None:
            _parsed(record, value)
        headers = json.dumps(as_json(record)["headers"], ensure_ascii=False) if record.headers else None
        stamp = "" if record.timestamp_ms is None else str(record.timestamp_ms)
        fields = [_quoted(record.topic), str(record.partition), str(record.offset), stamp]
        fields += map(_quoted, (key, value, headers))
        file.write(",".join(fields).encode() + b"\n")


def write_parquet(batches: Batches, file: IO[bytes], decode: Decode | None) -> None:
    """Columns as `headrace.read` gives them. Decoded, key and value are strings; JSON must be JSON and stays a string."""
    pa, parquet = arrow("Parquet"), importlib.import_module("pyarrow.parquet")
    schema = decoded_schema(pa, batches.schema, decode)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        held: list[Any] = []
        for batch in batches:
            held.append(batch if decode is None else decoded(pa, batch, schema, decode))
            if sum(some.nbytes for some in held) >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(held, schema))
                held.clear()
        if held:
            writer.write_table(pa.Table.from_batches(held, schema))


def decoded_schema(pa: Any, schema: Any, decode: Decode | None) -> Any:
    """The schema of what `decoded` makes: key and value are strings."""
    if decode is not None:
        for name in {"key", "value"} & set(schema.names):
            at = schema.get_field_index(name)
            schema = schema.set(at, schema.field(at).with_type(pa.string()))
    return schema


def decoded(pa: Any, batch: Any, schema: Any, decode: Decode) -> Any:
    """A batch with texts. Raises `Failed`, which names the record that is none."""
    columns: list[Any] = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name not in {"key", "value"}:
            columns.append(column)
            continue
        try:
            texts = column.cast(pa.string())
        except pa.ArrowInvalid as error:
            raise Failed(_undecodable(name, _place(batch, _first_bad(column)), error)) from None
        if decode is Decode.JSON and name == "value":
            for row, text in enumerate(texts.to_pylist()):
                if text is not None:
                    _json_of(text, _place(batch, row))
        columns.append(texts)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _first_bad(column: Any) -> int:
    for row, raw in enumerate(column.to_pylist()):
        try:
            (raw or b"").decode()
        except UnicodeDecodeError:
            return row
    return 0


def _place(batch: Any, row: int) -> str:
    there = batch.schema.names
    topic, partition, offset = (
        batch[name][row].as_py() if name in there else "?" for name in ("topic", "partition", "offset")
    )
    return f"{topic}[{partition}]@{offset}"


def _text(record: StoredRecord, name: str) -> str | None:
    raw: bytes | None = getattr(record, name)
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError as error:
        place = f"{record.topic}[{record.partition}]@{record.offset}"
        raise Failed(_undecodable(name, place, error)) from None


def _parsed(record: StoredRecord, text: str) -> Any:
    return _json_of(text, f"{record.topic}[{record.partition}]@{record.offset}")


def _json_of(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Failed(
            f"{place}: the value is not JSON ({error}); leave --decode out, or say --decode text"
        ) from None


def _undecodable(name: str, place: str, error: Exception) -> str:
    return f"{place}: the {name} is not UTF-8 ({error}); write .jsonl or .parquet without --decode, which keep bytes"


def _quoted(text: str | None) -> str:
    return "" if text is None else '"' + text.replace('"', '""') + '"'
