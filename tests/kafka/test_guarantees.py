"""The weaker guarantees, acknowledgement by hand, dead letters and produced records, with a real broker's answers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal

import pytest
from confluent_kafka import Consumer, TopicPartition

from headrace import App, Commit, Record, Reject
from tests.kafka.witness import PROTOCOLS, WAIT_S, Protocol, group_of, produce, running, wait_until
from tests.members.fleet import finished_beyond, fleet_of
from tests.members.plan import Plan
from tests.members.verifier import verify

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from confluent_kafka import Message

    from tests.members.ledger import Line
    from tests.topics import Topics

RECORDS = 60

both_protocols = pytest.mark.parametrize("protocol", PROTOCOLS)
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("guarantee", "protocol"),
    [("at_most_once", "classic"), ("at_most_once", "consumer"), ("none", "classic")],
)
def test_weaker_guarantees_over_a_kill_and_a_clean_stop(
    kafka: str,
    topics: Topics,
    group_id: str,
    tmp_path: Path,
    protocol: Protocol,
    guarantee: Literal["at_most_once", "none"],
) -> None:
    """At most once: no record starts twice, and none starts before its commit. None: whatever was committed is passed."""
    topic = topics.create(partitions=2)
    clocks = {"session.timeout.ms": 1000, "heartbeat.interval.ms": 300} if protocol == "classic" else None
    how = {"guarantee": guarantee, "concurrency": 4}
    plan = Plan("", kafka, group_id, (topic,), "", protocol, slow_ms=40, librdkafka=clocks, subscribe=how)
    with fleet_of(plan, tmp_path, 2) as fleet:
        fleet.produce((f"key-{i}".encode(), b"") for i in range(400))
        fleet.start("first")
        fleet.wait_until(lambda lines: starts(lines, "first") > 50, "it is at work")
        fleet.kill("first")
        fleet.start("second")
        fleet.produce((f"key-{i}".encode(), b"") for i in range(100))
        # Not stopped before: a stop drops what waits for its commit's answer, though the broker has written it.
        fleet.wait_until(lambda lines: starts(lines, "second") >= 50, "the next one is at work")
        fleet.wait_until_settled()
        assert fleet.stop() == [0]
        lines = fleet.lines()
    assert starts(lines, "second") >= 100
    if guarantee == "at_most_once":
        verdict = verify(lines, delivery="at_most_once")
        assert not verdict.anomalies, verdict
        assert begun_beyond_commits(lines) == []


@both_protocols
def test_records_are_acknowledged_by_hand_from_another_thread_in_any_order(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    """Nothing is committed past a record that is not acknowledged; those acknowledged beyond it are in the map."""
    topic = topics.create()
    produce(kafka, topic, ((f"key-{i}".encode(), b"") for i in range(RECORDS)))
    taken: list[Record[Any, Any]] = []
    app = App(kafka, group_id, group_protocol=protocol, commit=Commit(every_s=0.1))
    app.subscribe(topic, ack="manual")(taken.append)
    with running(app), group_of(kafka, group_id) as group:
        wait_until(lambda: len(taken) == RECORDS, "all are handled")
        taken.sort(key=lambda record: record.offset, reverse=True)
        acknowledge = threading.Thread(target=lambda: [record.ack() for record in taken[:-1]])
        acknowledge.start()
        beyond = list(range(1, RECORDS))
        wait_until(lambda: finished_beyond(group.place(topic)) == beyond, "the map has all but the first")
        assert group.committed(topic) == 0
        acknowledge.join(WAIT_S)
        assert taken[-1].ack()
        wait_until(lambda: group.committed(topic) == RECORDS, "the last one closes the gap")
    assert not taken[0].ack(), "the partition is not ours any more"


@both_protocols
def test_dead_letters_are_written_before_their_records_are_committed(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    """A dead letter is its record, with headers that say where it came from and why."""
    topic, dead = topics.create(), topics.create(suffix="-dead")
    produce(kafka, topic, ((f"key-{i}".encode(), b"value-%d" % i) for i in range(RECORDS)))
    app = App(kafka, group_id, group_protocol=protocol, commit=Commit(every_s=0.05))

    @app.subscribe(topic, dead_letter=dead)
    def handle(record: Record[Any, Any]) -> None:
        if record.offset % 2:
            raise Reject("odd")

    with running(app), group_of(kafka, group_id) as group:
        while (committed := group.committed(topic) or 0) < RECORDS:
            # The commit was read first: whatever it passed must be there by now.
            letters = group.ends(dead)[1]
            assert letters >= committed // 2
        letters = group.ends(dead)[1]
    read = read_all(kafka, dead)
    assert len(read) == letters == RECORDS // 2
    for message in read:
        headers = dict(message.headers() or [])
        offset = int(headers["headrace-original-offset"])  # type: ignore[arg-type] # ours are never None
        assert headers["headrace-original-topic"] == topic.encode()
        assert headers["headrace-group"] == group_id.encode()
        assert headers["headrace-error-message"] == b"odd"
        assert (message.key(), message.value()) == (f"key-{offset}".encode(), b"value-%d" % offset)


@both_protocols
@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_handler_produces_is_acknowledged_before_its_record_is_committed(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol, is_async: bool
) -> None:
    source, target = topics.create(), topics.create(suffix="-out")
    produce(kafka, source, ((f"key-{i}".encode(), b"%d" % i) for i in range(RECORDS)))
    app = App(kafka, group_id, group_protocol=protocol, commit=Commit(every_s=0.05))

    def handle(record: Record[Any, Any]) -> None:
        app.produce(target, record.raw_value, key=record.raw_key)

    async def handle_async(record: Record[Any, Any]) -> None:
        await app.produce(target, record.raw_value, key=record.raw_key)

    app.subscribe(source)(handle_async if is_async else handle)
    with running(app), group_of(kafka, group_id) as group:
        while (committed := group.committed(source) or 0) < RECORDS:
            assert group.ends(target)[1] >= committed
    values = [message.value() or b"" for message in read_all(kafka, target)]
    assert sorted(values) == sorted(b"%d" % i for i in range(RECORDS))


def starts(lines: Sequence[Line], member: str) -> int:
    """How many handlers a member started."""
    return sum(line.kind == "start" and line.member == member for line in lines)


def begun_beyond_commits(lines: Sequence[Line]) -> list[tuple[int, int]]:
    """Records that the killed member had started although the broker, right after the kill, held no commit of them."""
    held = {line.partition: line.offset for line in lines if line.kind == "confirmed"}
    return [
        (line.partition, line.offset)
        for line in lines
        if line.kind == "start" and line.member == "first" and line.offset >= held[line.partition]
    ]


def read_all(kafka: str, topic: str) -> list[Message]:
    """Every record of a topic's one partition, by a plain consumer."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "reads-only", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[Message] = []
    while True:
        message = consumer.poll(WAIT_S)
        assert message is not None
        if message.error() is not None:
            break
        found.append(message)
    consumer.close()
    return found
