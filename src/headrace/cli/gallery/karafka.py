"""The act `karafka`: a live map of the assignment, iterated by readers while rebalances change it.

After Karafka's dynamic multiplexing, where the tracker of assignments was read while partitions came and went. Ruby
refuses a new key during an iteration; Python refuses any change of size.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer

from headrace import Commit, Record
from headrace.cli.gallery.stage import Background, Readers, Stage, Traffic, make_app, running, until
from headrace.cli.gallery.verdict import Cell, Row, Verdict
from headrace.testing import MockBrokerProcess

if TYPE_CHECKING:
    import threading

    from headrace import Snapshot
    from headrace.testing.broker import MockBroker

TOPIC: Final = "orders"
PARTITIONS: Final = 6
TICK_RECORDS: Final = 20
READERS: Final = 2
READ_S: Final = 7.0
REBALANCES_MIN: Final = 4
"""Rebalances that the views must have lived through, or they prove nothing."""

STAY_S: Final = 0.3
"""How long the second member stays: long enough for a record."""

AWAY_S: Final = 1.0
"""How long it stays away: the next one, come at once, would be given what this one had, and nothing would change."""


class LiveAssignment:
    """What this member owns and has handled: changed by its consumer's callbacks, iterated by its metrics."""

    def __init__(self) -> None:
        self.handled: dict[tuple[str, int], int] = {}
        self.rebalances = 0

    def on_assign(self, _consumer: Consumer, places: list[Any]) -> None:
        """Called inside the consumer's poll."""
        self.rebalances += 1
        for place in places:
            self.handled[place.topic, place.partition] = 0

    def on_revoke(self, _consumer: Consumer, places: list[Any]) -> None:
        """Called inside the consumer's poll."""
        self.rebalances += 1
        for place in places:
            del self.handled[place.topic, place.partition]

    def report(self) -> list[str]:
        """What the metrics call, on their own thread."""
        return [f"{topic}-{partition}: {count}" for (topic, partition), count in self.handled.items()]


@dataclass(slots=True)
class Churn:
    """A second member that joins and leaves again and again."""

    broker: MockBroker
    group: str

    def run(self, leaving: threading.Event) -> None:
        """Until told to end."""
        while not leaving.is_set():
            got: list[object] = []

            def on_assign(_member: Consumer, places: list[Any], got: list[object] = got) -> None:
                got.extend(places)  # its first share is empty: the other has to give something up before

            member = Consumer(_settings(self.broker, self.group))
            member.subscribe([TOPIC], on_assign=on_assign)
            give_up_at = time.monotonic() + 3.0
            while not got and time.monotonic() < give_up_at and not leaving.is_set():
                member.poll(0.05)
            leaving.wait(STAY_S)
            # A close on its own may meet an assignment on its way, and then hang in librdkafka (its issue 4884).
            member.unsubscribe()
            member.poll(0.05)
            member.close()
            leaving.wait(AWAY_S)


def _settings(broker: MockBroker, group: str) -> dict[str, Any]:
    """Cooperative, as Headrace is. Not KIP-848: there the embedded broker may keep what a member that left had."""
    return broker.client_settings(group) | {"partition.assignment.strategy": "cooperative-sticky"}


@dataclass(frozen=True, slots=True)
class Naive:
    """What was seen of the naive form."""

    reports: int
    rebalances: int
    error: str
    elapsed_s: float


def play(stage: Stage) -> Verdict:
    """The naive form until a reader breaks, then Headrace under the same rebalances."""
    stage.tell("naive: metrics iterate a dictionary that rebalances change")
    naive = _naive(stage)
    stage.tell(naive.error or f"nothing broke in {naive.elapsed_s:.0f} s")
    stage.tell("Headrace: under the same rebalances readers add up each snapshot")
    return Verdict(_rows(naive, _headrace(stage)))


def _naive(stage: Stage) -> Naive:
    with MockBrokerProcess(topics={TOPIC: PARTITIONS}) as broker:
        assignment = LiveAssignment()
        consumer = Consumer(_settings(broker, "naive"))
        consumer.subscribe([TOPIC], on_assign=assignment.on_assign, on_revoke=assignment.on_revoke)

        def consume(leaving: threading.Event) -> None:
            while not leaving.is_set():
                message = consumer.poll(0.1)
                if message is not None and message.error() is None:
                    assignment.handled[str(message.topic()), int(message.partition() or 0)] += 1

        churn = Churn(broker, "naive")
        began_at = time.monotonic()
        with Traffic(broker, TOPIC, PARTITIONS, TICK_RECORDS), Background(consume, "naive"):
            until(lambda: assignment.handled, stage.patience_s)
            with (
                Readers(assignment.report, READERS, stop_at_error=True) as readers,
                Background(churn.run, "churn"),
            ):
                until(lambda: readers.errors, stage.patience_s)
                elapsed_s = time.monotonic() - began_at
        with suppress(RuntimeError):
            consumer.close()
    error = readers.errors[0] if readers.errors else ""
    return Naive(readers.count, assignment.rebalances, error, elapsed_s)


class Auditor:
    """Reads snapshots and adds each up. Keeps some, with what they said, to see whether they ever change."""

    def __init__(self) -> None:
        self.torn: list[str] = []
        self.owned: set[int] = set()
        # sequence -> the snapshot, and what it said when it was first read. Readers write the same value.
        self.kept: dict[int, tuple[Snapshot, str]] = {}

    def check(self, snapshot: Snapshot) -> None:
        """One view: each record that was delivered is in exactly one place, and no partition is there twice."""
        places: set[int] = set()
        unfinished = 0
        for p in snapshot.engine.partitions:
            pending = p.waiting + p.in_flight + p.parked + p.held + p.settling + p.unacked
            if p.delivered != p.finished + pending or p.partition in places:
                self.torn.append(f"snapshot {snapshot.sequence}: {p}")
            places.add(p.partition)
            unfinished += pending
        counters = snapshot.engine.counters
        if counters.fetched != counters.finished + counters.dropped + unfinished:
            self.torn.append(f"snapshot {snapshot.sequence}: {counters}")
        if snapshot.sequence not in self.kept:
            self.kept[snapshot.sequence] = snapshot, repr(snapshot)
            self.owned.add(len(places))

    @property
    def changed(self) -> int:
        """Kept snapshots that say something else now."""
        return sum(repr(snapshot) != said for snapshot, said in self.kept.values())


@dataclass(frozen=True, slots=True)
class Ours:
    """What was seen of Headrace."""

    readers: Readers
    auditor: Auditor
    rebalances: int


def _headrace(stage: Stage) -> Ours:
    with MockBrokerProcess(topics={TOPIC: PARTITIONS}) as broker:
        app = make_app(broker, "headrace", Commit(every_s=0.2))

        @app.subscribe(TOPIC)
        def handle(_record: Record[bytes, bytes]) -> None:
            time.sleep(0.005)

        auditor, churn = Auditor(), Churn(broker, "headrace")
        rebalances: list[object] = []
        app.on_assigned(rebalances.append)
        app.on_revoked(rebalances.append)
        with Traffic(broker, TOPIC, PARTITIONS, TICK_RECORDS), running(app):
            until(lambda: app.snapshot().engine.counters.succeeded, stage.patience_s)
            with (
                Readers(lambda: auditor.check(app.snapshot()), READERS) as readers,
                Background(churn.run, "churn"),
            ):
                time.sleep(READ_S)
                until(lambda: len(rebalances) >= REBALANCES_MIN, stage.patience_s)
    return Ours(readers, auditor, len(rebalances))


def _rows(naive: Naive, ours: Ours) -> tuple[Row, ...]:
    readers, auditor = ours.readers, ours.auditor
    broken = readers.errors
    return (
        Row(
            "views read",
            Cell(f"{naive.reports:,} in {naive.elapsed_s:.1f} s"),
            Cell(f"{readers.count:,}, {len(auditor.kept)} snapshots", readers.count > 0),
        ),
        Row(
            "assigns and revokes",
            Cell(str(naive.rebalances)),
            Cell(str(ours.rebalances), ours.rebalances >= REBALANCES_MIN and len(auditor.owned) > 1),
        ),
        Row(
            "reading raised",
            Cell(naive.error or "never", "changed" in naive.error),
            Cell(broken[0] if broken else "never", not broken),
        ),
        Row(
            "do not add up",
            headrace=Cell(
                f"{len(auditor.torn)}" + (f": {auditor.torn[0]}" if auditor.torn else ""), not auditor.torn
            ),
        ),
        Row("changed while held", headrace=Cell(f"{auditor.changed}", auditor.changed == 0)),
    )
