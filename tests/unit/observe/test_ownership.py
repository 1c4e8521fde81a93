"""`headrace.guard`: the second one in is refused, with both stacks; the first is not disturbed; nobody else is refused."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from headrace import ConcurrentAccess, guard
from headrace.observe.ownership import GuardedConsumer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

WAIT_S = 10.0


class SyncConsumer:
    """Blocks in `poll` until it is told to return; shaped like kafka-python's and confluent-kafka's."""

    config = "plain value"

    def __init__(self) -> None:
        self.inside, self.leave = threading.Event(), threading.Event()
        self.callback: Callable[[], object] = lambda: None

    def poll(self, timeout: float = WAIT_S) -> str:
        self.inside.set()
        self.callback()
        assert self.leave.wait(timeout)
        return "polled"

    def position(self) -> int:
        return 7

    def wakeup(self) -> None:
        self.leave.set()

    def fail(self) -> None:
        raise LookupError("its own")

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return self.poll()


class AsyncConsumer:
    """Waits in `getone` until it is told to return; shaped like aiokafka's."""

    def __init__(self) -> None:
        self.inside, self.leave = threading.Event(), threading.Event()

    async def getone(self) -> str:
        self.inside.set()
        while not self.leave.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.001)
        return "got"

    async def commit(self) -> str:
        return "committed"

    def assignment(self) -> set[int]:
        return {1}

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        return await self.getone()


def test_a_second_thread_is_refused_with_both_stacks_and_the_first_goes_on() -> None:
    raw = SyncConsumer()
    consumer = guard(raw)
    with ThreadPoolExecutor(1, "poller") as pool:
        polling = pool.submit(consumer.poll)
        assert raw.inside.wait(WAIT_S)
        with pytest.raises(ConcurrentAccess) as refused:
            consumer.position()
        raw.leave.set()
        assert polling.result(WAIT_S) == "polled"
    error = refused.value
    assert (error.call, error.inside_call) == ("position", "poll")
    assert "poller" in error.inside
    assert "MainThread" in error.caller
    assert "self.leave.wait(timeout)" in error.inside_stack
    assert "consumer.position()" in error.caller_stack
    assert error.inside_stack in str(error)
    assert error.caller_stack in str(error)


def test_one_thread_after_the_other_may_enter() -> None:
    raw = SyncConsumer()
    raw.leave.set()
    consumer = guard(raw)
    assert consumer.poll() == "polled"
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(consumer.position).result(WAIT_S) == 7
    with pytest.raises(LookupError, match="its own"):
        consumer.fail()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(consumer.poll).result(WAIT_S) == "polled"


def test_callbacks_of_a_poll_may_enter_again() -> None:
    raw = SyncConsumer()
    raw.leave.set()
    consumer = guard(raw)
    seen: list[int] = []
    raw.callback = lambda: seen.append(consumer.position())
    assert consumer.poll() == "polled"
    assert seen == [7]


def test_what_is_free_may_come_from_anywhere_and_values_are_handed_out() -> None:
    raw = SyncConsumer()
    consumer = guard(raw)
    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(consumer.poll)
        assert raw.inside.wait(WAIT_S)
        assert consumer.config == "plain value"
        consumer.wakeup()
        assert polling.result(WAIT_S) == "polled"
    strict = guard(raw, free=())
    raw.leave.clear()
    raw.inside.clear()
    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(strict.poll)
        assert raw.inside.wait(WAIT_S)
        with pytest.raises(ConcurrentAccess):
            strict.wakeup()
        raw.leave.set()
        polling.result(WAIT_S)


def test_iterating_is_inside_too() -> None:
    raw = SyncConsumer()
    consumer = guard(raw)
    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(next, iter(consumer))
        assert raw.inside.wait(WAIT_S)
        with pytest.raises(ConcurrentAccess, match="__next__"):
            consumer.position()
        raw.leave.set()
        assert polling.result(WAIT_S) == "polled"


async def both_tasks(consumer: Any, raw: AsyncConsumer) -> list[str]:
    """Two tasks of one loop, the second while the first waits."""
    getting = asyncio.create_task(consumer.getone())
    while not raw.inside.is_set():  # noqa: ASYNC110 - it serves other threads too
        await asyncio.sleep(0.001)
    committed = await consumer.commit()
    assert consumer.assignment() == {1}
    raw.leave.set()
    return [committed, await getting]


def test_tasks_of_one_loop_may_be_inside_together() -> None:
    raw = AsyncConsumer()
    assert asyncio.run(both_tasks(guard(raw), raw)) == ["committed", "got"]


@pytest.mark.parametrize("enter", ["commit", "assignment", "anext"])
def test_a_second_loop_or_thread_is_refused_while_a_coroutine_waits(enter: str) -> None:
    raw = AsyncConsumer()
    consumer = guard(raw)

    def second() -> object:
        if enter == "assignment":
            return consumer.assignment()
        return asyncio.run(consumer.commit() if enter == "commit" else once())

    async def once() -> str:
        async for found in consumer:
            return found
        return "nothing"

    async def getting_by_name() -> str:
        return await consumer.getone()

    with ThreadPoolExecutor(1, "loop-thread") as pool:
        getting = pool.submit(lambda: asyncio.run(getting_by_name()))
        assert raw.inside.wait(WAIT_S)
        with pytest.raises(ConcurrentAccess) as refused:
            second()
        raw.leave.set()
        assert getting.result(WAIT_S) == "got"
    assert refused.value.inside.startswith("event loop")
    assert "loop-thread" in refused.value.inside
    # The coroutine is suspended: its thread's frames would show the selector only.
    assert "getting_by_name" in refused.value.inside_stack
    assert refused.value.caller.startswith("thread" if enter == "assignment" else "event loop")


def test_a_cancelled_call_is_no_longer_inside() -> None:
    raw = AsyncConsumer()
    consumer = guard(raw)

    async def cancelled() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(consumer.getone(), 0.02)

    asyncio.run(cancelled())
    assert consumer.assignment() == {1}
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(consumer.assignment).result(WAIT_S) == {1}


def test_it_counts_what_it_refused_and_says_what_it_guards() -> None:
    raw = SyncConsumer()
    guarded = GuardedConsumer(raw)
    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(guarded.poll)
        assert raw.inside.wait(WAIT_S)
        for _ in range(3):
            with pytest.raises(ConcurrentAccess):
                guarded.position()
        raw.leave.set()
        polling.result(WAIT_S)
    assert guarded.guard_refused == 3
    assert repr(guarded).startswith("<guarded <")
    with pytest.raises(AttributeError, match="no_such_method"):
        guarded.no_such_method()
