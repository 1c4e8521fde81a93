"""Apps with several connections on a real Kafka: they find their number, keep it, and no record pays for it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from headrace import App, AppState, Commit, Connections, Record
from headrace._core.connection_notices import ConnectionsChanged
from headrace._core.notices import PartitionLost, RevokeUnconfirmed
from tests.kafka.test_members import keyed, plan_of
from tests.kafka.witness import Protocol, running, wait_until
from tests.members.fleet import fleet_of, holders
from tests.members.verifier import verify

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headrace import Notice
    from tests.members.ledger import Line
    from tests.topics import Topics

COOLDOWN_S = 2.0
KEYS = 7
STAYS_FOR = 3
"""So many decisions in a row that nothing changes, in a settled group, are meant to last."""
SETTLED = {"at_max", "one_partition_each", "at_fair_share", "fixed_number"}
STATIC = {"cooldown_s": 300.0}

pytestmark = pytest.mark.slow


class Family:
    """One app, what it was told to do about its connections, and what its handlers saw."""

    def __init__(
        self, kafka: str, topic: str, partitions: int, start: int, protocol: Protocol, **settings: Any
    ) -> None:
        self.topic, self.partitions, self.protocol = topic, partitions, protocol
        wanted: dict[str, Any] = {
            "min": 1,
            "max": 5,
            "start": start,
            "cooldown_s": COOLDOWN_S,
            "grow_when": "partitions",
        }
        self.app = App(
            kafka,
            f"group-{topic}",
            group_protocol=protocol,
            commit=Commit(every_s=0.5),
            connections=Connections(**(wanted | settings)),
        )
        # What the group took away, or a last commit that nobody confirmed, is read again: that is promised nowhere to be clean.
        self.unclean: set[int] = set()
        self.changes: list[tuple[float, ConnectionsChanged]] = []
        self.disordered: list[Record[Any, Any]] = []
        self._seen: Counter[tuple[int, int]] = Counter()
        self._last: dict[tuple[int, bytes | None], int] = {}
        self._lock = threading.Lock()
        self.app.subscribe(topic, concurrency=20)(self._handle)
        self.app.listen(self._heard)

    def _handle(self, record: Record[Any, Any]) -> None:
        lane = record.partition, record.raw_key
        with self._lock:
            self._seen[record.partition, record.offset] += 1
            if self._last.get(lane, -1) >= record.offset and self._seen[record.partition, record.offset] == 1:
                self.disordered.append(record)
            self._last[lane] = record.offset
        time.sleep(0.001)

    def _heard(self, notice: Notice) -> None:
        if isinstance(notice, ConnectionsChanged):
            self.changes.append((time.monotonic(), notice))
        elif isinstance(notice, PartitionLost | RevokeUnconfirmed):
            self.unclean.add(notice.partition)

    def numbers(self) -> list[int]:
        """How many connections there were, from the first to now."""
        return (
            [self.changes[0][1].before, *(notice.after for _, notice in self.changes)] if self.changes else []
        )

    def held(self) -> dict[int, int]:
        """Partitions by connection."""
        return {each.number: each.partitions for each in self.app.snapshot().connections}

    def is_spread(self, connections: int) -> bool:
        held = self.held()
        return len(held) == connections and sum(held.values()) == self.partitions and min(held.values()) > 0

    def settled(self) -> int:
        """How often it was decided that nothing is to change, in a settled group."""
        scaling = self.app.snapshot().scaling
        assert scaling is not None
        return sum(count for why, count in scaling.decisions if why in SETTLED)

    def handled(self) -> int:
        return len(self._seen)

    def repeats(self) -> set[int]:
        """Partitions with records that were handled twice."""
        return {partition for (partition, _), count in self._seen.items() if count > 1}


class Traffic:
    """Records to every partition of every family, until told: there is work in flight whenever something changes."""

    def __init__(self, kafka: str, families: Sequence[Family]) -> None:
        self._producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True, "linger.ms": 5})
        self._families = families
        self._over = threading.Event()
        self.sent = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.25):
            for family in self._families:
                for partition in range(family.partitions):
                    self._producer.produce(
                        family.topic, b"value", key=b"key-%d" % (self.sent % KEYS), partition=partition
                    )
            self._producer.poll(0)
            self.sent += 1

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        assert self._producer.flush(20) == 0


Case = tuple[int, int, Protocol, dict[str, Any], list[int]]
"""Partitions, connections at first, group protocol, other settings, and the numbers that follow, the first included."""
GROWS: Case = (10, 3, "consumer", {}, [3, 4, 5])
SHRINKS: Case = (2, 4, "classic", {}, [4, 3, 2])
WAITS: Case = (2, 4, "consumer", STATIC, [])
SMALL: Case = (2, 1, "classic", {}, [1, 2])


@pytest.mark.timeout(200)
def test_one_connection_becomes_two_with_work_in_flight(kafka: str, topics: Topics) -> None:
    """The small one of what follows, which takes longer."""
    play(kafka, topics, [SMALL], stays_for=0)


@pytest.mark.full
@pytest.mark.timeout(400)
def test_families_find_their_numbers_each_by_its_own_cooldown_and_nothing_is_lost_repeated_or_disordered(
    kafka: str, topics: Topics
) -> None:
    """Ten partitions: from 3 to 5. Two: from 4 to 2, which stays. A long cooldown: nothing yet. All five: tests/full."""
    play(kafka, topics, [GROWS, SHRINKS, WAITS])


def play(kafka: str, topics: Topics, cases: Sequence[Case], stays_for: int = STAYS_FOR) -> None:
    """All these families at once in one process, with traffic, until each has kept its number for so many decisions."""
    families = [
        Family(kafka, topics.create(partitions=partitions), partitions, start, protocol, **settings)
        for partitions, start, protocol, settings, _ in cases
    ]
    with ExitStack() as stack:
        for family in families:
            stack.enter_context(running(family.app))
        traffic = Traffic(kafka, families)
        stack.callback(traffic.stop)
        for family, (_, start, _, settings, numbers) in zip(families, cases, strict=True):
            ends = numbers[-1] if numbers else start
            if settings:
                continue
            wait_until(lambda f=family, n=ends: f.is_spread(n), f"{family.topic}: {ends} connections", 120)  # type: ignore[misc]
            before = family.settled()
            wait_until(lambda f=family, b=before: f.settled() >= b + stays_for, "it stays", 60)  # type: ignore[misc]
        for family, (_, _, _, _, numbers) in zip(families, cases, strict=True):
            assert family.numbers() == numbers, (family.topic, family.changes)
            assert family.app.health().ready, family.app.health()
            moments = [at for at, _ in family.changes]
            assert all(after - first >= COOLDOWN_S for first, after in pairwise(moments)), moments
        traffic.stop()
        for family in families:
            wait_until(lambda f=family: f.handled() == traffic.sent * f.partitions, "all are handled")  # type: ignore[misc]
    for family in families:
        assert family.app.state is AppState.STOPPED
        assert family.repeats() <= family.unclean, family.topic
        assert family.disordered == [], family.topic
        finished, sent = family.app.snapshot().engine.counters.finished, traffic.sent * family.partitions
        # What closed connections did counts; what was repeated counts twice.
        assert finished == sent or (family.unclean and finished > sent), (finished, sent, family.unclean)


@pytest.mark.full
@pytest.mark.timeout(400)
def test_a_process_that_comes_gets_its_share_and_one_that_is_killed_in_a_batch_loses_nothing(
    kafka: str, topics: Topics, group_id: str, tmp_path: Path
) -> None:
    """One process with four connections; another comes, and has its share; then one is killed in the middle of its batches."""
    topic = topics.create(partitions=4)
    scaling = {"min": 1, "max": 4, "cooldown_s": COOLDOWN_S, "grow_when": "partitions"}
    plan = replace(plan_of(kafka, group_id, topic, "classic"), connections=scaling | {"start": 4})
    with fleet_of(plan, tmp_path, 4) as fleet:
        fleet.produce(keyed(400))
        fleet.start("a")
        fleet.wait_until(
            lambda lines: set(holders(lines).values()) == {"a"} and len(holders(lines)) == 4, "a has all"
        )
        fleet.start("b", connections=scaling)
        # Two and two, or three and one: who gets what the last connection to close has had, the group's assignor decides,
        # and with one partition for its one connection the second process asks for no more.
        fleet.wait_until(lambda lines: shares(lines) in ({"a": 2, "b": 2}, {"a": 3, "b": 1}), "b has a share")
        # With work in flight, to the moment of the kill: the first process closes connections meanwhile.
        fleet.produce(keyed(1500))
        fleet.wait_until(lambda lines: in_flight(lines, "b") >= 1 and done(lines, "b") > 20, "b is at work")
        fleet.kill("b")
        fleet.produce(keyed(400))
        fleet.wait_until(lambda lines: shares(lines) == {"a": 4}, "a has all again")
        fleet.wait_until_handled()
        assert fleet.stop() == [0]
        fleet.wait_until_settled()
        verdict = verify(fleet.lines())
        assert not verdict.anomalies, verdict


def shares(lines: Sequence[Line]) -> dict[str, int]:
    return dict(Counter(holders(lines).values()))


def done(lines: Sequence[Line], member: str) -> int:
    return sum(line.kind == "end" and line.member == member for line in lines)


def in_flight(lines: Sequence[Line], member: str) -> int:
    return sum(line.kind == "start" and line.member == member for line in lines) - done(lines, member)
