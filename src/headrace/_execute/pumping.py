"""Starts pumps, follows them, and takes lists from those whose handler suspended.

The loop in `_run_records` is the hot path of every `async def` handler. A pump is *bursting* while it claims; the
first time a handler suspends, `_look_behind` takes the list away from it: the next pump that begins calls it, and behind
the last of a turn of the loop `_look`. So whoever finds a bursting pump from outside that pump's own step has found a suspended handler.

Threads: the loop's, but for methods that say otherwise. `lock` guards the lists and what of them was reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from headrace._core.verdicts import STOPPING
from headrace._execute.claims import lane_function
from headrace._execute.invocation import FILTERED, BatchPlan, bind_async, without_our_frame
from headrace._execute.loop_resource import LoopResource
from headrace._execute.outbox import Outbox
from headrace._execute.pump import Pump
from headrace._execute.scope import enter_scope
from headrace._execute.task_chunk import Order, Split, TaskChunk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from headrace._core.events import Delivered, Finished
    from headrace.records import Record
    from headrace.subscriptions import SubscriptionSettings

EAGER_MAX = 32
"""Pumps started at once when handlers suspend: a pump per loop iteration would fill a large concurrency too slowly."""


class Pumping:
    """The pumps of one subscription on one loop. See the module's docstring."""

    def __init__(
        self,
        subscription: int,
        settings: SubscriptionSettings,
        handler: Callable[[Any], Awaitable[object]],
        deliver: Callable[[Finished | Delivered], None],
        loop: asyncio.AbstractEventLoop,
        per_worker: Callable[[], AbstractAsyncContextManager[Any] | AbstractContextManager[Any]] | None,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        # Any thread sets it, the loop reads it.
        self._concurrency = settings.concurrency
        self._batches = BatchPlan(settings) if settings.batch is not None else None
        self._invoke = handler if settings.batch is not None else bind_async(settings, handler)
        self._run = self._run_records if self._batches is None else partial(self._run_batch, self._batches)
        self._lane_of = lane_function(settings.order_by)
        self._loop = loop
        self._clock = clock
        # Never run in once a pump has begun: every pump gets a copy.
        self._pristine = Context()
        self._resource = LoopResource(loop, self._pristine, per_worker, self._spawn, self._refuse)
        self._outbox = Outbox(subscription, deliver, loop)
        self.lock = self._outbox.lock
        self.thread_ident = 0
        # Lists with unclaimed records, in the order of submission: what recall looks through. Any thread, under the lock.
        self.chunks: dict[TaskChunk, None] = {}
        # The owner appends, the loop takes; one wake-up stands for all that is in it.
        self._inbox: deque[TaskChunk] = deque()
        self._waking = False
        # The loop writes these; any thread may copy them under the lock.
        self.bursting: Pump | None = None
        self.suspended: dict[Pump, None] = {}
        self.with_rest: dict[Pump, None] = {}
        # The loop's alone.
        self._waiting: deque[TaskChunk] = deque()
        self._active = 0
        self._starting = 0
        # Whether `_look` is in the loop's queue already.
        self._looking = False
        self._eager = 1
        self._prefix = f"headrace-{settings.name}-"
        self._numbered = 0
        self._ended: threading.Event | None = None

    def submit(self, chunk: TaskChunk) -> None:
        """Owner: hand over a list."""
        with self.lock:
            self.chunks[chunk] = None
        self._inbox.append(chunk)
        if not self._waking:
            self._waking = True
            with contextlib.suppress(
                RuntimeError
            ):  # The loop is closed: the watch sees that, and the app ends.
                self._loop.call_soon_threadsafe(self._take_in)

    def share(self, connections: int) -> None:
        """Any thread: so many connections share the places. What waits takes those that come free by it."""
        self._concurrency = max(1, self._settings.concurrency // connections)
        with contextlib.suppress(RuntimeError):  # The loop is closed: nothing waits on it.
            self._loop.call_soon_threadsafe(self._take_in)

    def cancel_soon(self, tenures: set[int]) -> None:
        """Owner: cancel the suspended handlers of these tenures."""
        with contextlib.suppress(RuntimeError):  # The loop is closed: nothing runs on it.
            self._loop.call_soon_threadsafe(self._cancel, tenures)

    def close_soon(self) -> threading.Event | None:
        """Owner: cancel what runs and leave the resource. The event is set when all ended; None if the loop is closed."""
        ended = threading.Event()
        try:
            self._loop.call_soon_threadsafe(self._close, ended)
        except RuntimeError:
            return None
        return ended

    def _take_in(self) -> None:
        self._waking = (
            False  # Before the inbox is emptied: what comes after that brings a wake-up of its own.
        )
        self.thread_ident = threading.get_ident()
        while self._inbox:
            self._waiting.append(self._inbox.popleft())
        if self._resource.ready():
            self._spawn()

    def _spawn(self) -> None:
        """Start as many pumps as there are slots and independent records for, within what seems useful at once."""
        room = min(self._concurrency - self._active, self._eager - self._starting)
        if room <= 0:
            return
        needed = -self._starting
        for chunk in self._waiting:
            needed += chunk.parallel()
            if needed >= room:
                break
        for _ in range(min(room, needed)):
            self._numbered += 1
            self._active += 1
            self._starting += 1
            pump = Pump(f"{self._prefix}{self._numbered}", self._resource.value)
            context = self._pristine.copy()
            context.run(enter_scope, pump.scope)
            # Not loop.create_task: an eager task factory would run the pump inside whoever starts it.
            pump.task = asyncio.Task(self._run(pump), loop=self._loop, name=pump.name, context=context)
            # Cancelled before its first step, as by code that cancels all tasks, it would run nothing of `_run`.
            pump.task.add_done_callback(self._unstarted)

    def _unstarted(self, _task: asyncio.Task[None]) -> None:
        """A pump's task ended without its first step."""
        self._starting -= 1
        self._active -= 1
        self._spawn()
        if self._ended is not None:
            self._see_to_the_end()

    def _begin(self, pump: Pump) -> TaskChunk:
        """Take the first list with something to claim; an empty one if there is none."""
        pump.task.remove_done_callback(self._unstarted)
        self._starting -= 1
        self._look_behind()
        waiting = self._waiting
        while waiting and not waiting[0].unclaimed():
            self.chunks.pop(waiting.popleft(), None)
        if not waiting:
            return TaskChunk([], Order.FREE)
        chunk = waiting.popleft()
        with self.lock:
            pump.chunk = chunk
            # A batch reports its records itself: for the burst, nothing is left to report.
            pump.start = chunk.claimed() if self._batches is None else len(chunk.records)
            self.bursting = pump
        if not self._looking:
            self._looking = True
            self._loop.call_soon(self._look)
        pump.since = self._clock()
        return chunk

    async def _run_records(self, pump: Pump) -> None:
        """Claim and handle one record after the other, until one suspends or leaves something behind it."""
        try:
            chunk = self._begin(pump)
            invoke, lane_of, scope, blocked = self._invoke, self._lane_of, pump.scope, chunk.blocked
            cancelling, context_now, base = pump.task.cancelling, copy_context, copy_context()
            for record in chunk.claims:
                if not record._tenure.open or (blocked and lane_of(record) in blocked):
                    self._turn_back(pump, record)
                    continue
                try:
                    if await invoke(record) is FILTERED:
                        pump.filtered += 1
                except BaseException as error:
                    self._fail(pump, record, error)
                    break
                if pump.suspended or scope.produced is not None:
                    self._succeed(pump, record)
                    break
                try:
                    if context_now() == base and not cancelling():
                        continue
                except Exception:  # noqa: S110 - nothing to log
                    pass  # Two values of the user's that refuse to be compared: not the same, then.
                break
        except GeneratorExit:
            raise  # The loop is gone, and everything with it.
        except BaseException as error:
            self._give_up(pump, error)
        self._end(pump)

    def _look(self) -> None:
        self._looking = False
        self._look_behind()

    def _look_behind(self) -> None:
        """If a pump is bursting, its handler has suspended: its task is that record's now, and the list goes on without it."""
        pump = self.bursting
        if pump is None:
            return
        with self.lock:
            self.bursting = None
            self.suspended[pump] = None
            pump.suspended = True
            if pump.record is None:
                pump.record = pump.current()
                pump.report_done(self._outbox.tally)
                assert pump.record is not None
                self._part_with(pump, pump.chunk, pump.record)
        self._account(pump)
        if self._settings.timeout_s is not None:
            pump.timer = self._loop.call_later(self._settings.timeout_s, self._expire, pump)
        self._eager = min(2 * self._eager, EAGER_MAX)
        self._spawn()

    def _part_with(self, pump: Pump, chunk: TaskChunk, record: Record[Any, Any]) -> None:
        """Leave to the suspended pump what is behind its record in its lane, and the rest to others. Under the lock."""
        if chunk.order is Order.FREE:
            self._waiting.appendleft(chunk)
            return
        if chunk.order is Order.LANE:
            pump.rest = chunk
        else:
            del self.chunks[chunk]
            split = Split(chunk.withdraw(), record, self._lane_of, chunk.blocked)
            self._outbox.tally.returned += split.blocked
            self._waiting.extendleft(reversed(split.parts))
            pump.rest = split.behind
            if split.behind is not None:
                self.chunks[split.behind] = None
            self.chunks.update(dict.fromkeys(split.parts))
        if pump.rest is not None:
            self.with_rest[pump] = None

    def _turn_back(self, pump: Pump, record: Record[Any, Any]) -> None:
        """The claimed record may not start."""
        with self.lock:
            pump.report_done(self._outbox.tally)
            pump.start += 1
            self._outbox.tally.returned.append(record)

    def _succeed(self, pump: Pump, record: Record[Any, Any]) -> None:
        """The handler returned, after it suspended or produced."""
        scope = pump.scope
        if scope.produced is None:
            self._settle(pump, record, self._outbox.tally.succeeded)
            return
        produced = scope.take()
        if not produced.close(partial(self._outbox.delivered, record)):
            self._settle(pump, record, self._outbox.tally.awaiting)
            self._block(pump, record)
        elif produced.error is None:
            self._settle(pump, record, self._outbox.tally.succeeded)
        else:
            self._fail(pump, record, produced.error)

    def _settle(self, pump: Pump, record: Record[Any, Any], outcomes: list[Record[Any, Any]]) -> None:
        with self.lock:
            self._part_from_burst(pump)
            outcomes.append(record)
            if pump.filtered > pump.filtered_reported:
                pump.filtered_reported += 1
                self._outbox.tally.filtered += 1

    def _part_from_burst(self, pump: Pump) -> None:
        """The current record is reported by itself: report what ended before it. Under the lock."""
        if not pump.suspended and self._batches is None:
            pump.report_done(self._outbox.tally)
            pump.start += 1

    def _fail(self, pump: Pump, record: Record[Any, Any], error: BaseException) -> None:
        if isinstance(error, GeneratorExit) and self._loop.is_closed():
            raise error
        if pump.scope.produced is not None:
            pump.scope.take().close(None)
        error = pump.meaning(error, self._settings.timeout_s)
        with self.lock:
            self._part_from_burst(pump)
            self._outbox.tally.failed.append((record, without_our_frame(error)))
        self._block(pump, record)
        if isinstance(
            error, STOPPING
        ):  # The app stops: its list may have been split, so all lists are given back.
            for chunk in list(self.chunks):
                self._return_unclaimed(chunk)

    def _block(self, pump: Pump, record: Record[Any, Any]) -> None:
        """Start nothing more of this record's lane."""
        lane = self._lane_of(record)
        if pump.rest is not None:
            self._return_unclaimed(pump.rest)
        elif lane is not None and not pump.suspended and pump.chunk.order is not Order.FREE:
            pump.chunk.blocked.add(lane)

    def _return_unclaimed(self, chunk: TaskChunk) -> None:
        with self.lock:
            self._outbox.tally.returned += chunk.withdraw()

    async def _run_batch(self, plan: BatchPlan, pump: Pump) -> None:
        """The same with a whole list at once."""
        try:
            await self._handle_batch(plan, pump, self._begin(pump))
        except GeneratorExit:
            raise
        except BaseException as error:
            self._give_up(pump, error)
        self._end(pump)

    async def _handle_batch(self, plan: BatchPlan, pump: Pump, chunk: TaskChunk) -> None:
        groups = plan.sift(list(chunk.claims), self._outbox.tally)
        for other in groups[1:]:  # One pump, one call: a list of several partitions comes again.
            self._outbox.tally.returned += other.records
        if not groups:
            return
        group, error = groups[0], None
        if group.batch is not None:
            pump.record = group.batch.records[0]
            try:
                await self._invoke(group.batch)
            except BaseException as caught:
                if isinstance(caught, GeneratorExit) and self._loop.is_closed():
                    raise
                error = without_our_frame(pump.meaning(caught, self._settings.timeout_s))
        produced = pump.scope.take() if pump.scope.produced is not None else None
        if produced is not None:
            if error is not None:
                produced.close(None)
            elif not produced.close(partial(self._outbox.batch_delivered, plan, group)):
                return
            else:
                error = produced.error
        with self.lock:
            plan.settle(group, error, self._outbox.tally)

    def _end(self, pump: Pump) -> None:
        """A pump's last act: its list, or what waited for its record, goes to the next one."""
        self._active -= 1
        if pump.suspended:
            self.suspended.pop(pump, None)
            waited_s = self._clock() - pump.since
            if self._batches is None:
                self._outbox.tally.waits_s.append(waited_s)
            else:
                records = len(pump.chunk.records)
                self._outbox.tally.waits_s += [waited_s / records] * records
            if pump.timer is not None:
                pump.timer.cancel()
            if pump.rest is not None:
                self.with_rest.pop(pump, None)
                self._hand_on(pump.rest)
            self._outbox.flush_soon()
        elif self.bursting is pump:
            with self.lock:
                self.bursting = None
                pump.report(pump.chunk.claimed(), self._outbox.tally)
            self._account(pump)
            self._eager = max(self._eager // 2, 1)
            self._hand_on(pump.chunk)
        self._spawn()
        if self._ended is not None:
            self._see_to_the_end()

    def _hand_on(self, chunk: TaskChunk) -> None:
        if chunk.unclaimed():
            self._waiting.appendleft(chunk)
        else:
            self.chunks.pop(chunk, None)

    def _give_up(self, pump: Pump, error: BaseException) -> None:
        """A bug of ours, or no memory: the record it was on fails with it, so that it is told and tried again."""
        if self.bursting is not pump and not pump.suspended:
            return
        tally = self._outbox.tally
        with self.lock:
            record = pump.current()
            if record is not None:
                self._part_from_burst(pump)
                tally.failed.append((record, error))
                tally.returned += pump.chunk.withdraw()
            if pump.rest is not None:
                tally.returned += pump.rest.withdraw()
            if self._batches is not None:
                told = {id(record), *map(id, tally.returned), *map(id, tally.succeeded)}
                tally.returned += [other for other in pump.chunk.records if id(other) not in told]

    def _expire(self, pump: Pump) -> None:
        if pump in self.suspended:
            pump.timed_out = True
            pump.task.cancel()

    def _cancel(self, tenures: set[int]) -> None:
        self._look_behind()
        for pump in list(self.suspended):
            if pump.record is not None and id(pump.record._tenure) in tenures:
                pump.task.cancel()

    def _account(self, pump: Pump) -> None:
        """Add the time of its synchronous step, and see that outcomes leave at the end of this loop iteration.

        Not the processor's time: nothing is decided by it here, and to ask for it twice took a microsecond of each waiting record.
        """
        self._outbox.tally.busy_s += self._clock() - pump.since
        self._outbox.flush_soon()

    def _refuse(self, error: BaseException) -> None:
        """`per_worker` failed: of each list the first record fails with it, so that the retry policy decides."""
        with self.lock:
            for chunk in self._waiting:
                rest = chunk.withdraw()
                if rest:
                    self._outbox.tally.failed.append((rest[0], error))
                    self._outbox.tally.returned += rest[1:]
                self.chunks.pop(chunk, None)
            self._waiting.clear()
        self._outbox.flush_soon()

    def _close(self, ended: threading.Event) -> None:
        self._ended = ended
        self._look_behind()
        for pump in list(self.suspended):
            pump.task.cancel()
        self._see_to_the_end()

    def _see_to_the_end(self) -> None:
        if not self._active and self._ended is not None:
            self._outbox.flush()
            self._resource.leave(self._ended.set)
