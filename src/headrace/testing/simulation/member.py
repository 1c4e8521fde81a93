"""One member of a simulated group: a process with one app, made of the production owner, engine and shell.

Only what touches the outside is the model's: client, executors, inbox, producer, clock. Decides nothing; refuses to
judge. Invariant: what it tells the history is seen from outside, but for notices, which are for readers.
"""

from __future__ import annotations

import copy
from collections import deque
from typing import TYPE_CHECKING, Any, cast, final

from headrace._core import notices
from headrace._core.engine import Engine
from headrace._core.events import DeadLettered, PauseAsked, ResumeAsked
from headrace._core.workload import Capacity
from headrace._runtime.dead_letters import headers_of
from headrace._runtime.inbox import BATCH_MAX, AckAsked, MoveAsked
from headrace._runtime.owner import Owner
from headrace._runtime.parts import Parts
from headrace.errors import ProduceFailed
from headrace.testing.simulation import history as told
from headrace.testing.simulation.kernel import Process
from headrace.testing.simulation.workers import ModelExecutor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headrace._core.effects import ProduceDeadLetter
    from headrace._core.notices import Notice
    from headrace._core.tenure import Tenure
    from headrace._runtime.snapshots import Snapshot
    from headrace.ports import TopicPartition
    from headrace.records import Record
    from headrace.testing.simulation.handlers import Handlers
    from headrace.testing.simulation.history import History
    from headrace.testing.simulation.kernel import Kernel
    from headrace.testing.simulation.model.kafka import ModelKafka
    from headrace.testing.simulation.scenario import Scenario

GROUP = "group"
SPAN_S = 5.0
"""How often turns are counted and a snapshot is told."""
TURNS_AT_ONCE = 50
TURNS_TAKE_S = 0.01
"""What so many turns at one moment take: no loop is faster than 5,000 turns a second."""


@final
class ModelInbox:
    """`Inbox`: what the simulation puts, the owner takes."""

    __slots__ = ("_items", "_kernel", "_stretch")

    def __init__(self, kernel: Kernel, stretch: float) -> None:
        self._kernel = kernel
        # A wait of five milliseconds for results of a handler that takes a minute is most of a simulation's work.
        self._stretch = stretch
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        """Add an item."""
        self._items.append(item)

    def take(self, timeout_s: float) -> Sequence[Any]:
        """See `Inbox.take`."""
        if timeout_s > 0 and not self._items:
            self._kernel.wait(self._kernel.now + timeout_s * self._stretch, lambda: bool(self._items))
        return [self._items.popleft() for _ in range(min(len(self._items), BATCH_MAX))]


@final
class _CountingOwner(Owner):
    """The production owner, whose turns are counted."""

    member: Member

    def turn(self) -> None:
        """See `Owner.turn`."""
        self.member.turned()
        super().turn()


@final
class Member:
    """One life of one process."""

    def __init__(
        self,
        kernel: Kernel,
        history: History,
        kafka: ModelKafka,
        scenario: Scenario,
        name: str,
        instance: str | None,
        runs: Iterator[int],
    ) -> None:
        self.name = name
        self.process = Process(name)
        self._kernel = kernel
        self._history = history
        self._kafka = kafka
        self._scenario = scenario
        self._instance = instance
        self._runs = runs
        self._inbox = ModelInbox(kernel, scenario.inbox_stretch)
        self.ended = False
        self.error: str | None = None
        self.stopping = False
        self._turns = 0
        self._turned = 0
        self._turned_at = kernel.now
        self._span_at = kernel.now
        self._entries_at = 0
        self._held: tuple[Snapshot, Any] | None = None
        self.executors = [
            ModelExecutor(
                kernel,
                history,
                self.process,
                name,
                index,
                settings,
                scenario.handlers,
                self._inbox.put,
                scenario.workers,
                runs,
            )
            for index, settings in enumerate(scenario.subscriptions)
        ]
        self.owner = self._make_owner()

    def _make_owner(self) -> Owner:
        scenario, kernel = self._scenario, self._kernel
        subscriptions = list(scenario.subscriptions)
        engine = Engine(
            subscriptions,
            [Capacity(settings.run_in, scenario.workers) for settings in subscriptions],  # type: ignore[arg-type] # never "auto" here
            commit=scenario.commit,
            budgets=scenario.budgets,
            rebuild_after_s=scenario.settings.session_timeout_s,
            acknowledge=self._acknowledge,
            jitter=lambda: kernel.choices.between("jitter", 0.0, 0.999),
        )
        owner = _CountingOwner(
            Parts(
                make_client=lambda: self._kafka.client(
                    self.process, self.name, GROUP, scenario.protocol, self._instance
                ),
                engine=engine,
                executors=cast("Any", self.executors),
                subscriptions=subscriptions,
                topics=[topic for settings in subscriptions for topic in settings.topics],
                check_topics=[topic for settings in subscriptions for topic in settings.topics],
                produce_dead_letter=self._produce_dead_letter,
                on_rebalance=lambda _kind, _partitions: None,
                inbox=self._inbox,
                tell=self._tell,
                clock=kernel.clock,
                timeouts=scenario.timeouts,
                commit=scenario.commit,
                poll_idle_s=scenario.poll_idle_s,
            )
        )
        owner.member = self
        return owner

    # The world's calls

    def start(self) -> None:
        """Begin to run, soon."""
        self._history.add(self._kernel.now, told.MemberStarted(self.name))
        self._kernel.spawn(self.process, self.name, self._run)

    def stop(self, *, hard: bool = False) -> None:
        """The user stops the app."""
        if self.alive:
            self.stopping = True
            self._history.add(self._kernel.now, told.StopAsked(self.name, hard))
            self.owner.request_stop(hard=hard)

    def kill(self) -> None:
        """kill -9."""
        if self.alive:
            self._history.add(self._kernel.now, told.MemberKilled(self.name))
            self._kernel.kill(self.process)

    def freeze(self, frozen_s: float) -> None:
        """Nothing of it happens for so long."""
        if self.alive:
            self._history.add(self._kernel.now, told.MemberFrozen(self.name, frozen_s))
            self._kernel.freeze(self.process, frozen_s)

    def seek(self, place: TopicPartition, to: int) -> None:
        """The user seeks."""
        self._history.add(self._kernel.now, told.SeekWanted(self.name, place))
        self._inbox.put(MoveAsked(place, to))

    def pause(self, place: TopicPartition, *, paused: bool) -> None:
        """The user pauses a partition, or resumes it."""
        if self.alive:
            self._history.add(self._kernel.now, told.PauseAsked(self.name, (place,), paused))
            self._inbox.put(PauseAsked((place,)) if paused else ResumeAsked((place,)))

    def end_trouble(self, calm: Handlers) -> None:
        """Handlers do well from now on."""
        for executor in self.executors:
            executor.end_trouble(calm)

    @property
    def alive(self) -> bool:
        """Whether the process lives and its app has not ended."""
        return self.process.alive and not self.ended

    def turned(self) -> None:
        """The owner begins a turn."""
        self._turns += 1
        now = self._kernel.now
        if now > self._turned_at:
            self._turned_at, self._turned = now, 0
        self._turned += 1
        if self._turned % TURNS_AT_ONCE == 0:
            # Turns take time too; a loop that never waits would hold the virtual clock for ever.
            self._kernel.wait(now + TURNS_TAKE_S)
        if now - self._span_at >= SPAN_S:
            self._tell_span(now - self._span_at)

    # Inside

    def _run(self) -> None:
        self.owner.run()
        if not self.process.alive:
            return
        self._tell_span(self._kernel.now - self._span_at)
        self.ended = True
        fatal = self.owner.fatal
        self.error = None if fatal is None else type(fatal).__name__
        self._history.add(self._kernel.now, told.MemberEnded(self.name, self.error))
        # Its process ends with it: threads that still run are daemons.
        self._kernel.kill(self.process)

    def _tell_span(self, span_s: float) -> None:
        mine = sum(
            1
            for _, entry in self._history.entries[self._entries_at :]
            if getattr(entry, "member", None) == self.name
            and not isinstance(entry, (told.Told, told.Turned, told.SnapshotTaken))
        )
        self._history.add(self._kernel.now, told.Turned(self.name, self._turns, span_s, mine == 0))
        self._turns, self._span_at = 0, self._kernel.now
        latest = self.owner.snapshots.latest
        unchanged = self._held is None or self._held[0] == self._held[1]
        self._held = (latest, copy.deepcopy(latest))
        counters, partitions = latest.engine.counters, latest.engine.partitions
        self._history.add(
            self._kernel.now,
            told.SnapshotTaken(
                self.name,
                fetched=counters.fetched,
                waiting=sum(each.waiting + each.held + each.settling + each.unacked for each in partitions),
                in_flight=sum(each.in_flight for each in partitions),
                parked=sum(each.parked for each in partitions),
                finished=counters.finished,
                stale=counters.dropped,
                bytes_held=sum(each.bytes_held for each in partitions),
                held_unchanged=unchanged,
            ),
        )
        self._entries_at = len(self._history.entries)

    def _acknowledge(self, record: Record[Any, Any]) -> bool:
        tenure = cast("Tenure", record._tenure)
        self._inbox.put(AckAsked(record))
        return tenure.open

    def _produce_dead_letter(self, effect: ProduceDeadLetter) -> None:
        self._kernel.guard()
        record = effect.record
        place = (record.topic, record.partition)
        topic = self._scenario.subscriptions[effect.subscription].dead_letter
        assert topic is not None
        run = next(self._runs)
        self._history.add(self._kernel.now, told.DeadLetterSent(self.name, place, record.offset, run))
        choices = self._kernel.choices

        def done(error: Exception | None) -> None:
            if error is None:
                self._history.add(
                    self._kernel.now, told.Settled(self.name, place, record.offset, "dead_lettered", run)
                )
            permanent = isinstance(error, ProduceFailed) and error.permanent
            self._inbox.put(DeadLettered(record, error, permanent))

        if choices.chance("dead letter fails", self.executors[effect.subscription].handlers.letter_fails):
            refused = ProduceFailed(topic, "_MSG_TIMED_OUT", "as drawn", permanent=False)
            self._kernel.later(
                choices.between("fails", 0.0, 1.0), "letter fails", lambda: done(refused), self.process
            )
            return
        self._kafka.produce(
            self.process,
            topic,
            record.raw_key,
            record.raw_value,
            headers_of(record, effect.error, GROUP),
            done,
        )

    def _tell(self, notice: Notice) -> None:
        if not self.process.alive:
            return
        if isinstance(notice, notices.RecordSkipped):
            place = (notice.topic, notice.partition)
            self._history.add(self._kernel.now, told.Settled(self.name, place, notice.offset, "skipped"))
        if isinstance(notice, notices.AppFailed):
            self._history.add(self._kernel.now, told.Failing(self.name))
        self._history.add(self._kernel.now, told.Told(self.name, f"{notice.name}: {notice}"))
