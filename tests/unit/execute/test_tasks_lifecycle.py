"""`async def` handlers on a loop: blocked loops, resources, what they produce, close."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

from headrace._execute.handler_loop import HandlerLoop
from headrace._execute.scope import current_worker_resource, note_produced
from headrace._execute.tasks import TaskExecutor
from tests.unit.execute.fakes import WAIT_S, Gates, Inbox, distinct, eventually, make_records, settings_with

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from headrace.records import Record
    from tests.unit.execute.fakes import StartTasks


def test_a_record_that_blocks_the_loop_strands_nobody(start_tasks: StartTasks, inbox: Inbox) -> None:
    reached, release = threading.Event(), threading.Event()

    async def handler(record: Record[Any, Any]) -> None:
        if record.offset == 3:
            reached.set()
            assert release.wait(WAIT_S)

    executor = start_tasks(handler)
    records = distinct(6)
    executor.submit(records)
    assert reached.wait(WAIT_S)
    executor.pulse(1.0)
    assert inbox.events == []
    executor.pulse(1.02)
    assert (inbox.succeeded, inbox.returned) == (records[:3], records[4:])
    running = executor.running()
    assert [now.record for now in running] == [records[3]]
    stack = executor.stack_of(running[0])
    assert stack is not None
    assert "release.wait(WAIT_S)" in stack
    release.set()
    inbox.wait_for_all(records)


def test_what_waits_long_behind_its_lane_is_given_back(
    start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop
) -> None:
    gates = Gates(loop, 0)
    executor = start_tasks(gates)
    records = make_records([b"a", b"a", b"b"])
    executor.submit(records)
    gates.wait(0)
    inbox.wait(lambda inbox: len(inbox.succeeded) == 1)
    now = time.monotonic()
    executor.pulse(now)
    assert inbox.returned == []
    executor.pulse(now + 1)
    assert inbox.returned == records[1:2]
    gates.open(0)
    inbox.wait_for_all(records)


def test_running_tells_suspended_handlers_and_where_they_wait(
    start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop
) -> None:
    gates = Gates(loop, 0, 1)
    executor = start_tasks(gates)
    records = distinct(2)
    executor.submit(records)
    gates.wait(0, 1)
    running = executor.running()
    assert [now.record for now in running] == records
    assert executor.busy_workers() == 2
    stack = executor.stack_of(running[0])
    assert stack is not None
    assert "await gate.wait()" in stack
    gates.open(0, 1)
    inbox.wait_for_all(records)
    eventually(lambda: executor.running() == [])
    assert executor.stack_of(running[0]) is None


def test_close_gives_back_what_waits_and_cancels_what_runs(inbox: Inbox, loop: HandlerLoop) -> None:
    gates = Gates(loop, 0)
    executor = TaskExecutor(0, settings_with(concurrency=1), gates, inbox.deliver, loop.loop)
    records = distinct(3)
    executor.submit(records)
    gates.wait(0)
    assert executor.close(WAIT_S) == []
    inbox.wait_for_all(records)
    assert (inbox.returned, inbox.failed) == (records[1:], records[:1])
    assert not asyncio.all_tasks(loop.loop)


def test_close_names_handlers_that_do_not_end(inbox: Inbox, loop: HandlerLoop) -> None:
    release = threading.Event()

    async def stubborn(_record: Record[Any, Any]) -> None:
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.001)

    executor = TaskExecutor(0, settings_with(), stubborn, inbox.deliver, loop.loop)
    records = distinct(1)
    executor.submit(records)
    eventually(lambda: executor.busy_workers() == 1)
    assert executor.close(0.01) == ["headrace-handler-1"]
    release.set()
    inbox.wait_for_all(records)


def test_a_callers_loop_is_not_blocked_by_close() -> None:
    async def main() -> None:
        inbox, started, ended = Inbox(), asyncio.Event(), asyncio.Event()

        async def handler(_record: Record[Any, Any]) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        executor = TaskExecutor(0, settings_with(), handler, inbox.deliver, asyncio.get_running_loop())
        records = distinct(1)
        executor.submit(records)
        await started.wait()
        began = time.monotonic()
        executor.close(WAIT_S)
        assert time.monotonic() - began < 1
        await ended.wait()

    asyncio.run(main())


def test_an_eager_task_factory_changes_nothing(
    start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop
) -> None:
    factory = getattr(asyncio, "eager_task_factory", None)
    if factory is None:
        pytest.skip("Python 3.12 brings it")
    loop.loop.set_task_factory(factory)
    gates = Gates(loop, 0)
    records = distinct(3)
    start_tasks(gates).submit(records)
    gates.wait(0)
    gates.open(0)
    inbox.wait_for_all(records)


def test_the_resource_is_entered_once_per_loop_and_left_in_the_same_task(
    start_tasks: StartTasks, inbox: Inbox
) -> None:
    tasks: list[object] = []
    seen: list[object] = []

    @asynccontextmanager
    async def resource() -> AsyncGenerator[str, None]:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(0)
        yield "pool"
        tasks.append(asyncio.current_task())

    async def handler(_record: Record[Any, Any]) -> None:
        seen.append(current_worker_resource())

    executor = start_tasks(handler, per_worker=resource)
    executor.submit(first := distinct(2))
    executor.submit(second := distinct(2))
    inbox.wait_for_all(first + second)
    assert seen == ["pool"] * 4
    assert executor.close(WAIT_S) == []
    assert len(tasks) == 2
    assert tasks[0] is tasks[1]


def test_a_resource_that_fails_fails_one_record_and_is_tried_again(
    start_tasks: StartTasks, inbox: Inbox
) -> None:
    attempts: list[int] = []

    @contextmanager
    def resource() -> Generator[None]:
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError("down")
        yield

    async def handler(_record: Record[Any, Any]) -> None:
        pass

    executor = start_tasks(handler, per_worker=resource)
    executor.submit(records := distinct(3))
    inbox.wait_for_all(records)
    assert (inbox.failed, inbox.returned) == (records[:1], records[1:])
    executor.submit(more := distinct(2))
    inbox.wait_for_all(records + more)


@pytest.mark.parametrize("suspends", [True, False])
def test_a_record_awaits_what_it_produced_and_its_lane_waits_with_it(
    start_tasks: StartTasks, inbox: Inbox, *, suspends: bool
) -> None:
    noted: list[Any] = []

    async def produce() -> None:
        noted.append(note_produced())

    async def handler(record: Record[Any, Any]) -> None:
        if record.offset == 0:
            await produce()
            if suspends:
                await asyncio.gather(produce(), produce())  # Child tasks count for their handler's record.

    records = make_records([b"a", b"b", b"a"])
    start_tasks(handler).submit(records)
    inbox.wait_for_all(records)
    assert (inbox.awaiting, inbox.succeeded, inbox.returned) == ([records[0]], [records[1]], [records[2]])
    for produced in noted[1:]:
        produced.acknowledged(None)
    assert inbox.delivered == []
    noted[0].acknowledged(ConnectionError("lost"))
    assert [event.record for event in inbox.delivered] == [records[0]]
    assert isinstance(inbox.delivered[0].error, ConnectionError)


def test_two_suspended_handlers_account_for_what_each_produced(
    start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop
) -> None:
    gates = Gates(loop, 0, 1)
    noted: dict[int, Any] = {}

    async def handler(record: Record[Any, Any]) -> None:
        await gates(record)
        noted[record.offset] = note_produced()

    records = distinct(2)
    start_tasks(handler).submit(records)
    gates.wait(0, 1)
    gates.open(1)
    inbox.wait(lambda inbox: inbox.awaiting == records[1:])
    noted[1].acknowledged(None)
    assert [event.record for event in inbox.delivered] == records[1:]
    gates.open(0)
    inbox.wait_for_all(records)


def test_many_wake_ups_are_one(start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop) -> None:
    reached, release = threading.Event(), threading.Event()

    def block() -> None:
        reached.set()
        assert release.wait(WAIT_S)

    async def handler(_record: Record[Any, Any]) -> None:
        pass

    executor = start_tasks(handler)
    loop.loop.call_soon_threadsafe(block)
    assert reached.wait(WAIT_S)
    lists = [distinct(2) for _ in range(10)]
    for records in lists:
        executor.submit(records)
    release.set()
    inbox.wait_for_all(chain.from_iterable(lists))


def test_a_loop_of_our_own_stops_in_its_budget_whatever_runs_on_it() -> None:
    handler_loop = HandlerLoop("headrace-test")
    handler_loop.start()
    release = threading.Event()
    handler_loop.loop.call_soon_threadsafe(release.wait)
    assert not handler_loop.stop(0.01)
    release.set()
    assert handler_loop.stop(WAIT_S)
    assert handler_loop.loop.is_closed()
    assert HandlerLoop().stop(0)
