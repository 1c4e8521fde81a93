"""Executors that end with their test, and what they delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headrace._execute.handler_loop import HandlerLoop
from headrace._execute.tasks import TaskExecutor
from headrace._execute.threads import ThreadExecutor
from tests.unit.execute.fakes import WAIT_S, Inbox, settings_with

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.unit.execute.fakes import StartTasks, StartThreads


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def loop() -> Iterator[HandlerLoop]:
    handler_loop = HandlerLoop()
    handler_loop.start()
    yield handler_loop
    assert handler_loop.stop(WAIT_S)


@pytest.fixture
def start_threads(inbox: Inbox) -> Iterator[StartThreads]:
    """Give a way to start executors of `def` handlers; all are closed and must end."""
    executors: list[ThreadExecutor] = []

    def make(handler: Callable[[Any], object], **options: Any) -> ThreadExecutor:
        own = {name: options.pop(name) for name in ("per_worker", "stale_workers_max") if name in options}
        executors.append(ThreadExecutor(0, settings_with(**options), handler, inbox.deliver, **own))
        return executors[-1]

    yield make
    for executor in executors:
        assert executor.close(WAIT_S) == []


@pytest.fixture
def start_tasks(inbox: Inbox, loop: HandlerLoop) -> Iterator[StartTasks]:
    """Give a way to start executors of `async def` handlers; all are closed and must end."""
    executors: list[TaskExecutor] = []

    def make(handler: Callable[[Any], Awaitable[object]], **options: Any) -> TaskExecutor:
        own = {"per_worker": options.pop("per_worker")} if "per_worker" in options else {}
        executors.append(TaskExecutor(0, settings_with(**options), handler, inbox.deliver, loop.loop, **own))
        return executors[-1]

    yield make
    for executor in executors:
        assert executor.close(WAIT_S) == []
