"""One worker thread: takes claim lists from the queue and runs the handler on their records.

Decides how one claim list is worked off. The loop in `_run_records` is the hot path of every `def` handler: what it
does per record is claim it, look at its tenure, call the handler, and see that the context was left as it was found.

Invariant: of what a list reports, `reported` is the boundary: records before it were reported, others were not.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from contextvars import Context, copy_context
from functools import partial
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Any

from headrace._core.events import Delivered
from headrace._core.verdicts import STOPPING
from headrace._execute.claims import ClaimList, lane_function
from headrace._execute.invocation import FILTERED, BatchPlan, Sifted, Tally, bind, without_our_frame
from headrace._execute.scope import Scope, enter_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from contextlib import AbstractContextManager
    from queue import SimpleQueue

    from headrace._core.events import Finished
    from headrace.records import Record
    from headrace.subscriptions import SubscriptionSettings


TIMED_RECORDS_MAX = 64
"""Handlers in lists of no more are timed one by one: they take 30 us and more, of which a clock's tick is nothing."""


class _Mark:
    """What became of a record, where it is neither a success nor an exception."""

    __slots__ = ()


_RETURNED = _Mark()
_AWAITING = _Mark()


class ThreadWork:
    """What all workers of one subscription share. Immutable."""

    def __init__(
        self,
        subscription: int,
        settings: SubscriptionSettings,
        handler: Callable[[Any], object],
        deliver: Callable[[Finished | Delivered], None],
        per_worker: Callable[[], AbstractContextManager[Any]] | None,
        clock: Callable[[], float],
    ) -> None:
        self.subscription = subscription
        self.batches = BatchPlan(settings) if settings.batch is not None else None
        self.invoke = handler if settings.batch is not None else bind(settings, handler)
        self.lane_of = lane_function(settings.order_by)
        self.deliver = deliver
        self.per_worker = per_worker
        self.clock = clock


class ThreadChunk(ClaimList):
    """One claim list on its way through a worker. `lock` guards what both the worker and the owner change."""

    __slots__ = (
        "blocked",
        "filtered",
        "filtered_reported",
        "lock",
        "moments",
        "odd",
        "relieved",
        "reported",
        "seen_at",
        "seen_claimed",
        "started_at",
        "worker",
    )

    def __init__(self, records: list[Record[Any, Any]]) -> None:
        super().__init__(records)
        self.lock = threading.Lock()
        # The worker sets it when it takes the chunk; None again when it is done.
        self.worker: ThreadWorker | None = None
        self.started_at = 0.0
        # The worker writes these; `odd` by index, under the lock, and only what is no success.
        self.odd: dict[int, BaseException | _Mark] = {}
        self.reported = 0
        self.filtered = 0
        self.filtered_reported = 0
        # The worker's alone: lanes of which nothing more is started, and when each handler ended.
        self.blocked: set[Hashable] = set()
        self.moments: list[float] | None = [] if len(records) <= TIMED_RECORDS_MAX else None
        # The owner's alone: how far it had come at the last pulse that saw it move, and whether it was relieved since.
        self.seen_claimed = -1
        self.seen_at = 0.0
        self.relieved = False

    def holds(self, tenures: Sequence[object] | None) -> bool:
        """Whether unclaimed records of one of these tenures are left."""
        if tenures is None:
            return True
        wanted = {id(tenure) for tenure in tenures}
        return any(id(record._tenure) in wanted for record in self.records[self.claimed() :])

    def current(self) -> Record[Any, Any] | None:
        """Return the record that runs now, if one does."""
        claimed = self.claimed()
        if not claimed or self.worker is None:
            return None
        return self.records[0 if self.worker.runs_batches else claimed - 1]

    def mark(self, outcome: BaseException | _Mark) -> None:
        """Note what became of the current record, where it is no success. Worker only."""
        with self.lock:
            self.odd[self.claimed() - 1] = outcome

    def note_end(self) -> None:
        """A handler ended just now. Worker only."""
        if self.moments is not None:
            self.moments.append(perf_counter())

    def waits_s(self, began: float) -> list[float]:
        """How long each handler took, of a list that the worker began then; empty where that was not noted."""
        moments = self.moments or []
        return [end - start for start, end in zip((began, *moments), moments, strict=False)]

    def relieve(self, tally: Tally) -> None:
        """Report what is finished and give back what is not claimed: the current record is slow. Owner only."""
        with self.lock:
            if self.worker is None:
                return
            self.relieved = True
            tally.returned += self.withdraw()
            if not self.worker.runs_batches:
                self.report(max(self.reported, self.claimed() - 1), tally)

    def report(self, end: int, tally: Tally) -> None:
        """Add the outcomes of records [reported, end) to the tally. Under the lock."""
        start, self.reported = self.reported, end
        records = self.records if end - start == len(self.records) else self.records[start:end]
        odd = self.odd
        if odd:
            ordinary: list[Record[Any, Any]] = []
            for index, record in enumerate(records, start):
                outcome = odd.get(index)
                if outcome is None:
                    ordinary.append(record)
                elif outcome is _RETURNED:
                    tally.returned.append(record)
                elif outcome is _AWAITING:
                    tally.awaiting.append(record)
                else:
                    assert isinstance(outcome, BaseException)
                    tally.failed.append((record, outcome))
            records = ordinary
        # The running record may have been counted already: the rest follows with it.
        filtered = min(self.filtered - self.filtered_reported, len(records))
        self.filtered_reported += filtered
        tally.filtered += filtered
        if tally.succeeded:
            tally.succeeded += records
        else:
            tally.succeeded = records


class ThreadWorker:
    """A daemon thread and what it is on. The owner makes it and sets `displaced` under the lock of its chunk."""

    def __init__(
        self,
        name: str,
        work: ThreadWork,
        queue: SimpleQueue[ThreadChunk | None],
        outstanding: dict[ThreadChunk, None],
    ) -> None:
        self.name = name
        self.displaced = False
        self.runs_batches = work.batches is not None
        self._work = work
        self._queue = queue
        self._outstanding = outstanding
        self._scope = Scope()
        # Never run in once a chunk has begun: every chunk gets a copy.
        self._pristine = Context()
        self._resources = ExitStack()
        self._entered = work.per_worker is None
        self.thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def _serve(self) -> None:
        self._pristine.run(enter_scope, self._scope)
        try:
            while not self.displaced:
                chunk = self._queue.get()
                if chunk is None:
                    break
                self._take_on(chunk)
        finally:
            self._pristine.run(self._resources.close)

    @property
    def dead(self) -> bool:
        """Whether its thread ended though nobody asked it to."""
        return self.thread.ident is not None and not self.thread.is_alive()

    def bury(self) -> None:
        """Owner, when the thread is dead: report what it left behind. The record it was on fails, the rest is given back."""
        for chunk in list(self._outstanding):
            if chunk.worker is not self:
                continue
            tally = Tally()
            error = RuntimeError(f"thread {self.name} ended while it ran this record")
            if self.runs_batches:
                self._give_up(chunk, error, tally)
            with chunk.lock:
                tally.returned += chunk.withdraw()
                end = chunk.claimed()
                if end > chunk.reported:
                    chunk.odd.setdefault(end - 1, error)
                    chunk.report(end, tally)
                chunk.worker = None
            self._outstanding.pop(chunk, None)
            if tally:
                self._work.deliver(tally.finished(self._work.subscription))

    def _take_on(self, chunk: ThreadChunk) -> None:
        with chunk.lock:
            if chunk.worker is not None or chunk not in self._outstanding:
                return  # Queued again for a thread that died, and taken by another already.
            chunk.started_at = self._work.clock()
            chunk.worker = self
        wall, cpu = perf_counter(), thread_time()
        tally = Tally()
        try:
            self._enter_resource()
            while not self._pristine.copy().run(self._run, chunk, tally):
                pass
        except (
            BaseException
        ) as error:  # Of our own making, or of the resource's: it must not take records with it.
            self._give_up(chunk, error, tally)
        tally.busy_s, tally.cpu_s = perf_counter() - wall, thread_time() - cpu
        with chunk.lock:
            end = chunk.claimed()
            if not self.runs_batches:
                tally.started = end - sum(outcome is _RETURNED for outcome in chunk.odd.values())
                tally.waits_s = chunk.waits_s(wall)
            chunk.report(end, tally)
            chunk.worker = None
        self._outstanding.pop(chunk, None)
        if tally:
            self._work.deliver(tally.finished(self._work.subscription))

    def _enter_resource(self) -> None:
        """Enter `per_worker` at the first chunk, and again at the next if that failed."""
        if not self._entered and self._work.per_worker is not None:
            self._scope.resource = self._pristine.run(self._resources.enter_context, self._work.per_worker())
            self._entered = True

    def _run(self, chunk: ThreadChunk, tally: Tally) -> bool:
        """Work the list off; False if the rest must run in a fresh context."""
        batches = self._work.batches
        return self._run_records(chunk) if batches is None else self._run_batch(batches, chunk, tally)

    def _run_records(self, chunk: ThreadChunk) -> bool:
        invoke, lane_of, scope, blocked = self._work.invoke, self._work.lane_of, self._scope, chunk.blocked
        context_now, base, moments = copy_context, copy_context(), chunk.moments
        for record in chunk.claims:
            if not record._tenure.open or (blocked and lane_of(record) in blocked):
                chunk.mark(_RETURNED)
                continue
            try:
                if invoke(record) is FILTERED:
                    chunk.filtered += 1
            except BaseException as error:
                self._fail(chunk, record, error)
                chunk.note_end()
                return False
            if moments is not None:
                moments.append(perf_counter())
            if scope.produced is not None:
                self._await_produced(chunk, record)
            try:
                if context_now() == base:
                    continue
            except Exception:  # noqa: S110 - nothing to log
                pass  # Two values of the user's that refuse to be compared: not the same, then.
            return False
        return True

    def _fail(self, chunk: ThreadChunk, record: Record[Any, Any], error: BaseException) -> None:
        if self._scope.produced is not None:
            self._scope.take().close(None)
        # Without our own frame, which would tie the error to the whole list in a cycle.
        chunk.mark(without_our_frame(error))
        self._block(chunk, record)
        if isinstance(error, STOPPING):
            self._return_rest(chunk)

    def _block(self, chunk: ThreadChunk, record: Record[Any, Any]) -> None:
        lane = self._work.lane_of(record)
        if lane is not None:
            chunk.blocked.add(lane)

    def _return_rest(self, chunk: ThreadChunk) -> None:
        with chunk.lock:
            rest = chunk.withdraw()
        if rest:
            self._work.deliver(Tally(returned=rest).finished(self._work.subscription))

    def _await_produced(self, chunk: ThreadChunk, record: Record[Any, Any]) -> None:
        """The handler returned and had produced: its record is finished when all that is acknowledged."""
        produced = self._scope.take()
        if produced.close(partial(self._delivered, record)):
            if produced.error is not None:
                self._fail(chunk, record, produced.error)
            return
        chunk.mark(_AWAITING)
        self._block(chunk, record)

    def _delivered(self, record: Record[Any, Any], error: Exception | None) -> None:
        self._work.deliver(Delivered(record, error))

    def _run_batch(self, plan: BatchPlan, chunk: ThreadChunk, tally: Tally) -> bool:
        """Claim the whole list, and run the handler once for each tenure in it."""
        for group in plan.sift(list(chunk.claims), tally):
            error = self._run_group(group)
            tally.started += len(group.records)
            produced = self._scope.take() if self._scope.produced is not None else None
            if produced is not None:
                if error is not None:
                    produced.close(None)
                elif not produced.close(partial(self._batch_delivered, plan, group)):
                    continue
                else:
                    error = produced.error
            plan.settle(group, error, tally)
        with chunk.lock:
            chunk.reported = chunk.claimed()  # Group by group, above or when the last answer comes.
        return True

    def _run_group(self, group: Sifted) -> BaseException | None:
        if group.batch is None:
            return None
        try:
            self._pristine.copy().run(self._work.invoke, group.batch)
        except BaseException as error:
            return without_our_frame(error)
        return None

    def _batch_delivered(self, plan: BatchPlan, group: Sifted, error: Exception | None) -> None:
        # Reported only now: the engine holds single records until an answer, but a batch stands or falls together.
        tally = Tally()
        plan.settle(group, error, tally)
        self._work.deliver(tally.finished(self._work.subscription))

    def _give_up(self, chunk: ThreadChunk, error: BaseException, tally: Tally) -> None:
        """Report what has no outcome: the first such record fails with the error, which tells of it; the rest is given back."""
        told = {id(record) for record, _ in tally.failed}
        told.update(map(id, tally.succeeded), map(id, tally.returned))
        with chunk.lock:
            untold = [
                record for record in chunk.records[chunk.reported : chunk.claimed()] if id(record) not in told
            ]
            untold += chunk.withdraw()
            chunk.reported = chunk.claimed()
        if untold:
            tally.failed.append((untold[0], error))
            tally.returned += untold[1:]
