"""The act `faststream`: a commit refused in a rebalance ends the only consuming task, and nobody hears of it.

After FastStream 0.5.0 to 0.5.3 on aiokafka (its issue 1414). The naive form is a look-alike: its shape, none of its code,
on confluent-kafka. `tests/full` runs the real one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaException

from headrace import Commit, Record
from headrace.cli.gallery.stage import Background, Stage, make_app, running, until
from headrace.cli.gallery.verdict import Cell, Row, Verdict
from headrace.testing import MockBrokerProcess

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headrace.testing.broker import MockBroker

TOPIC: Final = "orders"
PARTITIONS: Final = 2
RECORDS: Final = 200
REFUSED_FROM: Final = 50
"""Records that are handled before the broker begins to refuse commits."""

REFUSAL: Final = "REBALANCE_IN_PROGRESS"
REFUSALS: Final = 1000
"""More than anybody asks for: refusals end when the broker is told so."""

REFUSED_S: Final = 2.0
OVERDUE, RECOVERED = "commit_overdue", "commit_recovered"
"""The notices of finished work that stays uncommitted, and of commits that are written again."""

LOOK_S: Final = 1.5
WORK_S: Final = 0.002
FAILS_EVERY: Final = 40


class DependencyAway(Exception):
    """What the handler raises, once for some records."""


class LookAlike:
    """The consuming half of FastStream 0.5.3 in small: one task, and the acknowledgement outside of all that catches."""

    def __init__(
        self, settings: dict[str, Any], handler: Callable[[Any], Awaitable[None]], *, auto_commit: bool
    ) -> None:
        settings = settings | {"enable.auto.commit": auto_commit, "auto.commit.interval.ms": 200}
        self.consumer = Consumer(settings | {"auto.offset.reset": "earliest"})
        self.handler = handler
        self.auto_commit = auto_commit
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """On the event loop."""
        self.consumer.subscribe([TOPIC])
        # Nobody awaits it, and this reference keeps asyncio from saying that its exception was never retrieved.
        self.task = asyncio.create_task(self.consume())

    async def consume(self) -> None:
        """The only task."""
        while True:
            message = await asyncio.to_thread(self.consumer.poll, 0.1)
            if message is None or message.error() is not None:
                continue
            with suppress(DependencyAway):  # logged, and passed by the next acknowledgement
                await self.handler(message)
            if not self.auto_commit:
                await asyncio.to_thread(self.consumer.commit, message=message, asynchronous=False)


@dataclass(slots=True)
class Work:
    """What handlers did: the same for both forms. One handler at a time writes each."""

    tried: set[int] = field(default_factory=set[int])
    handled: set[int] = field(default_factory=set[int])

    async def handle(self, value: bytes) -> None:
        """The work: fails the first time for a few records."""
        number = int(value)
        await asyncio.sleep(WORK_S)
        fails = number % FAILS_EVERY == FAILS_EVERY - 1 and number not in self.tried
        self.tried.add(number)
        if fails:
            raise DependencyAway
        self.handled.add(number)


@dataclass(frozen=True, slots=True)
class Naive:
    """What was seen of one look-alike. told: what asyncio reported to its exception handler."""

    handled: int
    tried: int
    ended_by: str
    told: int
    heartbeats: int
    committed: int


def play(stage: Stage) -> Verdict:
    """The look-alike with manual and with automatic commits, then Headrace."""
    stage.tell(f"naive, manual commit: a commit is answered {REFUSAL}")
    manual = _naive(stage, auto_commit=False)
    stage.tell(f"its task {manual.ended_by or 'lives'}; {manual.tried} of {RECORDS} records were tried")
    stage.tell("naive, automatic commit: the same refusals, and a few records fail once")
    automatic = _naive(stage, auto_commit=True)
    stage.tell(f"{automatic.committed} records are committed, {automatic.handled} were handled")
    stage.tell("Headrace: the same, and commits are refused until all is handled")
    return Verdict(_rows(manual, automatic, _headrace(stage)))


def _naive(stage: Stage, *, auto_commit: bool) -> Naive:
    with MockBrokerProcess() as broker:
        _fill(broker)
        work = Work()
        seen: list[Naive] = []

        def live(_leaving: threading.Event) -> None:
            seen.append(asyncio.run(_observe(stage, broker, work, auto_commit=auto_commit)))

        with Background(live, "look-alike") as life:
            until(lambda: not life.alive, 3 * stage.patience_s)
        if life.error is not None:
            raise life.error
        return seen[0]


async def _observe(stage: Stage, broker: MockBroker, work: Work, *, auto_commit: bool) -> Naive:
    settings = broker.client_settings("naive")
    app = LookAlike(settings, lambda message: work.handle(message.value()), auto_commit=auto_commit)
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    app.start()
    task = app.task
    assert task is not None
    await asyncio.to_thread(until, lambda: len(work.tried) >= REFUSED_FROM, stage.patience_s)
    broker.push_errors("OffsetCommit", *[REFUSAL] * REFUSALS)
    refused_until = time.monotonic() + REFUSED_S
    await asyncio.to_thread(until, lambda: task.done() or time.monotonic() > refused_until, stage.patience_s)
    broker.clear_errors("OffsetCommit")
    # The broker is well again: whoever lives goes on now.
    broker.track_requests()
    await asyncio.to_thread(until, lambda: len(work.tried) == RECORDS, LOOK_S)
    await asyncio.sleep(LOOK_S)
    heartbeats = len(broker.requests("Heartbeat"))
    committed = sum(broker.committed("naive", TOPIC).values())
    ended_by, reports = "", len(told)
    if task.done():
        ended_by = f"ended by {_reason(task.exception())}"
    else:
        task.cancel()
    await asyncio.wait([task])
    await asyncio.to_thread(app.consumer.close)
    return Naive(len(work.handled), len(work.tried), ended_by, reports, heartbeats, committed)


def _reason(error: BaseException | None) -> str:
    if isinstance(error, KafkaException):
        return str(error.args[0].name())
    return type(error).__name__


@dataclass(frozen=True, slots=True)
class Ours:
    """What was seen of Headrace. early: committed while commits were refused. late: in the end.

    told: the names of the notices about it, in order. health: its verdict while refused, and in the end.
    """

    handled: int
    refused: int
    told: tuple[str, ...]
    health: tuple[str, str]
    early: int
    late: int


def _headrace(stage: Stage) -> Ours:
    with MockBrokerProcess() as broker:
        _fill(broker)
        app = make_app(
            broker,
            "headrace",
            Commit(every_s=0.1, backoff_initial_s=0.05, backoff_max_s=0.2, alert_after_s=REFUSED_S / 2),
        )
        work = Work()

        @app.subscribe(TOPIC, concurrency=2)
        async def handle(record: Record[bytes, bytes]) -> None:
            await work.handle(record.raw_value or b"")

        with running(app):
            until(lambda: len(work.tried) >= REFUSED_FROM, stage.patience_s)
            broker.push_errors("OffsetCommit", *[REFUSAL] * REFUSALS)
            refused_until = time.monotonic() + REFUSED_S
            until(lambda: len(work.handled) == RECORDS and time.monotonic() > refused_until, stage.patience_s)
            until(lambda: app.health().verdict != "ok", stage.patience_s)
            sick = app.health().verdict
            broker.clear_errors("OffsetCommit")
            early = app.snapshot()
            until(lambda: sum(broker.committed("headrace", TOPIC).values()) == RECORDS, stage.patience_s)
            until(lambda: RECOVERED in [notice.name for notice in app.notices()], stage.patience_s)
            until(lambda: app.health().verdict == "ok", stage.patience_s)
            health = (sick, app.health().verdict)
            refused = app.snapshot().engine.counters.commits_refused
            late = sum(broker.committed("headrace", TOPIC).values())
        committed_early = sum(partition.committed or 0 for partition in early.engine.partitions)
        told = tuple(notice.name for notice in app.notices() if notice.name in (OVERDUE, RECOVERED))
        return Ours(len(work.handled), refused, told, health, committed_early, late)


def _fill(broker: MockBroker) -> None:
    broker.create_topic(TOPIC, PARTITIONS)
    for partition in range(PARTITIONS):
        numbers = range(partition, RECORDS, PARTITIONS)
        broker.produce(TOPIC, [(b"key-%d" % (n % 20), b"%d" % n) for n in numbers], partition=partition)


def _rows(manual: Naive, automatic: Naive, ours: Ours) -> tuple[Row, ...]:
    failed_once = RECORDS // FAILS_EVERY
    return (
        Row(
            "records, manual commit",
            Cell(f"{manual.tried} of {RECORDS} tried", manual.tried < RECORDS),
            Cell(f"{ours.handled} of {RECORDS} handled", ours.handled == RECORDS),
        ),
        Row("the consuming task", Cell(manual.ended_by or "lives", bool(manual.ended_by))),
        Row("its heartbeats since", Cell(f"{manual.heartbeats}: still a member", manual.heartbeats > 0)),
        Row(
            "told of it",
            Cell("nothing" if not manual.told else f"{manual.told} reports", manual.told == 0),
            Cell(", ".join(ours.told) or "nothing", ours.told == (OVERDUE, RECOVERED)),
        ),
        Row(
            "its health",
            Cell("nobody can ask"),
            Cell(" then ".join(ours.health), ours.health == ("degraded", "ok")),
        ),
        Row(
            "lost, automatic commit",
            Cell(
                f"{automatic.committed - automatic.handled} of {failed_once}",
                automatic.committed > automatic.handled,
            ),
            Cell(f"{RECORDS - ours.handled}", ours.handled == RECORDS),
        ),
        Row("commits refused", headrace=Cell(str(ours.refused), ours.refused > 0)),
        Row("committed while refused", headrace=Cell(f"{ours.early}", ours.early < RECORDS)),
        Row(
            "committed in the end",
            Cell(f"{manual.committed}"),
            Cell(f"{ours.late} of {RECORDS}", ours.late == RECORDS),
        ),
    )
