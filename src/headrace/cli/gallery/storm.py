"""The act `storm`: a metrics reporter asks the consumer of the thread that polls.

After Apache Storm 2.6.0 to 2.6.4, whose metrics were read on the reporter's thread and called the spout's consumer.
Kafka's Java client refuses a second thread; confluent-kafka from 2.16 on makes it wait for the poll.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, cast

from confluent_kafka import Consumer

from headrace import Commit, Record
from headrace._client.admin import Observer
from headrace._client.consumer import KafkaClient
from headrace._client.settings import ConnectionSettings
from headrace._runtime.surroundings import kafka
from headrace.cli.gallery.stage import Background, Readers, Stage, Traffic, make_app, until
from headrace.cli.gallery.verdict import Cell, Row, Verdict
from headrace.elsewhere import started_elsewhere
from headrace.errors import ConcurrentAccess
from headrace.observe.ownership import GuardedConsumer
from headrace.ports import Client
from headrace.testing import MockBrokerProcess

if TYPE_CHECKING:
    from collections.abc import Generator

    from headrace import App


TOPIC: Final = "orders"
PARTITIONS: Final = 6
TICK_RECORDS: Final = 5
POLL_S: Final = 2.0
"""`consume` waits so long for a full batch: a usual setting, and a light load never fills one."""

REPORT_S: Final = 0.25
STALL_S: Final = 1.0
"""A read that takes longer has waited for a poll. One that only waits for the interpreter's turn takes a fifth of it."""

STALLS: Final = 2
GUARDED_S: Final = 1.5
READ_S, ASK_S = 3.0, 1.5
READERS: Final = 4
READS_MIN: Final = 10_000
AGE_MAX_S: Final = 1.5


class NaiveApp:
    """Consumes on one thread; a reporter's thread asks the same consumer how far behind it is."""

    def __init__(self, consumer: Any) -> None:
        self.consumer = consumer
        self.handled = 0

    def consume(self, leaving: threading.Event) -> None:
        """The body of the consuming thread."""
        while not leaving.is_set():
            for _message in self.consumer.consume(500, POLL_S):
                time.sleep(0.002)  # the work
                self.handled += 1

    def lag(self) -> int:
        """What the metrics call, on the reporter's thread."""
        behind = 0
        for place in self.consumer.position(self.consumer.assignment()):
            _, end = self.consumer.get_watermark_offsets(place, cached=True)
            behind += max(0, end - max(0, place.offset))
        return behind


@dataclass(frozen=True, slots=True)
class Naive:
    """What was seen of one naive form."""

    reports: int
    due: int
    longest_s: float
    refused: int


def play(stage: Stage) -> Verdict:
    """Both naive forms, then Headrace."""
    stage.tell(f"naive: a reporter asks a consumer that another thread polls for {POLL_S:g} s")
    shared = _naive(stage, guarded=False)
    stage.tell(f"a report took {shared.longest_s:.1f} s (confluent-kafka {version('confluent-kafka')})")
    stage.tell("naive: the same on a consumer that refuses a second thread")
    guarded = _naive(stage, guarded=True)
    stage.tell(
        f"{guarded.refused} of {guarded.refused + guarded.reports} reports raised {ConcurrentAccess.__name__}"
    )
    stage.tell(f"Headrace: {READERS} threads read snapshots, one asks for the lag itself")
    return Verdict(_rows(shared, guarded, _headrace(stage)))


def _naive(stage: Stage, *, guarded: bool) -> Naive:
    with MockBrokerProcess(topics={TOPIC: PARTITIONS}) as broker:
        raw = Consumer(
            broker.client_settings("naive", protocol="consumer") | {"auto.offset.reset": "earliest"}
        )
        raw.subscribe([TOPIC])
        app = NaiveApp(GuardedConsumer(raw) if guarded else raw)
        stalls = 0

        def report() -> None:
            nonlocal stalls
            began_at = time.monotonic()
            try:
                app.lag()
            finally:
                stalls += time.monotonic() - began_at > STALL_S

        with Traffic(broker, TOPIC, PARTITIONS, TICK_RECORDS), Background(app.consume, "naive") as consuming:
            until(lambda: app.handled, stage.patience_s)
            with Readers(report, pause_s=REPORT_S) as reader:
                if guarded:
                    until(lambda: len(reader.errors) >= STALLS, stage.patience_s)
                    time.sleep(GUARDED_S)
                else:
                    # A client that lets the second thread in gets no longer than one that does not.
                    until(lambda: stalls >= STALLS or not consuming.alive, min(stage.patience_s, 4 * POLL_S))
                longest_s = reader.longest_s
        with suppress(RuntimeError):
            raw.close()
        return Naive(reader.count, int(reader.elapsed_s / REPORT_S) + 1, longest_s, len(reader.errors))


def _rows(shared: Naive, guarded: Naive, ours: Ours) -> tuple[Row, ...]:
    # Before 2.16 the client lets a second thread in at any time: then there is no stall, and none is claimed.
    stalls = tuple(int(part) for part in version("confluent-kafka").split(".")[:2]) >= (2, 16)
    readers, observers = ours.readers, ours.observers
    rate = readers.count / readers.elapsed_s
    problems = readers.errors + observers.errors
    return (
        Row(
            "longest read",
            Cell(
                f"{shared.longest_s:.1f} s",
                shared.longest_s >= STALL_S if stalls else None,
            ),
            Cell(f"{readers.longest_s * 1000:.0f} ms", readers.longest_s < STALL_S),
        ),
        Row(
            "reads made",
            Cell(f"{shared.reports} of {shared.due} due"),
            Cell(f"{readers.count:,} ({rate:,.0f}/s)", readers.count >= READS_MIN),
        ),
        Row(
            "reads that raised",
            Cell(
                f"{guarded.refused} of {guarded.refused + guarded.reports}, guarded",
                guarded.refused > 0,
            ),
            Cell(
                problems[0].splitlines()[0] if problems else f"{ours.refused}, guarded too",
                not problems and ours.refused == 0,
            ),
        ),
        Row("oldest snapshot read", headrace=Cell(f"{ours.oldest_s:.2f} s", ours.oldest_s < AGE_MAX_S)),
        Row(
            "lag, own connection",
            headrace=Cell(
                f"{observers.count}, longest {observers.longest_s * 1000:.0f} ms",
                observers.count > 0 and observers.longest_s < STALL_S,
            ),
        ),
        Row(
            "records handled",
            headrace=Cell(f"{ours.handled:,} of {ours.produced:,}", ours.handled == ours.produced > 0),
        ),
    )


@dataclass(frozen=True, slots=True)
class Ours:
    """What was seen of Headrace."""

    readers: Readers
    observers: Readers
    oldest_s: float
    refused: int
    handled: int
    produced: int


def _headrace(stage: Stage) -> Ours:
    handled: set[int] = set()
    with MockBrokerProcess(topics={TOPIC: PARTITIONS}) as broker:
        app = make_app(broker, "headrace", Commit(every_s=0.5), "consumer")

        @app.subscribe(TOPIC)
        def handle(record: Record[bytes, bytes]) -> None:
            time.sleep(0.002)
            handled.add(int(record.raw_value or b""))

        oldest_s = 0.0

        def read() -> None:
            nonlocal oldest_s
            oldest_s = max(oldest_s, time.monotonic() - app.snapshot().as_of)

        observer = Observer(ConnectionSettings(broker.bootstrap_servers, "failures", {"log_level": 0}))

        def lag() -> int:
            return sum(partition.lag for partition in observer.lag("headrace", [TOPIC], 5.0))

        with Traffic(broker, TOPIC, PARTITIONS, TICK_RECORDS) as traffic, _guarded(app) as guards:
            until(lambda: handled, stage.patience_s)
            with Readers(read, READERS) as readers:
                time.sleep(READ_S)
            with Readers(lag, pause_s=REPORT_S) as observers:
                time.sleep(ASK_S)
            traffic.stop()
            until(lambda: len(handled) == traffic.produced, stage.patience_s)
    refused = sum(guard.guard_refused for guard in guards)
    return Ours(readers, observers, oldest_s, refused, len(handled), traffic.produced)


@contextmanager
def _guarded(app: App) -> Generator[list[GuardedConsumer]]:
    """The app runs within the block, and the same guard as in the naive form stands around its Kafka client."""
    settings = app.settings
    connection = ConnectionSettings(
        settings.bootstrap_servers, settings.group_id, settings.librdkafka, settings.group_protocol
    )
    guards: list[GuardedConsumer] = []

    def make_client(number: int) -> Client:
        guards.append(GuardedConsumer(KafkaClient(connection, connection=number)))
        return cast(Client, guards[-1])

    surroundings = replace(kafka(connection), make_client=make_client)
    with started_elsewhere(app, surroundings, settings.commit, lambda _notice: None) as assembly:
        try:
            assembly.wait_started()
            yield guards
        finally:
            app.stop()
