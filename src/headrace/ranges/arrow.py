"""Records as Arrow: the schema, and batches from the client's messages, a column at a time.

Decides types; refuses to know where records come from. pyarrow is imported when it is first needed: it is the extra
`headrace[arrow]`. Invariant: every batch of one read has the same schema and the same dictionaries.
"""

from __future__ import annotations

import importlib
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Literal, final, get_args

from headrace.config import meant
from headrace.errors import ConfigError, ExtraMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace._client.range_consumer import Chunk

Column = Literal["key", "value", "topic", "partition", "offset", "timestamp", "timestamp_type", "headers"]
COLUMNS: Final[tuple[Column, ...]] = get_args(Column)

TIMESTAMP_TYPES: Final = ("CreateTime", "LogAppendTime")
"""Kafka's names, at the client's numbers 1 and 2; 0 is no timestamp."""

_KIND: Final = itemgetter(0)
_MOMENT: Final = itemgetter(1)


def arrow(what: str) -> Any:
    """The module pyarrow. Raises `ExtraMissing`; `what` says what needs it."""
    try:
        return importlib.import_module("pyarrow")
    except ImportError as error:
        if error.name != "pyarrow":
            raise
        raise ExtraMissing(what, "arrow") from error


def checked_columns(columns: Sequence[str] | None) -> tuple[Column, ...]:
    """The columns asked for, in that order; all of them for None. Raises `ConfigError`."""
    if columns is None:
        return COLUMNS
    expected = "some of " + ", ".join(COLUMNS)
    if isinstance(columns, str) or not columns or len(set(columns)) != len(columns):
        raise ConfigError("columns", columns, f"{expected}; each once")
    for name in columns:
        if name not in COLUMNS:
            raise ConfigError("columns", name, expected + meant(str(name), COLUMNS))
    return tuple(columns)  # type: ignore[arg-type] # all are names of columns


@final
class Batcher:
    """Makes record batches of one read. Thread-safe: it changes nothing after it was made."""

    def __init__(self, columns: Sequence[Column], topics: Sequence[str]) -> None:
        pa = self._pa = arrow("headrace.read into Arrow")
        names = pa.array(sorted(set(topics)), pa.string())
        kinds = pa.array(TIMESTAMP_TYPES, pa.string())
        self._topic_numbers: Mapping[str, int] = {name: i for i, name in enumerate(names.to_pylist())}
        self._topics, self._kinds = names, kinds
        header = pa.struct([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.binary())])
        self._header = header
        types: dict[Column, tuple[Any, bool]] = {
            "key": (pa.binary(), True),
            "value": (pa.binary(), True),
            "topic": (pa.dictionary(pa.int32(), pa.string()), False),
            "partition": (pa.int32(), False),
            "offset": (pa.int64(), False),
            "timestamp": (pa.timestamp("ms", tz="UTC"), True),
            "timestamp_type": (pa.dictionary(pa.int8(), pa.string()), True),
            "headers": (pa.list_(header), True),
        }
        makers: dict[Column, Callable[[Chunk], Any]] = {
            "key": lambda chunk: pa.array(chunk.keys(), pa.binary()),
            "value": lambda chunk: pa.array(chunk.values(), pa.binary()),
            "topic": self._topic_column,
            "partition": lambda chunk: pa.array(chunk.partitions, pa.int32()),
            "offset": lambda chunk: pa.array(chunk.offsets, pa.int64()),
            "headers": lambda chunk: self._header_column(chunk.headers()),
        }
        self._columns = tuple(columns)
        self._makers = makers
        self.schema = pa.schema([pa.field(name, types[name][0], nullable=types[name][1]) for name in columns])

    def batch(self, chunk: Chunk) -> Any:
        """A `pyarrow.RecordBatch` with the records of a chunk."""
        arrays: dict[Column, Any] = {}
        if "timestamp" in self._columns or "timestamp_type" in self._columns:
            arrays = self._timestamp_columns(chunk.timestamps())
        for name in self._columns:
            if name not in arrays:
                arrays[name] = self._makers[name](chunk)
        return self._pa.RecordBatch.from_arrays([arrays[name] for name in self._columns], schema=self.schema)

    def _topic_column(self, chunk: Chunk) -> Any:
        pa = self._pa
        if isinstance(chunk.topics, str):
            numbers = pa.repeat(pa.scalar(self._topic_numbers[chunk.topics], pa.int32()), len(chunk))
        else:
            numbers = pa.array(map(self._topic_numbers.__getitem__, chunk.topics), pa.int32())
        return pa.DictionaryArray.from_arrays(numbers, self._topics)

    def _timestamp_columns(self, stamps: Sequence[tuple[int, int]]) -> dict[Column, Any]:
        pa = self._pa
        times: list[int | None] = list(map(_MOMENT, stamps))
        numbers = set(map(_KIND, stamps))
        first = stamps[0][0]
        kinds: Any
        if numbers == {first} and first > 0:
            kinds = pa.repeat(pa.scalar(first - 1, pa.int8()), len(stamps))
        else:
            kinds = pa.array([number - 1 if number > 0 else None for number, _ in stamps], pa.int8())
            times = [ms if number > 0 else None for number, ms in stamps]
        return {
            "timestamp": pa.array(times, pa.int64()).cast(pa.timestamp("ms", tz="UTC")),
            "timestamp_type": pa.DictionaryArray.from_arrays(kinds, self._kinds),
        }

    def _header_column(self, headers: Sequence[list[tuple[str, bytes | None]] | None]) -> Any:
        pa = self._pa
        if not any(headers):
            return pa.nulls(len(headers), pa.list_(self._header))
        # Null where a record has none. A null in the offsets says so, and its length is then that of nothing.
        offsets: list[int | None] = []
        at = 0
        for some in headers:
            offsets.append(at if some else None)
            at += len(some or ())
        flat = list(chain.from_iterable(some for some in headers if some))
        names = pa.array([name for name, _ in flat], pa.string())
        values = pa.array([value for _, value in flat], pa.binary())
        pairs = pa.StructArray.from_arrays([names, values], fields=list(self._header))
        return pa.ListArray.from_arrays(
            pa.array([*offsets, at], pa.int32()), pairs, type=pa.list_(self._header)
        )
