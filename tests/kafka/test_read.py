"""`headrace.read` on a real broker: exact at transactions, compaction, retention, deletion, and as kcat prints it."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from headrace import OffsetsMissing, ReadStalled, RecordsLost, TopicMissing, TopicRemade, read
from headrace.cli import execute
from headrace.cli.exits import Exit
from headrace.ranges import Committed, Last, Loss, OffsetRange, StoredRecord, find_ranges
from tests.kafka.test_broker_absence import OwnBroker
from tests.kafka.witness import WAIT_S, produce, wait_until
from tests.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = pytest.mark.slow

TIMEOUT_S = 20.0
FIRST_MS = (
    time.time_ns() // 1_000_000 - 2 * 3600 * 1000
)  # older ones would be removed by retention while we look
MIB = 1024 * 1024


def records(kafka: str, topic: Any, **how: Any) -> list[StoredRecord]:
    """All records of a read."""
    return list(read(topic, bootstrap_servers=kafka, as_="records", timeout_s=TIMEOUT_S, **how))


def values(kafka: str, topic: Any, **how: Any) -> list[int]:
    """Values as numbers: tests write offsets into them."""
    return [int(record.value or b"") for record in records(kafka, topic, **how)]


class Transactions:
    """Writes transactions to one partition, each value its own offset; markers take an offset too."""

    def __init__(self, kafka: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic})
        self._producer.init_transactions(WAIT_S)
        self._topic = topic
        self._next = 0

    def open(self, count: int) -> None:
        """Begin one with so many records, and leave it open."""
        self._producer.begin_transaction()
        for _ in range(count):
            self._producer.produce(self._topic, b"%d" % self._next, partition=0)
            self._next += 1
        assert self._producer.flush(WAIT_S) == 0

    def commit(self) -> None:
        """End it well."""
        self._producer.commit_transaction(WAIT_S)
        self._next += 1

    def abort(self) -> None:
        """End it badly."""
        self._producer.abort_transaction(WAIT_S)
        self._next += 1


def wait_for_end(kafka: str, topic: str, end: int) -> None:
    """Markers are written after the producer was answered."""
    wait_until(
        lambda: find_ranges(topic, bootstrap_servers=kafka, timeout_s=TIMEOUT_S).ranges[0].end == end,
        f"the last stable offset is {end}",
    )


def test_transactions_committed_and_aborted_at_range_ends(kafka: str, topics: Topics) -> None:
    """Spark's cases in one log: an open one keeps all back, an aborted one is passed over, a marker may be the last offset."""
    topic = topics.create()
    log = Transactions(kafka, topic)
    log.open(5)
    assert values(kafka, topic) == []
    assert values(kafka, topic, isolation="read_uncommitted") == [0, 1, 2, 3, 4]
    with pytest.raises(OffsetsMissing):
        records(kafka, topic, end=5)
    log.commit()  # marker at 5
    wait_for_end(kafka, topic, 6)
    assert values(kafka, topic) == [0, 1, 2, 3, 4]
    log.open(5)
    log.abort()  # 6 to 10, marker at 11
    wait_for_end(kafka, topic, 12)
    assert values(kafka, topic) == [0, 1, 2, 3, 4]
    log.open(5)
    log.commit()  # 12 to 16, marker at 17
    wait_for_end(kafka, topic, 18)
    log.open(1)
    committed = [0, 1, 2, 3, 4, 12, 13, 14, 15, 16]
    every = [*range(5), *range(6, 11), *range(12, 17)]
    # Ranges that begin and end on a record, an aborted one, a marker, or at the open transaction.
    for start, end in itertools.combinations((0, 5, 6, 8, 11, 12, 18), 2):
        found = values(kafka, [OffsetRange(topic, 0, start, end)])
        assert found == [value for value in committed if start <= value < end]
    uncommitted = values(kafka, topic, isolation="read_uncommitted", end=18)
    assert uncommitted == every


def test_a_compacted_topic_is_read_to_its_end(kafka: str, topics: Topics) -> None:
    """Wherever the range ends: in a hole, before one, behind one."""
    topic = topics.create(
        config={
            "cleanup.policy": "compact",
            "min.cleanable.dirty.ratio": "0.01",
            "segment.bytes": "1048576",
            "segment.ms": "200",
            "min.compaction.lag.ms": "0",
            "delete.retention.ms": "100",
        }
    )
    produce(kafka, topic, ((f"key-{i % 5}".encode(), b"%d" % i) for i in range(100)))

    last = itertools.count()

    def compacted_away() -> bool:
        """Only a new record closes a segment; each has a key of its own, so that none of them goes."""
        produce(kafka, topic, [(b"last-%d" % next(last), b"-1")])
        time.sleep(0.3)
        return {record.offset for record in records(kafka, topic)} & set(range(100)) <= set(range(95, 100))

    wait_until(compacted_away, "compaction has taken records")
    there = [record.offset for record in records(kafka, topic)]
    for start, end in [(0, 50), (0, 96), (96, 97), (50, 60), (94, 100), (0, there[-1])]:
        found = [record.offset for record in records(kafka, [OffsetRange(topic, 0, start, end)])]
        assert found == [offset for offset in there if start <= offset < end]


def test_many_partitions_most_of_them_empty(kafka: str, topics: Topics) -> None:
    """64 partitions, several threads, order within each, in every shape."""
    topic = topics.create(partitions=64)
    producer = Producer({"bootstrap.servers": kafka})
    for partition in range(0, 64, 3):
        for number in range(100 if partition % 2 else 10):
            producer.produce(topic, b"%d" % number, partition=partition, headers=[("e", b"1"), ("e", None)])
    assert producer.flush(WAIT_S) == 0
    expected = {(p, n) for p in range(0, 64, 3) for n in range(100 if p % 2 else 10)}
    table = read(topic, bootstrap_servers=kafka, as_="table", parallelism=5, timeout_s=TIMEOUT_S)
    places = list(zip(table["partition"].to_pylist(), table["offset"].to_pylist(), strict=True))
    assert sorted(places) == sorted(expected)
    for partition in range(64):
        mine = [offset for p, offset in places if p == partition]
        assert mine == sorted(mine)
    assert [int(value) for value in table["value"].to_pylist()] == [offset for _, offset in places]
    assert set(table["topic"].to_pylist()) == {topic}
    assert set(table["timestamp_type"].to_pylist()) == {"CreateTime"}
    assert table["headers"].to_pylist()[0] == [{"key": "e", "value": b"1"}, {"key": "e", "value": None}]
    assert {(r.partition, r.offset) for r in records(kafka, topic, parallelism=1)} == expected


def test_start_and_end_by_time_by_commit_and_from_the_end(kafka: str, topics: Topics, group_id: str) -> None:
    topic = topics.create(partitions=2)
    producer = Producer({"bootstrap.servers": kafka})
    for partition, number in itertools.product(range(2), range(10)):
        moment_ms = FIRST_MS + 1000 * number + 500 * partition
        producer.produce(topic, b"%d" % number, partition=partition, timestamp=moment_ms)
    assert producer.flush(WAIT_S) == 0
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group_id})
    consumer.commit(offsets=[TopicPartition(topic, 0, 8)], asynchronous=False)
    consumer.close()

    def found(start: Any, end: Any = "latest") -> list[tuple[int, int]]:
        some = find_ranges(topic, bootstrap_servers=kafka, start=start, end=end, timeout_s=TIMEOUT_S).ranges
        return [(one.start, one.end) for one in some]

    def moment(second: float) -> datetime:
        return datetime.fromtimestamp(FIRST_MS / 1000 + second, UTC)

    assert found(moment(3)) == [(3, 10), (3, 10)]
    assert found(moment(3.2), moment(7)) == [(4, 7), (3, 7)]
    assert found(moment(100)) == [(10, 10), (10, 10)]
    assert found(timedelta(hours=1)) == [(10, 10), (10, 10)]
    assert found("earliest", timedelta(0)) == [(0, 10), (0, 10)]
    assert found(Committed(group_id)) == [(8, 10), (0, 10)]
    assert found("earliest", Committed(group_id, "latest")) == [(0, 8), (0, 10)]
    assert found(Last(3)) == [(7, 10), (7, 10)]
    assert sorted(values(kafka, topic, start=moment(7), end=moment(9))) == [7, 7, 8, 8]


def test_the_command_reads_from_a_moment_to_a_moment(
    kafka: str, topics: Topics, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = topics.create(partitions=2)
    producer = Producer({"bootstrap.servers": kafka})
    # Not the module's moment: that of the import may be a quarter of an hour ago.
    first_ms = int(time.time() * 1000) - 10 * 600_000
    for number in range(10):
        producer.produce(topic, b"%d" % number, partition=number % 2, timestamp=first_ms + 600_000 * number)
    assert producer.flush(WAIT_S) == 0

    def shown(*arguments: str) -> list[int]:
        assert execute(["read", topic, "-q", "-b", kafka, *arguments]) is Exit.OK
        return sorted(int(json.loads(row)["value"]) for row in capsys.readouterr().out.splitlines())

    moment = datetime.fromtimestamp(first_ms / 1000 + 1800, UTC).isoformat()
    assert shown("--since", "55m") == [5, 6, 7, 8, 9]
    assert shown("--since", moment) == list(range(3, 10))
    assert shown("--until", moment) == [0, 1, 2]
    assert shown("--since", "3h", "--until", "now") == list(range(10))


def test_a_range_stays_what_it_was_while_records_come_after_it(kafka: str, topics: Topics) -> None:
    """Spark's KafkaRDDSuite 1 and 3, and SPARK-25495: nothing beyond an end is given, however much there is by then."""
    topic = topics.create()

    def found(start: int, end: int) -> list[bytes | None]:
        return [record.value for record in records(kafka, [OffsetRange(topic, 0, start, end)])]

    texts = [b"a"] * 5 + [b"b"] * 3 + [b"c"] * 10
    produce(kafka, topic, [(None, text) for text in texts], partition=0)
    assert found(0, 18) == texts
    assert found(0, 0) == []
    with pytest.raises(OffsetsMissing) as missing:
        found(0, 19)
    assert missing.value.end == 18
    produce(kafka, topic, [(None, b"d")], partition=0)
    assert found(18, 18) == []
    first = read([OffsetRange(topic, 0, 14, 19)], bootstrap_servers=kafka, as_="records", timeout_s=TIMEOUT_S)
    produce(kafka, topic, [(None, b"e")] * 22, partition=0)
    assert found(18, 19) == [b"d"]
    assert [record.value for record in first] == [b"c"] * 4 + [b"d"]
    assert found(19, 41) == [b"e"] * 22
    # Neighbours in one read, as a plan of parts has them.
    parts = [OffsetRange(topic, 0, start, end) for start, end in itertools.pairwise((0, 5, 18, 19, 41))]
    assert [record.offset for record in records(kafka, parts)] == [*range(41)]


def delete_before(kafka: str, topic: str, offset: int) -> None:
    """What retention does, at once."""
    admin: Any = AdminClient({"bootstrap.servers": kafka})
    for deleted in admin.delete_records([TopicPartition(topic, 0, offset)]).values():
        deleted.result(WAIT_S)


def test_a_start_before_the_first_record_is_an_error_or_counted(kafka: str, topics: Topics) -> None:
    topic = topics.create()
    produce(kafka, topic, ((None, b"%d" % i) for i in range(100)))
    delete_before(kafka, topic, 40)
    with pytest.raises(RecordsLost, match=r"offsets 10 to 40 \(30\)"):
        records(kafka, topic, start=10)
    assert values(kafka, topic) == list(range(40, 100))
    with read(topic, bootstrap_servers=kafka, start=10, as_="records", on_data_loss="report") as reading:
        assert [int(record.value or b"") for record in reading] == list(range(40, 100))
        assert reading.losses == (Loss(topic, 0, 10, 40),)
        progress = reading.progress()
    assert (progress.done, progress.offsets, progress.partitions[0].lost) == (90, 90, 30)


@pytest.mark.parametrize("cut", [7900, 8000], ids=["in part", "to the end"])
@pytest.mark.parametrize("on_data_loss", ["report", "error"])
def test_records_deleted_during_the_read_are_an_error_or_counted(
    kafka: str, topics: Topics, on_data_loss: Any, cut: int
) -> None:
    """The start of the log overtakes the reader: what it lacks is named to the offset."""
    topic = topics.create()
    produce(kafka, topic, ((None, b"%d" % i + bytes(5000)) for i in range(8000)))
    reading = read(
        topic,
        bootstrap_servers=kafka,
        as_="records",
        on_data_loss=on_data_loss,
        memory_bytes_max=MIB,
        batch_records_max=50,
        timeout_s=TIMEOUT_S,
    )
    with reading:
        got = [next(reading).offset]
        delete_before(kafka, topic, cut)
        if on_data_loss == "error":
            with pytest.raises(RecordsLost) as lost:
                got += [record.offset for record in reading]
            assert got == list(range(len(got)))
            assert (lost.value.topic, lost.value.partition, lost.value.end) == (topic, 0, cut)
            return
        got += [record.offset for record in reading]
        (loss,) = reading.losses
        progress = reading.progress()
    assert 0 < loss.start < 7000, "the read was over before the records went"
    assert (loss.end, progress.finished, progress.done) == (cut, True, 8000)
    assert got == [*range(loss.start), *range(cut, 8000)]


def test_a_topic_that_is_deleted_during_the_read_is_an_error(kafka: str, topics: Topics) -> None:
    topic = topics.create()
    produce(kafka, topic, ((None, bytes(5000)) for _ in range(8000)))
    reading = read(
        topic,
        bootstrap_servers=kafka,
        memory_bytes_max=MIB,
        batch_records_max=50,
        timeout_s=30,
    )
    with reading:
        next(reading)
        topics.delete_all()
        began = time.monotonic()
        with pytest.raises(TopicMissing) as missing:
            for _ in reading:
                pass
    assert missing.value.topics == (topic,)
    assert time.monotonic() - began < 25


def test_a_topic_that_is_made_anew_during_the_read_is_an_error(kafka: str, topics: Topics) -> None:
    """The client goes on in the new one without a word: records of both would pass for one range."""
    topic = topics.create(suffix="-remade")
    produce(kafka, topic, ((None, b"old" + bytes(5000)) for _ in range(8000)))
    reading = read(
        topic, bootstrap_servers=kafka, memory_bytes_max=MIB, batch_records_max=50, timeout_s=TIMEOUT_S
    )
    with reading:
        next(reading)
        topics.delete_all()
        time.sleep(0.5)
        topics.create(suffix="-remade")
        produce(kafka, topic, ((None, b"new" + bytes(5000)) for _ in range(9000)))
        with pytest.raises((TopicRemade, TopicMissing)):
            for _ in reading:
                pass
    assert not reading.progress().finished


def test_what_is_read_is_what_kcat_prints(kafka: str, topics: Topics) -> None:
    """Byte for byte: nulls, empty ones, line ends, zeros, what is no UTF-8; each codec."""
    if shutil.which("kcat") is None:
        pytest.skip("no kcat")
    topic = topics.create(partitions=3)
    payloads = [
        None,
        b"",
        b"plain",
        b"two\nlines\r\n",
        b"\x00\x01zero",
        b"\xff\xfe no text",
        bytes(range(256)) * 40,
    ]
    for codec in ("none", "gzip", "lz4", "snappy", "zstd"):
        producer = Producer({"bootstrap.servers": kafka, "compression.type": codec})
        for number, (key, value) in enumerate(itertools.product(payloads, payloads)):
            producer.produce(topic, value, key, partition=number % 3, timestamp=FIRST_MS + number)
        assert producer.flush(WAIT_S) == 0
    mine = b""
    for partition in range(3):
        for record in records(kafka, topic, parallelism=1):
            if record.partition == partition:
                mine += b"%s %d %d %d %d:%s %d:%s\n" % (
                    record.topic.encode(),
                    record.partition,
                    record.offset,
                    record.timestamp_ms or 0,
                    -1 if record.key is None else len(record.key),
                    record.key or b"",
                    -1 if record.value is None else len(record.value),
                    record.value or b"",
                )
    theirs = b""
    for partition in range(3):
        command = [
            "kcat",
            "-C",
            "-q",
            "-e",
            "-b",
            kafka,
            "-t",
            topic,
            "-p",
            str(partition),
            "-o",
            "beginning",
        ]
        done = subprocess.run(
            [*command, "-f", r"%t %p %o %T %K:%k %S:%s\n"], capture_output=True, check=True, timeout=TIMEOUT_S
        )
        theirs += done.stdout
    assert mine == theirs


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Generator[OwnBroker]:
    """One that these tests may stop."""
    broker = OwnBroker(tmp_path_factory.mktemp("own-kafka"))
    broker.start()
    yield broker
    broker.stop()


@pytest.mark.full
@pytest.mark.kafka
def test_a_broker_that_restarts_is_waited_for_and_one_that_stays_away_is_an_error(
    own_broker: OwnBroker, unique_name: str
) -> None:
    """Never a short result: all of it, or an error that names what is missing."""
    kafka = own_broker.address
    topic = Topics(kafka, prefix=unique_name).create(partitions=2)
    for partition in range(2):
        produce(kafka, topic, ((None, b"%d" % i + bytes(5000)) for i in range(4000)), partition)

    def reading(timeout_s: float) -> Any:
        return read(
            topic,
            bootstrap_servers=kafka,
            as_="records",
            memory_bytes_max=MIB,
            batch_records_max=50,
            timeout_s=timeout_s,
            librdkafka={"log_level": 0, "reconnect.backoff.max.ms": 1000},
        )

    with reading(60) as through, reading(2) as given_up:
        got = [next(through)]
        next(given_up)
        own_broker.stop()
        with pytest.raises(ReadStalled, match=r"of 4000.*") as stalled:
            for _ in given_up:
                pass
        assert len(stalled.value.unfinished) in {1, 2}
        own_broker.start()
        got += through
    assert sorted((r.partition, r.offset) for r in got) == [(p, n) for p in range(2) for n in range(4000)]
