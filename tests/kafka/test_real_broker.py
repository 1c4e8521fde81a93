"""The broker the other tests stand on: it speaks both group protocols and keeps the settings they count on.

Uses the raw client only, so that a failure here is never Headrace's.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

if TYPE_CHECKING:
    from tests.topics import Topics

RECORDS = [(f"key-{i % 7}".encode(), f"value-{i}".encode()) for i in range(100)]
WAIT_S = 20.0


@pytest.mark.parametrize("group_protocol", ["classic", "consumer"])
def test_records_come_back_through_either_group_protocol(
    kafka: str, topics: Topics, group_id: str, group_protocol: str
) -> None:
    """Each of 100 records is consumed once, in order per partition, and the committed offsets add up."""
    topic = topics.create(partitions=4)
    produce(kafka, topic)
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": group_id,
            "group.protocol": group_protocol,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    try:
        consumed = consume(consumer, len(RECORDS))
        consumer.commit(asynchronous=False)
        committed = consumer.committed(consumer.assignment(), timeout=WAIT_S)
    finally:
        consumer.close()
    assert sorted(consumed) == sorted(RECORDS)
    for key in {key for key, _ in RECORDS}:
        assert [pair for pair in consumed if pair[0] == key] == [pair for pair in RECORDS if pair[0] == key]
    assert sum(max(partition.offset, 0) for partition in committed) == len(RECORDS)


def test_broker_runs_on_short_clocks(kafka: str) -> None:
    """The settings that keep the suite fast are in force; a foreign broker may have others."""
    admin = AdminClient({"bootstrap.servers": kafka})
    broker_id = next(iter(admin.list_topics(timeout=WAIT_S).brokers))
    resource = ConfigResource(ResourceType.BROKER, str(broker_id))
    settings = admin.describe_configs([resource])[resource].result(WAIT_S)
    if settings["offsets.topic.num.partitions"].value != "4":
        pytest.skip("not the broker of scripts/kafka")
    assert settings["group.initial.rebalance.delay.ms"].value == "0"
    assert settings["group.min.session.timeout.ms"].value == "1000"
    assert settings["group.consumer.heartbeat.interval.ms"].value == "500"
    assert settings["auto.create.topics.enable"].value == "false"


def test_kcat_reads_what_the_client_wrote(kafka: str, topics: Topics) -> None:
    """A client of other hands sees the same records: what is on the wire is Kafka, not our reading of it."""
    kcat = shutil.which("kcat")
    if kcat is None:
        pytest.skip("kcat is not installed")
    topic = topics.create()
    produce(kafka, topic)
    command = [
        kcat,
        "-C",
        "-b",
        kafka,
        "-t",
        topic,
        "-o",
        "beginning",
        "-e",
        "-q",
        "-K",
        "=",
        "-X",
        "socket.timeout.ms=9000",
    ]
    output = subprocess.run(command, check=True, capture_output=True, timeout=WAIT_S).stdout
    assert output.splitlines() == [key + b"=" + value for key, value in RECORDS]


def produce(kafka: str, topic: str) -> None:
    """Write RECORDS and wait until the broker has acknowledged all."""
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5})
    for key, value in RECORDS:
        producer.produce(topic, key=key, value=value)
    assert producer.flush(WAIT_S) == 0


def consume(consumer: Consumer, count: int) -> list[tuple[bytes | None, bytes | None]]:
    """Poll until so many records came, within a bound."""
    consumed: list[tuple[bytes | None, bytes | None]] = []
    deadline = time.monotonic() + WAIT_S
    while len(consumed) < count:
        assert time.monotonic() < deadline, f"{len(consumed)} of {count} records within {WAIT_S} s"
        record = consumer.poll(0.5)
        if record is not None:
            assert record.error() is None, record.error()
            consumed.append((record.key(), record.value()))
    return consumed
