"""Fifty reporters at full speed through two hundred rebalances under load; nothing of it is seen to go wrong.

20 rebalances on a real Kafka, 50 on the embedded broker, the rest on a client in memory. Nothing raises, no snapshot is
torn, every offset was true, no record is lost, and none is handled twice unless a revoke said that it may be.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import Counter
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import pytest
from confluent_kafka import Producer

from headrace import App, Commit, Record, Timeouts
from headrace._client.settings import ConnectionSettings
from headrace._core.notices import PartitionAssigned, RevokeUnconfirmed
from headrace.observe import Reporting, Unknown
from headrace.observe.attached import Attached
from headrace.observe.reporting import Reporters, Source
from headrace.observe.settings import checked_reporters
from headrace.observe.views import PartitionOffsets, View
from headrace.testing import MockBroker
from tests.embedded.test_reporters import adds_up, guarded
from tests.unit.runtime.stage import playing

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from headrace import Notice, Snapshot
    from headrace.observe import Report
    from tests.topics import Topics

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

REPORTERS = 50
PARTITIONS = 6
WAIT_S = 90.0
LOAD_S = 0.005
"""Between two records: under load all the time, and still handled between two rebalances on a slow machine."""


def until(condition: Callable[[], object], what: str) -> None:
    give_up_at = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_at, f"{what} did not happen"
        time.sleep(0.01)


class Load:
    """Produces numbered records until it is told to stop; knows what was sent and acknowledged, and when."""

    def __init__(self, servers: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 0, "log_level": 0})
        self._topic = topic
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        # The load's thread writes; reporters read. Per partition: what was sent, and moments of acknowledgements.
        self.sent = [0] * PARTITIONS
        self.acknowledged: list[list[float]] = [[] for _ in range(PARTITIONS)]

    def acknowledged_at(self, partition: int, moment: float) -> int:
        """How many records there certainly were at this moment."""
        return bisect_right(self.acknowledged[partition], moment)

    def _run(self) -> None:
        number = 0
        while not self._ending.wait(LOAD_S):
            partition = number % PARTITIONS
            number += 1
            self.sent[partition] += 1
            self._producer.produce(
                self._topic,
                b"v",
                b"%d" % (number % 97),
                partition=partition,
                on_delivery=partial(self._note, partition),
            )
            self._producer.poll(0)

    def _note(self, partition: int, error: object, _message: object) -> None:
        if error is None:
            self.acknowledged[partition].append(time.monotonic())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        assert self._producer.flush(WAIT_S) == 0


class Ledger:
    """What handlers did, written by them alone; and from which offsets on revokes said that they may be repeated."""

    def __init__(self) -> None:
        self.handled: list[tuple[int, int]] = []
        # The embedded broker refuses commits that a member sends while the group rebalances.
        self._may_repeat_from: list[tuple[int, int]] = []
        self._begun = [0] * PARTITIONS

    def hear(self, notice: Notice) -> None:
        if isinstance(notice, PartitionAssigned):
            self._begun[notice.partition] = max(self._begun[notice.partition], notice.offset)
        elif isinstance(notice, RevokeUnconfirmed):
            # Nothing later than where it began is certain to be committed.
            self._may_repeat_from.append((notice.partition, self._begun[notice.partition]))

    def handle(self, record: Record[Any, Any]) -> None:
        self.handled.append((record.partition, record.offset))

    def judge(self, load: Load) -> None:
        counts = Counter(self.handled)
        expected = {(p, offset) for p, sent in enumerate(load.sent) for offset in range(sent)}
        assert expected - counts.keys() == set(), "lost"
        assert counts.keys() - expected == set(), "from nowhere"
        twice = [
            (partition, offset)
            for (partition, offset), count in counts.items()
            if count > 1 and not any(p == partition and offset >= since for p, since in self._may_repeat_from)
        ]
        assert twice == [], "handled twice"


class Judge:
    """A reporter that holds what it is told against what the load knows."""

    def __init__(self, load: Load, topic: str) -> None:
        self._load = load
        self._topic = topic
        self._committed = [0] * PARTITIONS
        self.lies: list[str] = []
        self.count = 0
        self.ends = 0

    def report(self, report: Report) -> None:
        now = time.monotonic()
        found = {s.key: s.value for s in report.samples if not isinstance(s.value, Unknown)}
        age_s = found.get("headrace_offsets_age_seconds")
        for partition in range(PARTITIONS):
            labels = f"{{topic={self._topic},partition={partition}}}"
            end = found.get(f"headrace_partition_end_offset{labels}")
            committed = found.get(f"headrace_partition_committed_offset{labels}")
            if end is not None and age_s is not None:
                self.ends += 1
                # Asked for at `now - age_s` or, where the watch was faster than this report, later.
                least, most = (
                    self._load.acknowledged_at(partition, now - age_s - 60.0),
                    self._load.sent[partition],
                )
                if not least <= end <= most:
                    self.lies.append(f"end of {partition}: {end}, not {least} to {most}")
            if committed is not None:
                if not self._committed[partition] <= committed <= self._load.sent[partition]:
                    self.lies.append(
                        f"committed of {partition}: {committed} after {self._committed[partition]}"
                    )
                self._committed[partition] = int(committed)
        self.count += 1

    def close(self) -> None:
        pass


@contextmanager
def torn_snapshots(app: App) -> Generator[list[Snapshot]]:
    """Snapshots whose parts do not match their sums, as a reader without a pause finds them."""
    torn: list[Snapshot] = []
    ending = threading.Event()

    def read() -> None:
        while not ending.wait(0.0002):
            snapshot = app.snapshot()
            if not adds_up(snapshot):
                torn.append(snapshot)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield torn
    finally:
        ending.set()
        reader.join()


def make_app(servers: str, group: str, topic: str, ledger: Ledger, librdkafka: dict[str, Any]) -> App:
    app = App(
        servers,
        group,
        librdkafka=librdkafka,
        commit=Commit(every_s=0.1),
        timeouts=Timeouts(drain_s=30.0),
    )
    app.subscribe(topic)(ledger.handle)
    app.listen(ledger.hear)
    return app


def race(servers: str, group: str, topic: str, librdkafka: dict[str, Any], rebalances: int) -> None:
    """A second member comes and goes, which makes two rebalances each time."""
    ledger, load = Ledger(), Load(servers, topic)
    app = make_app(servers, group, topic, ledger, librdkafka)
    judges = [Judge(load, topic) for _ in range(REPORTERS)]
    attached = Attached(
        ConnectionSettings(servers, group, librdkafka),
        app.snapshot,
        app.health,
        checked_reporters([Reporting(judge, 0.01) for judge in judges]),
        (),
    )

    def ours() -> int:
        return len(app.snapshot().engine.partitions)

    with guarded(app) as guards:
        app.start()
        try:
            attached.start()
            until(lambda: ours() == PARTITIONS, "the first assignment")
            with load, torn_snapshots(app) as torn:
                for number in range(rebalances // 2):
                    other = make_app(servers, group, topic, ledger, librdkafka)
                    other.start()
                    try:
                        until(lambda: 0 < ours() < PARTITIONS, f"coming of {number}")
                    finally:
                        other.stop()
                    until(lambda: ours() == PARTITIONS, f"going of {number}")
            until(lambda: len(set(ledger.handled)) == sum(load.sent), "the rest")
            until(lambda: min(judge.ends for judge in judges) > PARTITIONS, "offsets in every report")
        finally:
            app.stop()
            attached.request_stop()
            attached.join()
    ledger.judge(load)
    assert torn == []
    assert sum(guard.guard_refused for guard in guards) == 0
    assert [state.last_error for state in attached.states() if state.failures] == []
    assert [lie for judge in judges for lie in judge.lies] == []
    print(f"{len(ledger.handled)} records, {sum(judge.count for judge in judges)} reports")  # noqa: T201 - with -s


@pytest.mark.kafka
def test_twenty_rebalances_on_a_real_kafka(kafka: str, topics: Topics, group_id: str) -> None:
    race(kafka, group_id, topics.create(partitions=PARTITIONS), {}, 20)


def test_fifty_rebalances_on_the_embedded_broker() -> None:
    with MockBroker(topics={"orders": PARTITIONS}) as broker:
        client = dict(broker.client_settings(protocol="classic"))
        for name in ("bootstrap.servers", "group.id", "group.protocol"):
            client.pop(name, None)
        race(broker.bootstrap_servers, "race", "orders", client, 50)


def test_the_rest_on_a_client_in_memory() -> None:
    """Revokes of half the partitions, and their return, as fast as the loop takes them: 130 times."""
    handled: list[tuple[int, int]] = []

    def handle(record: Record[Any, Any]) -> None:
        handled.append((record.partition, record.offset))

    class Count:
        count = 0

        def report(self, report: Report) -> None:
            assert report.samples
            self.count += 1

        def close(self) -> None:
            pass

    unknown = PartitionOffsets.unknown("nobody is asked here")
    # Limits that no machine is too slow for: nothing is to be given up here.
    with playing(handle, topics=PARTITIONS, timeouts=Timeouts(drain_s=30.0)) as stage:
        counts = [Count() for _ in range(REPORTERS)]

        def view() -> View:
            assembly = stage.assembly
            snapshot, health = assembly.snapshot(), assembly.health()
            return View(snapshot, health, time.monotonic(), lambda _topic, _partition: unknown, lambda: None)

        reporters = Reporters(
            checked_reporters([Reporting(count, 0.01) for count in counts]), Source("group", view)
        )
        reporters.start()
        half = [("orders", number) for number in range(PARTITIONS // 2)]
        with torn_snapshots(stage.app) as torn:
            for number in range(65):
                for partition in range(PARTITIONS):
                    stage.produce(2, partition, b"%d" % number)
                before = len(stage.assembly.snapshot().engine.partitions)
                assert before == PARTITIONS
                stage.client.revoke(*half)
                until(
                    lambda: len(stage.assembly.snapshot().engine.partitions) == PARTITIONS - len(half),
                    "a revoke",
                )
                stage.client.give(*half)
                until(lambda: len(stage.assembly.snapshot().engine.partitions) == PARTITIONS, "a return")
            until(lambda: len(handled) >= 65 * PARTITIONS * 2, "the rest")
        reporters.request_stop()
        assert reporters.join(WAIT_S) == ()
    assert torn == []
    assert [state.last_error for state in reporters.states() if state.failures] == []
    assert min(count.count for count in counts) > 1
    expected = {(partition, offset) for partition in range(PARTITIONS) for offset in range(130)}
    assert Counter(handled) == dict.fromkeys(expected, 1), "lost or handled twice"
