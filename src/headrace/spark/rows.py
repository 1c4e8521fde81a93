"""Records as rows of Spark's Kafka source: its schema, as Arrow, a column at a time.

Decides types and what stands for what is not there; refuses to know where records come from. Invariant: every batch has
the schema that Spark derives from `DDL`, to the names inside lists, since Spark compares them.
"""

from __future__ import annotations

from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, final

from headrace.ranges.arrow import arrow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace._client.range_consumer import Chunk

DDL: Final = "key BINARY, value BINARY, topic STRING, partition INT, offset BIGINT, timestamp TIMESTAMP, timestampType INT"
_KIND: Final = itemgetter(0)
_MOMENT: Final = itemgetter(1)
HEADERS_DDL: Final = ", headers ARRAY<STRUCT<key: STRING, value: BINARY>>"


def ddl(*, headers: bool) -> str:
    """The schema as Spark is told it."""
    return DDL + (HEADERS_DDL if headers else "")


@final
class RowBatcher:
    """Makes record batches of one partition's records. Changes nothing after it was made."""

    def __init__(self, topic: str, partition: int, *, headers: bool) -> None:
        pa = self._pa = arrow("headrace.spark")
        self._topic = pa.scalar(topic, pa.string())
        self._partition = pa.scalar(partition, pa.int32())
        self._header = pa.struct([pa.field("key", pa.string()), pa.field("value", pa.binary())])
        self._headers = pa.list_(pa.field("element", self._header))
        self._stamp = pa.timestamp("us", tz="UTC")
        fields = [
            ("key", pa.binary()),
            ("value", pa.binary()),
            ("topic", pa.string()),
            ("partition", pa.int32()),
            ("offset", pa.int64()),
            ("timestamp", self._stamp),
            ("timestampType", pa.int32()),
        ]
        self.schema = pa.schema(fields + ([("headers", self._headers)] if headers else []))

    def batch(self, chunk: Chunk) -> Any:
        """A `pyarrow.RecordBatch`."""
        pa, size = self._pa, len(chunk)
        columns = [
            pa.array(chunk.keys(), pa.binary()),
            pa.array(chunk.values(), pa.binary()),
            pa.repeat(self._topic, size),
            pa.repeat(self._partition, size),
            pa.array(chunk.offsets, pa.int64()),
            *self._stamps(chunk.timestamps()),
        ]
        if len(self.schema) > len(columns):
            columns.append(self._header_column(chunk.headers()))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _stamps(self, stamps: Sequence[tuple[int, int]]) -> tuple[Any, Any]:
        # The client counts kinds from 1 and has 0 for none; Kafka's own numbers, and Spark's, begin with -1 for none.
        pa = self._pa
        kinds = set(map(_KIND, stamps))
        moments: list[int] = list(map(_MOMENT, stamps))
        if 0 in kinds:
            moments = [ms if kind else -1 for kind, ms in stamps]
        if len(kinds) == 1:
            numbers = pa.repeat(pa.scalar(kinds.pop() - 1, pa.int32()), len(stamps))
        else:
            numbers = pa.array([kind - 1 for kind, _ in stamps], pa.int32())
        return pa.array(moments, pa.int64()).cast(pa.timestamp("ms", tz="UTC")).cast(self._stamp), numbers

    def _header_column(self, headers: Sequence[list[tuple[str, bytes | None]] | None]) -> Any:
        pa = self._pa
        if not any(headers):
            return pa.nulls(len(headers), self._headers)
        # A null among the offsets is a record without headers.
        offsets: list[int | None] = []
        at = 0
        for some in headers:
            offsets.append(at if some else None)
            at += len(some or ())
        flat = list(chain.from_iterable(some for some in headers if some))
        names = pa.array([name for name, _ in flat], pa.string())
        values = pa.array([value for _, value in flat], pa.binary())
        pairs = pa.StructArray.from_arrays([names, values], fields=list(self._header))
        return pa.ListArray.from_arrays(pa.array([*offsets, at], pa.int32()), pairs, type=self._headers)
