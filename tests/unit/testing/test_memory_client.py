"""The client in memory keeps the contract of `ports.Client`: when it calls back, and what it hands over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.errors import TopicMissing
from headrace.ports import CommitRequest, CommitResult, Fault
from headrace.testing.memory_client import MemoryClient
from headrace.testing.memory_kafka import MemoryKafka, RawRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.ports import Polled, TopicPartition

A0, A1 = ("a", 0), ("a", 1)


class Listener:
    """Answers an assignment at the start, and notes all calls."""

    def __init__(self, client: MemoryClient) -> None:
        self.client = client
        self.calls: list[tuple[str, object]] = []

    def on_assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.calls.append(("assign", list(partitions)))
        self.client.assign(dict.fromkeys(partitions, 0))

    def on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        self.calls.append(("revoke", list(partitions)))

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.calls.append(("lost", list(partitions)))

    def on_commit(self, results: Sequence[CommitResult]) -> None:
        self.calls.append(("commit", list(results)))


@pytest.fixture
def kafka() -> MemoryKafka:
    kafka = MemoryKafka({"a": 2})
    for number in range(4):
        kafka.append(RawRecord("a", value=b"%d" % number, partition=number % 2, timestamp_ms=number))
    return kafka


@pytest.fixture
def client(kafka: MemoryKafka) -> MemoryClient:
    return MemoryClient(kafka, idle=lambda _: None)


@pytest.fixture
def listener(client: MemoryClient) -> Listener:
    listener = Listener(client)
    client.subscribe(["a"], listener)
    return listener


def offsets(polled: Polled) -> list[tuple[str, int, list[int | None]]]:
    return [
        (topic, number, [record.offset() for record in records]) for topic, number, records in polled.groups
    ]


def test_partitions_come_in_a_poll(client: MemoryClient, listener: Listener) -> None:
    assert listener.calls == []
    assert offsets(client.poll(10, 0.0)) == [("a", 0, [0, 1]), ("a", 1, [0, 1])]
    assert listener.calls == [("assign", [A0, A1])]


def test_poll_gives_no_more_than_asked(client: MemoryClient, listener: Listener) -> None:
    assert [client.poll(3, 0.0).count, client.poll(3, 0.0).count, client.poll(3, 0.0).count] == [3, 1, 0]


def test_paused_partitions_bring_nothing(client: MemoryClient, listener: Listener) -> None:
    client.poll(1, 0.0)
    client.pause([A0, ("b", 0)])
    assert offsets(client.poll(10, 0.0)) == [("a", 1, [0, 1])]
    client.resume([A0])
    assert offsets(client.poll(10, 0.0)) == [("a", 0, [1])]


def test_seek_moves_only_what_is_assigned(client: MemoryClient, listener: Listener) -> None:
    client.poll(10, 0.0)
    client.seek(A0, 1, 0.0)
    client.seek(("b", 0), 1, 0.0)
    assert client.positions([A0, A1, ("b", 0)]) == {A0: 1, A1: 2}


def test_commits_are_answered_by_a_later_poll(
    kafka: MemoryKafka, client: MemoryClient, listener: Listener
) -> None:
    client.poll(10, 0.0)
    client.refuse_commits("REBALANCE_IN_PROGRESS")
    client.commit([CommitRequest("a", 0, 1)])
    client.commit([CommitRequest("a", 1, 2, "map")])
    assert len(listener.calls) == 1
    client.poll(10, 0.0)
    assert listener.calls[1:] == [
        ("commit", [CommitResult("a", 0, 1, "REBALANCE_IN_PROGRESS")]),
        ("commit", [CommitResult("a", 1, 2, None)]),
    ]
    found = client.committed([A0, A1], 1.0)
    assert found is not None
    assert [(place.offset, place.metadata) for place in found] == [(None, ""), (2, "map")]


def test_partitions_go_and_come_back(client: MemoryClient, listener: Listener) -> None:
    client.poll(10, 0.0)
    client.revoke(A0)
    client.lose(A1)
    client.poll(10, 0.0)
    assert client.positions([A0, A1]) == {}
    client.give(A0)
    assert offsets(client.poll(10, 0.0)) == [("a", 0, [0, 1])]
    assert listener.calls[1:] == [("revoke", [A0]), ("lost", [A1]), ("assign", [A0])]


def test_faults_are_returned_once(client: MemoryClient, listener: Listener) -> None:
    fault = Fault("log", "_TRANSPORT", "away")
    client.report(fault)
    assert client.poll(1, 0.0).faults == [fault]
    assert client.poll(1, 0.0).faults == []


def test_new_topics_of_a_pattern_are_found(kafka: MemoryKafka, client: MemoryClient) -> None:
    listener = Listener(client)
    client.subscribe(["^(a|b.*)$"], listener)
    client.poll(10, 0.0)
    kafka.append(RawRecord("b1"))
    kafka.append(RawRecord("c"))
    client.poll(10, 0.0)
    assert listener.calls == [("assign", [A0, A1]), ("assign", [("b1", 0)])]


def test_places_are_looked_up(client: MemoryClient) -> None:
    assert client.resolve({A0: "latest", A1: 2}, 1.0) == {A0: 2, A1: 1}
    assert client.resolve({A0: "earliest", A1: 99}, 1.0) == {A0: 0, A1: 2}


def test_missing_topics_are_named(client: MemoryClient) -> None:
    with pytest.raises(TopicMissing, match="b, c"):
        client.check(["a", "b", "c"], 1.0)


def test_close_gives_everything_back_once(client: MemoryClient, listener: Listener) -> None:
    client.poll(1, 0.0)
    assert client.close(1.0)
    assert client.close(1.0)
    assert listener.calls[1:] == [("revoke", [A0, A1])]


def test_a_poll_that_may_wait_waits_for_a_record(kafka: MemoryKafka) -> None:
    client = MemoryClient(kafka)
    client.subscribe(["a"], Listener(client))
    client.poll(10, 0.0)
    assert client.poll(10, 0.001).count == 0


def test_keys_decide_the_partition() -> None:
    kafka = MemoryKafka({"a": 8})
    places = [
        {kafka.append(RawRecord("a", b"%d" % key)).raw.partition for _ in range(3)} for key in range(50)
    ]
    assert all(len(place) == 1 for place in places)
    assert len(set.union(*places)) > 1
