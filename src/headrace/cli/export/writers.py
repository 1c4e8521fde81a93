"""Records as lines of JSON, as CSV, as Parquet.

Decides how a record is laid out in each format; refuses to know what its bytes mean (`decoding`). Invariant: null and
empty stay apart in every format.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from enum import Enum
from operator import itemgetter
from typing import IO, TYPE_CHECKING, Any, Final

from headrace.cli.exits import Unusable
from headrace.cli.export.decoding import TEXT, Decoder, Undecodable
from headrace.cli.texts import as_json
from headrace.ranges.arrow import arrow

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from headrace.ranges import Batches, StoredRecord

ROW_GROUP_BYTES: Final = 64 * 1024 * 1024
"""Row groups of about so much are read well by everything; more is held in memory while it is written."""

CSV_FIELDS: Final = ("topic", "partition", "offset", "timestamp_ms", "key", "value", "headers")


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


def write_jsonl(records: Iterable[StoredRecord], file: IO[bytes], decoder: Decoder | None) -> None:
    """An object a line, as `headrace tail --form json` has them. Decoded, the value is the value itself."""
    for record in records:
        row = as_json(record)
        if decoder is not None:
            both = decoder.parsed(record)
            if both is None:
                continue
            row["key"], row["value"] = both
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def write_csv(records: Iterable[StoredRecord], file: IO[bytes], decoder: Decoder | None) -> None:
    """Text in quotes, null as nothing at all; headers as JSON. Without a decoder keys and values are UTF-8."""
    decoder = decoder or Decoder(TEXT, TEXT)
    file.write(",".join(CSV_FIELDS).encode() + b"\n")
    for record in records:
        both = decoder.texts(record)
        if both is None:
            continue
        headers = json.dumps(as_json(record)["headers"], ensure_ascii=False) if record.headers else None
        stamp = "" if record.timestamp_ms is None else str(record.timestamp_ms)
        fields = [_quoted(record.topic), str(record.partition), str(record.offset), stamp]
        fields += map(_quoted, (*both, headers))
        file.write(",".join(fields).encode() + b"\n")


def write_parquet(batches: Batches, file: IO[bytes], decoder: Decoder | None) -> None:
    """Columns as `headrace.read` gives them. Decoded, key and value are strings; what is JSON then, or Avro, is one of JSON."""
    pa, parquet = arrow("Parquet"), importlib.import_module("pyarrow.parquet")
    schema = decoded_schema(pa, batches.schema, decoder)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        held: list[Any] = []
        for batch in batches:
            held.append(batch if decoder is None else decoded(pa, batch, schema, decoder))
            if sum(some.nbytes for some in held) >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(held, schema))
                held.clear()
        if held:
            writer.write_table(pa.Table.from_batches(held, schema))


def decoded_schema(pa: Any, schema: Any, decoder: Decoder | None) -> Any:
    """The schema of what `decoded` makes: key and value are strings."""
    if decoder is not None:
        for name in {"key", "value"} & set(schema.names):
            at = schema.get_field_index(name)
            schema = schema.set(at, schema.field(at).with_type(pa.string()))
    return schema


def decoded(pa: Any, batch: Any, schema: Any, decoder: Decoder) -> Any:
    """A batch with texts, without the records that are left out. Raises `Failed`, which names the record that is none."""
    bad: dict[int, tuple[str, Undecodable]] = {}
    columns = [
        _texts(pa, batch, name, decoder, bad) if name in decoder.codecs else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    for row, (name, problem) in sorted(bad.items(), key=itemgetter(0)):
        decoder.leave_out(name, _place(batch, row), problem)
    texts = pa.RecordBatch.from_arrays(columns, schema=schema)
    return texts.filter(pa.array([row not in bad for row in range(len(texts))])) if bad else texts


def _texts(pa: Any, batch: Any, name: str, decoder: Decoder, bad: dict[int, tuple[str, Undecodable]]) -> Any:
    column, codec = batch[name], decoder.codecs[name]
    if codec is TEXT:
        # All of them at once; if one is none, they are gone through to find it.
        with contextlib.suppress(pa.ArrowInvalid):
            return column.cast(pa.string())
    texts: list[str | None] = []
    for row, raw in enumerate(column.to_pylist()):
        text = None
        if raw is not None and row not in bad:
            try:
                text = codec.text(raw)
            except Undecodable as error:
                bad[row] = (name, error)
        texts.append(text)
    return pa.array(texts, pa.string())


def _place(batch: Any, row: int) -> str:
    there = batch.schema.names
    topic, partition, offset = (
        batch[name][row].as_py() if name in there else "?" for name in ("topic", "partition", "offset")
    )
    return f"{topic}[{partition}]@{offset}"


def _quoted(text: str | None) -> str:
    return "" if text is None else '"' + text.replace('"', '""') + '"'
