"""Runs `async def` handlers on an event loop: no task per record while handlers do not suspend.

A *pump* is a task that awaits the handler for one record of a list after the other. While no handler suspends, one pump
runs the whole list. When one does, the pump's task has become that record's own: it ends with it, and another pump
takes over what may run beside it. So every handler runs in a real task from its first step, and a context variable or
a cancellation count that a suspended handler leaves behind ends with its task.

Decides who pumps, and how many at a time. Refuses to know what is done about an outcome.
Invariants: records claimed and not ended never exceed `concurrency`; one pump claims at a time; every submitted record
is reported exactly once, or taken back.

Threads: the owner calls the `ports.Executor` methods; all else is the loop thread's. `_lock` guards what both change.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

from headrace._execute.claims import separate
from headrace._execute.invocation import Tally
from headrace._execute.pumping import Pumping
from headrace._execute.task_chunk import Order, TaskChunk
from headrace.ports import Running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from headrace._core.events import Delivered, Finished
    from headrace._execute.pump import Pump
    from headrace.records import Record
    from headrace.subscriptions import SubscriptionSettings

SLOW_AFTER_S = 0.02
"""A record that blocks the loop, or its lane, so long strands nobody: what waits behind it is given back."""


class TaskExecutor:
    """`ports.Executor` on an event loop: our own (`HandlerLoop`) or the caller's, which is never blocked.

    Owner thread only, but for `running`, `stack_of` and `busy_workers`.
    """

    def __init__(
        self,
        subscription: int,
        settings: SubscriptionSettings,
        handler: Callable[[Any], Awaitable[object]],
        deliver: Callable[[Finished | Delivered], None],
        loop: asyncio.AbstractEventLoop,
        *,
        per_worker: Callable[[], AbstractAsyncContextManager[Any] | AbstractContextManager[Any]]
        | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._subscription = subscription
        self._deliver = deliver
        self._loop = loop
        self._clock = clock
        self._single = {"none": Order.FREE}.get(settings.order_by, Order.MIXED)
        self._pumping = Pumping(subscription, settings, handler, deliver, loop, per_worker, clock)
        self._lock = self._pumping.lock
        # The owner's: which record the loop was on at the last pulse that saw it move.
        self._seen: tuple[Pump | None, int] = (None, -1)
        self._seen_at = 0.0
        self._closed = False

    def submit(self, records: list[Record[Any, Any]]) -> None:
        """Hand a claim list to the loop, and wake it unless a wake-up is on its way."""
        assert not self._closed
        if records:
            self._pumping.submit(TaskChunk(records, Order.FREE if len(records) == 1 else self._single))

    def recall(self, tenures: Sequence[object] | None) -> list[Record[Any, Any]]:
        """Take back every record not yet claimed of these tenures. Of a list that mixes tenures the rest is given back too."""
        recalled: list[Record[Any, Any]] = []
        others: list[Record[Any, Any]] = []
        wanted = None if tenures is None else {id(tenure) for tenure in tenures}
        with self._lock:
            for chunk in list(self._pumping.chunks):
                left = chunk.records[chunk.claimed() :]
                if wanted is None or any(id(record._tenure) in wanted for record in left):
                    mine, rest = separate(chunk.withdraw(), tenures)
                    recalled += mine
                    others += rest
        if others:
            self._deliver(Tally(returned=others).finished(self._subscription))
        return recalled

    def cancel(self, tenures: Sequence[object]) -> None:
        """Cancel the suspended handlers of these tenures; they are reported as failed with `CancelledError`."""
        self._pumping.cancel_soon({id(tenure) for tenure in tenures})

    def pulse(self, now: float) -> None:
        """Relieve the list whose record blocks the loop, and give back what waits behind suspended records of its lane."""
        pumping = self._pumping
        tally = Tally()
        with self._lock:
            pump = pumping.bursting
            seen = (pump, -1 if pump is None else pump.chunk.claimed())
            if seen != self._seen:
                self._seen, self._seen_at = seen, now
            elif pump is not None and now - self._seen_at >= SLOW_AFTER_S:
                tally.returned += pump.chunk.withdraw()
                pump.report_done(tally)
            for waiting in list(pumping.with_rest):
                if waiting.rest is not None and now - waiting.since >= SLOW_AFTER_S:
                    tally.returned += waiting.rest.withdraw()
                    pumping.with_rest.pop(waiting, None)
        if tally:
            self._deliver(tally.finished(self._subscription))

    def running(self) -> list[Running]:
        """Return the handlers that run now, oldest first. Any thread."""
        found: list[Running] = []
        with self._lock:
            pumps = [(pump, pump.since) for pump in list(self._pumping.suspended)]
            pump = self._pumping.bursting
            if pump is not None:
                pumps.append((pump, max(pump.since, self._seen_at)))
            for pump, since in pumps:
                record = pump.current()
                if record is not None:
                    found.append(Running(record, since, pump.name))
        found.sort(key=_since)
        return found

    def stack_of(self, running: Running) -> str | None:
        """Return where that handler stands: of a suspended one its task's stack, of one that blocks the loop the thread's."""
        for pump in list(self._pumping.suspended):
            if pump.name == running.name:
                return pump.stack() if pump.record is running.record else None
        with self._lock:
            bursting = self._pumping.bursting
            if bursting is None or bursting.name != running.name or bursting.current() is not running.record:
                return None
        frame = sys._current_frames().get(self._pumping.thread_ident)
        return None if frame is None else "".join(traceback.format_stack(frame))

    def busy_workers(self) -> int:
        """Count the handlers that run now. Any thread."""
        return len(self._pumping.suspended) + (self._pumping.bursting is not None)

    def share(self, connections: int) -> None:
        """So many connections share the subscription's places. Any thread."""
        self._pumping.share(connections)

    def close(self, timeout_s: float) -> list[str]:
        """Give back what was not started, cancel the rest, leave `per_worker`; returns the names of handlers still running.

        Waits for the loop unless called on it: then it only asks.
        """
        self._closed = True
        unstarted = self.recall(None)
        if unstarted:
            self._deliver(Tally(returned=unstarted).finished(self._subscription))
        ended = self._pumping.close_soon()
        if ended is not None and not self._on_the_loop():
            ended.wait(timeout_s)
        return [running.name for running in self.running()]

    def _on_the_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False


def _since(running: Running) -> float:
    return running.since
