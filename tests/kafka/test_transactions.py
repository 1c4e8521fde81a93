"""Topics of transactional producers: markers count as offsets and are never delivered, nor is what was aborted."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from headrace import App, Commit, Record
from tests.kafka.witness import PROTOCOLS, WAIT_S, Group, Protocol, group_of, running, wait_until
from tests.kafka_server import SCRIPT

if TYPE_CHECKING:
    from tests.topics import Topics

PARTITIONS = 2
COMMITTED = 20


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_trailing_markers_leave_no_lag_and_aborted_records_are_never_seen(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    """Lag is 0 by Kafka's own tool, while the app runs and after a clean stop."""
    topic = topics.create(partitions=PARTITIONS)
    values: list[bytes | None] = []
    app = App(kafka, group_id, group_protocol=protocol, commit=Commit(every_s=0.1))

    @app.subscribe(topic)
    def handle(record: Record[Any, Any]) -> None:
        values.append(record.raw_value)

    with running(app), group_of(kafka, group_id) as group:
        produce_transactions(kafka, topic)
        # Markers are written after the producer was answered: the end moves on by itself.
        wait_until(
            lambda: all(has_no_lag(group, topic, p) for p in range(PARTITIONS)), "no lag while it runs"
        )
        produce_transactions(kafka, topic)
        wait_until(
            lambda: ends_of(group, topic) == [2 * (COMMITTED + 5 + 2)] * PARTITIONS, "markers are written"
        )
        wait_until(lambda: all(has_no_lag(group, topic, p) for p in range(PARTITIONS)), "no lag again")
    assert values.count(b"committed") == len(values) == 2 * PARTITIONS * COMMITTED
    assert lags(kafka, group_id, topic) == ["0"] * PARTITIONS


def produce_transactions(kafka: str, topic: str) -> None:
    """One committed transaction, then an aborted one, on every partition."""
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic})
    producer.init_transactions(WAIT_S)
    for outcome, count in ((b"committed", COMMITTED), (b"aborted", 5)):
        producer.begin_transaction()
        for partition in range(PARTITIONS):
            for number in range(count):
                producer.produce(topic, outcome, f"key-{number}".encode(), partition)
        producer.flush(WAIT_S)
        if outcome == b"committed":
            producer.commit_transaction(WAIT_S)
        else:
            producer.abort_transaction(WAIT_S)


def ends_of(group: Group, topic: str) -> list[int]:
    """Where each partition ends, markers and aborted records counted."""
    return [group.ends(topic, partition)[1] for partition in range(PARTITIONS)]


def has_no_lag(group: Group, topic: str, partition: int) -> bool:
    """Whether all of a partition is committed, and there is something."""
    end = group.ends(topic, partition)[1]
    return end > COMMITTED and group.committed(topic, partition) == end


def lags(kafka: str, group_id: str, topic: str) -> list[str]:
    """The column LAG of Kafka's own tool, for the partitions of the topic."""
    command = [str(SCRIPT), "tool", "kafka-consumer-groups", "--bootstrap-server", kafka]
    described = subprocess.run(
        [*command, "--describe", "--group", group_id],
        check=True,
        capture_output=True,
        text=True,
        timeout=2 * WAIT_S,  # it starts a Java of its own
    ).stdout
    rows = [line.split() for line in described.splitlines() if line.strip()]
    column = next(row.index("LAG") for row in rows if "LAG" in row)
    return [row[column] for row in rows if topic in row]
