"""Several connections for longer: every family of the smaller test at once, two hundred changes that leave nothing, many readers."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest
from confluent_kafka import Producer

from headrace import App, Commit, Connections
from headrace._core.scaling import Decision
from headrace._runtime import siblings
from headrace._runtime.surroundings import Surroundings
from headrace.elsewhere import started_elsewhere
from headrace.testing import MockBroker
from headrace.testing.memory_kafka import MemoryKafka, MemoryProducer, RawRecord
from tests.embedded.runtime.support import Seen, adds_up, app_on, records, running, until
from tests.footprint import assert_no_larger, footprint
from tests.full.memory_group import MemoryGroup, MemoryMember
from tests.kafka.test_connections import GROWS, SHRINKS, WAITS, Case, play

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from headrace import Notice
    from headrace._core.scaling import View
    from headrace.ports import Client
    from tests.footprint import Footprint
    from tests.topics import Topics

CHANGES = 200
APPS, READERS = 20, 64
ON_KAFKA, ON_EMBEDDED, IN_MEMORY = 20, 50, 430
"""Changes of the number of connections, each of which is a rebalance at least."""
PATIENCE_S = 420.0
SWITCH_S = 0.0003
"""How soon a thread hands the interpreter on: else 64 that never wait leave the apps no time. It makes for more races, too."""
PARTITIONS = 6
SETTLES_S = 3.0
"""For threads and sockets that are on their way out; the watchdog of a connection looks once a second."""

FROM_ONE: Case = (10, 1, "consumer", {}, [1, 2, 3, 4, 5])
STAYS: Case = (10, 5, "consumer", {}, [])
FROM_FIVE: Case = (2, 5, "classic", {}, [5, 4, 3, 2])
CLASSIC: Case = (10, 3, "classic", {}, [3, 4, 5])


@pytest.mark.timeout(400)
def test_every_family_finds_its_number(kafka: str, topics: Topics) -> None:
    play(kafka, topics, [FROM_ONE, CLASSIC, STAYS, FROM_FIVE, GROWS, SHRINKS, WAITS])


class Restless:
    """In place of the policy: one more, one fewer, as soon as the last has its partitions, or is gone; with `rests`, one stays."""

    def __init__(self) -> None:
        self.rests = False

    def __call__(self, view: View, _now: float) -> Decision:
        if any(each.settled_since is None for each in view.connections):
            return Decision(0, "unsettled")
        if view.count == 1:
            return Decision(0, "fixed_number") if self.rests else Decision(1, "many_partitions")
        return Decision(-1, "spare", max(each.number for each in view.connections))


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> Restless:
    policy = Restless()
    monkeypatch.setattr(siblings, "decide", policy)
    return policy


RESTLESS = Connections(max=3, cooldown_s=0.1, fair=False, grow_when="partitions")


def restless_app(broker: MockBroker, name: str, seen: Seen, **settings: Any) -> App:
    app = app_on(broker, name, connections=RESTLESS, **settings)
    app.subscribe(name, concurrency=10)(seen.handler())
    return app


def changes(app: App) -> int:
    scaling = app.snapshot().scaling
    return 0 if scaling is None else scaling.opened + scaling.closed


def at_rest(app: App, policy: Restless) -> Footprint:
    """The process once one connection is left, and what the last one had is gone; the next is opened after this."""
    policy.rests = True
    until(lambda: len(app.snapshot().connections) == 1, timeout_s=120)
    time.sleep(SETTLES_S)
    gc.collect()
    found = footprint()
    policy.rests = False
    return found


@pytest.mark.timeout(1800)
def test_two_hundred_connections_come_and_go_and_leave_nothing(restless: Restless) -> None:
    """No thread, no open file, no librdkafka handle. The first tenth warms up: what is made once and kept is made there."""
    with MockBroker(topics={"restless": PARTITIONS}) as broker:
        app = restless_app(broker, "restless", Seen())
        with running(app):
            until(lambda: changes(app) >= CHANGES // 5, timeout_s=600)
            before = at_rest(app, restless)
            until(lambda: changes(app) >= 2 * CHANGES, timeout_s=1200)
            assert_no_larger(at_rest(app, restless), before)


class Readers:
    """Threads that ask an app for all it can say, without pause, and keep what does not fit."""

    def __init__(self, apps: list[App], count: int) -> None:
        self._apps = apps
        self._over = threading.Event()
        self.wrong: list[str] = []
        self.reads = 0
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        while not self._over.is_set() and not self.wrong:
            number += 1
            app = self._apps[number % len(self._apps)]
            try:
                self._look(app)
            except Exception as error:  # noqa: BLE001 - whatever it is, it must be seen
                self.wrong.append(repr(error))
            self.reads += 1

    def _look(self, app: App) -> None:
        held = app.assignments()
        places = [place for number in range(8) for place in held.partitions(number)]
        if len(places) != len(set(places)) or set(places) != set(held.partitions()):
            self.wrong.append(f"assignments {held}")
        snapshot = app.snapshot()
        parts = [(part.topic, part.partition) for part in snapshot.engine.partitions]
        if len(parts) != len(set(parts)):
            self.wrong.append(f"twice in {parts}")
        if not adds_up(snapshot):
            self.wrong.append(f"does not add up: {snapshot}")
        health = app.health()
        if health.verdict == "stuck" or (health.reasons and health.verdict == "ok"):
            self.wrong.append(f"health {health}")

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


Produce = Callable[[str, int], object]
"""One record to each partition of this topic, with this number for its key."""


def hammered(apps: list[App], topics: Sequence[str], wanted: int, produce: Produce) -> int:
    """Readers look at apps that run, with traffic, until their connections changed so often; returns how often it was produced."""
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    readers = Readers(apps, READERS)
    produced = 0
    try:
        deadline = time.monotonic() + PATIENCE_S
        while (made := sum(map(changes, apps))) < wanted and not readers.wrong:
            assert time.monotonic() < deadline, f"{made} of {wanted} changes"
            for topic in topics:
                produce(topic, produced)
            produced += 1
            time.sleep(0.2)
    finally:
        readers.stop()
        sys.setswitchinterval(switch_s)
    assert readers.wrong == []
    assert readers.reads > READERS
    return produced


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_whoever_looks_sees_connections_that_fit_together(protocol: Literal["classic", "consumer"]) -> None:
    """Twenty apps that scale without rest, 64 readers: no exception, and every view is consistent."""
    names = [f"restless-{number}" for number in range(APPS)]
    with ExitStack() as stack, MockBroker(topics=dict.fromkeys(names, PARTITIONS)) as broker:

        def produce(topic: str, number: int) -> None:
            for partition in range(PARTITIONS):
                broker.produce(topic, records(1, first=number), partition=partition)

        seen = [Seen() for _ in names]
        apps = [
            restless_app(broker, name, each, protocol=protocol)
            for name, each in zip(names, seen, strict=True)
        ]
        for app in apps:
            stack.enter_context(running(app))
        sent = hammered(apps, names, ON_EMBEDDED, produce)
        # The embedded broker leaves partitions with KIP-848 members that have left it: then some are handled never.
        if protocol == "classic":
            all_handled(names, seen, sent)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("restless")
def test_the_same_on_a_real_kafka(kafka: str, topics: Topics) -> None:
    names = [topics.create(partitions=PARTITIONS) for _ in range(APPS)]
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5})

    def produce(topic: str, number: int) -> None:
        for partition in range(PARTITIONS):
            producer.produce(topic, b"value", key=b"key-%d" % (number % 5), partition=partition)
        producer.poll(0)

    seen = [Seen() for _ in names]
    with ExitStack() as stack:
        apps: list[App] = []
        for name, each in zip(names, seen, strict=True):
            app = App(kafka, f"group-{name}", commit=Commit(every_s=0.5), connections=RESTLESS)
            app.subscribe(name, concurrency=10)(each.handler())
            apps.append(stack.enter_context(started(app)))
        sent = hammered(apps, names, ON_KAFKA, produce)
        assert producer.flush(20) == 0
        all_handled(names, seen, sent)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("restless")
def test_the_same_in_memory_where_changes_are_many() -> None:
    names = [f"restless-{number}" for number in range(APPS)]
    kafkas = {name: MemoryKafka({name: PARTITIONS}) for name in names}

    def produce(topic: str, number: int) -> None:
        for partition in range(PARTITIONS):
            kafkas[topic].append(RawRecord(topic, b"key-%d" % (number % 5), b"value", partition=partition))

    seen = [Seen() for _ in names]
    with ExitStack() as stack:
        apps: list[App] = []
        for name, each in zip(names, seen, strict=True):
            commit = Commit(every_s=0.05)
            app = App("memory", name, commit=commit, connections=RESTLESS)
            app.subscribe(name, concurrency=10)(each.handler())
            stack.enter_context(started_elsewhere(app, in_memory(kafkas[name], name), commit, ignored))
            apps.append(app)
        sent = hammered(apps, names, IN_MEMORY, produce)
        all_handled(names, seen, sent)


def in_memory(kafka: MemoryKafka, topic: str) -> Surroundings:
    """What an app of several connections takes from outside, of memory."""
    group = MemoryGroup(kafka, [(topic, partition) for partition in range(PARTITIONS)])
    return Surroundings(
        lambda _number: cast("Client", MemoryMember(group)), lambda: MemoryProducer(kafka), poll_idle_s=0.02
    )


def ignored(_notice: Notice) -> None:
    """Nobody listens."""


@contextmanager
def started(app: App) -> Generator[App]:
    with running(app):
        yield app


def all_handled(names: Sequence[str], seen: Sequence[Seen], sent: int) -> None:
    """No record is lost, whatever came and went."""
    for name, each in zip(names, seen, strict=True):
        until(lambda n=name, s=each: len(s.handled(n)) == sent * PARTITIONS, timeout_s=120)  # type: ignore[misc]
