"""The act `spark`: tasks of one process read ranges of one partition, and meet in its cached consumer.

After Spark Streaming up to 2.3 (SPARK-19185, SPARK-22606, SPARK-23623). Kafka's Java client refuses a second thread; that
of Python lets both read, and neither is told. The second naive form is a cure that was offered to Spark: a key with the
thread's id. Invariant: all forms read the same ranges on as many threads.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, TopicPartition

from headrace import guard
from headrace.cli.gallery.verdict import NOTHING, Cell, Row, Verdict
from headrace.pool import ConsumerPool, PoolSettings
from headrace.pool.consumers import connect
from headrace.testing import MockBrokerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.cli.gallery.stage import Stage
    from headrace.pool import PooledConsumer

    Read = Callable[[int, int], list[int]]

TOPIC: Final = "orders"
RECORDS: Final = 4000
START_MAX: Final = 2000
"""What is behind it is enough for all tasks at once: none runs dry, however they are mixed."""

RANGE: Final = 100
BATCH: Final = 20
WORK_S: Final = 0.001
JOBS, TASKS, RANGES = 3, 8, 3
"""Each job brings threads of its own, one for a task; a task reads so many ranges."""

CONSUMERS_MAX: Final = 4
POLL_S: Final = 0.1
TASK_S: Final = 10.0
TIMES: Final = 2
"""A consumer for each thread means at least so many more native threads and open files for each; four and eight are usual."""


class CachedConsumers:
    """Consumers that are kept for the next task, each under a key."""

    def __init__(self, settings: dict[str, Any], *, by_thread: bool) -> None:
        self.settings = settings
        self.by_thread = by_thread
        self.lock = threading.Lock()
        self.consumers: dict[tuple[str, int, int], Consumer] = {}

    def consumer(self) -> Consumer:
        """The cache is guarded by a lock; what comes out of it is not."""
        key = (TOPIC, 0, threading.get_native_id() if self.by_thread else 0)
        with self.lock:
            if key not in self.consumers:
                self.consumers[key] = Consumer(self.settings)
            return self.consumers[key]

    def read(self, start: int, end: int) -> list[int]:
        """The range of one task: go to its start, and read as many records as it has."""
        consumer = self.consumer()
        consumer.assign([TopicPartition(TOPIC, 0, start)])
        found: list[int] = []
        give_up_at = time.monotonic() + TASK_S
        while len(found) < end - start and time.monotonic() < give_up_at:
            messages = consumer.consume(min(BATCH, end - start - len(found)), POLL_S)
            found += [int(message.value() or b"-1") for message in messages]
            time.sleep(WORK_S)  # what the task does with them
        return found


@dataclass(slots=True)
class Seen:
    """What tasks got. Threads write under the lock; read when they have ended.

    whole: of the wrong ones, those with as many records as were asked for. Nothing about them looks wrong.
    """

    ranges: int = 0
    wrong: int = 0
    whole: int = 0
    threads: int = 0
    errors: Counter[str] = field(default_factory=Counter[str])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, found: Sequence[int], asked: range, error: str) -> None:
        """Count one range."""
        wrong = list(found) != list(asked)
        with self.lock:
            self.ranges += 1
            self.wrong += wrong
            self.whole += wrong and len(found) == len(asked)
            if error:
                self.errors[error] += 1


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds of the machine: native threads and open files."""

    threads: int
    files: int

    def beyond(self, before: Held) -> Held:
        """What came to it."""
        return Held(self.threads - before.threads, self.files - before.files)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One form. held: what its consumers do, None where the system does not tell. refused: by the guard."""

    seen: Seen
    consumers: int
    held: Held | None
    refused: int = 0


def play(stage: Stage) -> Verdict:
    """The shared consumer, the key with the thread's id, then leases."""
    with MockBrokerProcess(topics={TOPIC: 1}) as broker:
        broker.produce(TOPIC, [(b"k", b"%d" % number) for number in range(RECORDS)])
        stage.tell(f"naive: {TASKS} tasks at once read ranges of one partition, through one cached consumer")
        shared = _naive(broker, stage, by_thread=False)
        stage.tell(f"{shared.seen.wrong} of {shared.seen.ranges} ranges are wrong")
        stage.tell(f"naive: a consumer for each thread, and {JOBS} jobs of {TASKS} threads")
        by_thread = _naive(broker, stage, by_thread=True)
        stage.tell(f"{by_thread.consumers} consumers for one partition")
        stage.tell(f"Headrace: the same ranges from leases of {CONSUMERS_MAX} consumers at most")
        ours = _headrace(broker, stage)
    return Verdict(_rows(shared, by_thread, ours))


def _naive(broker: MockBrokerProcess, stage: Stage, *, by_thread: bool) -> Outcome:
    settings = broker.client_settings("executor") | {
        "enable.auto.commit": False,
        "fetch.queue.backoff.ms": 10,
        "fetch.wait.max.ms": 50,
    }
    cache = CachedConsumers(settings, by_thread=by_thread)
    before, seen = _held(), Seen()
    give_up_at = time.monotonic() + stage.patience_s
    _run_jobs(cache.read, seen)
    while not by_thread and not seen.wrong and time.monotonic() < give_up_at:
        _run_jobs(cache.read, seen)
    outcome = Outcome(seen, len(cache.consumers), _since(before))
    for consumer in cache.consumers.values():
        consumer.close()
    return outcome


def _headrace(broker: MockBrokerProcess, stage: Stage) -> Outcome:
    client: dict[str, Any] = dict(broker.client_settings())
    for name in ("bootstrap.servers", "group.protocol"):
        client.pop(name, None)
    guards: list[Any] = []

    def guarded(*arguments: Any) -> PooledConsumer:
        consumer = guard(connect(*arguments))
        guards.append(consumer)
        return consumer

    limits = PoolSettings(
        consumers_soft_max=CONSUMERS_MAX,
        consumers_hard_max=CONSUMERS_MAX,
        cached_per_key_max=CONSUMERS_MAX,
        wait_timeout_s=stage.patience_s,
    )
    with ConsumerPool(broker.bootstrap_servers, librdkafka=client, settings=limits, connect=guarded) as pool:

        def read(start: int, end: int) -> list[int]:
            found: list[int] = []
            for records in pool.read(TOPIC, 0, start, end, records_max=BATCH, timeout_s=stage.patience_s):
                found += [int(record.value() or b"-1") for record in records]
                time.sleep(WORK_S)
            return found

        before, seen = _held(), Seen()
        _run_jobs(read, seen)
        return Outcome(
            seen, pool.counters().created, _since(before), sum(guard.guard_refused for guard in guards)
        )


def _run_jobs(read: Read, seen: Seen) -> None:
    for job in range(JOBS):
        tasks = [
            threading.Thread(
                target=partial(_run_task, read, seen, seed=job * TASKS + task),
                name=f"failures-task-{task}",
                daemon=True,
            )
            for task in range(TASKS)
        ]
        for task in tasks:
            task.start()
        for task in tasks:
            task.join()
        seen.threads += len(tasks)


def _run_task(read: Read, seen: Seen, *, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same ranges for each form
    for _ in range(RANGES):
        start = chance.randrange(START_MAX)
        error, found = "", list[int]()
        try:
            found = read(start, start + RANGE)
        except Exception as raised:  # noqa: BLE001 - what a task meets is a fact of the act
            error = type(raised).__name__
        seen.take(found, range(start, start + RANGE), error)


def _held() -> Held | None:
    tasks, files = Path("/proc/self/task"), Path("/proc/self/fd")
    if not tasks.is_dir():  # it is Linux that tells
        return None
    return Held(_count(tasks), _count(files))


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


def _since(before: Held | None) -> Held | None:
    now = _held()
    return None if now is None or before is None else now.beyond(before)


def _rows(shared: Outcome, by_thread: Outcome, ours: Outcome) -> tuple[Row, ...]:
    theirs, own = shared.seen, ours.seen
    return (
        Row(
            "wrong ranges, one consumer",
            Cell(f"{theirs.wrong} of {theirs.ranges}", theirs.wrong > 0),
            Cell(f"{own.wrong} of {own.ranges}", own.wrong == 0 < own.ranges),
        ),
        Row(
            "of these, of full length",
            Cell(f"{theirs.whole}", theirs.whole > 0),
            Cell(f"{own.whole}", own.whole == 0),
        ),
        Row(
            "tasks were told",
            Cell(_listed(theirs.errors) or "nothing"),
            Cell(_listed(own.errors) or "nothing", not own.errors),
        ),
        Row(
            "a second thread inside",
            NOTHING,
            Cell(f"{ours.refused} times", ours.refused == 0),
        ),
        Row(
            "wrong, key with thread id",
            Cell(f"{by_thread.seen.wrong} of {by_thread.seen.ranges}"),
        ),
        Row(
            "consumers of the partition",
            Cell(
                f"{by_thread.consumers} after {by_thread.seen.threads} threads",
                by_thread.consumers > CONSUMERS_MAX * TIMES,
            ),
            Cell(f"{ours.consumers} after {own.threads} threads", 0 < ours.consumers <= CONSUMERS_MAX),
        ),
        *_held_rows(by_thread, ours.held),
    )


def _held_rows(by_thread: Outcome, own: Held | None) -> Sequence[Row]:
    theirs, least = by_thread.held, TIMES * by_thread.seen.threads
    if theirs is None or own is None:
        return (Row("their threads and files", Cell("this system does not tell"), NOTHING),)
    return (
        Row(
            "their native threads", Cell(f"{theirs.threads}", theirs.threads >= least), Cell(f"{own.threads}")
        ),
        Row("their open files", Cell(f"{theirs.files}", theirs.files >= least), Cell(f"{own.files}")),
    )


def _listed(errors: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in errors.items())
