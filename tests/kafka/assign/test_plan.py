"""`headrace plan` on a live group."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, Producer

from headrace.cli import execute
from headrace.cli.exits import Exit
from tests.kafka.assign.members import KafkaPython

if TYPE_CHECKING:
    from tests.topics import Topics

pytestmark = pytest.mark.slow


def test_a_live_group_is_read_and_planned(
    kafka: str, topics: Topics, group_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The forecast of one more member is what then happens."""
    topic = topics.create(partitions=6)
    first = KafkaPython(kafka, group_id, topic, "cooperative-sticky")
    try:
        give_up_at = time.monotonic() + 20
        while len(first.owned()) < 6:
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
        assert execute(["plan", group_id, "-b", kafka, "--add-members", "1", "--json"]) is Exit.OK
        told = json.loads(capsys.readouterr().out)
        assert told["assignor"] == "cooperative-sticky"
        assert len(told["handovers"]) == 3
        moved = frozenset(int(one["partition"]) for one in told["handovers"])
        second = KafkaPython(kafka, group_id, topic, "cooperative-sticky")
        try:
            while second.owned() != moved:
                assert time.monotonic() < give_up_at
                time.sleep(0.05)
        finally:
            second.stop()
    finally:
        first.stop()


def test_lag_and_rate_of_a_live_group(
    kafka: str, topics: Topics, group_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A member of librdkafka that commits nothing is behind by all there is; what is written meanwhile is its rate."""
    topic = topics.create(partitions=4)
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(40):
        producer.produce(topic, b"%d" % number, partition=number % 4)
    assert producer.flush(20) == 0
    settings: dict[str, Any] = {"bootstrap.servers": kafka, "group.id": group_id, "enable.auto.commit": False}
    member = Consumer(settings)
    try:
        member.subscribe([topic])
        give_up_at = time.monotonic() + 20
        while len(member.assignment()) < 4:
            assert time.monotonic() < give_up_at
            member.poll(0.1)

        def write_on() -> None:
            while not written.is_set():
                producer.produce(topic, b"more", partition=0)
                producer.flush(20)
                written.wait(0.05)

        written = threading.Event()
        writing = threading.Thread(target=write_on)
        writing.start()
        try:
            asked = ["plan", group_id, "-b", kafka, "--add-members", "1", "--rate-over", "0.5", "--json"]
            assert execute(asked) is Exit.OK
        finally:
            written.set()
            writing.join()
        told = json.loads(capsys.readouterr().out)
        assert told["assignor"] == "range"
        (now,) = told["loads"]["lag"]["before"].values()
        assert now >= 40
        assert sum(told["loads"]["lag"]["after"].values()) == now
        (rate,) = told["loads"]["records/s"]["before"].values()
        assert rate > 0
    finally:
        member.close()


def test_a_group_without_members_is_refused(
    kafka: str, group_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["plan", group_id, "-b", kafka]) is Exit.USAGE
    assert "has no members" in capsys.readouterr().err
