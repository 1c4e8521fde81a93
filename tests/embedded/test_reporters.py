"""Reporters of a running app, on the embedded broker: what they tell is so, and nothing they do reaches the app."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from confluent_kafka import Producer

from headrace import App, Commit, Record, Snapshot
from headrace._client.consumer import KafkaClient
from headrace._client.settings import ConnectionSettings
from headrace._runtime.surroundings import kafka
from headrace.observe import JsonLines, Prometheus, Reporting, Unknown
from headrace.observe.attached import Attached
from headrace.observe.ownership import GuardedConsumer
from headrace.observe.settings import checked_reporters
from headrace.testing import MockBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from headrace.observe import Report
    from headrace.ports import Client

WAIT_S = 20.0
TOPIC = "orders"
PARTITIONS = 4
REBALANCES = 3


class Kept:
    """Keeps the last report, and how many there were."""

    def __init__(self, during: Callable[[], object] = lambda: None) -> None:
        self.last: dict[str, Any] = {}
        self.told: tuple[dict[str, Any], dict[str, str]] = ({}, {})
        """What the last report knew, and why the rest is unknown."""
        self.count = 0
        self.closed = threading.Event()
        self._during = during

    def report(self, report: Report) -> None:
        self._during()
        found = report.samples
        self.last = {s.key: s.value for s in found if not isinstance(s.value, Unknown)}
        self.told = (self.last, {s.key: s.value.reason for s in found if isinstance(s.value, Unknown)})
        self.count += 1

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    with MockBroker(topics={TOPIC: PARTITIONS}) as mock:
        yield mock


def until(condition: Callable[[], object], what: str = "it") -> None:
    give_up_at = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_at, f"{what} did not happen"
        time.sleep(0.005)


def produce(broker: MockBroker, count: int) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
    for number in range(count):
        producer.produce(TOPIC, b"%d" % number, b"%d" % number, partition=number % PARTITIONS)
    assert producer.flush(WAIT_S) == 0


def make_app(
    broker: MockBroker, group: str, *, quick: bool = True, **settings: Any
) -> tuple[App, set[bytes]]:
    client: dict[str, Any] = dict(broker.client_settings(protocol=settings.get("group_protocol", "classic")))
    # Quick ones lose their partitions, too, when the broker is away for two seconds.
    hidden = ("bootstrap.servers", "group.id", "group.protocol") if quick else tuple(client)
    for name in hidden:
        client.pop(name, None)
    app = App(broker.bootstrap_servers, group, librdkafka=client, commit=Commit(every_s=0.05), **settings)
    handled: set[bytes] = set()

    @app.subscribe(TOPIC)
    def handle(record: Record[Any, Any]) -> None:
        handled.add(cast(bytes, record.raw_value))

    return app, handled


def lag(partition: int) -> str:
    return f"headrace_partition_lag_records{{topic={TOPIC},partition={partition}}}"


def test_what_is_reported_is_so(broker: MockBroker, tmp_path: Path) -> None:
    produce(broker, 40)
    kept, page = Kept(), Prometheus(0)
    app, handled = make_app(
        broker,
        "told",
        reporters=[
            Reporting(kept, 0.1),
            Reporting(page, 60),
            {"type": "jsonl", "path": tmp_path / "m.jsonl", "every_s": 0.1},
        ],
    )
    app.start()
    until(lambda: len(handled) == 40)
    until(lambda: kept.last.get(f"headrace_topic_committed_offset_sum{{topic={TOPIC}}}") == 40, "the commit")
    assert [kept.last[lag(partition)] for partition in range(PARTITIONS)] == [0] * PARTITIONS
    until(lambda: kept.last["headrace_records_succeeded_total"] == 40, "a snapshot of it")
    assert kept.last["headrace_ready"] == 1
    with urllib.request.urlopen(f"http://127.0.0.1:{page.port}/metrics", timeout=5) as answer:
        assert 'headrace_records_succeeded_total{group="told"} 40.0' in answer.read().decode()
    app.stop()
    assert kept.closed.is_set()
    assert kept.last["headrace_partitions"] == 0, "the last report is of the end"
    assert not [key for key in kept.last if "partition=" in key], "what was revoked is gone"
    assert [state.failures for state in app.reporters()] == [0, 0, 0]
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert lines[-1]["metrics"]["headrace_records_finished_total"] == 40
    assert not [t.name for t in threading.enumerate() if t.name.startswith("headrace-reporter")]


def test_lag_grows_while_handlers_stand_still(broker: MockBroker) -> None:
    release = threading.Event()
    kept = Kept()
    app = App(broker.bootstrap_servers, "stands", reporters=[Reporting(kept, 0.1)])

    @app.subscribe(TOPIC)
    def handle(_record: Record[Any, Any]) -> None:
        release.wait(WAIT_S)

    app.start()
    try:
        produce(broker, 40)
        until(lambda: kept.last.get(f"headrace_topic_lag_records{{topic={TOPIC}}}") == 40)
        until(lambda: kept.last.get(f"headrace_topic_in_flight_records{{topic={TOPIC}}}", 0) > 0)
        assert kept.last[f"headrace_topic_oldest_unfinished_age_seconds{{topic={TOPIC}}}"] > 0
    finally:
        release.set()
        app.stop()


def test_a_paused_app_still_says_how_far_it_is_behind(broker: MockBroker) -> None:
    """Five of ten acknowledged, then paused: the partition is five behind, and so is the topic."""
    kept, taken = Kept(), list[Record[Any, Any]]()
    app = App(
        broker.bootstrap_servers, "pauses", reporters=[Reporting(kept, 0.1)], commit=Commit(every_s=0.05)
    )
    app.subscribe(TOPIC, ack="manual")(taken.append)
    app.start()
    try:
        broker.produce(TOPIC, [(b"k", b"v")] * 10, 2)
        until(lambda: len(taken) == 10)
        app.pause((TOPIC, 2))
        for record in taken[:5]:
            record.ack()
        until(lambda: kept.last.get(lag(2)) == 5, "lag of the partition")
        until(lambda: kept.last.get(f"headrace_topic_lag_records{{topic={TOPIC}}}") == 5, "lag of the topic")
        until(lambda: kept.last[f"headrace_partition_paused{{topic={TOPIC},partition=2}}"] == 1)
    finally:
        app.stop()


@pytest.mark.parametrize("guarantee", ["at_most_once", "none"])
def test_weaker_guarantees_have_the_same_metrics(broker: MockBroker, guarantee: Any) -> None:
    kept = Kept()
    app = App(
        broker.bootstrap_servers, guarantee, reporters=[Reporting(kept, 0.1)], commit=Commit(every_s=0.05)
    )

    @app.subscribe(TOPIC, guarantee=guarantee)
    def handle(_record: Record[Any, Any]) -> None:
        pass

    app.start()
    try:
        produce(broker, 40)
        place = f"{{topic={TOPIC},partition=1}}"
        until(lambda: kept.last.get(lag(1)) == 0 and kept.last[f"headrace_partition_position{place}"] == 10)

        def tells_all() -> bool:
            """Broker's offsets are a second old, the app's a quarter, so that a report may tell of two moments."""
            last, unknown = kept.told
            return (
                last.get(f"headrace_partition_committed_offset{place}") == 10
                and last[f"headrace_partition_committable_offset{place}"] == 10
                # Nothing is unfinished, so nothing has an age.
                and {key for key in unknown if place in key}
                == {f"headrace_partition_oldest_unfinished_age_seconds{place}"}
            )

        until(tells_all)
    finally:
        app.stop()


def test_nothing_that_reporters_do_reaches_the_app(broker: MockBroker) -> None:
    produce(broker, 40)
    release = threading.Event()

    def fail() -> None:
        raise SystemExit("a reporter's own")

    well = Kept()
    bad: list[Any] = [Kept(fail), Kept(lambda: release.wait(WAIT_S)), JsonLines("/dev/full")]
    if not os.path.exists("/dev/full"):  # noqa: PTH110 - a device
        bad.pop()
    app, handled = make_app(
        broker, "isolated", reporters=[*(Reporting(one, 0.05) for one in bad), Reporting(well, 0.05)]
    )
    app.start()
    try:
        until(lambda: len(handled) == 40)
        until(lambda: well.count > 10 and app.reporters()[0].failures > 3)
        assert app.health().ready
        assert well.last["headrace_reporter_failures_total{reporter=kept}"] > 0
        assert well.last["headrace_reporter_running_seconds{reporter=kept-2}"] > 0
        began_at = time.monotonic()
        app.stop()
        assert time.monotonic() - began_at < 12.0, "the hung one is left behind"
    finally:
        release.set()
    assert well.closed.is_set()


def test_a_broker_that_is_away_makes_offsets_unknown_and_then_known_again(broker: MockBroker) -> None:
    produce(broker, 8)
    kept = Kept()
    app, handled = make_app(broker, "away", quick=False, reporters=[Reporting(kept, 0.1)])
    app.start()
    try:
        until(lambda: len(handled) == 8 and kept.last.get(lag(0)) == 0)
        broker.broker_down()
        until(lambda: "BrokerUnreachable" in kept.told[1].get(lag(0), ""), "unknown")
        assert lag(0) not in kept.last
        broker.broker_up()
        until(lambda: kept.last.get(lag(0)) == 0, "known again")
    finally:
        app.stop()


@contextmanager
def guarded(app: App) -> Generator[list[GuardedConsumer]]:
    """Whatever consumer the app makes is under guard."""
    connection = app._connection
    guards: list[GuardedConsumer] = []

    def make_client(number: int) -> Client:
        guards.append(GuardedConsumer(KafkaClient(connection, connection=number)))
        return cast("Client", guards[-1])

    app._assembly = app._assembly.renewed(
        replace(kafka(connection), make_client=make_client), app.settings.commit
    )
    yield guards
    assert guards


def adds_up(snapshot: Snapshot) -> bool:
    """Whether the parts of a snapshot match, and the whole their sum."""
    counters, parts = snapshot.engine.counters, snapshot.engine.partitions
    for part in parts:
        open_ = part.waiting + part.in_flight + part.parked + part.held + part.settling + part.unacked
        if part.delivered != part.finished + open_:
            return False
    unfinished = sum(part.delivered - part.finished for part in parts)
    return counters.fetched == counters.finished + counters.dropped + unfinished


def test_readers_at_full_speed_through_rebalances(broker: MockBroker) -> None:
    """Ten threads make reports as fast as they can while members come and go: no error, nothing torn, no guard touched."""
    kept = [Kept() for _ in range(10)]
    app, handled = make_app(broker, "race", group_protocol="classic")
    attached = Attached(
        ConnectionSettings(broker.bootstrap_servers, "race"),
        app.snapshot,
        app.health,
        checked_reporters([Reporting(one, 0.01) for one in kept]),
        (),
    )
    torn: list[Snapshot] = []
    leaving = threading.Event()

    def read() -> None:
        while not leaving.is_set():
            snapshot = app.snapshot()
            if not adds_up(snapshot):
                torn.append(snapshot)
            time.sleep(0.0005)

    reader = threading.Thread(target=read)
    others: set[bytes] = set()
    with guarded(app) as guards:
        app.start()
        try:
            attached.start()
            reader.start()
            for number in range(REBALANCES):
                produce(broker, 40)
                other, seen = make_app(broker, "race", group_protocol="classic")
                other.start()
                try:
                    until(
                        lambda: 0 < len(app.snapshot().engine.partitions) < PARTITIONS, f"rebalance {number}"
                    )
                finally:
                    other.stop()
                others |= seen
                until(lambda: len(app.snapshot().engine.partitions) == PARTITIONS, f"return {number}")
            until(lambda: len(handled | others) == 40)
        finally:
            leaving.set()
            reader.join(WAIT_S)
            app.stop()
            attached.request_stop()
            attached.join()
    assert torn == []
    assert sum(guard.guard_refused for guard in guards) == 0
    assert [state.failures for state in attached.states()] == [0] * len(kept)
    assert min(one.count for one in kept) > 5


def test_what_the_loop_and_the_client_tell(broker: MockBroker) -> None:
    """Time of the loop sums up to the run; a rebalance is counted; statistics are there when they were asked for."""
    produce(broker, 40)
    kept = Kept()
    app, handled = make_app(broker, "loop", quick=False, reporters=[Reporting(kept, 0.1)])
    app.start()
    app.stop(WAIT_S)
    until(kept.closed.is_set)
    assert not [key for key in kept.last if key.startswith("headrace_client_")]

    kept = Kept()
    settings = {"statistics.interval.ms": 100}
    client = dict(broker.client_settings(protocol="classic")) | settings
    for name in ("bootstrap.servers", "group.id", "group.protocol"):
        client.pop(name, None)
    app = App(broker.bootstrap_servers, "loop-2", librdkafka=client, reporters=[Reporting(kept, 0.1)])

    @app.subscribe(TOPIC)
    def handle(record: Record[Any, Any]) -> None:
        handled.add(cast(bytes, record.raw_value))

    began_at = time.monotonic()
    app.start()
    until(lambda: kept.last.get("headrace_client_received_records_total", 0) >= 40, "statistics")
    until(lambda: kept.last["headrace_records_succeeded_total"] == 40, "a snapshot of it")
    assert kept.last["headrace_client_brokers_up"] >= 1
    prefetched = [key for key in kept.last if key.startswith("headrace_client_prefetched_records{")]
    assert len(prefetched) == PARTITIONS
    assert kept.last["headrace_rebalances_total{cause=joined}"] == 1
    assert kept.last["headrace_connections"] == 1
    app.stop(WAIT_S)
    until(kept.closed.is_set)
    spent_s = sum(value for key, value in kept.last.items() if key.startswith("headrace_loop_seconds_total"))
    assert 0 < spent_s <= time.monotonic() - began_at
    durations = [value for key, value in kept.last.items() if "handler_seconds_count" in key]
    assert durations == [40]
    lags = [value for key, value in kept.last.items() if key.startswith("headrace_partition_lag_seconds")]
    assert lags in ([], [0] * PARTITIONS)
