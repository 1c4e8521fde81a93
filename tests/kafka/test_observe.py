"""Lag as reporters tell it, against Kafka's own tool: at rest, with transactions, with compaction."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from headrace import App, Commit, Record
from headrace.observe import Reporting, Unknown
from tests.kafka.test_starts import offsets_of
from tests.kafka.test_transactions import PARTITIONS, produce_transactions
from tests.kafka.witness import WAIT_S, produce, running, wait_until
from tests.kafka_server import SCRIPT

if TYPE_CHECKING:
    from headrace.observe import Report
    from headrace.observe.metrics import Value
    from tests.topics import Topics


COMPACTED = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.01",
    "segment.bytes": "1048576",
    "segment.ms": "200",
    "min.compaction.lag.ms": "0",
    "delete.retention.ms": "100",
}


class Last:
    """The last report."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}

    def report(self, report: Report) -> None:
        self.values = {sample.key.removeprefix("headrace_"): sample.value for sample in report.samples}

    def close(self) -> None:
        """Nothing to close."""


def of(last: Last, metric: str, topic: str, partition: int) -> Value | None:
    return last.values.get(f"partition_{metric}{{topic={topic},partition={partition}}}")


def described(kafka: str, group: str, topic: str) -> dict[int, tuple[int, int, int]]:
    """Committed offset, end and lag of each partition, as `kafka-consumer-groups.sh --describe` prints them."""
    command = [str(SCRIPT), "tool", "kafka-consumer-groups", "--bootstrap-server", kafka]
    said = subprocess.run(
        [*command, "--describe", "--group", group], capture_output=True, text=True, check=True, timeout=40
    )
    rows = [line.split() for line in said.stdout.splitlines()]
    return {int(r[2]): (int(r[3]), int(r[4]), int(r[5])) for r in rows if len(r) > 5 and r[1] == topic}


def reported(last: Last, topic: str) -> dict[int, tuple[Any, Any, Any]]:
    names = ("committed_offset", "end_offset", "lag_records")
    return {p: tuple(of(last, name, topic, p) for name in names) for p in range(PARTITIONS)}  # type: ignore[misc] # three


@pytest.mark.slow
@pytest.mark.parametrize(
    "isolation", ["read_committed", pytest.param("read_uncommitted", marks=pytest.mark.full)]
)
def test_lag_at_rest_is_what_kafkas_own_tool_prints(
    kafka: str, topics: Topics, group_id: str, isolation: str
) -> None:
    """With committed and aborted transactions, whose markers count, and a head that stands still, so that there is lag."""
    topic, last, stuck = topics.create(partitions=PARTITIONS), Last(), [True]
    app = App(
        kafka,
        group_id,
        commit=Commit(every_s=0.1),
        librdkafka={"isolation.level": isolation},
        reporters=[Reporting(last, 0.2)],
    )

    @app.subscribe(topic, order_by="partition")
    def handle(record: Record[Any, Any]) -> None:
        while stuck[0] and record.offset >= 10:
            time.sleep(0.02)

    produce_transactions(kafka, topic)
    with running(app):
        wait_until(lambda: all(row[0] == 10 for row in reported(last, topic).values()), "ten are committed")
        assert reported(last, topic) == described(kafka, group_id, topic)
        assert all(row[2] > 0 for row in reported(last, topic).values())
        stuck[0] = False
        wait_until(lambda: all(row[2] == 0 for row in reported(last, topic).values()), "no lag")
        assert reported(last, topic) == described(kafka, group_id, topic)
        assert last.values[f"topic_lag_records{{topic={topic}}}"] == 0


@pytest.mark.slow
def test_an_open_transaction_is_beyond_the_stable_offset_and_is_no_lag(
    kafka: str, topics: Topics, group_id: str
) -> None:
    topic, last = topics.create(partitions=PARTITIONS), Last()
    app = App(kafka, group_id, commit=Commit(every_s=0.1), reporters=[Reporting(last, 0.2)])
    app.subscribe(topic)(print_nothing)
    plain = Producer({"bootstrap.servers": kafka})
    plain.produce(topic, b"plain", partition=0)
    assert plain.flush(WAIT_S) == 0
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic})
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    for _ in range(3):
        producer.produce(topic, b"open", partition=0)
    producer.flush(WAIT_S)
    with running(app):
        wait_until(lambda: of(last, "end_offset", topic, 0) == 4, "the end")
        wait_until(lambda: of(last, "committed_offset", topic, 0) == 1, "the commit")
        wait_until(lambda: of(last, "lag_records", topic, 0) == 0, "no lag")
        assert of(last, "last_stable_offset", topic, 0) == 1
        producer.commit_transaction(WAIT_S)
        wait_until(lambda: of(last, "last_stable_offset", topic, 0) == 5, "the marker")
        wait_until(lambda: of(last, "lag_records", topic, 0) == 0, "no lag again")


@pytest.mark.full
def test_compaction_leaves_holes_and_no_lag(kafka: str, topics: Topics, group_id: str) -> None:
    """Holes are offsets that exist for nobody: the lag at rest is 0, as Kafka's own tool says."""
    topic, last = topics.create(config=COMPACTED), Last()
    produce(kafka, topic, ((f"key-{number % 5}".encode(), b"old") for number in range(100)))

    def compacted_away() -> bool:
        produce(
            kafka, topic, [(b"last", b"")]
        )  # only a closed segment is compacted, and only a record closes one
        time.sleep(0.3)
        return len(offsets_of(kafka, topic)) < 100

    wait_until(compacted_away, "compaction has taken records")
    app = App(kafka, group_id, commit=Commit(every_s=0.1), reporters=[Reporting(last, 0.2)])
    app.subscribe(topic)(print_nothing)
    with running(app):
        wait_until(lambda: of(last, "lag_records", topic, 0) == 0, "no lag")
        found = described(kafka, group_id, topic)[0]
        assert (of(last, "committed_offset", topic, 0), of(last, "end_offset", topic, 0), 0) == found
    assert not isinstance(of(last, "lag_records", topic, 0), Unknown)


def print_nothing(_record: Record[Any, Any]) -> None:
    """A handler that only returns."""
