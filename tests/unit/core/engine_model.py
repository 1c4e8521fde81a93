"""A small world around one engine: a broker with gaps in its log, an executor, a user, and time; and what must hold.

The world decides what happens; the engine only answers. Every promise is checked on what the world saw itself: which
handlers ran and ended, which commits the broker took, what a restart began from. Nothing here uses the ledger, the
lanes or the codec, so that a mistake in them cannot excuse itself. Broken promises are AssertionErrors.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from headrace._core import effects as do
from headrace._core import events, notices
from headrace._core.assignments import Assignments, changed
from headrace._core.engine import Engine
from headrace._core.workload import Capacity
from headrace.config import Batching, Budgets, Commit, RetryPolicy
from headrace.errors import ProduceFailed
from headrace.outcomes import Reject, RetryLater
from headrace.ports import CommitResult
from headrace.subscriptions import SubscriptionSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headrace._core.tenure import Tenure
    from headrace.ports import CommitRequest, TopicPartition
    from headrace.records import Record

TOPIC = "orders"
PARTITIONS: tuple[TopicPartition, ...] = ((TOPIC, 0), (TOPIC, 1))
KEYS = (b"a", b"b", b"c", b"", None)
REFUSALS = (
    "REBALANCE_IN_PROGRESS",
    "ILLEGAL_GENERATION",
    "UNKNOWN_MEMBER_ID",
    "STALE_MEMBER_EPOCH",
    "NOT_COORDINATOR",
    "OFFSET_METADATA_TOO_LARGE",
    "UNSTABLE_OFFSET_COMMIT",
)
COMMIT = Commit(every_s=1.0, timeout_s=5.0, alert_after_s=86_400)
REBUILD_AFTER_S = 45.0

AnyRecord = "Record[Any, Any]"


@dataclass(slots=True)
class Source:
    """One record as a client hands it over."""

    at: int
    raw_key: bytes | None
    size: int = 10

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes | None:
        return self.raw_key

    def value(self) -> bytes:
        return bytes(self.size)

    def headers(self) -> None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return (0, 0)

    def leader_epoch(self) -> int | None:
        return 1

    def __len__(self) -> int:
        return self.size


@dataclass(slots=True)
class Chunk:
    """A claim list: what is unclaimed, and the lanes in which a record failed or waits."""

    unclaimed: list[Record[Any, Any]]
    blocked: set[bytes] = field(default_factory=set[bytes])
    running: list[Record[Any, Any]] = field(default_factory=list["Record[Any, Any]"])


@dataclass(slots=True)
class InFlight:
    """A commit that the broker has not answered. `knew` is what was finished, as the engine was told, when it was sent."""

    requests: Sequence[CommitRequest]
    knew: dict[TopicPartition, frozenset[int]]
    sent_at: float
    eras: dict[TopicPartition, int]
    applied: bool = False
    overtaken: bool = False


@dataclass(slots=True)
class Held:
    """What the broker holds for a partition."""

    offset: int
    metadata: str
    leader_epoch: int | None
    knew: frozenset[int]


@dataclass(slots=True)
class Results:
    """Outcomes that were not reported yet."""

    succeeded: list[Record[Any, Any]] = field(default_factory=list["Record[Any, Any]"])
    failed: list[tuple[Record[Any, Any], BaseException]] = field(
        default_factory=list["tuple[Record[Any, Any], BaseException]"]
    )
    returned: list[Record[Any, Any]] = field(default_factory=list["Record[Any, Any]"])
    awaiting: list[Record[Any, Any]] = field(default_factory=list["Record[Any, Any]"])

    def take(self) -> events.Finished:
        event = events.Finished(
            0, self.succeeded[:], self.failed[:], self.returned[:], self.awaiting[:], started=0
        )
        for kept in (self.succeeded, self.failed, self.returned, self.awaiting):
            kept.clear()
        return event

    def __len__(self) -> int:
        return len(self.succeeded) + len(self.failed) + len(self.returned) + len(self.awaiting)


@dataclass(frozen=True, slots=True)
class Plan:
    """What varies from world to world."""

    settings: SubscriptionSettings
    budgets: Budgets
    capacity: Capacity
    quick: bool
    """The handler seems quick: what follows a head of a lane is handed out with it. Virtual time would not show it."""


def make_plan(rng: random.Random) -> Plan:
    """A subscription and budgets, small enough that every limit is met."""
    guarantee = rng.choice(("at_least_once",) * 4 + ("at_most_once", "none"))
    manual = guarantee == "at_least_once" and rng.random() < 0.3
    batch = None
    if not manual and rng.random() < 0.3:
        batch = Batching(records_max=rng.choice((1, 2, 4)), wait_s=rng.choice((0.0, 0.3)))
    exhausted = rng.choice(("dead_letter", "dead_letter", "skip", "stop"))
    settings = SubscriptionSettings(
        "handler",
        topics=(TOPIC,),
        order_by=rng.choice(("key", "key", "partition", "none")),
        concurrency=rng.choice((1, 3, 8)),
        batch=batch,
        retry=RetryPolicy(attempts_max=rng.choice((1, 3)), backoff_initial_s=0.2, backoff_max_s=2.0),
        dead_letter="orders.dead" if exhausted == "dead_letter" else None,
        on_exhausted=exhausted,  # type: ignore[arg-type] # one of the three
        on_dead_letter_failure=rng.choice(("wait", "stop")),
        guarantee=guarantee,  # type: ignore[arg-type] # one of the three
        ack="manual" if manual else "on_return",
    )
    budgets = Budgets(
        queued_records_max=rng.choice((1, 4, 1000)),
        lookahead_records_max=rng.choice((2, 10, 1000)),
        partition_bytes_max=rng.choice((1024, 1 << 20)),
        total_bytes_max=rng.choice((1024, 1 << 20)),
        parked_records_max=rng.choice((1, 4, 1000)),
    )
    return Plan(
        settings,
        budgets,
        Capacity(rng.choice(("threads", "asyncio", "processes")), rng.choice((1, 3))),
        quick=rng.random() < 0.7,
    )


class World:
    """One member's life. Methods named for what happens do it and check what must hold after it."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.plan = make_plan(rng)
        self.settings = self.plan.settings
        self.lossless = self.settings.guarantee == "at_least_once"
        self.now = 100.0
        self.log: dict[TopicPartition, list[Source]] = {key: [] for key in PARTITIONS}
        self.log_end = {key: rng.choice((0, 7, 2**40)) for key in PARTITIONS}
        self.first = dict(self.log_end)
        self.broker: dict[TopicPartition, Held] = {}
        # Truth: handled and acknowledged as asked for, dead-lettered, or skipped; waived by a seek over them.
        self.finished: dict[TopicPartition, set[int]] = {key: set() for key in PARTITIONS}
        # Finished before a seek back over them: finished still, if the seek was never committed.
        self.rewound: dict[TopicPartition, set[int]] = {key: set() for key in PARTITIONS}
        self.eras = dict.fromkeys(PARTITIONS, 0)  # seeks so far
        self.waived: dict[TopicPartition, set[int]] = {key: set() for key in PARTITIONS}
        self.starts: Counter[tuple[TopicPartition, int]] = Counter()
        self.faults = True
        self.running: list[tuple[Record[Any, Any], Chunk]] = []
        # Handlers of a process that is gone: nothing of them is seen any more.
        self.boot()

    # ---- A process begins, or ends at once

    def boot(self) -> None:
        """A new process: nothing but the broker remembers."""
        self.engine = Engine(
            [self.settings],
            [self.plan.capacity],
            commit=COMMIT,
            budgets=self.plan.budgets,
            rebuild_after_s=REBUILD_AFTER_S,
            acknowledge=lambda record: True,
            jitter=self.rng.random,
        )
        self.assignments = Assignments()
        self.owned: dict[TopicPartition, int] = {}  # epoch, as told
        self.draining: set[TopicPartition] = set()
        self.leaving: set[TopicPartition] = set()
        self.stopping = False
        self.position: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.user_paused: set[TopicPartition] = set()
        self.quiet = False
        self.delivered: dict[TopicPartition, dict[int, Source]] = {}
        self.known: dict[TopicPartition, set[int]] = {}  # finished, as the engine was told
        self.restored: dict[TopicPartition, frozenset[int]] = {}
        self.chunks: list[Chunk] = []
        self.running = []
        self.results = Results()
        self.produced: list[Record[Any, Any]] = []
        self.letters: list[Record[Any, Any]] = []
        self.handled: list[Record[Any, Any]] = []  # manual: wait for an acknowledgement
        self.acked: set[int] = set()  # identities of records acknowledged in this attempt
        self.commits: list[InFlight] = []
        self.confirmed: dict[TopicPartition, int] = {}
        self.fatal = False
        self.rebuild = False
        self.dispatched: dict[int, Record[Any, Any]] = {}
        self.over: dict[int, Record[Any, Any]] = {}

    def crash(self) -> None:
        """The process is killed; what was sent may or may not have arrived."""
        for commit in self.commits:
            if not commit.applied and self.rng.random() < 0.5:
                self.apply(commit)
        self.boot()

    # ---- The engine's loop

    def step(self, event: events.Event) -> None:
        """As the owner does: perform effects in order, a recall at once and within."""
        if self.plan.quick:
            workload = self.engine._board.workloads[0]
            workload.service_s = workload.cost_s = 0.0
        self.perform(self.engine.step(event, self.now), event)
        self.check()
        if self.fatal or self.rebuild:
            self.end_process()

    def end_process(self) -> None:
        """The app was told to stop for good, or to make a new connection: begin anew, without a drain."""
        if self.fatal:
            self.crash()
            return
        self.rebuild = False
        self.commits.clear()
        self.lose(tuple(self.owned))

    def perform(self, effects: Iterable[do.Effect], event: events.Event) -> None:  # noqa: C901, PLR0912 - a branch per effect
        for effect in effects:
            match effect:
                case do.Dispatch(_, records):
                    self.take_dispatch(records)
                case do.Recall(_, tenures):
                    returned = self.withdraw(tenures)
                    if returned:
                        for record in returned:
                            self.dispatched.pop(id(record))
                        answer = events.Finished(0, returned=returned)
                        self.perform(self.engine.step(answer, self.now), answer)
                case do.Cancel():
                    pass  # Threads cannot be cancelled: the harder case.
                case do.SendCommit(requests):
                    self.take_commit(requests, event)
                case do.Pause(partitions):
                    self.paused |= set(partitions)
                case do.Resume(partitions):
                    assert self.paused.issuperset(partitions), "resumed what was not paused"
                    self.paused -= set(partitions)
                case do.Seek(topic, partition, offset):
                    self.position[topic, partition] = offset
                case do.ProduceDeadLetter(_, record, _):
                    assert record not in self.letters, "a dead letter twice"
                    self.letters.append(record)
                case do.StopApp():
                    self.fatal = True
                case do.Rebuild():
                    self.rebuild = True
                case do.HoldingsChanged():
                    self.assignments = changed(self.assignments, 0, effect)
                case do.Tell(notice):
                    self.take_notice(notice)

    def take_notice(self, notice: notices.Notice) -> None:
        match notice:
            case notices.PartitionAssigned() | notices.PartitionSought():
                self.owned[notice.topic, notice.partition] = notice.epoch
            case notices.RecordSkipped():
                self.finished[notice.topic, notice.partition].add(notice.offset)
                self.known[notice.topic, notice.partition].add(notice.offset)
            case _:
                pass

    def tick(self, seconds: float) -> None:
        self.now += seconds
        deadline = self.engine.next_deadline()
        if deadline is not None and deadline <= self.now:
            self.step(events.TICK)

    # ---- Partitions

    def assign(self, key: TopicPartition) -> None:
        if key in self.owned or self.stopping:
            return
        held = self.broker.get(key)
        offset = self.first[key] if held is None else held.offset
        if held is None:
            start = events.Start(*key, offset, None)
        else:
            start = events.Start(*key, offset, offset, held.metadata, held.leader_epoch)
            self.confirmed[key] = offset
            self.waived[key] |= {at for at in self.rewound[key] if at < offset or at in held.knew}
        self.restored[key] = held.knew if held is not None and held.metadata else frozenset()
        self.paused.discard(key)
        self.open(key, offset)
        self.step(events.Assigned([start]))
        assert key in self.owned

    def open(self, key: TopicPartition, offset: int) -> None:
        self.position[key] = offset
        self.delivered[key] = {}
        self.known[key] = set()

    def revoke_begins(self, keys: Sequence[TopicPartition]) -> None:
        keys = [key for key in keys if key in self.owned]
        self.draining |= set(keys)
        self.step(events.RevokeBegan(keys))

    def revoke_ends(self, keys: Sequence[TopicPartition]) -> None:
        keys = [key for key in keys if key in self.owned and key in self.draining]
        self.leaving = set(keys)
        self.let_go(keys)
        self.step(events.RevokeEnded(keys))
        self.leaving = set()

    def lose(self, keys: Sequence[TopicPartition]) -> None:
        keys = [key for key in keys if key in self.owned]
        self.let_go(keys)
        self.step(events.Lost(keys))

    def let_go(self, keys: Iterable[TopicPartition]) -> None:
        for key in keys:
            del self.owned[key]
            self.draining.discard(key)
            self.paused.discard(key)
            self.confirmed.pop(key, None)

    def seek(self, key: TopicPartition, offset: int) -> None:
        if key not in self.owned or key in self.draining or self.stopping:
            return
        offset = min(offset, self.log_end[key])
        ahead = {source.at for source in self.log[key] if source.at >= offset}
        self.rewound[key] |= ahead & (self.finished[key] | self.waived[key])
        self.waived[key] = {source.at for source in self.log[key] if source.at < offset}
        self.finished[key] -= ahead
        for number in ahead:
            del self.starts[key, number]
        self.confirmed.pop(key, None)
        self.eras[key] += 1
        self.restored[key] = frozenset()
        self.open(key, offset)
        self.step(events.SeekAsked(*key, offset))

    def stop(self) -> None:
        self.stopping = True
        self.step(events.StopBegan())

    def user_pauses(self, key: TopicPartition) -> None:
        self.user_paused.add(key)
        self.step(events.PauseAsked([key]))

    def user_resumes(self, key: TopicPartition) -> None:
        self.user_paused.discard(key)
        self.step(events.ResumeAsked([key]))

    def be_quiet(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.step(events.QuietAsked() if quiet else events.QuietEnded())

    def share(self, connections: int) -> None:
        self.step(events.ShareSet(connections))
        for index, workload in enumerate(self.engine._board.workloads):
            assert self.engine.workers(index) == max(1, workload.capacity.workers // connections)

    # ---- Records come

    def produce(self, key: TopicPartition, record_key: bytes | None, gap: int, size: int) -> None:
        at = self.log_end[key] + gap
        self.log[key].append(Source(at, record_key, size))
        self.log_end[key] = at + 1

    def fetch(self, key: TopicPartition, count: int, *, again: bool = False) -> None:
        """A poll; `again`: the client hands over what it did before, as after a pause or a late seek."""
        if key not in self.owned or (key in self.paused and not again):
            return
        position = self.position[key]
        if again:
            before = [source for source in self.log[key] if source.at < position][-2:]
            sources = [*before, *(source for source in self.log[key] if source.at >= position)][:count]
        else:
            sources = [source for source in self.log[key] if source.at >= position][:count]
        if not sources:
            return
        accepted = key not in self.draining and not self.stopping
        if accepted:
            for source in sources:
                if source.at >= position:
                    self.delivered[key][source.at] = source
                    if source.at in self.restored[key]:
                        self.known[key].add(source.at)
            self.position[key] = max(position, sources[-1].at + 1)
        self.step(events.Fetched([(*key, sources)]))

    def read_positions(self) -> None:
        moved: list[tuple[str, int, int]] = []
        for key in self.engine.idle_partitions():
            if all(source.at < self.position[key] for source in self.log[key]):
                self.position[key] = max(self.position[key], self.log_end[key] + 2)
                self.log_end[key] = self.position[key]
                moved.append((*key, self.position[key]))
        if moved:
            self.step(events.PositionsRead(moved))

    # ---- The executor

    def take_dispatch(self, records: list[Record[Any, Any]]) -> None:
        assert records
        assert len({id(record) for record in records}) == len(records)
        if self.settings.batch is not None:
            assert len(records) <= self.settings.batch.records_max
            assert len({record._tenure for record in records}) == 1, "a batch of two partitions"
        for record in records:
            key = (record.topic, record.partition)
            assert self.owned.get(key) == record.epoch, "S4: dispatched for a closed tenure"
            if self.lossless:
                assert not self.stopping, "S4: dispatched while stopping"
                assert not self.quiet, "dispatched while quiet"
                assert key not in self.draining, "S4: dispatched while draining"
            assert id(record) not in self.dispatched, "dispatched twice"
            self.dispatched[id(record)] = record
        self.chunks.append(Chunk(list(records)))

    def withdraw(self, tenures: Sequence[object] | None) -> list[Record[Any, Any]]:
        """Take back what is unclaimed of these tenures; None: of all."""
        returned: list[Record[Any, Any]] = []
        for chunk in self.chunks:
            mine = [record for record in chunk.unclaimed if tenures is None or record._tenure in tenures]
            chunk.unclaimed = [record for record in chunk.unclaimed if record not in mine]
            returned += mine
        return returned

    def lane(self, record: Record[Any, Any]) -> tuple[TopicPartition, bytes] | None:
        key = (record.topic, record.partition)
        match self.settings.order_by:
            case "key":
                return None if record.raw_key is None else (key, record.raw_key)
            case "partition":
                return (key, b"")
            case "none":
                return None

    def claim(self, chunk: Chunk) -> None:
        """A worker takes the next record of a list, or all of a batch."""
        if self.settings.batch is not None:
            if not chunk.running:
                for record in self.sift(chunk, len(chunk.unclaimed)):
                    self.begin(record, chunk, batch=True)
            return
        for record in chunk.unclaimed:
            lane = self.lane(record)
            if lane is not None and any(self.lane(other) == lane for other in chunk.running):
                continue
            chunk.unclaimed.remove(record)
            if not cast("Tenure", record._tenure).open or (lane is not None and lane[1] in chunk.blocked):
                self.results.returned.append(record)
            else:
                self.begin(record, chunk)
            return

    def sift(self, chunk: Chunk, count: int) -> list[Record[Any, Any]]:
        taken, chunk.unclaimed = chunk.unclaimed[:count], chunk.unclaimed[count:]
        stale = [record for record in taken if not cast("Tenure", record._tenure).open]
        self.results.returned += stale
        return [record for record in taken if record not in stale]

    def begin(self, record: Record[Any, Any], chunk: Chunk, *, batch: bool = False) -> None:
        key, offset, lane = (record.topic, record.partition), record.offset, self.lane(record)
        assert self.owned.get(key) == record.epoch, "S4: started for a closed tenure"
        assert offset not in self.restored[key], "S2: done again though the map was intact"
        if self.lossless:
            assert offset not in self.finished[key] or offset not in self.known[key], "handled again"
        if self.settings.guarantee == "at_most_once":
            assert self.broker[key].offset > offset, "started before its commit was confirmed"
            assert not self.starts[key, offset], "at most once, but twice"
        self.starts[key, offset] += 1
        if lane is not None:
            for other, _ in self.running:
                same = batch and other in chunk.running
                assert same or self.lane(other) != lane, "S3: two of one lane at a time"
            self.check_order(record, lane, chunk if batch else None)
        self.acked.discard(id(record))
        chunk.running.append(record)
        self.running.append((record, chunk))

    def check_order(
        self, record: Record[Any, Any], lane: tuple[TopicPartition, bytes], batch: Chunk | None
    ) -> None:
        key = lane[0]
        by_key = self.settings.order_by == "key"
        with_it = {other.offset for other in batch.running} if batch is not None else set[int]()
        handled = {other.offset for other in self.handled if (other.topic, other.partition) == key}
        for offset, source in self.delivered[key].items():
            if offset >= record.offset or (by_key and source.raw_key != lane[1]):
                continue
            over = offset in self.finished[key] or offset in self.restored[key] or offset in handled
            lost = not self.lossless and self.starts[key, offset]
            assert over or lost or offset in with_it, "S3: started before an earlier record of its lane ended"

    def end(self, record: Record[Any, Any], how: str) -> None:
        """A handler ends: "ok", "produced" (what it produced is unacknowledged), or with an error."""
        chunk = self.leave(record)
        lane = self.lane(record)
        if how == "ok":
            self.results.succeeded.append(record)
            self.handler_returned(record)
            return
        if lane is not None:
            chunk.blocked.add(lane[1])
        if how == "produced":
            self.results.awaiting.append(record)
            self.produced.append(record)
        else:
            # What a third of those that fail produced was refused before they returned.
            unwritten = how == "fail" and record.offset % 3 == 0
            error = ProduceFailed("out", "TIMED_OUT", "not written", permanent=False) if unwritten else None
            self.results.failed.append((record, error or self.error(how)))
            if unwritten:
                self.acked.discard(id(record))
            elif id(record) in self.acked:  # The user called it finished before it failed.
                self.handler_returned(record)

    def leave(self, record: Record[Any, Any]) -> Chunk:
        chunk = next(chunk for running, chunk in self.running if running is record)
        self.running = [(r, c) for r, c in self.running if r is not record]
        chunk.running.remove(record)
        return chunk

    def end_batch(self, chunk: Chunk, failing: Callable[[Record[Any, Any]], bool], *, raises: bool) -> None:
        """A batch ends: all fail, or some do and give back what is behind them in their lanes."""
        failed_lanes: set[object] = set()
        for record in list(chunk.running):
            self.leave(record)
            lane = self.lane(record)
            if raises:
                self.results.failed.append((record, ValueError("the batch failed")))
            elif lane is not None and lane in failed_lanes and self.lossless:
                self.results.returned.append(record)
            elif failing(record):
                failed_lanes.add(lane)
                self.results.failed.append((record, ValueError("this one failed")))
            else:
                self.results.succeeded.append(record)
                self.handler_returned(record)

    def error(self, how: str) -> BaseException:
        match how:
            case "later":
                return RetryLater(0.5)
            case "reject":
                return Reject("no")
            case "exit":
                return SystemExit(1)
            case _:
                return ValueError("failed")

    def current(self, record: Record[Any, Any]) -> bool:
        return self.owned.get((record.topic, record.partition)) == record.epoch

    def handler_returned(self, record: Record[Any, Any]) -> None:
        """The handler is through with it, and all it produced is written."""
        if not self.current(record):
            return
        if self.settings.ack == "on_return" or id(record) in self.acked:
            self.mark(record)
        else:
            self.handled.append(record)

    def mark(self, record: Record[Any, Any]) -> None:
        self.finished[record.topic, record.partition].add(record.offset)
        self.over[id(record)] = record

    def engine_knows(self, record: Record[Any, Any]) -> None:
        """What is true of this record has been told to the engine; it is not while an outcome waits to be reported."""
        key = (record.topic, record.partition)
        if self.current(record) and id(record) not in self.dispatched and id(record) in self.over:
            self.known[key].add(record.offset)

    def report(self) -> None:
        if len(self.results):
            event = self.results.take()
            for record in (*event.succeeded, *event.returned, *event.awaiting, *(r for r, _ in event.failed)):
                del self.dispatched[id(record)]
                self.engine_knows(record)
            self.step(event)

    def pulse(self) -> None:
        """A slow record: what is behind it comes back."""
        self.results.returned += self.withdraw(None)
        self.report()

    def produce_answered(self, record: Record[Any, Any], *, ok: bool) -> None:
        self.produced.remove(record)
        if ok:
            self.handler_returned(record)
        else:
            self.acked.discard(id(record))
        self.engine_knows(record)
        self.step(events.Delivered(record, None if ok else ValueError("not written")))

    def letter_answered(self, record: Record[Any, Any], how: str) -> None:
        self.letters.remove(record)
        if how == "ok":
            if self.current(record):
                self.mark(record)
            self.engine_knows(record)
            self.step(events.DeadLettered(record, None))
        else:
            self.step(events.DeadLettered(record, ValueError("down"), permanent=how == "permanent"))

    def acknowledge(self, record: Record[Any, Any]) -> None:
        """The user calls `record.ack()`: while the handler runs, after it, twice, or much too late."""
        if record in self.handled:
            self.handled.remove(record)
            if self.current(record):
                self.mark(record)
        elif any(running is record for running, _ in self.running) or record in self.produced:
            self.acked.add(id(record))
        elif self.current(record):
            # After a failed attempt: the user says that it is finished all the same.
            self.mark(record)
        self.engine_knows(record)
        self.step(events.Acknowledged([record]))

    # ---- Commits

    def take_commit(self, requests: Sequence[CommitRequest], event: events.Event) -> None:
        assert requests
        farewell = isinstance(event, events.RevokeEnded)
        for other in self.commits:
            over = other.overtaken or self.now >= other.sent_at + COMMIT.timeout_s
            assert farewell or over, "two commits in flight"
            other.overtaken = True
        knew: dict[TopicPartition, frozenset[int]] = {}
        for request in requests:
            key = (request.topic, request.partition)
            assert key in self.owned or key in self.leaving, "S4: a commit to a partition that is not ours"
            back = request.offset < self.confirmed.get(key, 0)
            assert not (back and self.lossless), "S4: the committed offset would go backwards"
            assert self.lossless or not request.metadata
            self.check_covered(key, request.offset)
            knew[key] = frozenset(offset for offset in self.known[key] if offset >= request.offset)
            knew[key] |= {o for o in self.restored[key] if o >= request.offset}
        self.commits.append(InFlight(requests, knew, self.now, dict(self.eras)))

    def check_covered(self, key: TopicPartition, offset: int) -> None:
        if not self.lossless:
            return
        for source in self.log[key]:
            if source.at < offset:
                done = source.at in self.finished[key] or source.at in self.waived[key]
                assert done, f"S1: {key} committed to {offset}, but {source.at} is unfinished"

    def apply(self, commit: InFlight) -> None:
        commit.applied = True
        for request in commit.requests:
            key = (request.topic, request.partition)
            held = self.broker.get(key)
            again = held is not None and commit.eras[key] == self.eras[key] and request.offset < held.offset
            if again and self.settings.guarantee == "at_most_once":
                continue  # A commit given up that lands after a newer one: nothing here can promise anything then.
            self.broker[key] = Held(request.offset, request.metadata, request.leader_epoch, commit.knew[key])

    def answer(self, commit: InFlight, how: str) -> None:
        """The broker answers: "ok", "silent" (written, the answer lost), "lost", "partly", or a code."""
        if how != "applied":
            self.commits.remove(commit)
        if how in ("ok", "silent", "applied") and not commit.applied:
            self.apply(commit)
        if how in ("silent", "applied", "lost"):
            return
        error = None if how == "ok" or commit.applied else how
        content = {(r.topic, r.partition, r.offset) for r in commit.requests}
        for other in self.commits:  # Answers carry no identity.
            other.overtaken |= content <= {(r.topic, r.partition, r.offset) for r in other.requests}
        for request in commit.requests:
            key = (request.topic, request.partition)
            if error is None and key in self.owned and commit.eras[key] == self.eras[key]:
                self.confirmed[key] = request.offset
        self.step(
            events.CommitAnswered(
                [CommitResult(r.topic, r.partition, r.offset, error) for r in commit.requests]
            )
        )

    def not_sent(self) -> None:
        if self.commits and self.commits[-1].sent_at == self.now and not self.commits[-1].applied:
            self.commits.pop()
            self.step(events.CommitRefused("_STATE"))

    # ---- What must always hold

    def check(self) -> None:
        deadline = self.engine.next_deadline()
        assert deadline is None or deadline > self.now, "L5: due at once, again and again"
        snapshot = self.engine.snapshot([0], self.now)
        told = {(t, p): h.epoch for t, at in self.assignments.topics.items() for p, h in at.items()}
        assert told == {(part.topic, part.partition): part.epoch for part in snapshot.partitions}
        unfinished = 0
        for part in snapshot.partitions:
            key = (part.topic, part.partition)
            counts = (part.waiting, part.in_flight, part.parked, part.held, part.settling, part.unacked)
            assert min(counts) >= 0, f"S7: {part}"
            assert part.delivered == part.finished + sum(counts), f"S7: {part}"
            assert part.delivered == len(self.delivered[key]), f"S7: {part}"
            in_flight = [r for r in self.dispatched.values() if r._tenure.epoch == part.epoch]
            assert part.in_flight == len(in_flight), f"S7: {part}"
            unfinished += part.delivered - part.finished
            held = [s.size for offset, s in self.delivered[key].items() if offset not in self.known[key]]
            assert part.finished == len(self.delivered[key].keys() & self.known[key]), f"S7: {part}"
            assert part.bytes_held == sum(held), f"S7: {part}"
        counters = snapshot.counters
        assert counters.fetched == counters.finished + counters.dropped + unfinished, f"S7: {counters}"
        load = snapshot.subscriptions[0]
        assert load.dispatched + load.stale == len(self.dispatched), f"S7: {load}"
        own = [r for r in self.dispatched.values() if self.current(r)]
        assert load.dispatched == len(own) == self.engine.in_flight(), "S7: stale work counted as load"

    # ---- When faults stop

    def calm(self) -> None:
        """No fault any more: everything must be finished and committed, soon, and then nothing moves (L1, L4, L5)."""
        self.faults = False
        if self.stopping or self.draining:
            self.crash()
        for _ in range(3000):
            for key in PARTITIONS:
                self.assign(key)
                if key in self.user_paused:
                    self.user_resumes(key)
            if self.quiet:
                self.be_quiet(quiet=False)
            self.serve_all()
            if self.all_done():
                break
            self.tick(0.25)
        assert self.all_done(), f"L1: not finished: {self.engine.snapshot([0], self.now)}"
        self.check_nothing_left()

    def serve_all(self) -> None:
        for key in PARTITIONS:
            self.fetch(key, 100)
        for chunk in list(self.chunks):
            while chunk.unclaimed or chunk.running:
                self.claim(chunk)
                if self.settings.batch is not None:
                    self.end_batch(chunk, lambda record: False, raises=False)
                for record in list(chunk.running):
                    self.end(record, "ok")

        self.chunks.clear()
        self.report()
        self.answer_all()

    def answer_all(self) -> None:
        for record in tuple(self.produced):
            self.produce_answered(record, ok=True)
        for record in tuple(self.letters):
            self.letter_answered(record, "ok")
        for record in tuple(self.handled):
            self.acknowledge(record)
        for commit in tuple(self.commits):
            if commit in self.commits:
                self.answer(commit, "ok")

    def all_done(self) -> bool:
        if self.dispatched or self.commits or not self.engine.settled():
            return False
        parts = self.engine.snapshot([0], self.now).partitions
        if any(part.finished < part.delivered for part in parts):
            return False
        for key in PARTITIONS:
            if key not in self.owned:
                return False
            if any(source.at >= self.position[key] for source in self.log[key]):
                return False
            held = self.broker.get(key)
            if held is None or held.offset < self.position[key]:
                return False
        return True

    def check_nothing_left(self) -> None:
        if self.lossless:
            for key in PARTITIONS:
                self.check_covered(key, self.log_end[key])
        for _ in range(4):
            self.tick(10.0)  # The last dead letters and retries of closed tenures are forgotten, not kept.
            self.serve_all()
        board = self.engine._board
        assert not board.lanes
        assert not len(board.parking)
        assert not board.squeezed
        assert board.bytes_held == 0
        for tenure in board.tenures.values():
            assert not tenure.letters
            assert not tenure.early_delivered
            assert not tenure.paused
            assert len(tenure.lanes) == 0
            assert tenure.lanes.held == 0
        ticks, until = 0, self.now + 60.0
        while (deadline := self.engine.next_deadline()) is not None and deadline <= until:
            self.now = deadline
            self.step(events.TICK)
            ticks += 1
        assert ticks <= 61 / COMMIT.every_s, f"L5: {ticks} turns in an idle minute"


def chance(rng: random.Random, world: World) -> None:  # noqa: C901, PLR0912 - a branch per happening
    """One thing happens, whatever it may be."""
    key = rng.choice(PARTITIONS)
    kind = rng.choices(*zip(*_weights(world), strict=True))[0]
    match kind:
        case "produce":
            world.produce(key, rng.choice(KEYS), rng.choice((0, 0, 0, 1, 5)), rng.choice((0, 10, 300)))
        case "fetch":
            world.fetch(key, rng.randint(1, 6), again=rng.random() < 0.1)
        case "assign":
            world.assign(key)
        case "revoke began":
            world.revoke_begins([key] if rng.random() < 0.5 else PARTITIONS)
        case "revoke ended":
            world.revoke_ends(tuple(world.draining))
        case "lose":
            world.lose([key])
        case "seek":
            offsets = [source.at for source in world.log[key]] or [world.first[key]]
            world.seek(key, rng.choice(offsets) + rng.choice((0, 0, 1)))
        case "pause":
            world.user_pauses(key)
        case "resume":
            world.user_resumes(key)
        case "quiet":
            world.be_quiet(quiet=not world.quiet)
        case "positions":
            world.read_positions()
        case "stop":
            world.stop()
        case "crash":
            world.crash()
        case "tick":
            world.tick(rng.choice((0.0, 0.05, 0.3, 1.0, 6.0)))
        case "executor":
            _executor_acts(rng, world)
        case "commit":
            _broker_acts(rng, world)
        case _:
            _others_act(rng, world)


def _weights(world: World) -> list[tuple[str, float]]:
    return [
        ("produce", 6),
        ("fetch", 8),
        ("assign", 4),
        ("revoke began", 0.6),
        ("revoke ended", 2 if world.draining else 0),
        ("lose", 0.4),
        ("seek", 0.4),
        ("pause", 0.3),
        ("resume", 0.6),
        ("quiet", 2 if world.quiet else 0.2),
        ("positions", 0.5),
        ("stop", 0.1),
        ("crash", 2 if world.stopping else 0.2),
        ("tick", 4),
        ("executor", 25),
        ("commit", 5),
        ("others", 4),
    ]


def _executor_acts(rng: random.Random, world: World) -> None:
    world.chunks = [chunk for chunk in world.chunks if chunk.unclaimed or chunk.running]
    choice = rng.random()
    if choice < 0.4 and world.chunks:
        world.claim(rng.choice(world.chunks))
    elif choice < 0.75 and world.running:
        record, chunk = rng.choice(world.running)
        if world.settings.batch is not None:
            world.end_batch(chunk, lambda _: rng.random() < 0.3, raises=rng.random() < 0.2)
        else:
            world.end(
                record,
                rng.choices(("ok", "produced", "fail", "later", "reject", "exit"), (12, 3, 4, 1, 1, 0.1))[0],
            )
    elif choice < 0.95:
        world.report()
    else:
        world.pulse()


def _broker_acts(rng: random.Random, world: World) -> None:
    if not world.commits:
        return
    commit = rng.choice(world.commits)
    how = rng.choices(("ok", "refuse", "silent", "lost", "applied", "not sent"), (8, 3, 1, 1, 2, 0.5))[0]
    if how == "not sent":
        world.not_sent()
    else:
        world.answer(commit, rng.choice(REFUSALS) if how == "refuse" else how)


def _others_act(rng: random.Random, world: World) -> None:
    if world.produced and rng.random() < 0.4:
        world.produce_answered(rng.choice(world.produced), ok=rng.random() < 0.7)
    if world.letters and rng.random() < 0.5:
        world.letter_answered(
            rng.choice(world.letters), rng.choices(("ok", "down", "permanent"), (6, 3, 0.3))[0]
        )
    if world.settings.ack == "manual":
        known = [*world.handled, *(record for record, _ in world.running)]
        if known:
            world.acknowledge(rng.choice(known))


def live(seed: int, steps: int) -> World:
    """One world by its seed, through chance and then calm."""
    rng = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    world = World(rng)
    for key in PARTITIONS:
        world.assign(key)
    for _ in range(steps):
        chance(rng, world)
    world.calm()
    return world
