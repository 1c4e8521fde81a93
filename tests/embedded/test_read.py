"""`headrace.read` on the embedded broker: what comes out, in which shape, in how much memory; and how it ends early."""

from __future__ import annotations

import gc
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from headrace import (
    BrokerUnreachable,
    ConfigError,
    ExtraMissing,
    ReadStalled,
    RecordsLost,
    TopicMissing,
    read,
)
from headrace.ranges import Last, Loss, OffsetRange, Progress, StoredRecord, find_ranges, split
from headrace.testing import MockBroker

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT = 300
TIMEOUT_S = 20.0
MIB = 1024 * 1024


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    """`orders`: 3 partitions of 100 records, key k, value their offset; `empty`: two partitions without."""
    with MockBroker(topics={"orders": 3, "empty": 2, "other": 1}) as broker:
        for partition in range(3):
            broker.produce("orders", [("k", str(n)) for n in range(100)], partition=partition)
        yield broker


def reading(broker: MockBroker, topics: Any = "orders", **how: Any) -> Any:
    """A read on it."""
    return read(topics, bootstrap_servers=broker.bootstrap_servers, timeout_s=TIMEOUT_S, **how)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("headrace-read")]


def wait_until_no_thread_reads() -> None:
    give_up_at = time.monotonic() + TIMEOUT_S
    while reading_threads():
        assert time.monotonic() < give_up_at, reading_threads()
        time.sleep(0.01)


def test_each_shape_has_all_records_in_order(broker: MockBroker) -> None:
    expected = [(partition, offset) for partition in range(3) for offset in range(100)]
    records: list[StoredRecord] = list(reading(broker, ["empty", "orders"], as_="records"))
    assert sorted((r.partition, r.offset) for r in records) == expected
    assert all(r.value == b"%d" % r.offset and r.key == b"k" and r.topic == "orders" for r in records)
    table = reading(broker, ["empty", "orders"], as_="table")
    batches = list(reading(broker, ["empty", "orders"], batch_records_max=7))
    assert max(batch.num_rows for batch in batches) <= 7
    for one in (table, pa.Table.from_batches(batches)):
        rows = one.select(["partition", "offset"]).to_pylist()
        assert sorted((row["partition"], row["offset"]) for row in rows) == expected
        for partition in range(3):
            mine = [row["offset"] for row in rows if row["partition"] == partition]
            assert mine == sorted(mine)
    wait_until_no_thread_reads()


def test_the_schema_is_as_documented_and_the_same_in_every_batch(broker: MockBroker) -> None:
    broker.produce("other", [("a", "1", [("h", b"x"), ("h", None), ("é", b"")]), (None, None), ("", "")])
    batches = reading(broker, ["other", "orders"], batch_records_max=50)
    header = pa.struct([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.binary())])
    assert batches.schema.names == [
        "key", "value", "topic", "partition", "offset", "timestamp", "timestamp_type", "headers"
    ]  # fmt: skip
    assert batches.schema.types == [
        pa.binary(), pa.binary(), pa.dictionary(pa.int32(), pa.string()), pa.int32(), pa.int64(),
        pa.timestamp("ms", tz="UTC"), pa.dictionary(pa.int8(), pa.string()), pa.list_(header),
    ]  # fmt: skip
    tables: list[Any] = []
    for batch in batches:
        assert batch.schema == batches.schema
        batch.validate(full=True)
        assert batch["topic"].dictionary.to_pylist() == ["orders", "other"]
        tables.append(pa.Table.from_batches([batch]))
    rows = [row for row in pa.concat_tables(tables).to_pylist() if row["topic"] == "other"]
    assert [(row["key"], row["value"], row["headers"]) for row in rows] == [
        (b"a", b"1", [{"key": "h", "value": b"x"}, {"key": "h", "value": None}, {"key": "é", "value": b""}]),
        (None, None, None),
        (b"", b"", None),
    ]
    assert abs(rows[0]["timestamp"].timestamp() - time.time()) < 3600
    assert rows[0]["timestamp_type"] == "CreateTime"


def test_records_have_the_same_facts(broker: MockBroker) -> None:
    broker.produce("other", [("a", "1", [("h", b"x"), ("h", None)]), (None, None)])
    first, second = reading(broker, "other", as_="records")
    assert first[:3] + first[4:] == ("other", 0, 0, b"a", b"1", (("h", b"x"), ("h", None)))
    assert second[:3] + second[4:] == ("other", 0, 1, None, None, ())
    assert abs(first.timestamp_ms / 1000 - time.time()) < 3600


def test_only_the_columns_that_are_asked_for_in_their_order(broker: MockBroker) -> None:
    table = reading(broker, columns=["offset", "value"], as_="table")
    assert table.schema.names == ["offset", "value"]
    assert table["value"].to_pylist() == [b"%d" % offset for offset in table["offset"].to_pylist()]
    assert reading(broker, columns=["timestamp_type"], as_="table").num_rows == COUNT


def test_a_read_is_an_arrow_stream(broker: MockBroker) -> None:
    """What Polars, DuckDB and pandas take."""
    reader = pa.RecordBatchReader.from_stream(reading(broker))
    assert reader.read_all().num_rows == COUNT
    assert reading(broker, start=Last(1)).to_reader().read_all().num_rows == 3


def test_nothing_to_read_has_a_schema_all_the_same(broker: MockBroker) -> None:
    table = reading(broker, "empty", as_="table")
    assert (table.num_rows, len(table.schema)) == (0, 8)
    assert list(reading(broker, "orders", start="latest", as_="records")) == []
    assert reading_threads() == []


def test_parts_read_apart_are_the_whole(broker: MockBroker) -> None:
    found = find_ranges(["orders", "empty"], bootstrap_servers=broker.bootstrap_servers, timeout_s=TIMEOUT_S)
    assert [one.size for one in found.ranges] == [100, 100, 100, 0, 0]
    parts = split(found.ranges, parts_min=8)
    apart = [
        (record.partition, record.offset)
        for i in range(0, len(parts), 2)
        for record in reading(broker, parts[i : i + 2], as_="records")
    ]
    # Within one read partitions come in any order, each partition's records in theirs.
    for partition in range(3):
        assert [offset for of, offset in apart if of == partition] == list(range(100))
    assert len(apart) == COUNT


def test_parts_read_at_once_are_the_whole(broker: MockBroker) -> None:
    """Neighbours of one partition in one read: what the client has of one is not taken for the other's end."""
    parts = split(find_ranges("orders", bootstrap_servers=broker.bootstrap_servers).ranges, records_max=10)
    assert len(parts) == 30
    table = reading(broker, parts, as_="table")
    found = sorted(zip(table["partition"].to_pylist(), table["offset"].to_pylist(), strict=True))
    assert found == [(partition, offset) for partition in range(3) for offset in range(100)]


def test_a_start_that_is_gone_is_an_error_or_in_the_tables_metadata(broker: MockBroker) -> None:
    broker.delete_records("orders", 1, 60)
    with pytest.raises(RecordsLost, match=r"orders\[1\]: offsets 10 to 60"):
        reading(broker, start=10)
    with pytest.raises(RecordsLost):
        reading(broker, [OffsetRange("orders", 1, 59, 70)])
    table = reading(broker, start=10, on_data_loss="report", as_="table")
    assert table.num_rows == 90 + 40 + 90
    assert table.schema.metadata == {b"headrace.losses": b'[["orders", 1, 10, 60]]'}
    found = find_ranges("orders", bootstrap_servers=broker.bootstrap_servers, start=10, timeout_s=TIMEOUT_S)
    assert found.losses == (Loss("orders", 1, 10, 60),)


def test_progress_counts_what_was_handed_over(broker: MockBroker) -> None:
    told: list[Progress] = []
    records = reading(broker, ["orders", "empty"], as_="records", progress=told.append)
    before = records.progress()
    assert (before.done, before.offsets, before.records, before.left_s) == (0, COUNT, 0, None)
    assert len(list(records)) == COUNT
    last = told[-1]
    assert (last.done, last.records, last.finished, last.left_s) == (COUNT, COUNT, True, 0.0)
    assert last.bytes == 3 * (10 + 2 * 90)  # the values: 0 to 99
    assert [(p.partition, p.offsets, p.done, p.lost) for p in last.partitions[:3]] == [
        (p, 100, 100, 0) for p in range(3)
    ]
    assert records.progress() == last


def test_a_read_that_is_left_early_stops_its_threads(broker: MockBroker) -> None:
    """By `with`, by an error in the loop, by being dropped."""
    with reading(broker, batch_records_max=1, parallelism=3) as batches:
        next(batches)
        assert len(reading_threads()) == 3
    wait_until_no_thread_reads()
    with pytest.raises(StopIteration):
        next(batches)
    assert not batches.progress().finished
    dropped = reading(broker, as_="records", batch_records_max=1)
    next(dropped)
    assert reading_threads()
    del dropped
    gc.collect()
    wait_until_no_thread_reads()
    never_begun = reading(broker)
    never_begun.close()
    assert list(never_begun) == []


def test_memory_is_bounded_while_nobody_takes(broker: MockBroker) -> None:
    """A slow reader: what waits is within the budget, whatever the topic holds."""
    for _ in range(8):
        broker.produce("other", [("k", "x" * 10_000)] * 50)
    batches = reading(broker, "other", memory_bytes_max=MIB, batch_records_max=5)
    next(batches)
    buffer = batches._buffer
    give_up_at = time.monotonic() + TIMEOUT_S
    while buffer.queued_bytes < MIB // 2 - 60_000:
        assert time.monotonic() < give_up_at
        time.sleep(0.01)
    time.sleep(0.2)
    assert buffer.queued_bytes <= MIB // 2
    assert batches.progress().records == 5
    assert sum(batch.num_rows for batch in batches) == 395


def test_a_broker_that_comes_back_is_waited_for(broker: MockBroker) -> None:
    for _ in range(8):
        broker.produce("other", [("k", "x" * 10_000)] * 50)
    quick = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50, "log_level": 0}
    batches = reading(broker, "other", memory_bytes_max=MIB, batch_records_max=5, librdkafka=quick)
    rows = next(batches).num_rows
    broker.broker_down()
    threading.Timer(1.0, broker.broker_up).start()
    rows += sum(batch.num_rows for batch in batches)
    assert rows == 400


def test_a_broker_that_stays_away_is_an_error_and_no_short_result(broker: MockBroker) -> None:
    for _ in range(8):
        broker.produce("other", [("k", "x" * 10_000)] * 50)
    batches = read(
        "other",
        bootstrap_servers=broker.bootstrap_servers,
        memory_bytes_max=MIB,
        batch_records_max=5,
        timeout_s=1.0,
        librdkafka={"log_level": 0},
    )
    next(batches)
    broker.broker_down()
    with pytest.raises(ReadStalled, match=r"other\[0\] at \d+ of 400") as stalled:
        list(batches)
    assert stalled.value.timeout_s == 1.0
    wait_until_no_thread_reads()


def test_what_cannot_begin_says_why(broker: MockBroker) -> None:
    with pytest.raises(TopicMissing, match="nowhere"):
        reading(broker, ["orders", "nowhere"])
    with pytest.raises(BrokerUnreachable):
        read("orders", bootstrap_servers="127.0.0.1:9", timeout_s=1.0)
    with pytest.raises(ConfigError, match="partitions that exist"):
        reading(broker, [OffsetRange("orders", 3, 0, 1)])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"topics": []}, "topics"),
        ({"topics": ["orders", "orders"]}, "each once"),
        ({"topics": ["orders", OffsetRange("orders", 0, 0, 1)]}, "topics"),
        ({"topics": [OffsetRange("orders", 0, 0, 1)], "start": 0}, "beside OffsetRanges"),
        ({"columns": []}, "columns"),
        ({"columns": ["values"]}, "did you mean 'value'"),
        ({"columns": ["key", "key"]}, "each once"),
        ({"columns": ["key"], "as_": "records"}, "records have all"),
        ({"as_": "rows"}, "as_"),
        ({"on_data_loss": "ignore"}, "on_data_loss"),
        ({"isolation": "snapshot"}, "isolation"),
        ({"parallelism": 0}, "parallelism"),
        ({"memory_bytes_max": 1}, "memory_bytes_max"),
        ({"batch_records_max": 0}, "batch_records_max"),
        ({"progress": 1}, "progress"),
        ({"start": "oldest"}, "start"),
        ({"librdkafka": {"isolation.level": "read_committed"}}, "isolation="),
        ({"librdkafka": {"group.id": "x"}}, "group.id"),
        ({"librdkafka": {"no.such.key": "x"}}, "no.such.key"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    broker: MockBroker, how: dict[str, Any], words: str
) -> None:
    topics = how.pop("topics", "orders")
    with pytest.raises(ConfigError, match=words):
        list(reading(broker, topics, **how))


def test_without_pyarrow_records_can_be_read_and_tables_say_what_to_install(
    broker: MockBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert len(list(reading(broker, as_="records"))) == COUNT
    with pytest.raises(ExtraMissing, match=r'pip install "headrace\[arrow\]"'):
        reading(broker)
