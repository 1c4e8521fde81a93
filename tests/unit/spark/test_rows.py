"""Rows: every value of a record, as the columns of Spark's Kafka source have it."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
from confluent_kafka import Message

from headrace._client.range_consumer import Chunk
from headrace.spark.rows import RowBatcher, ddl

MS = 1_700_000_000_123


def message(offset: int, **fields: object) -> Message:
    """A record of t[3]."""
    given: dict[str, object] = {"topic": "t", "partition": 3, "offset": offset, "timestamp": (1, MS)}
    return Message(**(given | fields))  # type: ignore[arg-type]


def rows(*messages: Message, headers: bool = True) -> list[dict[str, object]]:
    """As Python has them."""
    found: list[dict[str, object]] = (
        RowBatcher("t", 3, headers=headers).batch(Chunk(list(messages), "t")).to_pylist()
    )
    return found


def test_every_column() -> None:
    (row,) = rows(message(7, key=b"k", value=b"v", headers=[("h", b"1"), ("h", None)]))
    assert row == {
        "key": b"k",
        "value": b"v",
        "topic": "t",
        "partition": 3,
        "offset": 7,
        "timestamp": datetime.fromtimestamp(MS / 1000, UTC),
        "timestampType": 0,
        "headers": [{"key": "h", "value": b"1"}, {"key": "h", "value": None}],
    }


def test_what_is_not_there() -> None:
    """No key, no value and no headers are null; no timestamp is -1, as Kafka and Spark have it."""
    first, second = rows(message(0, timestamp=(0, 0)), message(1, key=b"", value=b"", timestamp=(2, MS)))
    assert (first["key"], first["value"], first["headers"], first["timestampType"]) == (None, None, None, -1)
    assert first["timestamp"] == datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)
    assert (second["key"], second["value"], second["timestampType"]) == (b"", b"", 1)


def test_some_with_headers_and_some_without() -> None:
    found = rows(message(0), message(1, headers=[("a", b"1")]), message(2, headers=[]))
    assert [row["headers"] for row in found] == [None, [{"key": "a", "value": b"1"}], None]


def test_the_schema_is_what_spark_derives() -> None:
    """To the name of what is in a list. The full tier compares it with the real one."""
    assert "headers" not in rows(message(0), headers=False)[0]
    assert ddl(headers=True) == ddl(headers=False) + ", headers ARRAY<STRUCT<key: STRING, value: BINARY>>"
    schema = RowBatcher("t", 3, headers=True).schema
    assert str(schema.field("headers").type) == "list<element: struct<key: string, value: binary>>"
    assert schema.field("timestamp").type == pa.timestamp("us", "UTC")
    assert all(field.nullable for field in schema)
