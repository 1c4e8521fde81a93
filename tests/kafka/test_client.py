"""What the client layer counts on and the embedded broker cannot show: transactions, timestamps, limits, a second broker's opinion."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from headrace._client.admin import Observer
from headrace._client.consumer import KafkaClient
from headrace._client.lag import PartitionLag
from headrace._client.settings import ConnectionSettings
from headrace.errors import NotAuthorized
from headrace.ports import CommitRequest
from tests.embedded.client.support import PROTOCOLS, Listener, poll_until

if TYPE_CHECKING:
    from tests.kafka_server import SecureAddresses
    from tests.topics import Topics

WAIT_S = 20.0


def joined(kafka: str, group_id: str, topic: str, protocol: str) -> tuple[KafkaClient, Listener]:
    """A member that was given the topic."""
    user = {"partition.assignment.strategy": "range"} if protocol == "eager" else {}
    settings = ConnectionSettings(
        kafka, group_id, user, group_protocol="consumer" if protocol == "kip848" else "classic"
    )
    client = KafkaClient(settings)
    listener = Listener(client)
    client.check([topic], WAIT_S)
    client.subscribe([topic], listener)
    poll_until(client, lambda: bool(listener.told), listener.taken)
    return client, listener


def produce_transactions(kafka: str, topic: str) -> int:
    """20 records in two committed transactions, then one aborted record; returns the time before all, in ms."""
    before_ms = int(time.time() * 1000)
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic, "log_level": 0})
    producer.init_transactions(WAIT_S)
    for _ in range(2):
        producer.begin_transaction()
        for _ in range(10):
            producer.produce(topic, b"value", partition=0)
        producer.commit_transaction(WAIT_S)
    producer.begin_transaction()
    producer.produce(topic, b"aborted", partition=0)
    producer.flush()
    producer.abort_transaction(WAIT_S)
    return before_ms


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_positions_pass_trailing_markers_and_aborted_records(
    kafka: str, topics: Topics, group_id: str, protocol: str
) -> None:
    """20 records, two commit markers, one aborted record, its marker: the end is 24, and so is the position."""
    topic = topics.create()
    produce_transactions(kafka, topic)
    client, listener = joined(kafka, group_id, topic, protocol)
    poll_until(client, lambda: client.positions([(topic, 0)]) == {(topic, 0): 24}, listener.taken)
    assert listener.taken.count == 20
    client.commit([CommitRequest(topic, 0, 24, "map", 0)])
    poll_until(client, lambda: bool(listener.commits))
    assert client.close(5.0)
    observer = Observer(ConnectionSettings(kafka, group_id))
    assert observer.lag(group_id, None, WAIT_S) == [PartitionLag(topic, 0, 24, 0, 24)]


def test_offsets_by_rule_and_by_time_in_one_question(kafka: str, topics: Topics, group_id: str) -> None:
    topic = topics.create(partitions=4)
    before_ms = produce_transactions(kafka, topic)
    client, _ = joined(kafka, group_id, topic, "cooperative")
    after_ms = int(time.time() * 1000) + 60_000
    wanted: dict[tuple[str, int], str | int] = {
        (topic, 0): "latest",
        (topic, 1): "earliest",
        (topic, 2): before_ms,
    }
    # The last transaction was aborted; its marker is written a moment later.
    poll_until(client, lambda: client.resolve({(topic, 0): "latest"}, WAIT_S) == {(topic, 0): 24})
    assert client.resolve(wanted, WAIT_S) == {(topic, 0): 24, (topic, 1): 0, (topic, 2): 0}
    assert client.resolve({(topic, 0): before_ms}, WAIT_S) == {(topic, 0): 0}
    assert client.resolve({(topic, 0): after_ms}, WAIT_S) == {(topic, 0): 24}
    assert client.close(5.0)


def test_one_refused_partition_is_reported_for_all_though_the_others_are_written(
    kafka: str, topics: Topics, group_id: str
) -> None:
    """librdkafka copies the error to each partition: what is reported refused may have been written."""
    topic = topics.create(partitions=2)
    client, listener = joined(kafka, group_id, topic, "cooperative")
    client.commit([CommitRequest(topic, 0, 3, "m" * 5000), CommitRequest(topic, 1, 5, "map")])
    poll_until(client, lambda: bool(listener.commits))
    assert [(r.partition, r.error) for r in listener.commits] == [
        (0, "OFFSET_METADATA_TOO_LARGE"),
        (1, "OFFSET_METADATA_TOO_LARGE"),
    ]
    assert client.close(5.0)
    assert Observer(ConnectionSettings(kafka, group_id)).committed(group_id, [topic], WAIT_S) == {
        (topic, 1): 5
    }


def test_a_second_static_member_of_one_name_fences_the_first(
    kafka: str, topics: Topics, group_id: str
) -> None:
    topic = topics.create()
    settings = ConnectionSettings(kafka, group_id, instance_id="worker")
    first = KafkaClient(settings)
    one = Listener(first)
    first.subscribe([topic], one)
    poll_until(first, lambda: bool(one.told), one.taken)
    second = KafkaClient(settings)
    two = Listener(second)
    second.subscribe([topic], two)
    give_up_at = time.monotonic() + WAIT_S
    while not one.taken.faults and time.monotonic() < give_up_at:
        second.poll(10, 0.05)
        one.taken.faults.extend(f for f in first.poll(10, 0.05).faults if f.kind != "log")
    assert [(f.kind, f.code) for f in one.taken.faults] == [("fenced", "FENCED_INSTANCE_ID")]
    started = time.monotonic()
    first.close(2.0)
    assert time.monotonic() - started < 6.0
    assert second.close(5.0)


def test_wrong_password_is_said_at_start_and_never_shown(
    secure_kafka: SecureAddresses, group_id: str
) -> None:
    addresses = secure_kafka
    settings = ConnectionSettings(
        addresses.sasl_ssl,
        group_id,
        {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "headrace",
            "sasl.password": "not-the-password",
            "ssl.ca.location": str(addresses.certificates / "ca.pem"),
        },
    )
    client = KafkaClient(settings)
    with pytest.raises(NotAuthorized) as refused:
        client.check(["any"], 10.0)
    assert "not-the-password" not in str(refused.value)
    client.close(2.0)
