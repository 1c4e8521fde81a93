"""The pool: consumers that outlive their users, lent to one at a time.

Decides when the book is asked, and does what it says: opens, places and closes consumers, waits, tells. Refuses to decide
who gets what. Invariant: no consumer is opened, called or closed, and no listener called, under the lock.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, final

from headrace._client.settings import ConnectionSettings, checked_librdkafka
from headrace.config import require_count, require_range
from headrace.errors import ConfigError, PoolClosed, PoolExhausted, ReadStalled
from headrace.pool.book import IN_USE, Book, State
from headrace.pool.consumers import connect as connect_librdkafka
from headrace.pool.counters import PoolCounters
from headrace.pool.events import (
    CloseFailed,
    EndReason,
    LeaseRefused,
    OpenFailed,
    PoolEnded,
    PoolEvent,
    PoolForked,
)
from headrace.pool.keys import key_of
from headrace.pool.leases import OFFSET_MAX, Lease
from headrace.pool.settings import PoolSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

    from headrace.pool.book import Entry, Grant
    from headrace.pool.consumers import Connect, PooledConsumer
    from headrace.pool.keys import LeaseKey
    from headrace.records import Source

Librdkafka = Mapping[str, Any] | Callable[[], Mapping[str, Any]]

T = TypeVar("T")

_LOG: Final = logging.getLogger("headrace.pool")
_SALT_BYTES: Final = 16
_LOOK_S: Final = 0.2
"""The longest single wait for room: leases that nobody released are looked for between two."""
_JOIN_S: Final = 5.0
_PARTITION_MAX: Final = 2**31 - 1


@final
class ConsumerPool:
    """Lends consumers, each of one partition, to threads that read ranges. Any thread may call it.

    bootstrap_servers: as in Kafka's own setting.
    group_id: part of every key. No group is joined and nothing is committed; brokers may ask for an ACL of this name.
    librdkafka: settings of the client, security included, or a callable that returns them. A callable is asked at every
        lease, so a new secret takes effect at once: it makes a new key, and the old key's consumers age and go.
    settings: limits.
    listener: called with every event, on the thread that caused it, outside all locks. What it raises is logged. Events
        also go to the logger `headrace.pool`.
    connect, clock: what opens consumers, and tells seconds; for tests.

    Raises `ConfigError`. Opens nothing before the first lease. In the child of a fork it begins anew, empty.
    """

    # Of one process: `_begin` makes them anew in the child of a fork. The condition guards the others.
    _condition: threading.Condition
    _book: Book
    _consumers: dict[Entry, PooledConsumer]
    _seeks: int
    _closed: bool
    _evictor: threading.Thread | None
    _stop: threading.Event
    _untold: deque[PoolEvent]

    def __init__(
        self,
        bootstrap_servers: str,
        *,
        group_id: str = "headrace-pool",
        librdkafka: Librdkafka | None = None,
        settings: PoolSettings | None = None,
        listener: Callable[[PoolEvent], None] | None = None,
        connect: Connect = connect_librdkafka,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._group_id = group_id
        self._librdkafka: Librdkafka = {} if librdkafka is None else librdkafka
        self._settings = settings or PoolSettings()
        self._listener = listener
        self._connect = connect
        self._clock = clock
        self._salt = os.urandom(_SALT_BYTES)
        if not callable(self._librdkafka):
            self._connection()  # to refuse bad settings here rather than at the first lease
        # Leases that were collected as garbage. Appended to without a lock, since the collector may run under ours.
        self._dropped: deque[Entry] = deque()
        self._begin()
        _watch_forks(self)

    def lease(
        self,
        topic: str,
        partition: int,
        *,
        position: int | None = None,
        attempt: int = 0,
        use_cache: bool = True,
    ) -> Lease:
        """Lend a consumer of this partition. Use the lease in `with`. May be called from any thread.

        position: where it is to stand. An idle consumer that stands there is preferred, since it has fetched ahead.
            Without one, call `seek` before `consume`.
        attempt: 0 for the first try of a task. From 1 on, all consumers of the key are given up: idle ones are closed,
            those in use when they come back. The retry gets a private one.
        use_cache: False gives a private consumer, and leaves the others as they are.

        Waits up to `PoolSettings.wait_timeout_s` for room under the hard limit. Raises `PoolExhausted`, `PoolClosed`,
        `ConfigError`, and what opening a client raises.
        """
        _check_place(topic, partition)
        require_count("attempt", attempt, 0, OFFSET_MAX)
        if position is not None:
            require_count("position", position, 0, OFFSET_MAX)
        self._take_dropped()
        connection = self._connection()
        key = key_of(self._group_id, topic, partition, _config_of(connection), self._salt)
        grant = self._granted(key, position, retry=attempt > 0, use_cache=use_cache)
        entry = grant.entry
        try:
            self._tell(grant.events)
            self._close(grant.closing)
            if grant.fresh:
                consumer = self._connect(connection, topic, partition, self._settings.prefetch_bytes_max)
                with self._condition:
                    self._consumers[entry] = consumer
            else:
                consumer = self._consumers[entry]
            if position is not None and consumer.place(position) and not grant.fresh:
                self.count_seek()
        except BaseException as error:
            self._close(grant.closing)  # where it did not come to that
            self._tell([OpenFailed(key, entry.number, type(error).__name__)])
            self.give_back(entry, failed=True)
            raise
        return Lease(self, grant, consumer)

    def read(
        self,
        topic: str,
        partition: int,
        start: int,
        end: int,
        *,
        attempt: int = 0,
        use_cache: bool = True,
        records_max: int = 1000,
        timeout_s: float = 30.0,
    ) -> Iterator[Sequence[Source]]:
        """The records of offsets `start` up to, and without, `end`, in lists of at most `records_max`.

        The lease begins with the first list and ends with the iterator, however that ends. An empty range takes none.
        Ends only when the position has reached `end`; raises `ReadStalled` if nothing comes for `timeout_s` seconds, and
        what `lease` and `Lease.consume` raise. One thread at a time.
        """
        _check_place(topic, partition)
        require_count("start", start, 0, OFFSET_MAX)
        require_count("end", end, start, OFFSET_MAX)
        require_count("records_max", records_max, 1, 1_000_000)
        require_range("timeout_s", timeout_s, 0, 86_400)

        def records() -> Iterator[Sequence[Source]]:
            if start == end:
                return
            with self.lease(topic, partition, position=start, attempt=attempt, use_cache=use_cache) as lease:
                yield from self._range(lease, start, end, records_max, timeout_s)

        return records()

    def invalidate(self, topic: str, partition: int) -> None:
        """Give up the consumers of this partition, whatever their configuration: those in use close when they come back."""
        _check_place(topic, partition)
        with self._condition:
            outcome = self._book.invalidate(lambda key: (key.topic, key.partition) == (topic, partition))
        self._tell(outcome.events)
        self._close(outcome.closing)

    def evict_idle(self) -> int:
        """Close those that have been idle for longer than `idle_timeout_s`; returns how many. A thread of the pool calls it."""
        self._take_dropped()
        with self._condition:
            outcome = self._book.evict_idle(self._clock())
        self._tell(outcome.events)
        self._close(outcome.closing)
        return len(outcome.closing)

    def counters(self) -> PoolCounters:
        """What was counted so far. May be called from any thread."""
        with self._condition:
            states, totals = self._book.states, self._book.totals
            return PoolCounters(
                created=totals["created"],
                reused=totals["reused"],
                private=totals["private"],
                evicted=totals["evicted"],
                invalidated=totals["invalidated"],
                seeks=self._seeks,
                idle=states[State.IDLE],
                active=sum(states[state] for state in IN_USE),
                closing=states[State.CLOSING],
            )

    def close(self) -> None:
        """Close the idle consumers, and lend no more. Leases go on; each consumer is closed when its lease ends.

        Again: nothing happens. May be called from any thread.
        """
        with self._condition:
            if self._closed:
                return
            self._closed = True
            outcome = self._book.close()
            leased = self._book.states[State.FORGOTTEN]
            evictor, self._evictor = self._evictor, None
            self._condition.notify_all()
        self._stop.set()
        self._tell([PoolEnded(leased)])
        self._close(outcome.closing)
        self._take_dropped()
        if evictor is not None and evictor is not threading.current_thread():
            evictor.join(_JOIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What leases call

    def give_back(self, entry: Entry, *, failed: bool) -> None:
        """For `Lease` alone: its consumer comes back."""
        self._end(entry, EndReason.FAILED_CLOSED if failed else None)

    def drop(self, entry: Entry) -> None:
        """For `Lease` alone: it was collected as garbage, perhaps while this thread holds the lock."""
        self._dropped.append(entry)

    def count_seek(self) -> None:
        """For `Lease` alone: a consumer was moved."""
        with self._condition:
            self._seeks += 1

    # Inside

    def _begin(self) -> None:
        """Empty: at the beginning, and in the child of a fork, where locks may be held by threads that are not there."""
        self._condition = threading.Condition(threading.Lock())
        self._book = Book(self._settings)
        self._consumers = {}
        self._seeks = 0
        self._closed = False
        self._evictor = None
        self._stop = threading.Event()
        self._untold = deque()

    def forked(self) -> None:
        """In the child, before anything else runs there: its only thread calls this."""
        consumers, closed = list(self._consumers.values()), self._closed
        for consumer in consumers:
            consumer.abandon()
        self._dropped.clear()
        self._begin()
        self._closed = closed
        # Told by the next call: here a listener might wait for a lock whose thread stayed in the parent.
        self._untold.append(PoolForked(len(consumers), os.getpid()))

    def _connection(self) -> ConnectionSettings:
        given = self._librdkafka() if callable(self._librdkafka) else self._librdkafka
        return ConnectionSettings(self._bootstrap_servers, self._group_id, checked_librdkafka(given))

    def _granted(self, key: LeaseKey, position: int | None, *, retry: bool, use_cache: bool) -> Grant:
        began = time.monotonic()  # real waiting takes real time, whatever the clock says
        while True:
            with self._condition:
                if self._closed:
                    raise PoolClosed
                grant = self._book.acquire(key, position, retry=retry, use_cache=use_cache)
                if grant is not None:
                    self._watch_idle()
                    return grant
                waited_s = time.monotonic() - began
                left_s = self._settings.wait_timeout_s - waited_s
                if left_s > 0:
                    self._condition.wait(min(left_s, _LOOK_S))
            if left_s <= 0:
                hard_max = self._settings.consumers_hard_max
                self._tell([LeaseRefused(key, hard_max, waited_s)])
                raise PoolExhausted(key.topic, key.partition, hard_max, waited_s)
            self._take_dropped()

    def _range(
        self, lease: Lease, start: int, end: int, records_max: int, timeout_s: float
    ) -> Iterator[Sequence[Source]]:
        reached, moved_at = start, time.monotonic()
        while reached < end:
            left_s = timeout_s - (time.monotonic() - moved_at)
            records = lease.consume(records_max, min(max(left_s, 0.0), 1.0), end=end)
            if records:
                yield records
            position = lease.position
            assert position is not None, "a lease that was asked for at an offset stands somewhere"
            if records or position > reached:
                reached, moved_at = position, time.monotonic()
            elif left_s <= 0:
                unfinished = f"{lease.topic}[{lease.partition}] at {reached} of {end}"
                raise ReadStalled([unfinished], timeout_s, lease.trouble)

    def _end(self, entry: Entry, failed: EndReason | None) -> None:
        with self._condition:
            consumer = self._consumers.get(entry)
            position = None if consumer is None else consumer.position
            outcome = self._book.end(entry, position, self._clock(), failed)
            self._condition.notify()  # what came free is enough for one
        if outcome is not None:
            self._tell(outcome.events)
            self._close(outcome.closing)

    def _close(self, entries: Iterable[Entry]) -> None:
        """Close them, outside the lock. Whatever happens, their places become free."""
        for entry in entries:
            with self._condition:
                consumer = self._consumers.pop(entry, None)
            try:
                if consumer is not None:
                    consumer.close()
            except Exception as error:  # noqa: BLE001 - whoever ends a lease can do nothing about it
                self._tell([CloseFailed(entry.key, entry.number, type(error).__name__)])
            finally:
                with self._condition:
                    self._book.gone(entry)
                    self._condition.notify()

    def _take_dropped(self) -> None:
        """What was left for the next call."""
        for event in _emptied(self._untold):
            self._tell([event])
        for entry in _emptied(self._dropped):
            self._end(entry, EndReason.DROPPED_CLOSED)

    def _tell(self, events: Iterable[PoolEvent]) -> None:
        for event in events:
            if _LOG.isEnabledFor(event.level):
                _LOG.log(event.level, "%s", event)
            if self._listener is not None:
                try:
                    self._listener(event)
                except Exception:  # noqa: BLE001 - a listener's mistake is nothing to the one who leases
                    _LOG.exception("the listener of a pool raised")

    def _watch_idle(self) -> None:
        every_s = self._settings.idle_check_s
        if self._evictor is None and every_s is not None and self._settings.idle_timeout_s is not None:
            arguments = (weakref.ref(self), self._stop, every_s)
            self._evictor = threading.Thread(
                target=_evict_now_and_then, args=arguments, name="headrace-pool", daemon=True
            )
            self._evictor.start()


def _evict_now_and_then(pool: weakref.ref[ConsumerPool], stop: threading.Event, every_s: float) -> None:
    """The pool's own thread. It ends with the pool, also with one that nobody closed."""
    while not stop.wait(every_s):
        there = pool()
        if there is None:
            return
        there.evict_idle()
        del there


def _emptied(queue: deque[T]) -> Iterator[T]:
    """What is in it, each for one thread only."""
    while queue:
        try:
            item = queue.popleft()
        except IndexError:  # another thread was faster
            return
        yield item


def _watch_forks(pool: ConsumerPool) -> None:
    there = weakref.ref(pool)

    def forked() -> None:
        child = there()
        if child is not None:
            child.forked()

    # Cannot be taken back; what stays behind of a pool that is gone is this function.
    os.register_at_fork(after_in_child=forked)


def _config_of(connection: ConnectionSettings) -> dict[str, Any]:
    return {**connection.librdkafka, "bootstrap.servers": connection.bootstrap_servers}


def _check_place(topic: object, partition: int) -> None:
    if not topic or not isinstance(topic, str):
        raise ConfigError("topic", topic, "a topic's name")
    require_count("partition", partition, 0, _PARTITION_MAX)
