"""`ports.Executor` in virtual time: workers that claim, run and end records at moments of the scheduler's choosing.

Decides, by chance, what each handler does and how long it takes; claims, batches and tallies are the production ones.
Refuses to know the engine. Invariants: as the real executors: a record starts only if its tenure is open, nothing starts
behind a failed record of its lane in its list, and every record is reported exactly once or taken back.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, final

from headrace._core.events import Delivered
from headrace._core.verdicts import STOPPING
from headrace._execute.claims import ClaimList, lane_function, separate
from headrace._execute.invocation import BatchPlan, Sifted, Tally
from headrace.errors import ProduceFailed, WorkerDied
from headrace.ports import Running
from headrace.testing.simulation.handlers import error_of, outcome_of
from headrace.testing.simulation.history import HandlerEnded, HandlerStarted, OutputRefused, Settled

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from headrace._core.events import Finished
    from headrace.records import Record
    from headrace.subscriptions import SubscriptionSettings
    from headrace.testing.simulation.handlers import Handlers
    from headrace.testing.simulation.history import History
    from headrace.testing.simulation.kernel import Kernel, Process, Timer

_TOLD = {"undecodable": "rejected", "timed out": "cancelled"}
SLOW_AFTER_S = 0.02
"""As the real executors: a record that runs so long strands nobody."""


@final
class _Chunk(ClaimList):
    """A claim list on its way through a worker."""

    __slots__ = ("blocked", "record", "seen_at", "seen_claimed", "tally", "worker")

    def __init__(self, records: list[Record[Any, Any]]) -> None:
        super().__init__(records)
        self.blocked: set[Hashable] = set()
        self.tally = Tally()
        self.worker = -1
        self.record: Record[Any, Any] | None = None
        self.seen_claimed = -1
        self.seen_at = 0.0


@final
class _Job:
    """A handler that runs: of one record, or of a batch."""

    __slots__ = ("began_at", "chunk", "group", "records", "run", "timer", "worker")

    def __init__(
        self,
        chunk: _Chunk,
        records: list[Record[Any, Any]],
        group: Sifted | None,
        began_at: float,
        worker: int,
        run: int,
    ) -> None:
        self.run = run
        self.chunk = chunk
        self.records = records
        self.group = group
        self.began_at = began_at
        self.worker = worker
        self.timer: Timer | None = None


@final
class ModelExecutor:
    """Runs one subscription's records. `deliver` takes results; nothing here is called by a real thread."""

    def __init__(
        self,
        kernel: Kernel,
        history: History,
        process: Process,
        member: str,
        index: int,
        settings: SubscriptionSettings,
        handlers: Handlers,
        deliver: Callable[[Finished | Delivered], None],
        workers: int,
        runs: Iterator[int],
    ) -> None:
        self._kernel = kernel
        self._history = history
        self._process = process
        self._member = member
        self._index = index
        self._settings = settings
        self.handlers = handlers
        self._deliver_to = deliver
        # An event loop runs every lane that it is given, at once.
        self._workers = settings.concurrency if settings.run_in == "asyncio" else workers
        self._batches = BatchPlan(settings) if settings.batch is not None else None
        self._lane_of = lane_function(settings.order_by)
        self._cancels = settings.run_in == "asyncio"
        # Handlers that overrun `timeout_s` are ended: by cancelling, or with their process. A thread cannot be.
        self._ends_overdue = settings.timeout_s is not None and settings.run_in != "threads"
        self._queue: list[_Chunk] = []
        self._chunks: list[_Chunk] = []
        self._free = list(range(self._workers))
        self._jobs: list[_Job] = []
        self._runs = runs

    # The owner's calls

    def submit(self, records: list[Record[Any, Any]]) -> None:
        """See `ports.Executor`."""
        self._kernel.guard()
        if self._cancels and self._batches is None:
            # An event loop: each lane of the list goes its own way.
            lanes: dict[Hashable, list[Record[Any, Any]]] = {}
            for number, record in enumerate(records):
                lane = self._lane_of(record)
                lanes.setdefault(("", number) if lane is None else lane, []).append(record)
            lists = list(lanes.values())
        else:
            lists = [records]
        for each in lists:
            chunk = _Chunk(each)
            self._queue.append(chunk)
            self._chunks.append(chunk)
            self._kernel.later(0.0, "take chunk", self._take_chunk, self._process)
        self._kernel.preempt()

    def recall(self, tenures: Sequence[object] | None) -> list[Record[Any, Any]]:
        """See `ports.Executor`."""
        self._kernel.guard()
        self._kernel.preempt()
        recalled: list[Record[Any, Any]] = []
        others: list[Record[Any, Any]] = []
        for chunk in list(self._chunks):
            left = chunk.records[chunk.claimed() :]
            wanted = None if tenures is None else {id(tenure) for tenure in tenures}
            if wanted is None or any(id(record._tenure) in wanted for record in left):
                mine, rest = separate(chunk.withdraw(), tenures)
                recalled += mine
                others += rest
        if others:
            self._deliver_to(Tally(returned=others).finished(self._index))
        return recalled

    def cancel(self, tenures: Sequence[object]) -> None:
        """See `ports.Executor`: only what runs on an event loop can be cancelled."""
        self._kernel.guard()
        if not self._cancels:
            return
        wanted = {id(tenure) for tenure in tenures}
        for job in [each for each in self._jobs if id(each.records[0]._tenure) in wanted]:
            if self._kernel.choices.chance("ignores cancel", self.handlers.ignores_cancel):
                continue
            if job.timer is not None:
                job.timer.cancel()
            delay_s = self._kernel.choices.between("cancel", 0.0, 0.01)
            job.timer = self._kernel.later(
                delay_s, "cancelled", partial(self._end, job, "cancelled"), self._process
            )

    def pulse(self, now: float) -> None:
        """See `ports.Executor`."""
        tally = Tally()
        for chunk in list(self._chunks):
            if chunk.worker < 0:
                continue
            claimed = chunk.claimed()
            if claimed != chunk.seen_claimed:
                chunk.seen_claimed, chunk.seen_at = claimed, now
            elif now - chunk.seen_at >= SLOW_AFTER_S:
                tally.returned += chunk.withdraw()
                self._report(chunk)
        if tally:
            self._deliver_to(tally.finished(self._index))
        if self._queue:
            self._take_chunk()

    def running(self) -> list[Running]:
        """See `ports.Executor`."""
        jobs = sorted(self._jobs, key=lambda job: job.began_at)
        return [Running(job.records[0], job.began_at, f"worker {job.worker}") for job in jobs]

    def stack_of(self, running: Running) -> str | None:
        """None: a simulated handler has no stack."""
        del running
        return None

    def share(self, connections: int) -> None:
        """Nothing: each member of a simulated group has one connection."""

    def busy_workers(self) -> int:
        """See `ports.Executor`."""
        return len(self._jobs)

    def close(self, timeout_s: float) -> list[str]:
        """See `ports.Executor`."""
        del timeout_s
        returned = self.recall(None)
        if returned:
            self._deliver_to(Tally(returned=returned).finished(self._index))
        return [running.name for running in self.running()]

    def end_trouble(self, calm: Handlers) -> None:
        """From now on handlers do well; what hangs ends soon."""
        self.handlers = calm
        for job in self._jobs:
            if job.timer is None:
                # A record that is stuck for ever has no handler yet: it is written when all is calm.
                self._end_later(job, self._kernel.choices.between("unhang", 0.0, 1.0), "returned")

    # Workers

    def _take_chunk(self) -> None:
        """A worker that is free takes the next list."""
        stale = sum(not job.records[0]._tenure.open for job in self._jobs)
        if not self._free and len(self._jobs) - stale < self._workers and stale <= self._workers:
            self._free.append(self._workers + stale)  # A stand-in for one that a stale handler holds.
        while self._queue and self._free:
            chunk = self._queue.pop(0)
            if not chunk.unclaimed():
                self._drop(chunk)
                continue
            chunk.worker = self._free.pop(0)
            self._advance(chunk)

    def _advance(self, chunk: _Chunk) -> None:
        """The worker claims the next record of its list, or is done with it."""
        if self._batches is not None:
            self._advance_batch(chunk, self._batches)
            return
        for record in chunk.claims:
            if not record._tenure.open or self._lane_of(record) in chunk.blocked:
                chunk.tally.returned.append(record)
                continue
            if self._kernel.choices.chance("filtered", self.handlers.filtered):
                self._filter(chunk, record)
                continue
            self._begin(chunk, [record], None)
            return
        self._done(chunk)

    def _advance_batch(self, chunk: _Chunk, plan: BatchPlan) -> None:
        claimed = list(chunk.claims)
        groups = plan.sift(claimed, chunk.tally)
        for other in groups[1:]:
            chunk.tally.returned += other.records
        if groups:
            self._begin(chunk, groups[0].records, groups[0])
        else:
            self._done(chunk)

    def _begin(self, chunk: _Chunk, records: list[Record[Any, Any]], group: Sifted | None) -> None:
        now = self._kernel.now
        job = _Job(chunk, records, group, now, chunk.worker, next(self._runs))
        self._jobs.append(job)
        chunk.record = records[0]
        for record in records:
            self._tell(
                HandlerStarted(
                    self._member,
                    (record.topic, record.partition),
                    record.offset,
                    record.raw_key,
                    record.attempt,
                    job.run,
                )
            )
        does, choices = self.handlers, self._kernel.choices
        if (
            does.acks_early
            and self._settings.ack == "manual"
            and choices.chance("acks early", does.acks_early)
        ):
            for record in records:
                self._ack(record, job.run)
        self._plan_end(job, does)

    def _plan_end(self, job: _Job, does: Handlers) -> None:
        choices, record = self._kernel.choices, job.records[0]
        stuck = bool(does.stuck) and any(
            (each.topic, each.partition, each.offset) in does.stuck for each in job.records
        )
        limit_s = self._settings.timeout_s if self._ends_overdue else None
        if limit_s is not None and self._cancels and choices.chance("ignores cancel", does.ignores_cancel):
            limit_s = None
        if stuck or choices.chance("hangs", does.hangs):
            if limit_s is not None and not stuck:
                self._end_later(job, limit_s, "timed out")
            return
        slow = choices.chance("slow", does.slow)
        seconds = choices.between("takes", 0.0, does.slow_s if slow else does.quick_s)
        if limit_s is not None and seconds > limit_s:
            self._end_later(job, limit_s, "timed out")
        elif self._settings.run_in == "processes" and choices.chance("dies", does.dies):
            self._end_later(job, seconds, "died")
        else:
            self._end_later(job, seconds, outcome_of(does, record, choices))

    def _end_later(self, job: _Job, seconds: float, outcome: str) -> None:
        job.timer = self._kernel.later(
            seconds, "handler ends", lambda: self._end(job, outcome), self._process
        )

    def _end(self, job: _Job, outcome: str) -> None:
        self._jobs.remove(job)
        chunk, now = job.chunk, self._kernel.now
        for record in job.records:
            told = _TOLD.get(outcome, outcome)
            self._tell(
                HandlerEnded(self._member, (record.topic, record.partition), record.offset, told, job.run)
            )
        chunk.tally.started += len(job.records)
        chunk.tally.busy_s += now - job.began_at
        chunk.tally.cpu_s += now - job.began_at
        chunk.record = None
        error = error_of(outcome)
        if job.group is not None and self._batches is not None:
            self._end_batch(job, job.group, error)
        elif error is None:
            self._succeed(chunk, job.records[0], job.run)
        else:
            self._fail(chunk, job.records[0], error)
        self._advance(chunk)

    def _end_batch(self, job: _Job, group: Sifted, error: BaseException | None) -> None:
        assert self._batches is not None
        assert group.batch is not None
        if error is not None and not isinstance(error, STOPPING) and self._kernel.choices.index("part", 2):
            # Some of the batch, not all of it.
            first = self._kernel.choices.index("which", len(group.batch.records))
            group.batch.fail(group.batch.records[first], error)
            error = None
        before = len(job.chunk.tally.succeeded)
        self._batches.settle(group, error, job.chunk.tally)
        for record in job.chunk.tally.succeeded[before:]:
            self._handled(record, job.run)

    def _succeed(self, chunk: _Chunk, record: Record[Any, Any], run: int) -> None:
        choices, does = self._kernel.choices, self.handlers
        if choices.chance("produces", does.produces):
            fails = choices.chance("produce fails", does.produce_fails)
            failure = ProduceFailed("out", "_MSG_TIMED_OUT", "as drawn", permanent=False) if fails else None
            delay_s = choices.between("produced", 0.0, 2 * does.quick_s)
            if choices.chance("answered at once", 0.2):
                if failure is None:
                    self._handled(record, run)
                    chunk.tally.succeeded.append(record)
                else:
                    self._refused(record, run)
                    self._fail(chunk, record, failure)
                return
            chunk.tally.awaiting.append(record)
            self._block(chunk, record)
            self._kernel.later(
                delay_s, "produced", lambda: self._delivered(record, failure, run), self._process
            )
            return
        self._handled(record, run)
        chunk.tally.succeeded.append(record)

    def _delivered(self, record: Record[Any, Any], failure: ProduceFailed | None, run: int) -> None:
        if failure is None:
            self._handled(record, run)
        else:
            self._refused(record, run)
        self._deliver_to(Delivered(record, failure))

    def _handled(self, record: Record[Any, Any], run: int) -> None:
        if self._settings.ack != "manual":
            self._settle(record, "handled", run)
            return
        delay_s = self._kernel.choices.between("acks", 0.0, self.handlers.acks_late_s)
        self._kernel.later(delay_s, "ack", lambda: self._ack(record, run), self._process)

    def _refused(self, record: Record[Any, Any], run: int) -> None:
        self._tell(OutputRefused(self._member, (record.topic, record.partition), record.offset, run))

    def _ack(self, record: Record[Any, Any], run: int) -> None:
        if record.ack():
            self._settle(record, "acked", run)

    def _filter(self, chunk: _Chunk, record: Record[Any, Any]) -> None:
        self._settle(record, "filtered")
        if self._settings.ack == "manual":
            record.ack()
        chunk.tally.succeeded.append(record)
        chunk.tally.filtered += 1
        chunk.tally.started += 1

    def _fail(self, chunk: _Chunk, record: Record[Any, Any], error: BaseException) -> None:
        chunk.tally.failed.append((record, error))
        self._block(chunk, record)
        if isinstance(error, (*STOPPING, WorkerDied)):
            chunk.tally.returned += chunk.withdraw()

    def _block(self, chunk: _Chunk, record: Record[Any, Any]) -> None:
        lane = self._lane_of(record)
        if lane is not None:
            chunk.blocked.add(lane)

    def _done(self, chunk: _Chunk) -> None:
        worker, chunk.worker = chunk.worker, -1
        self._drop(chunk)
        self._report(chunk)
        if worker < self._workers:
            self._free.append(worker)
        self._take_chunk()

    def _report(self, chunk: _Chunk) -> None:
        tally, chunk.tally = chunk.tally, Tally()
        if tally:
            self._deliver_to(tally.finished(self._index))

    def _drop(self, chunk: _Chunk) -> None:
        if chunk in self._chunks:
            self._chunks.remove(chunk)

    def _settle(self, record: Record[Any, Any], how: str, run: int = 0) -> None:
        self._tell(Settled(self._member, (record.topic, record.partition), record.offset, how, run))

    def _tell(self, entry: HandlerStarted | HandlerEnded | OutputRefused | Settled) -> None:
        self._history.add(self._kernel.now, entry)
