"""Stand-ins for what an executor is given, and an inbox that knows what became of every record."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from headrace._core.events import Delivered, Finished
from headrace.records import Record
from headrace.subscriptions import SubscriptionSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from headrace._execute.handler_loop import HandlerLoop
    from headrace._execute.tasks import TaskExecutor
    from headrace._execute.threads import ThreadExecutor

WAIT_S = 10.0
"""Longest wait for anything: only a failing test takes so long."""


class StartThreads(Protocol):
    """Starts an executor for a `def` handler; options are settings, or the executor's own."""

    def __call__(self, handler: Callable[[Any], object], **options: Any) -> ThreadExecutor: ...


class StartTasks(Protocol):
    """The same for an `async def` handler."""

    def __call__(self, handler: Callable[[Any], Awaitable[object]], **options: Any) -> TaskExecutor: ...


class FakeTenure:
    """One epoch of a partition."""

    def __init__(self, topic: str = "orders", partition: int = 0) -> None:
        self.topic = topic
        self.partition = partition
        self.epoch = 1
        self.open = True
        # Offsets that `record.ack()` was called on.
        self.acknowledged: list[int] = []

    def acknowledge(self, record: Record[Any, Any]) -> bool:
        self.acknowledged.append(record.offset)
        return self.open


class FakeSource:
    """The client's message."""

    def __init__(self, value: bytes | None) -> None:
        self._value = value

    def offset(self) -> int | None:
        return 0

    def key(self) -> Any:
        return None

    def value(self) -> Any:
        return self._value

    def headers(self) -> Any:
        return None

    def timestamp(self) -> tuple[int, int]:
        return (0, 0)

    def leader_epoch(self) -> int | None:
        return None

    def __len__(self) -> int:
        return len(self._value or b"")


def make_records(
    keys: Iterable[bytes | None], tenure: FakeTenure | None = None, value: bytes | None = b"value"
) -> list[Record[Any, Any]]:
    """Records with these keys, at offsets from 0."""
    tenure = tenure or FakeTenure()
    return [Record(FakeSource(value), tenure, offset, key, offset) for offset, key in enumerate(keys)]


def distinct(count: int, tenure: FakeTenure | None = None) -> list[Record[Any, Any]]:
    """Records of lanes of their own."""
    return make_records((b"%d" % number for number in range(count)), tenure)


def settings_with(**changes: Any) -> SubscriptionSettings:
    return SubscriptionSettings("handler", ("orders",), **changes)


class Inbox:
    """What an executor delivered. `deliver` may be called from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.events: list[Finished | Delivered] = []

    def deliver(self, event: Finished | Delivered) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, enough: Callable[[Inbox], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: enough(self), WAIT_S), self.events

    def wait_for_count(self, count: int) -> None:
        """Wait until so many records have an outcome."""
        self.wait(lambda inbox: len(inbox.outcomes) >= count)

    def wait_for_all(self, records: Iterable[Record[Any, Any]]) -> None:
        """Wait until every one of these has an outcome, and see that it has one only."""
        wanted = sorted(map(id, records))
        self.wait_for_count(len(wanted))
        assert sorted(map(id, self.outcomes)) == wanted

    @property
    def finished(self) -> list[Finished]:
        return [event for event in list(self.events) if isinstance(event, Finished)]

    @property
    def delivered(self) -> list[Delivered]:
        return [event for event in list(self.events) if isinstance(event, Delivered)]

    @property
    def succeeded(self) -> list[Record[Any, Any]]:
        return [record for event in self.finished for record in event.succeeded]

    @property
    def failed(self) -> list[Record[Any, Any]]:
        return [record for event in self.finished for record, _ in event.failed]

    @property
    def errors(self) -> list[BaseException]:
        return [error for event in self.finished for _, error in event.failed]

    @property
    def returned(self) -> list[Record[Any, Any]]:
        return [record for event in self.finished for record in event.returned]

    @property
    def awaiting(self) -> list[Record[Any, Any]]:
        return [record for event in self.finished for record in event.awaiting]

    @property
    def filtered(self) -> int:
        return sum(event.filtered for event in self.finished)

    @property
    def started(self) -> int:
        return sum(event.started for event in self.finished)

    @property
    def outcomes(self) -> list[Record[Any, Any]]:
        return self.succeeded + self.failed + self.returned + self.awaiting


def eventually(holds: Callable[[], object]) -> None:
    """Wait until this is true."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.001)


def offsets(records: Iterable[Record[Any, Any]]) -> list[int]:
    return [record.offset for record in records]


class Gate:
    """A handler that waits at one record until it is let go."""

    def __init__(self, *blocking: int) -> None:
        self.blocking = set(blocking)
        self.reached = threading.Semaphore(0)
        self.open = threading.Event()
        self.seen: list[int] = []

    def __call__(self, record: Record[Any, Any]) -> None:
        self.seen.append(record.offset)
        if record.offset in self.blocking:
            self.reached.release()
            assert self.open.wait(WAIT_S)

    def wait(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.reached.acquire(timeout=WAIT_S)


class Gates:
    """A handler that waits at some records until the test lets them go."""

    def __init__(self, loop: HandlerLoop, *waiting: int) -> None:
        self._loop = loop.loop
        self._waiting = set(waiting)
        self._gates: dict[int, asyncio.Event] = {}
        self.seen: list[int] = []
        self.done: list[int] = []

    async def __call__(self, record: Record[Any, Any]) -> None:
        self.seen.append(record.offset)
        if record.offset in self._waiting:
            gate = self._gates[record.offset] = asyncio.Event()
            await gate.wait()
        self.done.append(record.offset)

    def wait(self, *offsets_waited_for: int) -> None:
        eventually(lambda: all(offset in self._gates for offset in offsets_waited_for))
        self.settle()

    def settle(self) -> None:
        """Let the loop finish what it is at."""
        for _ in range(3):
            passed = threading.Event()
            self._loop.call_soon_threadsafe(passed.set)
            assert passed.wait(WAIT_S)

    def open(self, *opened: int) -> None:
        for offset in opened:
            self._waiting.discard(offset)
            self._loop.call_soon_threadsafe(self._gates[offset].set)
