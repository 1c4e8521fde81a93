"""Runs `def` handlers on daemon threads: one queue of claim lists, one hand-over per list and never per record.

Decides when a thread is started, when a slow list is reported in part, and which slots stale handlers (those that
outlived their tenure) may no longer hold. Refuses to know what is done about an outcome.

Invariants: every submitted record is reported exactly once, or taken back; a record behind a failed one of its lane is
never started; each handler sees the context it would see if it were the first.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from headrace._execute.claims import separate
from headrace._execute.invocation import Tally
from headrace._execute.thread_worker import ThreadChunk, ThreadWork, ThreadWorker
from headrace.ports import Running

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from headrace._core.events import Delivered, Finished
    from headrace.records import Record
    from headrace.subscriptions import SubscriptionSettings

WORKERS_MAX = 64
"""Threads of one subscription unless `workers` says otherwise: more only add memory and switches under the GIL."""
COUNT_S = 1.0
"""How often threads are counted: one that died leaves records that nobody reports."""
SLOW_AFTER_S = 0.02
"""A record that runs so long strands nobody: what finished before it is reported, what waits behind it given back."""


class ThreadExecutor:
    """`ports.Executor` on threads. Owner thread only, but for `running`, `stack_of` and `busy_workers`.

    stale_workers_max: how many threads may be started beyond the limit to stand in for those that are held by stale
        handlers; by default as many as the limit itself, so that a lost partition cannot eat the pool.
    """

    def __init__(
        self,
        subscription: int,
        settings: SubscriptionSettings,
        handler: Callable[[Any], object],
        deliver: Callable[[Finished | Delivered], None],
        *,
        per_worker: Callable[[], AbstractContextManager[Any]] | None = None,
        stale_workers_max: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._subscription = subscription
        self._name = settings.name
        self._deliver = deliver
        self._clock = clock
        self._workers_whole = min(settings.workers or WORKERS_MAX, settings.concurrency)
        # Any thread sets it; the owner reads it.
        self.workers_max = self._workers_whole
        self._stale_max = self.workers_max if stale_workers_max is None else stale_workers_max
        self._work = ThreadWork(subscription, settings, handler, deliver, per_worker, clock)
        self._queue: SimpleQueue[ThreadChunk | None] = SimpleQueue()
        # Owner adds; the worker that ends a chunk removes it. Any thread may copy it: one C call.
        self._outstanding: dict[ThreadChunk, None] = {}
        self._workers: list[ThreadWorker] = []
        self._displaced: list[ThreadWorker] = []
        # Threads that were asked to end, since there are more than may be, and that have not been seen to.
        self._leaving = 0
        self._started = 0
        self._counted_at = 0.0
        self._closed = False

    def submit(self, records: list[Record[Any, Any]]) -> None:
        """Queue a claim list; start a thread if none is free and there may be another."""
        assert not self._closed
        if not records:
            return
        chunk = ThreadChunk(records)
        self._outstanding[chunk] = None
        self._queue.put(chunk)
        self._grow()

    def recall(self, tenures: Sequence[object] | None) -> list[Record[Any, Any]]:
        """Take back every record not yet claimed of these tenures. Of a list that mixes tenures the rest is given back too."""
        recalled: list[Record[Any, Any]] = []
        others: list[Record[Any, Any]] = []
        for chunk in list(self._outstanding):
            with chunk.lock:
                mine, rest = separate(chunk.withdraw(), tenures) if chunk.holds(tenures) else ([], [])
            recalled += mine
            others += rest
        if others:
            self._deliver(Tally(returned=others).finished(self._subscription))
        return recalled

    def cancel(self, tenures: Sequence[object]) -> None:
        """Do nothing: a thread cannot be cancelled. Its tenure's end makes it stale."""

    def pulse(self, now: float) -> None:
        """Report and relieve lists whose current record is slow; replace threads that stale handlers hold."""
        tally = Tally()
        for chunk in list(self._outstanding):
            if chunk.worker is None:
                continue
            claimed = chunk.claimed()
            if claimed != chunk.seen_claimed:
                chunk.seen_claimed = claimed
                chunk.seen_at = now
            elif now - chunk.seen_at >= SLOW_AFTER_S and not chunk.relieved:
                chunk.relieve(tally)
        if tally:
            self._deliver(tally.finished(self._subscription))
        if now - self._counted_at >= COUNT_S:
            self._counted_at = now
            self._bury_dead()
        self._shrink()
        self._grow(displace=True)

    def running(self) -> list[Running]:
        """Return the handlers that run now, oldest first. Any thread."""
        found: list[Running] = []
        for chunk in list(self._outstanding):
            with chunk.lock:
                record, worker = chunk.current(), chunk.worker
                if record is not None and worker is not None:
                    found.append(Running(record, max(chunk.started_at, chunk.seen_at), worker.name))
        found.sort(key=_since)
        return found

    def stack_of(self, running: Running) -> str | None:
        """Return the stack of the thread that runs this handler. Any thread."""
        for chunk in list(self._outstanding):
            with chunk.lock:
                worker, record = chunk.worker, chunk.current()
            if worker is not None and worker.name == running.name and record is running.record:
                frame = sys._current_frames().get(worker.thread.ident or 0)
                return None if frame is None else "".join(traceback.format_stack(frame))
        return None

    def busy_workers(self) -> int:
        """Count the threads that are on a claim list now. Any thread."""
        return sum(chunk.worker is not None for chunk in list(self._outstanding))

    def stale_workers(self) -> int:
        """Count the threads that were replaced because a stale handler holds them."""
        self._displaced = [worker for worker in self._displaced if worker.thread.is_alive()]
        return len(self._displaced)

    def share(self, connections: int) -> None:
        """So many connections share the subscription's threads. Any thread; those too many end at their next list."""
        self.workers_max = max(1, self._workers_whole // connections)

    def close(self, timeout_s: float) -> list[str]:
        """Give back what was not started and end the threads; returns the names of those still running at the deadline."""
        self._closed = True
        deadline = self._clock() + timeout_s
        unstarted = self.recall(None)
        if unstarted:
            self._deliver(Tally(returned=unstarted).finished(self._subscription))
        workers = self._workers + self._displaced
        for _ in workers:
            self._queue.put(None)
        for worker in workers:
            if worker.thread is not threading.current_thread():
                worker.thread.join(max(0.0, deadline - self._clock()))
        return [worker.name for worker in workers if worker.thread.is_alive()]

    def _grow(self, *, displace: bool = False) -> None:
        """Every outstanding list has, or needs, a thread of its own.

        displace: look for stale handlers where there may be no more threads. That is a walk over all lists, so not at every one
        that is submitted: where `concurrency` is above `workers`, lists always wait.
        """
        while len(self._outstanding) > self._staying + (self.stale_workers() if self._displaced else 0):
            if self._staying >= self.workers_max and not (displace and self._displace()):
                return
            worker = ThreadWorker(
                f"headrace-{self._name}-{self._started}", self._work, self._queue, self._outstanding
            )
            try:
                worker.thread.start()
            except (
                RuntimeError
            ):  # The process can have no more threads: those there are go on, and the next pulse tries again.
                return
            self._started += 1
            self._workers.append(worker)

    @property
    def _staying(self) -> int:
        return len(self._workers) - self._leaving

    def _shrink(self) -> None:
        """Ask as many threads to end as are too many."""
        while self._staying > self.workers_max:
            self._leaving += 1
            self._queue.put(None)

    def _bury_dead(self) -> None:
        """A thread that ended by itself, as by an exception thrown into it from outside, must not keep its place or its list."""
        dead = [worker for worker in self._workers if worker.dead]
        for worker in dead:
            self._workers.remove(worker)
            worker.bury()
            # Which of them were asked to is not known; one that died by itself leaves its place to who was asked.
            self._leaving = max(0, self._leaving - 1)
        if dead:  # One of them may have died with a list taken from the queue and not begun.
            for chunk in list(self._outstanding):
                if chunk.worker is None:
                    self._queue.put(chunk)

    def _displace(self) -> bool:
        """Take one thread that a stale handler holds out of the pool: it ends with that handler."""
        if self.stale_workers() >= self._stale_max:
            return False
        for chunk in list(self._outstanding):
            with chunk.lock:
                record, worker = chunk.current(), chunk.worker
                if record is None or worker is None or worker.displaced or record._tenure.open:
                    continue
                worker.displaced = True
            self._workers.remove(worker)
            self._displaced.append(worker)
            return True
        return False


def _since(running: Running) -> float:
    return running.since
