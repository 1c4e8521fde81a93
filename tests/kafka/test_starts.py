"""Where consumption begins: without a commit, on partitions that came later, and where the log has holes or was cut."""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from headrace import App, Commit, OffsetUnavailable, Record
from tests.kafka.witness import PROTOCOLS, WAIT_S, Protocol, group_of, produce, running, wait_until

if TYPE_CHECKING:
    from tests.topics import Topics

RECORDS = 10
FIRST_MS = 1_700_000_000_000

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("protocol", PROTOCOLS)]


class Seen:
    """An app, and the offsets that its handlers saw by topic and partition."""

    def __init__(self, kafka: str, group_id: str, protocol: Protocol) -> None:
        self.app = App(
            kafka,
            group_id,
            group_protocol=protocol,
            librdkafka={"topic.metadata.refresh.interval.ms": 300},
            commit=Commit(every_s=0.1),
        )
        self.offsets: dict[tuple[str, int], list[int]] = defaultdict(list)

    def subscribe(self, topic: str, **how: Any) -> None:
        def handle(record: Record[Any, Any]) -> None:
            self.offsets[(record.topic, record.partition)].append(record.offset)

        self.app.subscribe(topic, **how)(handle)


def test_a_group_without_commits_begins_where_it_was_told_and_commits_that_at_once(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    fifth = datetime.fromtimestamp((FIRST_MS + 5000) / 1000, UTC)
    later = datetime.fromtimestamp((FIRST_MS + 5000) / 1000 + 60, UTC)
    starts: dict[str, Any] = {"earliest": "earliest", "latest": "latest", "fifth": fifth, "later": later}
    begins = {"earliest": 0, "latest": RECORDS, "fifth": 5, "later": RECORDS}
    # Records of such an age would be deleted otherwise.
    names = {topics.create(suffix=f"-{name}", config={"retention.ms": "-1"}): name for name in starts}
    seen = Seen(kafka, group_id, protocol)
    for topic, name in names.items():
        produce_with_times(kafka, topic)
        seen.subscribe(topic, start_if_no_offset=starts[name])
    with running(seen.app), group_of(kafka, group_id) as group:
        wait_until(
            lambda: all(group.committed(topic) == RECORDS for topic in names), "all starts are committed"
        )
        for topic in names:
            produce(kafka, topic, [(b"one more", b"")])
        wait_until(lambda: all(group.committed(topic) == RECORDS + 1 for topic in names), "one more each")
    for topic, name in names.items():
        assert sorted(seen.offsets[(topic, 0)]) == list(range(begins[name], RECORDS + 1)), name


def test_an_idle_partition_that_began_at_its_end_loses_nothing_between_two_members(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    """Were its start not committed, the second member would begin at the end anew and skip what came in between."""
    topic = topics.create()
    for number in range(2):
        seen = Seen(kafka, group_id, protocol)
        seen.subscribe(topic, start_if_no_offset="latest")
        with running(seen.app), group_of(kafka, group_id) as group:
            wait_until(lambda n=number: group.committed(topic) == n, "the start is committed")  # type: ignore[misc]
        produce(kafka, topic, [(b"in between", b"")])
        assert seen.offsets[(topic, 0)] == ([0] if number else [])


def test_a_group_without_commits_may_refuse_to_begin(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    topic = topics.create()
    seen = Seen(kafka, group_id, protocol)
    seen.subscribe(topic, start_if_no_offset="error")
    error = fatal_of(seen.app)
    assert (error.topic, error.partition, error.offset, error.setting) == (
        topic,
        0,
        None,
        "start_if_no_offset",
    )


def test_partitions_added_later_are_read_from_their_first_record(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    """Also by a subscription that began at the latest: to this group every record of theirs is new."""
    topic = topics.create()
    produce(kafka, topic, [(b"old", b"")])
    seen = Seen(kafka, group_id, protocol)
    seen.subscribe(topic, start_if_no_offset="latest")
    with running(seen.app), group_of(kafka, group_id) as group:
        wait_until(lambda: group.committed(topic) == 1, "the start is committed")
        admin = AdminClient({"bootstrap.servers": kafka})
        admin.create_partitions([NewPartitions(topic, 3)])[topic].result(WAIT_S)
        for partition in (1, 2):
            wait_until(lambda p=partition: can_produce(kafka, topic, p), "the new partition takes records")  # type: ignore[misc]
        wait_until(lambda: [group.committed(topic, p) for p in (1, 2)] == [1, 1], "the new ones are read")
    assert dict(seen.offsets) == {(topic, 1): [0], (topic, 2): [0]}


@pytest.mark.parametrize("how", ["stop", "earliest", "latest"])
def test_a_committed_offset_that_was_deleted_is_dealt_with_as_told(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol, how: Literal["stop", "earliest", "latest"]
) -> None:
    topic = topics.create()
    produce(kafka, topic, ((f"key-{i}".encode(), b"") for i in range(RECORDS)))
    admin = AdminClient({"bootstrap.servers": kafka})
    with group_of(kafka, group_id) as group:
        group.commit(topic, 0, 3)
        for deleted in admin.delete_records([TopicPartition(topic, 0, 8)]).values():
            deleted.result(WAIT_S)
        seen = Seen(kafka, group_id, protocol)
        seen.subscribe(topic, on_out_of_range=how)
        if how == "stop":
            error = fatal_of(seen.app)
            assert (error.topic, error.partition, error.setting) == (topic, 0, "on_out_of_range")
            assert group.committed(topic) == 3
        else:
            with running(seen.app):
                wait_until(lambda: group.committed(topic) == RECORDS, "it went on")
            assert sorted(seen.offsets[(topic, 0)]) == ([8, 9] if how == "earliest" else [])


def test_holes_that_compaction_left_are_passed(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    """The committed offset reaches the end, and what compaction kept is handled once."""
    compacted = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "0.01",
        "segment.bytes": "1048576",
        "segment.ms": "200",
        "min.compaction.lag.ms": "0",
        "delete.retention.ms": "100",
    }
    topic = topics.create(config=compacted)
    produce(kafka, topic, ((f"key-{i % 5}".encode(), b"old") for i in range(100)))

    def compacted_away() -> bool:
        # Only a closed segment is compacted, and only a new record closes one.
        produce(kafka, topic, [(b"last", b"")])
        time.sleep(0.3)
        return len(offsets_of(kafka, topic)) < 100

    wait_until(compacted_away, "compaction has taken records")
    seen = Seen(kafka, group_id, protocol)
    seen.subscribe(topic)
    with group_of(kafka, group_id) as group:
        end = group.ends(topic)[1]
        with running(seen.app):
            wait_until(lambda: group.committed(topic) == end, "the end is committed")
    handled = sorted(seen.offsets[(topic, 0)])
    assert len(handled) == len(set(handled)) < end
    assert set(offsets_of(kafka, topic)) <= set(handled)


def fatal_of(app: App) -> OffsetUnavailable:
    """What the app stops with, by itself."""
    with pytest.raises(OffsetUnavailable) as stopped:
        start_and_wait(app)
    return stopped.value


def start_and_wait(app: App) -> None:
    """Run until over."""
    app.start()
    wait_until(lambda: app.state.value in {"stopped", "failed"}, "the app stops by itself")
    app.wait()


def produce_with_times(kafka: str, topic: str) -> None:
    """Ten records, one second apart."""
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(RECORDS):
        producer.produce(topic, b"", f"key-{number}", timestamp=FIRST_MS + 1000 * number)
        assert producer.flush(WAIT_S) == 0


def can_produce(kafka: str, topic: str, partition: int) -> bool:
    """Whether one record was produced there; metadata of a new partition takes a moment."""
    try:
        produce(kafka, topic, [(b"new", b"")], partition)
    except KafkaException as refused:
        if refused.args[0].code() != KafkaError._UNKNOWN_PARTITION:
            raise
        return False
    return True


def offsets_of(kafka: str, topic: str) -> list[int]:
    """The offsets that exist, by a plain consumer."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "reads-only", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[int] = []
    while True:
        message = consumer.poll(WAIT_S)
        assert message is not None
        if message.error() is not None:
            break
        offset = message.offset()
        assert offset is not None
        found.append(offset)
    consumer.close()
    return found
