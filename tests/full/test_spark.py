"""The data source on a real Spark and a real Kafka: batches, streams, filters, retries, two jobs at once, a cluster.

What it reads is compared with Spark's own Kafka source, row by row, where that can be had.
"""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from tests import spark_environment
from tests.kafka_server import is_required
from tests.spark_environment import Session, SparkUnavailable

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.topics import Topics

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).parents[2]
RECORDS = 20_000
PARTITIONS = 4
FILTER = " Filter ("  # as a plan has it that filters rows
KEPT = {"retention.ms": "-1"}  # records here carry moments of long ago


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Spark writes."""
    return tmp_path_factory.mktemp("spark")


@pytest.fixture(scope="module")
def spark(folder: Path) -> Generator[Session]:
    """A session with two workers, in local mode, which has Spark's own source if that can be had."""
    try:
        spark_environment.interpreter()
    except SparkUnavailable as absent:
        if is_required():
            pytest.fail(f"no Spark: {absent}")
        pytest.skip(f"no Spark: {absent}")
    with spark_environment.session(folder, jars=_own_source()) as session:
        yield session


def _own_source() -> str:
    try:
        return spark_environment.own_source()
    except SparkUnavailable:
        return ""


def fill(kafka: str, topic: str, records: int = RECORDS) -> None:
    """Records of every kind: with and without key, value and headers; empty ones; headers of one name."""
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 20})
    headers: list[list[tuple[str, str | bytes | None]]] = [
        [],
        [("a", b"1"), ("a", b"2")],
        [("b", None), ("c", b"")],
    ]
    for number in range(records):
        producer.produce(
            topic,
            key=(None, b"", b"k%d" % number)[number % 3],
            value=(None, b"", b"v%d" % number, b"\xff\x00%d" % number)[number % 4],
            headers=headers[number % 3],
            partition=number % PARTITIONS,
            timestamp=1_700_000_000_000 + number,
        )
        producer.poll(0)
    assert producer.flush(60) == 0


def in_transaction(kafka: str, topic: str, *, commit: bool) -> None:
    """Ten records to each partition, committed or aborted."""
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    for number in range(10 * PARTITIONS):
        producer.produce(topic, f"{commit} {number}".encode(), partition=number % PARTITIONS)
    if commit:
        producer.commit_transaction(30)
    else:
        producer.flush(30)
        producer.abort_transaction(30)


@pytest.fixture
def options(kafka: str, topics: Topics) -> dict[str, str]:
    """Of a topic of records of every kind."""
    topic = topics.create(partitions=PARTITIONS, config=KEPT)
    fill(kafka, topic)
    return {"kafka.bootstrap.servers": kafka, "subscribe": topic}


def some(topic: str, numbers: list[int]) -> str:
    """A number for each partition, as JSON."""
    return json.dumps({topic: {str(partition): number for partition, number in enumerate(numbers)}})


def test_schemas_are_those_that_spark_derives(spark: Session) -> None:
    assert spark.call("schemas") == [[True], [True]]


def test_rows_are_those_of_sparks_own_source(spark: Session, kafka: str, options: dict[str, str]) -> None:
    """Every column of every row, for every kind of start and end; aborted records included, and left out."""
    if not _own_source():
        pytest.skip("Spark's own Kafka source cannot be had here")
    topic = options["subscribe"]
    in_transaction(kafka, topic, commit=True)
    in_transaction(kafka, topic, commit=False)
    cut = {"startingOffsets": some(topic, [0, 10, 4990, -2]), "endingOffsets": some(topic, [5, 20, -1, 7])}
    timed = {"startingTimestamp": "1700000010007", "endingTimestamp": "1700000010500"}
    for given in (
        {"includeHeaders": "true"} | cut,
        {"includeHeaders": "true", "minPartitions": "9"} | timed,
        {"kafka.isolation.level": "read_committed", "startingOffsets": some(topic, [4990] * PARTITIONS)},
        {"kafka.isolation.level": "read_uncommitted", "startingOffsets": some(topic, [4990] * PARTITIONS)},
    ):
        ours = spark.call("rows", **(options | given))
        assert ours == spark.call("rows", format="kafka", **(options | given))
        assert len(ours) > 10
    assert spark.call("totals", **options) == spark.call("totals", format="kafka", **options)


def test_filters_narrow_what_is_read(spark: Session, options: dict[str, str]) -> None:
    """The result is the same with and without; with, nothing is left for Spark to filter."""
    where = "partition IN (1, 3) AND offset >= 100 AND offset < 120 AND topic = '{}'".format(
        options["subscribe"]
    )
    later = "timestamp >= TIMESTAMP '2023-11-14 22:13:39.500' AND offset != 4999"
    plain = [spark.call("rows", where=where, **options) for where in (where, later)]
    assert [len(rows) for rows in plain] == [40, 496]
    assert FILTER in spark.call("plan", where=where, **options)
    spark.call("push", enabled=True)
    try:
        assert [spark.call("rows", where=where, **options) for where in (where, later)] == plain
        assert FILTER not in spark.call("plan", where=where, **options)
        assert FILTER in spark.call("plan", where=later, **options)
        assert spark.call("rows", where="offset < 0", **options) == []
    finally:
        spark.call("push", enabled=False)


def test_ranges_are_cut(spark: Session, options: dict[str, str]) -> None:
    assert spark.call("tasks", **options) == PARTITIONS
    assert spark.call("tasks", minPartitions="9", **options) == 8  # by size, rounded: as Spark does
    assert spark.call("tasks", maxRecordsPerPartition="1000", **options) == 20
    assert spark.call("totals", maxRecordsPerPartition="777", **options) == spark.call("totals", **options)


def test_workers_keep_their_consumers_and_a_retry_gets_a_new_one(
    spark: Session, options: dict[str, str], tmp_path: Path
) -> None:
    """Consumers are made once for a partition and worker, not for a task; a second attempt invalidates."""
    assert spark.call("probed", folder=str(tmp_path), maxRecordsPerPartition="500", **options) == RECORDS
    told = [json.loads(line) for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    workers = {one["pid"]: one for one in told}  # the last of each
    assert len(told) == 40
    assert all(one["active"] == 0 for one in workers.values())
    created = sum(one["created"] for one in workers.values())
    assert created <= PARTITIONS * len(workers)
    assert created + sum(one["reused"] for one in workers.values()) == 40
    again = tmp_path / "again"
    again.mkdir()
    assert spark.call("probed", folder=str(again), fails="true", **options) == RECORDS
    retried = [json.loads(line) for file in again.iterdir() for line in file.read_text().splitlines()]
    assert [one["attempt"] for one in retried] == [1] * PARTITIONS


def test_the_users_own_process_has_no_client(spark: Session, options: dict[str, str]) -> None:
    """Spark forks its workers from processes that have none either: those import nothing of ours."""
    assert spark.call("totals", **options)[0] == str(RECORDS)
    assert spark.call("client_loaded") is False


def test_jobs_at_once_over_one_topic_are_exact(spark: Session, options: dict[str, str]) -> None:
    """In one application; and a topic joined with itself."""
    expected = spark.call("totals", **options)
    assert expected[0] == str(RECORDS)
    given = options | {"minPartitions": "12"}
    assert spark.call("at_once", jobs=4, **given) == [expected] * 4
    assert spark.call("joined", **given) == RECORDS


def test_a_stream_goes_on_where_it_was(spark: Session, kafka: str, topics: Topics, tmp_path: Path) -> None:
    """To the end that was there, in micro-batches within the limit; then from the checkpoint; every record once."""
    topic = topics.create(partitions=PARTITIONS, config=KEPT)
    fill(kafka, topic, 1000)
    given = {"kafka.bootstrap.servers": kafka, "subscribe": topic, "startingOffsets": "earliest"}
    checkpoint = str(tmp_path / "checkpoint")
    first = spark.call("stream", checkpoint=checkpoint, maxOffsetsPerTrigger="300", **given)
    assert [len(batch) for batch in first] == [300, 300, 300, 100]
    assert spark.call("stream", checkpoint=checkpoint, **given) == []
    fill(kafka, topic, 400)
    second = spark.call("stream", checkpoint=checkpoint, **given)
    assert [len(batch) for batch in second] == [400]
    seen = sorted(tuple(row) for batch in first + second for row in batch)
    assert seen == [(topic, partition, offset) for partition in range(PARTITIONS) for offset in range(350)]


def test_loss_is_an_error_or_allowed(spark: Session, kafka: str, topics: Topics) -> None:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    topic = topics.create(partitions=PARTITIONS, config=KEPT)
    fill(kafka, topic, 400)
    admin = AdminClient({"bootstrap.servers": kafka})
    for deleted in admin.delete_records([TopicPartition(topic, 0, 30)]).values():
        deleted.result(30)
    given = {
        "kafka.bootstrap.servers": kafka,
        "subscribe": topic,
        "startingOffsets": some(topic, [0] * PARTITIONS),
    }
    with pytest.raises(RuntimeError, match=r"(?s)RecordsLost.*failOnDataLoss=false"):
        spark.call("totals", **given)
    assert spark.call("totals", failOnDataLoss="false", **given)[0] == "370"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"startingOfsets": "earliest"}, "did you mean 'startingOffsets'"),
        ({"subscribe": "nowhere-at-all"}, "TopicMissing"),
        ({"startingOffsets": "latest"}, "a batch would be empty"),
    ],
)
def test_errors_say_what_to_do(
    spark: Session, options: dict[str, str], given: dict[str, str], told: str
) -> None:
    with pytest.raises(RuntimeError, match=re.escape(told)):
        spark.call("totals", **(options | given))


def test_the_examples_run(spark: Session, kafka: str, topics: Topics) -> None:
    """Those of the how-to page, one after the other."""
    topic = topics.create(partitions=2)
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(topic, b"7", b"anna", 0)
    assert producer.flush(30) == 0
    page = (ROOT / "docs" / "howto" / "spark.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python no-run\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        spark.call("example", code=example.replace("localhost:9092", kafka).replace('"orders"', repr(topic)))


def test_a_cluster_of_two_workers(kafka: str, topics: Topics, folder: Path) -> None:
    """Two applications at once on it, two jobs at once in each: exact, and tasks run on both workers."""
    topic = topics.create(partitions=PARTITIONS, config=KEPT)
    fill(kafka, topic)
    given = {"kafka.bootstrap.servers": kafka, "subscribe": topic, "minPartitions": "8"}
    settings = {"spark.executor.memory": "512m", "spark.executor.cores": "1", "spark.cores.max": "1"}
    place = folder / "cluster"
    probes = place / "probes"
    found: list[Any] = []
    for made in (place, place / "a", place / "b", probes):
        made.mkdir()

    def run(session: Session) -> None:
        found.append(session.call("at_once", jobs=2, **given))

    with (
        spark_environment.cluster(place) as cluster,
        spark_environment.session(place / "a", master=cluster.master, settings=settings) as one,
        spark_environment.session(place / "b", master=cluster.master, settings=settings) as other,
    ):
        threads = [threading.Thread(target=run, args=(session,)) for session in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = one.call("totals", **given)
        for session in (one, other):
            assert session.call("probed", folder=str(probes), **given) == RECORDS
    assert expected[0] == str(RECORDS)
    assert found == [[expected] * 2] * 2
    assert len(list(probes.iterdir())) >= 2
