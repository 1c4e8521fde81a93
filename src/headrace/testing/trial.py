"""`run`: try handlers on records without any broker, and see what became of each record.

The production engine, owner and executors run; Kafka and the clock are in memory. While nothing runs, time jumps to the
next moment at which something is due: retries with backoff, `RetryLater` and `Batching.wait_s` cost no waiting. Handlers
run on real threads, loops and processes and take the time they take.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from headrace._core.notices import RecordDeadLettered, RecordSkipped
from headrace._core.routing import Routing
from headrace._runtime import dead_letters
from headrace._runtime.handlers import takes_batch
from headrace._runtime.surroundings import Surroundings
from headrace.app import App
from headrace.config import Batching, Commit, require_range
from headrace.elsewhere import started_elsewhere
from headrace.ports import CommitRequest
from headrace.testing._account import Account, place_of
from headrace.testing.memory_client import MemoryClient
from headrace.testing.memory_kafka import MemoryKafka, MemoryProducer, RawRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from headrace._core.notices import Notice
    from headrace._runtime.assembly import Assembly
    from headrace.errors import ConfigError, FatalError
    from headrace.ports import TopicPartition
    from headrace.records import Batch, Record

    Handler = Callable[[Record[Any, Any]], object] | Callable[[Batch[Any, Any]], object]
    Fields = tuple[str, bytes | None, bytes | None]

COMMIT_EVERY_S = 3600.0
"""The commit's timer ends each jump of an idle trial: at its default of a second an hour would take 3600 jumps."""
WAIT_MAX_S = 2 * 86_400.0
"""Longer than anything an app can wait for: after so long on the trial's clock only another thread can still act."""
QUIET_S = 0.5
"""How long that thread gets, on the real clock, before a trial ends with records that nobody acknowledged."""
IDLE_STEP_S = 0.001


@final
@dataclass(frozen=True, slots=True)
class FailedTry:
    """One try of a handler that raised; `RetryLater` and `Reject` are among the errors."""

    record: Record[Any, Any]
    attempt: int
    error: BaseException


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """What became of the records, in the order in which it happened.

    handled: their handler returned. filtered: their subscription's filter turned them away. failed: every try that
    raised. dead_lettered: as written to the dead-letter topic, headers included. skipped: given up without one.
    unfinished: neither; what a next start would handle again. produced: by handlers, with `app.produce`.
    committed: offset of the first unfinished record, by (topic, partition). error: what ended the app early, if
    anything did. notices: the last things the runtime told.
    """

    handled: tuple[Record[Any, Any], ...]
    filtered: tuple[Record[Any, Any], ...]
    failed: tuple[FailedTry, ...]
    dead_lettered: tuple[RawRecord, ...]
    skipped: tuple[Record[Any, Any], ...]
    unfinished: tuple[RawRecord, ...]
    produced: tuple[RawRecord, ...]
    committed: Mapping[TopicPartition, int]
    error: FatalError | ConfigError | None
    notices: tuple[Notice, ...] = field(repr=False)


def run(
    target: App | Handler,
    records: Iterable[RawRecord | Fields],
    *,
    timeout_s: float = 10.0,
    check: bool = True,
) -> Trial:
    """Run an app's handlers, or one handler, on these records, until all are finished or nothing more can happen.

    target: an app that was not started; all its subscriptions, lifespans, hooks and resources take part, and it is as new
        afterwards. Or a handler: it is subscribed, with the defaults, to the topics of the records.
    records: `RawRecord`s, or tuples (topic, key, value). Topics are made as needed; records that
        handlers produce to subscribed topics are handled, too.
    timeout_s: real time that it may take; handlers that still run then are abandoned. It blocks that long at most, plus
        a few seconds for closing.
    check: raise the `FatalError` that ended the app, such as `RecordFailed` or, after `timeout_s`, `ForcedStop`. Without
        it the error is `Trial.error`.

    Raises `AppStateError` for an app that runs, and `ValueError` for a record that no subscription reads.
    """
    require_range("timeout_s", timeout_s, 0.01, 3600)
    given = [record if isinstance(record, RawRecord) else RawRecord(*record) for record in records]
    app = target if isinstance(target, App) else _app_of(target, given)
    rehearsal = _Rehearsal(app, given)
    commit = Commit(every_s=COMMIT_EVERY_S)
    with started_elsewhere(app, rehearsal.surroundings(), commit, rehearsal.listen) as assembly:
        rehearsal.attend(assembly, timeout_s)
    trial = rehearsal.result(assembly)
    if check and trial.error is not None:
        raise trial.error
    return trial


def _app_of(handler: Handler, given: Sequence[RawRecord]) -> App:
    app = App(bootstrap_servers="memory", group_id="trial")
    topics = dict.fromkeys(record.topic for record in given) or ["trial"]
    app.subscribe(*topics, batch=Batching() if takes_batch(handler) else None)(handler)
    return app


@final
class _Clock:
    """The monotonic clock, and what was skipped of it. The owner thread skips; anyone reads."""

    def __init__(self) -> None:
        self._skipped_s = 0.0

    def now(self) -> float:
        return time.monotonic() + self._skipped_s

    def skip(self, span_s: float) -> None:
        self._skipped_s += span_s


@final
class _Rehearsal:
    """One trial while it happens."""

    def __init__(self, app: App, given: Sequence[RawRecord]) -> None:
        self._settings = app.subscriptions
        self._routing = Routing(self._settings)
        self._kafka = MemoryKafka()
        self._producer = MemoryProducer(self._kafka)
        self._account = Account(self._settings)
        self._clock = _Clock()
        # The owner thread sets it.
        self._finished = threading.Event()
        # Since when nothing has happened, and how much time was jumped since then.
        self._quiet_since = time.monotonic()
        self._skipped_s = 0.0
        # Appended by any thread; read when all have ended.
        self._told: list[Notice] = []
        for settings in self._settings:
            for topic in (*settings.topics, settings.dead_letter):
                if topic is not None:
                    self._kafka.create(topic)
        for record in given:
            if self._routing.subscription_of(record.topic) is None:
                msg = f"no subscription reads topic {record.topic!r}"
                raise ValueError(msg)
            self._kafka.append(record)
        # As if the group had been here before: whatever start_if_no_offset says, these records are new to it.
        self._kafka.commit([CommitRequest(*place, 0) for place in self._places()])

    def surroundings(self) -> Surroundings:
        return Surroundings(
            make_client=lambda _number: MemoryClient(self._kafka, self._idle),
            make_producer=lambda: self._producer,
            make_inbox=lambda: self._account,
            clock=self._clock.now,
            poll_idle_s=WAIT_MAX_S,
        )

    def listen(self, notice: Notice) -> None:
        self._told.append(notice)

    def attend(self, assembly: Assembly, timeout_s: float) -> None:
        """Wait for the end, and bring it about."""
        assembly.when_over(self._finished.set)
        in_time = self._finished.wait(timeout_s)
        assembly.request_stop(hard=not in_time, timeout_s=None if in_time else timeout_s)

    def result(self, assembly: Assembly) -> Trial:
        account = self._account
        given_up = {
            (told.topic, told.partition, told.offset): told
            for told in self._told
            if isinstance(told, RecordSkipped | RecordDeadLettered)
        }
        last_tries = {place_of(record): record for record, _, _ in account.failed}
        letters = [produced for produced in self._producer.produced if self._is_dead_letter(produced)]
        finished = account.acknowledged | given_up.keys() | set(map(place_of, account.filtered))
        for record in account.handled:
            index = self._routing.subscription_of(record.topic)
            if index is not None and self._settings[index].ack == "on_return":
                finished.add(place_of(record))
        return Trial(
            handled=tuple(account.handled),
            filtered=tuple(account.filtered),
            failed=tuple(FailedTry(*failed) for failed in account.failed),
            dead_lettered=tuple(letters),
            skipped=tuple(
                last_tries[place] for place, told in given_up.items() if isinstance(told, RecordSkipped)
            ),
            unfinished=tuple(
                stored.raw
                for place in self._places()
                for stored in self._kafka.read(place, 0, self._kafka.end(place))
                if (*place, stored.offset()) not in finished
            ),
            produced=tuple(produced for produced in self._producer.produced if produced not in letters),
            committed=self._committed(),
            error=assembly.fatal(),
            notices=assembly.teller.recent(),
        )

    def _idle(self, timeout_s: float) -> None:
        """Owner thread: nothing runs and nothing is to be had. Jump to what is due next, or see that nothing is."""
        now = time.monotonic()
        if self._account.stirred:
            self._account.stirred = False
            self._quiet_since, self._skipped_s = now, 0.0
        done = all(self._kafka.end(place) == offset for place, offset in self._committed().items())
        if done or (self._skipped_s >= WAIT_MAX_S and now - self._quiet_since >= QUIET_S):
            self._finished.set()
        elif self._skipped_s < WAIT_MAX_S:
            self._skipped_s += timeout_s
            self._clock.skip(timeout_s)
            return
        time.sleep(IDLE_STEP_S)

    def _places(self) -> list[TopicPartition]:
        """All partitions that are read."""
        return [
            (topic, number)
            for topic, partitions in self._kafka.topics().items()
            if self._routing.subscription_of(topic) is not None
            for number in range(partitions)
        ]

    def _committed(self) -> dict[TopicPartition, int]:
        return {
            (found.topic, found.partition): found.offset or 0
            for found in self._kafka.committed(self._places())
        }

    def _is_dead_letter(self, produced: RawRecord) -> bool:
        return any(produced.topic == settings.dead_letter for settings in self._settings) and any(
            name == dead_letters.OFFSET for name, _ in produced.headers
        )
