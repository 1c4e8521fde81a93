"""`lag` and `doctor` on a real broker: what the embedded one cannot describe."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from headrace.cli import execute
from headrace.cli.exits import Exit

if TYPE_CHECKING:
    from tests.topics import Topics

pytestmark = pytest.mark.slow
WAIT_S = 20.0


def test_lag_finds_a_groups_topics_by_itself(
    kafka: str, topics: Topics, group_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = topics.create(partitions=2)
    producer = Producer({"bootstrap.servers": kafka})
    for _ in range(5):
        producer.produce(topic, b"v", partition=0)
    assert producer.flush(WAIT_S) == 0
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group_id})
    consumer.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    consumer.close()
    assert execute(["lag", group_id, "-b", kafka, "--json"]) is Exit.OK
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(r["partition"], r["committed"], r["end"], r["lag"]) for r in rows] == [
        (0, 3, 5, 2),
        (1, None, 0, 0),
    ]


def test_lag_of_a_group_that_committed_nothing_says_so(
    kafka: str, group_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["lag", group_id, "-b", kafka]) is Exit.USAGE
    assert "committed nothing" in capsys.readouterr().err


def test_doctor_finds_a_healthy_broker_and_a_missing_topic(
    kafka: str, topics: Topics, group_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = topics.create()
    assert execute(["doctor", "-b", kafka, "-t", topic, "-g", group_id]) is Exit.OK
    out = capsys.readouterr().out
    assert "speaks like Kafka" in out
    assert f"group {group_id}: no members now" in out
    assert execute(["doctor", "-b", kafka, "-t", f"{topic}-missing"]) is Exit.FAILED
    assert "problem topic" in capsys.readouterr().out


@pytest.mark.parametrize(("strategy", "code"), [("range", Exit.FAILED), ("cooperative-sticky", Exit.OK)])
def test_doctor_warns_of_a_group_with_another_assignor(
    kafka: str, topics: Topics, group_id: str, strategy: str, code: Exit, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cooperative member would be refused by a group of range members, and cannot offer both."""
    topic = topics.create(partitions=2)
    consumer = Consumer(
        {"bootstrap.servers": kafka, "group.id": group_id, "partition.assignment.strategy": strategy}
    )
    consumer.subscribe([topic])
    try:
        for _ in range(100):
            if consumer.assignment():
                break
            consumer.poll(0.2)
        assert consumer.assignment()
        assert execute(["doctor", "-b", kafka, "-t", topic, "-g", group_id]) is code
    finally:
        consumer.close()
    out = capsys.readouterr().out
    assert f"assignor {strategy}" in out
    assert ("INCONSISTENT_GROUP_PROTOCOL" in out) is (code is Exit.FAILED)
