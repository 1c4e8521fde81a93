"""A lease: one consumer, lent to one user until released.

Decides who may call the consumer, and when no more; refuses to know which consumer it is and what becomes of it. Invariant:
a consumer goes back only when nobody is inside it, and once; a lease that is over reaches it no more.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, Self, final

from headrace.config import require_count, require_range
from headrace.errors import ConcurrentAccess, LeaseReleased

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from types import TracebackType

    from headrace.pool.book import Entry, Grant
    from headrace.pool.consumers import PooledConsumer
    from headrace.pool.events import GrantReason, Kind
    from headrace.records import Source

OFFSET_MAX = 2**63 - 1
_STACK_FRAMES_MAX = 40


class Home(Protocol):
    """Where leases end. May be called from any thread."""

    def give_back(self, entry: Entry, *, failed: bool) -> None:
        """The lease of this consumer is over."""
        ...

    def drop(self, entry: Entry) -> None:
        """The same for one that was never released. Called by the garbage collector: takes no lock."""
        ...

    def count_seek(self) -> None:
        """A consumer was moved."""
        ...


@final
class Lease:
    """A consumer of one partition, for one user at a time. Use it in `with`; leaving it ends the lease.

    On an error it is invalidated: its consumer is closed and never lent again. A generator that is closed early is no
    error. Threads may hand a lease on, but two in it at once is `ConcurrentAccess` for the second. Any use after its end,
    or in the child of a fork, is `LeaseReleased`.
    """

    def __init__(self, home: Home, grant: Grant, consumer: PooledConsumer) -> None:
        self._home = home
        self._entry = grant.entry
        self._kind: Kind = grant.kind
        self._reason = grant.reason
        self._consumer = consumer
        self._pid = os.getpid()
        # Guards the three below.
        self._lock = threading.Lock()
        self._inside: tuple[int, str, str] | None = None
        self._over = ""
        self._handed_back = False

    def __repr__(self) -> str:
        return f"<Lease of consumer {self._entry.number}, {self.topic}[{self.partition}], {self._over or self._kind}>"

    @property
    def kind(self) -> Kind:
        """Whether its consumer goes back to the pool ("cached") or is closed after it ("private"). Any thread."""
        return self._kind

    @property
    def reason(self) -> GrantReason:
        """Why it is of that kind. Any thread."""
        return self._reason

    @property
    def topic(self) -> str:
        """The topic. Any thread."""
        return self._entry.key.topic

    @property
    def partition(self) -> int:
        """The partition. Any thread."""
        return self._entry.key.partition

    @property
    def consumer_number(self) -> int:
        """The number of its consumer in this pool, as in the events. Any thread."""
        return self._entry.number

    @property
    def position(self) -> int | None:
        """The next offset to be read; None if the lease was asked for without one and `seek` was not called.

        It passes what is no record (transaction markers, aborted records, what compaction removed) as soon as a later
        record or the partition's end shows it. A range is read when its end is reached. Raises `LeaseReleased` and
        `ConcurrentAccess`.
        """
        with self._visit("position"):
            return self._consumer.position

    def consume(self, records_max: int, timeout_s: float, *, end: int | None = None) -> Sequence[Source]:
        """At most `records_max` records; waits up to `timeout_s` seconds for the first, and not for the rest.

        end: records at or beyond this offset are left for whoever goes on there.

        An empty answer says nothing about the end: look at `position`. Raises `RecordsLost` and `OffsetsMissing` where the
        partition does not have the offset, `TopicMissing`, `NotAuthorized`, `ClientFailed`, `LeaseReleased`,
        `ConcurrentAccess`, and `ConfigError` for a lease without a position. One thread at a time.
        """
        require_count("records_max", records_max, 1, 1_000_000)
        require_range("timeout_s", timeout_s, 0, 86_400)
        with self._visit("consume"):
            return self._consumer.consume(records_max, timeout_s, end)

    def seek(self, offset: int) -> None:
        """Go on at this offset; what was fetched is dropped, unless that is where it stands. One thread at a time."""
        require_count("offset", offset, 0, OFFSET_MAX)
        with self._visit("seek"):
            if self._consumer.place(offset):
                self._home.count_seek()

    def watermarks(self, timeout_s: float) -> tuple[int, int] | None:
        """First and next offset of the partition; None if no broker says so within `timeout_s` seconds.

        Aborted and uncommitted records count. One thread at a time.
        """
        require_range("timeout_s", timeout_s, 0, 86_400)
        with self._visit("watermarks"):
            return self._consumer.watermarks(timeout_s)

    @property
    def trouble(self) -> str:
        """What the client last complained of, without secrets; for an error's text. One thread at a time."""
        with self._visit("trouble"):
            return self._consumer.trouble

    def release(self) -> None:
        """End the lease; a cached consumer goes back to the pool. Again: nothing happens. May be called from any thread.

        While another thread is inside, the lease is over at once for all others, and its consumer is closed when that
        thread comes out.
        """
        self._end("it was released", failed=False)

    def invalidate(self) -> None:
        """End the lease; its consumer is closed and not lent again. May be called from any thread; again: nothing."""
        self._end("it was invalidated", failed=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, GeneratorExit):
            self.release()
        else:
            self._end(f"{type(error).__name__} left it", failed=True)

    def __del__(self) -> None:
        # Half made, over, or of the parent of a fork: nothing to give back.
        if getattr(self, "_over", "half made") or self._pid != os.getpid():
            return
        self._home.drop(self._entry)

    def _end(self, why: str, *, failed: bool) -> None:
        if self._pid != os.getpid():
            return  # the parent's lease: not ours to end
        with self._lock:
            if self._over:
                return
            self._over = why
            if self._inside is not None:
                return  # whoever is inside gives it back
            self._handed_back = True
        self._home.give_back(self._entry, failed=failed)

    @contextmanager
    def _visit(self, call: str) -> Generator[None]:
        if self._pid != os.getpid():
            raise LeaseReleased(
                self.topic, self.partition, "this process was forked from the one that has it"
            )
        me = (threading.get_ident(), threading.current_thread().name, call)
        with self._lock:
            if self._over:
                raise LeaseReleased(self.topic, self.partition, self._over)
            inside = self._inside
            if inside is None:
                self._inside = me
        if inside is not None:
            raise ConcurrentAccess(
                call,
                f"thread {me[1]!r}",
                _stack(me[0]),
                inside[2],
                f"thread {inside[1]!r}",
                _stack(inside[0]),
            )
        try:
            yield
        finally:
            with self._lock:
                self._inside = None
                give_back = bool(self._over) and not self._handed_back
                self._handed_back |= give_back
            if give_back:
                self._home.give_back(self._entry, failed=True)


def _stack(ident: int) -> str:
    frame = sys._current_frames().get(ident)  # noqa: SLF001 - the documented way to see another thread
    return "" if frame is None else "".join(traceback.format_stack(frame, _STACK_FRAMES_MAX))
