"""Restarts through the offset map: what is finished beyond a blocked head is not done again; what is doubtful is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from headrace import App, Commit, Record, RetryLater
from headrace._core import notices
from headrace._core.finished import FinishedBeyond
from headrace._core.offset_map import encode
from tests.kafka.witness import PROTOCOLS, Protocol, group_of, produce, running, wait_until
from tests.members.fleet import finished_beyond, fleet_of
from tests.members.plan import Plan
from tests.members.program import HANGS
from tests.members.verifier import verify

if TYPE_CHECKING:
    from pathlib import Path

    from headrace._core.notices import Notice
    from tests.topics import Topics

BEYOND = 500
PARTITIONS = 2


class Heads:
    """An app whose first record of each partition fails for as long as it is told to."""

    def __init__(self, kafka: str, group_id: str, topic: str, protocol: Protocol) -> None:
        self.blocked = threading.Event()
        self.blocked.set()
        self.handled: list[tuple[int, int]] = []
        self.told: list[Notice] = []
        self.app = App(kafka, group_id, group_protocol=protocol, commit=Commit(every_s=0.1))
        self.app.listen(self.told.append)
        self.app.subscribe(topic, concurrency=16)(self.handle)

    def handle(self, record: Record[Any, Any]) -> None:
        if record.offset == 0 and self.blocked.is_set():
            raise RetryLater(0.2)
        self.handled.append((record.partition, record.offset))

    def restored(self) -> int:
        return sum(notice.restored for notice in self.told if isinstance(notice, notices.PartitionAssigned))

    def rejected(self) -> dict[int, str]:
        found = [notice for notice in self.told if isinstance(notice, notices.OffsetMapRejected)]
        return {notice.partition: notice.reason for notice in found}


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_restart_repeats_the_blocked_head_and_nothing_beyond_it(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    """The broker gives map and leader epoch back as they were committed, so that the map is taken for what it is."""
    topic = topics.create(partitions=PARTITIONS)
    for partition in range(PARTITIONS):
        produce(kafka, topic, ((f"key-{i}".encode(), b"") for i in range(BEYOND + 1)), partition)
    first = Heads(kafka, group_id, topic, protocol)
    with running(first.app):
        wait_until(lambda: len(first.handled) == PARTITIONS * BEYOND, "all but the heads are handled")
    with group_of(kafka, group_id) as group:
        for partition in range(PARTITIONS):
            place = group.place(topic, partition)
            assert (place.offset, place.leader_epoch) == (0, 0)
            assert finished_beyond(place) == list(range(1, BEYOND + 1))
    second = Heads(kafka, group_id, topic, protocol)
    second.blocked.clear()
    with running(second.app), group_of(kafka, group_id) as group:
        for partition in range(PARTITIONS):
            wait_until(lambda p=partition: group.committed(topic, p) == BEYOND + 1, "all is committed")  # type: ignore[misc]
    assert second.rejected() == {}
    assert second.restored() == PARTITIONS * BEYOND
    assert sorted(second.handled) == [(partition, 0) for partition in range(PARTITIONS)]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_member_killed_behind_a_hanging_head_has_its_finished_records_kept(
    kafka: str, topics: Topics, group_id: str, tmp_path: Path, protocol: Protocol
) -> None:
    topic = topics.create()
    clocks = {"session.timeout.ms": 1000, "heartbeat.interval.ms": 300} if protocol == "classic" else None
    plan = Plan("", kafka, group_id, (topic,), "", protocol, commit_every_s=0.1, librdkafka=clocks)
    with fleet_of(plan, tmp_path, 1) as fleet:
        fleet.produce([(HANGS, b""), *((f"key-{i}".encode(), b"") for i in range(BEYOND))])
        fleet.start("first")
        place = (topic, 0)
        fleet.wait_until(
            lambda _: len(finished_beyond(fleet.committed()[place])) == BEYOND, "the map is whole"
        )
        fleet.kill("first")
        fleet.start("second")
        fleet.produce([(b"one-more", b"")])
        fleet.wait_until(
            lambda _: len(finished_beyond(fleet.committed()[place])) == BEYOND + 1, "one more is done"
        )
        starts = [line.offset for line in fleet.lines() if line.kind == "start" and line.member == "second"]
        verdict = verify(fleet.lines())
    assert sorted(starts) == [0, BEYOND + 1]
    assert verdict.names() == {"stuck"}, "the head hangs, and nothing else is wrong"


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_metadata_of_others_replays_and_never_crashes(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    """Notes of other clients, maps of another version, damaged ones, and maps that were copied beside another offset."""
    finished = FinishedBeyond(3, array_of(3, 4, 5), b"\x00\x01\x01", 6)
    good = encode(finished, leader_epoch=None).metadata
    metadata = ["", '{"owner": "a Java client"}', good[:-3] + "AAA", "hr9:AAAA", good, "\u20ac " * 300]
    topic = topics.create(partitions=len(metadata))
    with group_of(kafka, group_id) as group:
        for partition, text in enumerate(metadata):
            produce(kafka, topic, ((f"key-{i}".encode(), b"") for i in range(10)), partition)
            group.commit(topic, partition, 4, text)
        member = Heads(kafka, group_id, topic, protocol)
        expected = [(partition, offset) for partition in range(len(metadata)) for offset in range(4, 10)]
        with running(member.app):
            wait_until(lambda: len(member.handled) >= len(expected), "all beyond the commits is handled")
        assert [group.committed(topic, partition) for partition in range(len(metadata))] == [10] * len(
            metadata
        )
    assert sorted(member.handled) == expected
    assert member.rejected() == {1: "foreign", 2: "corrupt", 3: "version", 4: "base mismatch", 5: "foreign"}


def array_of(*offsets: int) -> Any:
    """Offsets as a ledger keeps them."""
    from array import array

    return array("q", offsets)
