"""The supervisor thread of `run_in="processes"`: all input and output of one subscription's worker processes.

Decides which worker gets which claim list, when one is killed, and when it is replaced. Refuses to know tenures beyond
whether they are open. One thread with one selector serves all workers: a thread per worker would only add switches to
hand the same reports to the same owner. No pipe ever blocks it.

Invariant: the lock is held for microseconds, and never while the user's code or `deliver` runs.
"""

from __future__ import annotations

import multiprocessing
import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING

from headrace._execute.process_link import ClaimList, Outcomes, State, WorkerLink
from headrace._execute.process_wire import WORKER_PREFIX, pack_records
from headrace.errors import HandlerError, HandlerTimeout, InternalFailure, WorkerDied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace._core.events import Finished
    from headrace.subscriptions import SubscriptionSettings

SLOW_AFTER_S = 0.02
"""A record that runs longer holds nobody up: the rest of its list is taken back. As often as `pulse` is called."""

PREFETCH_WITHIN_S = 0.004
"""A worker gets its next list when it is about so close to done: two report intervals, so that it never waits for the
pipe, and little is stranded if the estimate is wrong."""

RESTART_BACKOFF_INITIAL_S = 0.05
RESTART_BACKOFF_MAX_S = 5.0
"""A worker that dies again and again before it finishes one record is restarted more and more slowly: a spawn costs a
tenth of a second of processor. It starts at once what had done work before."""

START_DEATHS_MAX = 3
"""Deaths in a row, of all workers, before one was ready: then the app cannot work, and `on_broken` is called."""

RECALL_AGAIN_S = 0.02


@dataclass(slots=True)
class Slot:
    """A place for one worker: `link` is None while it waits for its restart. Supervisor writes, under the lock."""

    name: str
    link: WorkerLink | None = None
    restart_at: float = 0.0
    deaths: int = 0


class Supervisor:
    """Owns the workers. `lock` guards `pending`, the links' lists, `pulsed`, `end_at` and `abandoned`."""

    def __init__(
        self,
        subscription: int,
        settings: SubscriptionSettings,
        plan_blob: bytes,
        workers: int,
        deliver: Callable[[Finished], None],
        on_broken: Callable[[BaseException], None],
    ) -> None:
        self.lock = threading.Lock()
        self.pending: deque[ClaimList] = deque()
        self.slots = [Slot(f"{WORKER_PREFIX}{subscription}-{number}") for number in range(workers)]
        self.pulsed = False
        self.end_at: tuple[float, float] | None = None
        """When `close` turns to SIGTERM, and to SIGKILL. Owner writes."""
        self.abandoned: list[str] = []
        self._subscription = subscription
        self._settings = settings
        self._plan_blob = plan_blob
        self._deliver = deliver
        self._on_broken = on_broken
        # Never fork: librdkafka's threads and locks do not survive it, and a forked child would share its sockets.
        self._context = multiprocessing.get_context("spawn")
        self._woken = False
        self._broken = False
        self._start_deaths = 0
        self._ending = 0
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, None)
        # An interpreter that ends without close() would wait for ever for workers that ignore its SIGTERM.
        self._at_exit = Finalize(self, _kill_all, args=(self.slots,), exitpriority=10)
        self._thread = threading.Thread(
            target=self._supervise, name=f"headrace-processes-{subscription}", daemon=True
        )

    def start(self) -> None:
        """Start the thread, which starts the workers."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end, after `end_at` was set."""
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._at_exit.cancel()

    def links(self) -> list[WorkerLink]:
        """The workers there are now. Any thread."""
        return [link for slot in self.slots if (link := slot.link) is not None]

    def wake(self) -> None:
        """Make the thread turn once more. Under the lock."""
        if not self._woken:
            self._woken = True
            with suppress(OSError):  # Full: it wakes anyway. Closed: it has ended.
                self._wake_writer.send(b"\0")

    def send(self, outcomes: Outcomes) -> None:
        """Deliver what is in there, if anything. Never under the lock."""
        finished = outcomes.finished(self._subscription)
        if finished is not None:
            self._deliver(finished)

    def _supervise(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:
            _kill_all(self.slots)
            self._report_broken(InternalFailure("the process executor", error))
        finally:
            self._selector.close()
            self._wake_reader.close()
            self._wake_writer.close()

    def _turn(self) -> bool:
        """Wait for something to happen and see to it; False once all workers have ended after `close`."""
        outcomes = Outcomes()
        died: dict[str, Slot] = {}
        for key, mask in self._selector.select(self._wait_s(time.monotonic())):
            slot: Slot | None = key.data
            if slot is None:
                with self.lock:
                    self._woken = False
                    self._wake_reader.recv(64)
            elif (
                slot.link is None
                or key.fd != slot.link.pipe.fileno()
                or not self._serve(slot, mask, outcomes)
            ):
                died[slot.name] = slot
        for slot in died.values():
            self._bury(slot, outcomes)
        if self.end_at is not None:
            alive = self._end(*self.end_at)
        else:
            alive = True
            self._restart_due()
            self._see_to_slow(outcomes)
            self._hand_out(outcomes)
        self.send(outcomes)
        return alive

    def _wait_s(self, now: float) -> float | None:
        """How long nothing needs doing unless a worker or the owner says so."""
        waits: list[float] = []
        timeout_s = self._settings.timeout_s
        end_at = self.end_at
        with self.lock:
            for slot in self.slots:
                link = slot.link
                if link is None:
                    if end_at is None and not self._broken:
                        waits.append(slot.restart_at - now)
                    continue
                if link.recall_again:
                    waits.append(RECALL_AGAIN_S)
                if timeout_s is not None and link.lists:
                    since = link.running_since()
                    waits.append(timeout_s if since is None else since + timeout_s - now)
        if end_at is not None:
            waits += [at - now for at in end_at if at > now] or [RECALL_AGAIN_S]
        return max(0.0, min(waits)) if waits else None

    def _serve(self, slot: Slot, mask: int, outcomes: Outcomes) -> bool:
        """Take in what a worker sent, send on what it had no room for; False if its pipe is at its end."""
        link = slot.link
        assert link is not None
        if mask & selectors.EVENT_READ:
            messages, ended = link.receive()
            with self.lock:
                link.take_in(messages, outcomes)
            if ended:
                return False
            if link.state is State.READY:
                self._start_deaths = 0
        if mask & selectors.EVENT_WRITE:
            self._flush(slot)
        return True

    def _flush(self, slot: Slot) -> None:
        link = slot.link
        assert link is not None
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        self._selector.modify(link.pipe, selectors.EVENT_READ if link.flush() else both, slot)

    def _bury(self, slot: Slot, outcomes: Outcomes) -> None:
        """A worker died: settle its records, and plan its replacement."""
        link = slot.link
        if link is None:
            return
        self._selector.unregister(link.pipe)
        self._selector.unregister(link.process.sentinel)
        exit_code = link.reap(1.0)
        messages, _ = link.receive()
        starting = link.state is State.STARTING
        with self.lock:
            link.take_in(messages, outcomes)
            starting = starting and link.state is State.STARTING
            link.settle_death(link.killed_for or WorkerDied(link.pid, exit_code), outcomes)
            slot.link = None
            slot.deaths = 1 if link.finished_any or link.killed_for else slot.deaths + 1
            backoff_s = min(
                RESTART_BACKOFF_INITIAL_S * 2.0 ** min(slot.deaths - 1, 10), RESTART_BACKOFF_MAX_S
            )
            slot.restart_at = time.monotonic() + backoff_s
        link.release()
        if self.end_at is not None:
            return  # We ended it, perhaps while it was starting: that says nothing about the handler.
        if link.broken is not None:
            what = f"a worker process could not start: {type(link.broken).__name__}: {link.broken}"
            self._report_broken(HandlerError(self._settings.name, what), link.broken)
        elif starting:
            self._count_start_death(exit_code)

    def _count_start_death(self, exit_code: int | None) -> None:
        self._start_deaths += 1
        if self._start_deaths >= START_DEATHS_MAX:
            what = (
                f"worker processes end while they start (exit code {exit_code}; their standard error says why); "
                'a main module must start the app under if __name__ == "__main__"'
            )
            self._report_broken(HandlerError(self._settings.name, what))

    def _report_broken(self, error: BaseException, cause: BaseException | None = None) -> None:
        if not self._broken:
            self._broken = True
            if cause is not None:
                error.__cause__ = cause
            self._on_broken(error)

    def _restart_due(self) -> None:
        now = time.monotonic()
        for slot in self.slots:
            if slot.link is not None or slot.restart_at > now or self._broken:
                continue
            try:
                link = WorkerLink(self._context, slot.name, self._plan_blob, self._settings.order_by)
            except OSError as error:  # No memory, no process left: it may pass.
                slot.deaths += 1
                slot.restart_at = now + min(0.5 * slot.deaths, RESTART_BACKOFF_MAX_S)
                if slot.deaths >= START_DEATHS_MAX:
                    self._report_broken(
                        HandlerError(self._settings.name, f"no worker process: {error}"), error
                    )
                continue
            self._selector.register(link.pipe, selectors.EVENT_READ, slot)
            self._selector.register(link.process.sentinel, selectors.EVENT_READ, slot)
            with self.lock:
                slot.link = link

    def _see_to_slow(self, outcomes: Outcomes) -> None:
        """Overdue handlers are killed; lists with a slow record are reported, and the rest of them taken back."""
        now = time.monotonic()
        timeout_s = self._settings.timeout_s
        pulsed, self.pulsed = self.pulsed, False
        for link in self.links():
            taken: list[ClaimList] | None = None
            if timeout_s is not None and link.killed_for is None:
                with self.lock:
                    taken = link.kill_if_overdue(now - timeout_s, HandlerTimeout(timeout_s))
            if link.recall_again or (pulsed and is_slow(link, now)):
                through = link.ended_through()
                messages, _ = link.receive()
                with self.lock:
                    link.take_in(messages, outcomes)
                    link.settle(through, outcomes)
                    taken = (taken or []) + (link.take_back() or [])
            with self.lock:
                for claim_list in reversed(taken or []):
                    if claim_list.begun:
                        outcomes.returned += claim_list.records
                    else:
                        self.pending.appendleft(claim_list)

    def _hand_out(self, outcomes: Outcomes) -> None:
        """Send queued lists: first to idle workers, then to those that are about to be."""
        now = time.monotonic()
        for most in (0, 1):
            for slot in self.slots:
                link = slot.link
                if link is None or link.state is not State.READY or link.killed_for is not None:
                    continue
                with self.lock:
                    if len(link.lists) > most or not (most == 0 or _is_nearly_done(link, now)):
                        continue
                    claim_list = self._next_list(outcomes)
                    if claim_list is None:
                        return
                    first, records = link.accept(claim_list), claim_list.records
                link.write(pack_records(first, records))
                self._flush(slot)

    def _next_list(self, outcomes: Outcomes) -> ClaimList | None:
        """The next list that still has a record of an open tenure. Under the lock."""
        while self.pending:
            claim_list = self.pending.popleft()
            closed = [record for record in claim_list.records if not record._tenure.open]
            if closed:
                outcomes.returned += closed
                claim_list.records = [record for record in claim_list.records if record._tenure.open]
            if claim_list.records:
                return claim_list
        return None

    def _end(self, terminate_at: float, kill_at: float) -> bool:
        """One step of `close`: ask, then SIGTERM, then SIGKILL; False once no worker is left."""
        now = time.monotonic()
        step = 1 + (now >= terminate_at) + (now >= kill_at)
        if step > self._ending:
            self._ending = step
            for link in self.links():
                if step == 1:
                    link.ask_to_end()
                elif step == 2:
                    self.abandoned.append(link.title)
                    link.terminate()
                else:
                    link.process.kill()
            for slot in self.slots:
                if slot.link is not None:
                    self._flush(slot)
        return bool(self.links())


def is_slow(link: WorkerLink, now: float) -> bool:
    since = link.running_since()
    return since is not None and now - since > SLOW_AFTER_S


def _is_nearly_done(link: WorkerLink, now: float) -> bool:
    remaining_s = link.remaining_s()
    return remaining_s is not None and remaining_s <= PREFETCH_WITHIN_S and not is_slow(link, now)


def _kill_all(slots: Iterable[Slot]) -> None:
    for slot in slots:
        if slot.link is not None:
            with suppress(ValueError):  # Ended and released in this moment.
                slot.link.process.kill()
