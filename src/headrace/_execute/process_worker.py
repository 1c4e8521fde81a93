"""The child side of `run_in="processes"`: reads claim lists from its pipe and runs the handler on their records.

Decides nothing about records: it claims each one on the board, runs it, and reports. Refuses to know Kafka, the engine
or the other workers.

Invariants: a record is claimed under the claim lock before its handler starts, so the parent can take back all others
exactly; a failure is in the pipe before the board says that its record ended; the process ends when its parent does.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import marshal
import multiprocessing
import os
import pickle
import signal
import threading
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from headrace._execute.process_wire import (
    BROKEN,
    CLOSING,
    ENDED,
    FAILED,
    FIRST,
    HEADER_BYTES,
    LAST,
    PASSED,
    READY,
    SINCE_NS,
    STOPPING,
    VOID_BELOW,
    WireHolder,
    frame,
    frame_length,
    lane_of,
    pack_error,
    rebuild_record,
    unpack_records,
)
from headrace._execute.scope import Scope, enter_scope
from headrace.errors import DecodeFailed
from headrace.records import Batch, Record

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from multiprocessing.synchronize import Lock

    from headrace._execute.process_wire import WireRecord
    from headrace.subscriptions import OrderBy

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Blocked while a worker starts, until it has said what each means to it."""
REPORT_EVERY_NS = 2_000_000
"""Ends are reported together for so long: longer handlers report each record, and a thousand workers' worth of no-ops
cannot wake the parent more than 500 times a second each."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a worker runs. It crosses pickled by reference: functions as module and qualified name."""

    handler: Callable[..., Any]
    order_by: OrderBy
    batch: bool
    key_decoder: Callable[[bytes], Any] | None
    value_decoder: Callable[[bytes], Any] | None
    filter: Callable[[Record[Any, Any]], bool] | None
    resource: Callable[[], AbstractContextManager[Any]] | None


def main(pipe: socket.socket, board: Any, lock: Lock, plan_blob: bytes) -> None:
    """Run until the parent says so, or dies."""
    # Ctrl-C reaches the whole foreground group: only the parent decides when and how to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cells = memoryview(board).cast("B").cast("q")
    signal.signal(signal.SIGTERM, partial(_on_terminate, cells))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_end_with_parent, name="headrace-parent-watch", daemon=True).start()
    with contextlib.ExitStack() as stack:
        try:
            plan: Plan = pickle.loads(plan_blob)  # noqa: S301 - our parent's bytes; this imports the user's modules
            if plan.resource is not None:
                # In the process's own context, which handlers and the loop of async ones begin with.
                enter_scope(Scope(stack.enter_context(plan.resource())))
            worker = _Worker(pipe, cells, lock, plan, stack)
        except BaseException as error:  # whatever it is, the parent must hear of it
            pipe.sendall(frame(marshal.dumps((BROKEN, *pack_error(error)))))
            return
        worker.serve()


def _on_terminate(cells: memoryview[int], signum: int, _frame: object) -> None:
    # A service manager may send SIGTERM to every process of the group at once; the drain needs the workers alive.
    if cells[CLOSING]:
        raise SystemExit(128 + signum)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    # At once, even in the middle of a handler: the records will be redelivered, and an orphan would race with that.
    os._exit(1)


class _Worker:
    """One worker's loop. Main thread of the child only."""

    def __init__(
        self,
        pipe: socket.socket,
        cells: memoryview[int],
        lock: Lock,
        plan: Plan,
        stack: contextlib.ExitStack,
    ) -> None:
        self._pipe = pipe
        self._reader = pipe.makefile("rb", buffering=1 << 16)
        self._cells = cells
        self._acquire = lock.acquire
        self._release = lock.release
        self._plan = plan
        self._holders: dict[tuple[str, int, int], WireHolder] = {}
        self._handler: Callable[[Any], object] = plan.handler
        if _is_async(plan.handler):
            runner = stack.enter_context(asyncio.Runner())
            self._handler = partial(_run_async, runner, plan.handler)
        self._plain = not (plan.key_decoder or plan.value_decoder or plan.filter)
        self._passed = 0
        self._filtered = 0
        self._started = 0
        self._busy_ns = 0
        self._cpu_s = time.process_time()
        self._reported_ns = time.monotonic_ns()

    def serve(self) -> None:
        """Run claim lists until an empty message or the end of the pipe."""
        self._send((READY,))
        run = self._run_batch if self._plan.batch else self._run_list
        while True:
            header = self._reader.read(HEADER_BYTES)
            if len(header) < HEADER_BYTES:
                return
            length = frame_length(header)
            if not length:
                return
            first, wires = unpack_records(self._reader.read(length))
            run(first, wires)
            if self._cells[CLOSING]:
                return
            self._passed = first + len(wires) - 1
            self._report(time.monotonic_ns())

    def _run_list(self, first: int, wires: list[WireRecord]) -> None:
        cells = self._cells
        order_by = self._plan.order_by
        failed_lanes: set[object] = set()
        now_ns = time.monotonic_ns()
        for sequence, wire in enumerate(wires, first):
            if failed_lanes and lane_of(order_by, wire[0], wire[1], wire[4]) in failed_lanes:
                continue
            if not self._claim(sequence, sequence, now_ns):
                return
            stops = False
            try:
                self._run_record(self._record(wire, sequence))
            except BaseException as error:  # every one is the record's outcome; the parent decides
                if cells[CLOSING]:
                    return
                stops = isinstance(error, STOPPING)
                self._send_failure([sequence], error, stops=stops)
                lane = lane_of(order_by, wire[0], wire[1], wire[4])
                if lane is not None:
                    failed_lanes.add(lane)
            cells[ENDED] = sequence
            started_ns, now_ns = now_ns, time.monotonic_ns()
            self._started += 1
            self._busy_ns += now_ns - started_ns
            if now_ns - self._reported_ns >= REPORT_EVERY_NS:
                self._passed = sequence
                self._report(now_ns)
            if stops:
                return

    def _run_record(self, record: Record[Any, Any]) -> None:
        if self._plain or self._admit(record):
            self._handler(record)

    def _run_batch(self, first: int, wires: list[WireRecord]) -> None:
        """One claim list is one batch: claimed, run and ended as a whole."""
        last = first + len(wires) - 1
        started_ns = time.monotonic_ns()
        if not self._claim(first, last, started_ns):
            return
        records: list[Record[Any, Any]] = []
        admitted = False
        try:
            self._admit_batch(first, wires, records)
            admitted = True
            if records:
                batch: Batch[Any, Any] = Batch(records)
                self._handler(batch)
                for record in records:
                    failure = batch._failures.get(id(record))
                    if failure is not None:
                        self._send_failure([record._sequence], failure, stops=False)
        except BaseException as error:  # see _run_list
            if self._cells[CLOSING]:
                return
            sequences = [record._sequence for record in records] if admitted else list(range(first, last + 1))
            self._send_failure(sequences, error, stops=isinstance(error, STOPPING))
        self._cells[ENDED] = last
        self._started += len(wires)
        self._busy_ns += time.monotonic_ns() - started_ns

    def _admit_batch(self, first: int, wires: list[WireRecord], records: list[Record[Any, Any]]) -> None:
        """Add to `records` those that the handler shall see: decoded, not filtered, not behind a failure of their lane."""
        order_by = self._plan.order_by
        failed_lanes: set[object] = set()
        for sequence, wire in enumerate(wires, first):
            lane = lane_of(order_by, wire[0], wire[1], wire[4])
            if lane is not None and lane in failed_lanes:
                continue
            record = self._record(wire, sequence)
            try:
                if self._plain or self._admit(record):
                    records.append(record)
            except Exception as error:  # a decoder or filter is the user's code
                self._send_failure([sequence], error, stops=False)
                failed_lanes.add(lane)

    def _claim(self, first: int, last: int, now_ns: int) -> bool:
        """Claim these records, unless the parent took them back. The lock makes the two exclude each other."""
        cells = self._cells
        self._acquire()
        if first < cells[VOID_BELOW]:
            self._release()
            return False
        cells[SINCE_NS] = now_ns
        cells[FIRST] = first
        cells[LAST] = last
        self._release()
        return True

    def _record(self, wire: WireRecord, sequence: int) -> Record[Any, Any]:
        where = wire[:3]
        holder = self._holders.get(where)
        if holder is None:
            # A new epoch replaces the old: one entry per partition, or a year of rebalances would pile up here.
            for stale in [known for known in self._holders if known[:2] == where[:2]]:
                del self._holders[stale]
            holder = self._holders[where] = WireHolder(*where)
        return rebuild_record(wire, holder, sequence)

    def _admit(self, record: Record[Any, Any]) -> bool:
        """Decode, then ask the filter. A missing key or value is not decoded: it stays None."""
        plan = self._plan
        if plan.key_decoder is not None and record.raw_key is not None:
            record._key = _decoded("key_decoder", plan.key_decoder, record.raw_key)
        if plan.value_decoder is not None and (raw := record.raw_value) is not None:
            record._value = _decoded("value_decoder", plan.value_decoder, raw)
        if plan.filter is None or plan.filter(record):
            return True
        self._filtered += 1
        return False

    def _send_failure(self, sequences: list[int], error: BaseException, *, stops: bool) -> None:
        self._send((FAILED, sequences, stops, *pack_error(error)))

    def _report(self, now_ns: int) -> None:
        cpu_s = time.process_time()
        self._send(
            (PASSED, self._passed, self._filtered, self._started, self._busy_ns / 1e9, cpu_s - self._cpu_s)
        )
        self._filtered = self._started = self._busy_ns = 0
        self._cpu_s = cpu_s
        self._reported_ns = now_ns

    def _send(self, message: tuple[Any, ...]) -> None:
        self._pipe.sendall(frame(marshal.dumps(message)))


def _decoded(what: str, decoder: Callable[[bytes], Any], raw: bytes) -> Any:
    try:
        return decoder(raw)
    except Exception as error:
        raise DecodeFailed(what, error) from error


def _is_async(handler: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004 - the method itself is wanted: is it a coroutine function?
    )


def _run_async(runner: asyncio.Runner, handler: Callable[[Any], Any], argument: object) -> None:
    # A context of its own: variables set by one record must not be seen by the next.
    runner.run(handler(argument), context=contextvars.copy_context())
