"""`headrace.guard`: a wrapper that tells when a second thread, or event loop, enters a consumer that another is in.

A tool for debugging: it finds the caller that must not be there. Knows no client library: what it wraps is called by
name. Invariant: the one who is inside goes on undisturbed; the one who comes second gets `ConcurrentAccess`.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from headrace.errors import ConcurrentAccess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator

C = TypeVar("C")

FREE = ("wakeup",)
"""Calls that may come from anywhere: to end a poll from outside is what they are for."""
STACK_FRAMES_MAX = 40


def guard(consumer: C, *, free: Iterable[str] = FREE) -> C:
    """Wrap a consumer so that a second thread, or event loop, that enters while one is inside gets `ConcurrentAccess`.

    consumer: one of confluent-kafka, kafka-python or aiokafka; anything else with methods works as well. Use what is
        returned in its place. It is not an instance of the consumer's class.
    free: names of methods that may be called from anywhere.

    A thread may enter again, as callbacks of a poll do; tasks of one event loop may be inside together. Inside is who
    has called a method that has not returned, or awaits one. Values that are no methods are handed out unguarded. Costs
    a few microseconds a call: made to find a mistake, not to stay in production. May be called from any thread.
    """
    return cast(C, GuardedConsumer(consumer, frozenset(free)))


@dataclass(frozen=True, slots=True, eq=False)
class Visitor:
    """Who is inside. `loop`: the event loop that was running in that thread, if one was."""

    ident: int
    thread: str
    loop: asyncio.AbstractEventLoop | None
    call: str
    entered_at: traceback.StackSummary | None
    """Where it entered, for one that may be suspended: it has then no frame in its thread."""

    def may_join(self, other: Visitor) -> bool:
        """Whether both are one thread and, where both run on loops, one loop."""
        return self.ident == other.ident and (
            self.loop is None or other.loop is None or self.loop is other.loop
        )

    def name(self) -> str:
        """For people."""
        if self.loop is None:
            return f"thread {self.thread!r}"
        return f"event loop {id(self.loop):#x} on thread {self.thread!r}"

    def stack(self) -> str:
        """Where it stands, or where it entered."""
        if self.entered_at is not None:
            return "".join(self.entered_at.format())
        frame = sys._current_frames().get(self.ident)  # noqa: SLF001 - the documented way to see another thread
        return "" if frame is None else "".join(traceback.format_stack(frame, STACK_FRAMES_MAX))


class GuardedConsumer:
    """What `guard` makes. `guard_refused` counts the calls that were refused."""

    # Named so that they hide no attribute of what is wrapped.
    __slots__ = ("_guard_consumer", "_guard_free", "_guard_lock", "_guard_visits", "guard_refused")

    def __init__(self, consumer: Any, free: frozenset[str] = frozenset(FREE)) -> None:
        self._guard_consumer = consumer
        self._guard_free = free
        # Guards the two below. Reentrant: the collector may end a suspended call while this thread holds it.
        self._guard_lock = threading.RLock()
        self._guard_visits: list[Visitor] = []
        self.guard_refused = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._guard_consumer, name)
        if not callable(found) or isinstance(found, type) or name in self._guard_free:
            return found

        def call(*arguments: Any, **settings: Any) -> Any:
            return self._guard_call(name, found, *arguments, **settings)

        return call

    def _guard_call(self, name: str, method: Any, *arguments: Any, **settings: Any) -> Any:
        if inspect.iscoroutinefunction(method):
            # Made only inside: a coroutine that is refused before would warn that nobody awaited it.
            return self._guard_awaited(name, lambda: method(*arguments, **settings))
        with self._guard_entered(name, suspends=False):
            result = method(*arguments, **settings)
        return self._guard_awaited(name, lambda: result) if inspect.isawaitable(result) else result

    async def _guard_awaited(self, name: str, make: Callable[[], Awaitable[Any]]) -> Any:
        with self._guard_entered(name, suspends=True):
            return await make()

    @contextmanager
    def _guard_entered(self, call: str, *, suspends: bool) -> Generator[None]:
        comer = _visitor(call, suspends=suspends)
        with self._guard_lock:
            inside = self._guard_visits[0] if self._guard_visits else None
            if inside is not None and not inside.may_join(comer):
                self.guard_refused += 1
                raise ConcurrentAccess(
                    call, comer.name(), comer.stack(), inside.call, inside.name(), inside.stack()
                )
            self._guard_visits.append(comer)
        try:
            yield
        finally:
            with self._guard_lock:
                self._guard_visits.remove(comer)

    # Python looks these up on the class, not by __getattr__.

    def __iter__(self) -> Iterator[Any]:
        iter(self._guard_consumer)  # what cannot be iterated says so here
        return self

    def __next__(self) -> Any:
        return self._guard_call("__next__", self._guard_consumer.__next__)

    def __aiter__(self) -> AsyncIterator[Any]:
        aiter(self._guard_consumer)
        return self

    async def __anext__(self) -> Any:
        return await self._guard_call("__anext__", self._guard_consumer.__anext__)

    def __enter__(self) -> Any:
        self._guard_call("__enter__", self._guard_consumer.__enter__)
        return self

    def __exit__(self, *raised: object) -> Any:
        return self._guard_call("__exit__", self._guard_consumer.__exit__, *raised)

    async def __aenter__(self) -> Any:
        await self._guard_call("__aenter__", self._guard_consumer.__aenter__)
        return self

    async def __aexit__(self, *raised: object) -> Any:
        return await self._guard_call("__aexit__", self._guard_consumer.__aexit__, *raised)

    def __repr__(self) -> str:
        return f"<guarded {self._guard_consumer!r}>"


def _visitor(call: str, *, suspends: bool) -> Visitor:
    thread = threading.current_thread()
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    entered_at = None
    if suspends:
        frames = traceback.walk_stack(sys._getframe(1))  # noqa: SLF001 - as traceback itself does
        # Lines are looked up only when they are shown: most visits are never told of.
        entered_at = traceback.StackSummary.extract(frames, limit=STACK_FRAMES_MAX, lookup_lines=False)
        entered_at.reverse()
    return Visitor(threading.get_ident(), thread.name, loop, call, entered_at)
