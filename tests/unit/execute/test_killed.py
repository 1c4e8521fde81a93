"""What an executor runs on is killed from outside: records are reported all the same, and work goes on."""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.execute.fakes import WAIT_S, Gate, distinct, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._execute.handler_loop import HandlerLoop
    from headrace._execute.threads import ThreadExecutor
    from headrace.records import Record
    from tests.unit.execute.fakes import Inbox, StartTasks, StartThreads

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Killed(BaseException):
    """Thrown into a thread."""


def kill(thread: threading.Thread) -> None:
    """As a debugger or a timeout library does it: the thread raises at its next step of Python."""
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Killed))


def told_of(records: list[Record[Any, Any]]) -> Callable[[Inbox], bool]:
    """Whether each of these has an outcome."""
    wanted = set(map(id, records))
    return lambda inbox: wanted <= set(map(id, inbox.outcomes))


def threads_of(executor: ThreadExecutor) -> list[threading.Thread]:
    return [worker.thread for worker in executor._workers]


def test_an_idle_worker_thread_that_is_killed_is_replaced(start_threads: StartThreads, inbox: Inbox) -> None:
    executor = start_threads(lambda _record: None, workers=1)
    executor.submit(first := distinct(1))
    inbox.wait_for_all(first)
    (thread,) = threads_of(executor)
    kill(thread)
    # It waits in C: what ends that wait is the list that it then takes with it.
    executor.submit(second := distinct(3))
    thread.join(WAIT_S)
    assert not thread.is_alive()
    executor.pulse(time.monotonic() + 5)
    inbox.wait(lambda inbox: len(inbox.succeeded) == 4)
    assert {id(record) for record in inbox.succeeded} == {id(record) for record in first + second}
    assert threads_of(executor) != [thread]


def test_a_worker_thread_killed_at_work_reports_what_it_did(
    start_threads: StartThreads, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception of the thread's own, past everything that catches: the list is reported by the owner."""
    gate = Gate(2)
    executor = start_threads(gate, workers=1)
    executor.submit(records := distinct(4))
    gate.wait()
    (worker,) = executor._workers

    def broken(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(worker, "_give_up", broken)
    monkeypatch.setattr(worker, "_fail", broken)
    kill(worker.thread)
    gate.open.set()
    worker.thread.join(WAIT_S)
    assert not worker.thread.is_alive()
    monkeypatch.undo()
    executor.pulse(time.monotonic() + 5)
    assert inbox.failed == records[2:3]
    assert "ended while it ran" in str(inbox.errors[0])
    assert inbox.succeeded == records[:2]
    assert inbox.returned == records[3:]
    executor.submit(again := distinct(6)[4:])
    inbox.wait(lambda inbox: len(inbox.succeeded) == 4)
    assert inbox.succeeded[2:] == again


def test_a_process_without_room_for_threads_goes_on_when_there_is(
    start_threads: StartThreads, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    executor = start_threads(lambda _record: None)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", full)
        executor.submit(records := distinct(2))
        executor.pulse(1.0)
    executor.pulse(2.0)
    inbox.wait_for_all(records)


def test_tasks_that_are_cancelled_before_they_begin_cost_no_places(
    start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop
) -> None:
    """Code of the user that cancels all tasks of the loop, again and again."""

    async def handler(_record: Record[Any, Any]) -> None:
        await asyncio.sleep(0)

    executor = start_tasks(handler, concurrency=2)
    cancelled = 0
    for _ in range(20):
        executor.submit(records := distinct(1))
        done = threading.Event()

        def cancel_all(done: threading.Event = done) -> None:
            nonlocal cancelled
            for task in asyncio.all_tasks(loop.loop):
                cancelled += task.cancel()
            done.set()

        loop.loop.call_soon_threadsafe(cancel_all)
        assert done.wait(WAIT_S)
        inbox.wait(told_of(records))
    assert cancelled > 0
    eventually(lambda: executor.busy_workers() == 0)
    executor.submit(last := distinct(2))
    inbox.wait(told_of(last))
    assert executor._pumping._active == 0
    assert executor._pumping._starting == 0
