"""The parent's half of one worker process: what was sent to it, what came back, and what can be taken back.

Decides the outcome of each record sent to this worker, from its reports and from the claim board. Refuses to know
other workers, queues and when to restart.

Invariants: records are numbered in the order in which they were sent; those numbered up to LAST of the board have been
claimed, no other has; every record sent gets exactly one outcome: succeeded, failed, returned, or taken back.

Threads: `state`, `lists` and what is counted belong to the executor's lock; pipe, process and buffers to its supervisor.
"""

from __future__ import annotations

import marshal
import signal
import socket
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from headrace._core.events import Finished
from headrace._execute import process_worker
from headrace._execute.process_wire import (
    BOARD_SIZE,
    BROKEN,
    CLOSING,
    ENDED,
    FAILED,
    FIRST,
    LAST,
    PASSED,
    READY,
    SINCE_NS,
    VOID_BELOW,
    FrameReader,
    frame,
    lane_of,
    unpack_error,
)

if TYPE_CHECKING:
    from multiprocessing.context import SpawnContext, SpawnProcess
    from multiprocessing.synchronize import Lock

    from headrace.records import Record
    from headrace.subscriptions import OrderBy

CLAIM_LOCK_WAIT_S = 0.02
"""How long to wait for a worker's claim lock. It is held for a microsecond, unless its holder lost the processor or
was killed; then nothing is taken back now, and the supervisor tries again."""

_READ_BYTES = 256 * 1024


class State(Enum):
    """Where a worker stands."""

    STARTING = "starting"
    READY = "ready"
    DEAD = "dead"


@dataclass(slots=True)
class ClaimList:
    """One submitted list, or what was taken back of it. `ticket` is its place among all submitted lists.

    `begun` lists may not be sent again: what is left of them may stand behind a running record of its lane.
    """

    ticket: int
    records: list[Record[Any, Any]]
    first: int = 0
    settled: int = 0
    failed_lanes: set[object] = field(default_factory=set[object])
    stopped: bool = False
    begun: bool = False


@dataclass(slots=True)
class Outcomes:
    """What became of records, gathered until it is delivered as one event."""

    succeeded: list[Record[Any, Any]] = field(default_factory=list["Record[Any, Any]"])
    failed: list[tuple[Record[Any, Any], BaseException]] = field(
        default_factory=list["tuple[Record[Any, Any], BaseException]"]
    )
    returned: list[Record[Any, Any]] = field(default_factory=list["Record[Any, Any]"])
    filtered: int = 0
    busy_s: float = 0.0
    cpu_s: float = 0.0
    started: int = 0

    def finished(self, subscription: int) -> Finished | None:
        """The event, or None if there is nothing to tell."""
        if not (self.succeeded or self.failed or self.returned or self.started):
            return None
        return Finished(
            subscription,
            succeeded=self.succeeded,
            failed=self.failed,
            returned=self.returned,
            filtered=self.filtered,
            busy_s=self.busy_s,
            cpu_s=self.cpu_s,
            started=self.started,
        )


class WorkerLink:
    """One worker process, from its spawn to its death. A replacement is a new link."""

    def __init__(self, context: SpawnContext, name: str, plan_blob: bytes, order_by: OrderBy) -> None:
        self.name = name
        self.state = State.STARTING
        self.lists: deque[ClaimList] = deque()
        self.recall_again = False
        self.killed_for: BaseException | None = None
        self.broken: BaseException | None = None
        self.finished_any = False
        self.record_s: float | None = None
        self._order_by: OrderBy = order_by
        self._next_sequence = 1
        self._failures: dict[int, tuple[BaseException, bool]] = {}
        self._outbox = bytearray()
        self._frames = FrameReader()
        board = context.RawArray("q", BOARD_SIZE)
        # A raw array of "q" is what the child views too; typeshed cannot tell that it is a buffer.
        self._cells: memoryview[int] = memoryview(board).cast("B").cast("q")
        self._claim_lock: Lock = context.Lock()
        self.pipe, child_end = socket.socketpair()
        with child_end:
            self.process: SpawnProcess = context.Process(
                target=process_worker.main,
                args=(child_end, board, self._claim_lock, plan_blob),
                name=name,
                # A worker must never outlive its app, even if the interpreter ends without close().
                daemon=True,
            )
            # Inherited: a Ctrl-C that reaches the whole foreground group waits until the worker has seen to it.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, process_worker.SIGNALS)
            try:
                self.process.start()
            except BaseException:
                self.pipe.close()
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.pipe.setblocking(False)
        assert self.process.pid is not None
        self.pid: int = self.process.pid

    @property
    def title(self) -> str:
        """How logs and forced stops name this worker."""
        return f"{self.name} (pid {self.pid})"

    # -- what runs ---------------------------------------------------------------------------------------------

    def running_since(self) -> float | None:
        """When the handler that runs now was started, on the monotonic clock; None if none runs. Any thread."""
        cells = self._cells
        if self.state is State.DEAD or cells[ENDED] >= cells[LAST]:
            return None
        return cells[SINCE_NS] / 1e9

    def running_records(self) -> list[Record[Any, Any]]:
        """The records whose handler runs now: one, or those of a batch."""
        cells = self._cells
        first, last = cells[FIRST], cells[LAST]
        if self.state is State.DEAD or cells[ENDED] >= last:
            return []
        for sent in self.lists:
            if sent.first <= first < sent.first + len(sent.records):
                return sent.records[first - sent.first : last - sent.first + 1]
        return []

    def remaining_s(self) -> float | None:
        """About how long the lists it has will take, by the pace of late; None if that is unknown."""
        if not self.lists:
            return 0.0
        if self.record_s is None:
            return None
        newest = self.lists[-1]
        return self.record_s * (newest.first + len(newest.records) - 1 - self._cells[ENDED])

    def strands(self) -> bool:
        """Whether it has records beside the one that runs: ended and not reported, or not claimed."""
        if not self.lists:
            return False
        sent = self.lists[0]
        cells = self._cells
        return (
            len(self.lists) > 1
            or sent.first + sent.settled < cells[FIRST]
            or cells[LAST] < sent.first + len(sent.records) - 1
        )

    # -- sending and taking back -------------------------------------------------------------------------------

    def accept(self, claim_list: ClaimList) -> int:
        """Count this list as sent; returns the number of its first record. Under the executor's lock."""
        claim_list.first = self._next_sequence
        self._next_sequence += len(claim_list.records)
        self.lists.append(claim_list)
        return claim_list.first

    def take_back(self) -> list[ClaimList] | None:
        """Void all that is not claimed; None if the claim lock was not to be had. Under the executor's lock.

        The parts taken back come as lists of their own; a list none of which was claimed comes whole.
        """
        if not self._claim_lock.acquire(True, CLAIM_LOCK_WAIT_S):
            self.recall_again = True
            return None
        try:
            claimed = self._cells[LAST]
            self._cells[VOID_BELOW] = self._next_sequence
        finally:
            self._claim_lock.release()
        self.recall_again = False
        taken: list[ClaimList] = []
        for sent in list(self.lists):
            # The worker may already have passed over records behind a failure: `settled` may be beyond its claims.
            keep = max(claimed - sent.first + 1, sent.settled)
            if keep <= 0:
                self.lists.remove(sent)
                taken.append(sent)
            elif keep < len(sent.records):
                rest = ClaimList(sent.ticket, sent.records[keep:], begun=True)
                sent.records = sent.records[:keep]
                if sent.settled == keep:
                    self.lists.remove(sent)
                taken.append(rest)
        return taken

    def write(self, payload: bytes) -> None:
        """Send one message as far as the pipe takes it. Supervisor only."""
        self._outbox += frame(payload)
        self.flush()

    def flush(self) -> bool:
        """Send on what the pipe did not take before; True if nothing is left."""
        while self._outbox:
            try:
                sent = self.pipe.send(self._outbox)
            except BlockingIOError:
                return False
            except OSError:  # The worker died; its sentinel tells.
                self._outbox.clear()
                return True
            del self._outbox[:sent]
        return True

    # -- what comes back ---------------------------------------------------------------------------------------

    def receive(self) -> tuple[list[tuple[Any, ...]], bool]:
        """The messages that have arrived, and whether the pipe is at its end. Supervisor only."""
        messages: list[tuple[Any, ...]] = []
        while True:
            try:
                data = self.pipe.recv(_READ_BYTES)
            except BlockingIOError:
                return messages, False
            except OSError:
                return messages, True
            if not data:
                return messages, True
            messages.extend(self._message(payload) for payload in self._frames.feed(data))

    def _message(self, payload: bytes) -> tuple[Any, ...]:
        """One message. Errors are unpickled here, without the lock: that runs the user's code."""
        message: tuple[Any, ...] = marshal.loads(payload)  # noqa: S302 - from our own worker
        if message[0] == FAILED:
            _, sequences, stops, wire, text = message
            return (FAILED, sequences, stops, unpack_error(wire, text, self.title))
        if message[0] == BROKEN:
            return (BROKEN, unpack_error(message[1], message[2], self.title))
        return message

    def take_in(self, messages: list[tuple[Any, ...]], outcomes: Outcomes) -> None:
        """Settle what these messages say. Under the executor's lock."""
        for message in messages:
            kind = message[0]
            if kind == PASSED:
                _, through, filtered, started, busy_s, cpu_s = message
                self.settle(through, outcomes)
                outcomes.filtered += filtered
                outcomes.started += started
                outcomes.busy_s += busy_s
                outcomes.cpu_s += cpu_s
                if started:
                    mean_s = busy_s / started
                    self.record_s = mean_s if self.record_s is None else (self.record_s + mean_s) / 2
            elif kind == FAILED:
                _, sequences, stops, error = message
                self._failures.update((sequence, (error, stops)) for sequence in sequences)
            elif kind == READY:
                self.state = State.READY
            else:
                assert kind == BROKEN, kind
                self.broken = message[1]

    def settle(self, through: int, outcomes: Outcomes) -> None:
        """Give every record numbered up to `through` its outcome. The worker has sent all failures among them."""
        while self.lists:
            sent = self.lists[0]
            end = min(through - sent.first + 1, len(sent.records))
            if end > sent.settled:
                self._settle_list(sent, end, outcomes)
            if sent.settled < len(sent.records):
                return
            self.lists.popleft()

    def _settle_list(self, sent: ClaimList, end: int, outcomes: Outcomes) -> None:
        self.finished_any = True
        records = sent.records[sent.settled : end]
        if not self._failures and not sent.failed_lanes and not sent.stopped:
            outcomes.succeeded += records
        else:
            for sequence, record in enumerate(records, sent.first + sent.settled):
                failure = self._failures.pop(sequence, None)
                lane = lane_of(self._order_by, record.topic, record.partition, record.raw_key)
                if failure is not None:
                    error, stops = failure
                    outcomes.failed.append((record, error))
                    sent.stopped = sent.stopped or stops
                    if lane is not None:
                        sent.failed_lanes.add(lane)
                elif sent.stopped or (lane is not None and lane in sent.failed_lanes):
                    outcomes.returned.append(record)
                else:
                    outcomes.succeeded.append(record)
        sent.settled = end

    def ended_through(self) -> int:
        """The last record that is over with. Read this, then `receive`: all failures up to it are in the pipe by now."""
        cells = self._cells
        first, last, ended = cells[FIRST], cells[LAST], cells[ENDED]
        return first - 1 if ended < last else ended

    def settle_death(self, error: BaseException, outcomes: Outcomes) -> None:
        """The process is gone and its last messages are in: what ran has failed, the rest was never started.

        What `close` ended by signal has not failed: it gets no outcome.
        """
        self.settle(self.ended_through(), outcomes)
        running = self.running_records()
        self.state = State.DEAD
        if running and self._cells[CLOSING]:
            self.lists[0].settled += len(running)
        elif running:
            first, last = self._cells[FIRST], self._cells[LAST]
            for sequence in range(first, last + 1):
                self._failures.setdefault(sequence, (error, False))
            self.settle(last, outcomes)
        for sent in self.lists:
            outcomes.returned += sent.records[sent.settled :]
        self.lists.clear()

    # -- the end -----------------------------------------------------------------------------------------------

    def kill_if_overdue(self, before: float, error: BaseException) -> list[ClaimList] | None:
        """Kill the worker if what it runs was started before then; returns what was taken back first, or None.

        Taking the rest back first makes sure that the signal cannot hit a later record.
        """
        since = self.running_since()
        if since is None or since >= before:
            return None
        taken = self.take_back()
        since = self.running_since()
        if taken is not None and since is not None and since < before:
            self.killed_for = error
            self.process.kill()
        return taken

    def ask_to_end(self) -> None:
        """Let it end by itself after what it runs now."""
        self.write(b"")

    def terminate(self) -> None:
        """End it by a signal it can clean up after."""
        self._cells[CLOSING] = 1  # First, or the worker takes the signal for somebody else's.
        self.process.terminate()

    def reap(self, timeout_s: float) -> int | None:
        """The exit code of a process whose pipes closed; None if it has not ended within this time.

        Killed first, in case the user's code closed them: a signal changes nothing for a process that is ending.
        """
        self.process.kill()
        self.process.join(timeout_s)
        return self.process.exitcode

    def release(self) -> None:
        """Close what is open on the parent's side."""
        self.state = State.DEAD
        self.pipe.close()
        with suppress(ValueError):  # Still running: it was abandoned.
            self.process.close()
