"""What the pool's tests stand on: consumers of records in memory that notice misuse, a clock that is told, and a listener.

Refuses to know the pool's rules. Invariant: a consumer that is called by two threads at once, or after it was closed,
raises `Misuse` and counts it where the test looks at the end.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.pool import ConsumerPool, PoolSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from headrace._client.settings import ConnectionSettings
    from headrace.pool import Lease, PoolEvent

RECORDS = 1000
"""Every partition holds so many, from offset 0."""


class Misuse(AssertionError):
    """The pool broke its promise."""


@dataclass(frozen=True, slots=True)
class StandInRecord:
    """A record whose value tells where it stands."""

    place: tuple[str, int]
    at: int

    def offset(self) -> int:
        """Offset."""
        return self.at

    def key(self) -> None:
        """None."""

    def value(self) -> bytes:
        """Topic, partition and offset."""
        return f"{self.place[0]}-{self.place[1]}-{self.at}".encode()

    def headers(self) -> None:
        """None."""

    def timestamp(self) -> tuple[int, int]:
        """None."""
        return (0, 0)

    def leader_epoch(self) -> None:
        """None."""

    def __len__(self) -> int:
        return len(self.value())


class StandInConsumer:
    """A `PooledConsumer` of `RECORDS` records."""

    trouble = "nothing"

    def __init__(self, world: World, settings: ConnectionSettings, topic: str, partition: int) -> None:
        self.world = world
        self.settings = settings
        self.place_of = (topic, partition)
        self.at: int | None = None
        self.closed = False
        self.abandoned = False
        self.places = 0
        self.inside = threading.Lock()
        self.within: Callable[[], None] = lambda: None
        """Called inside `consume`."""

    @property
    def position(self) -> int | None:
        """The next offset."""
        return self.at

    def place(self, offset: int) -> bool:
        """Stand there."""
        with self._visit():
            moved = self.at != offset
            self.at = offset
            self.places += moved
            return moved

    def consume(self, records_max: int, timeout_s: float, end: int | None) -> list[StandInRecord]:
        """What is there."""
        with self._visit():
            self.within()
            assert self.at is not None
            assert timeout_s >= 0
            last = min(self.at + records_max, RECORDS if end is None else min(RECORDS, end))
            taken = [StandInRecord(self.place_of, offset) for offset in range(self.at, last)]
            self.at += len(taken)
            return taken

    def watermarks(self, timeout_s: float) -> tuple[int, int] | None:
        """All of them."""
        with self._visit():
            return (0, RECORDS) if timeout_s > 0 else None

    def close(self) -> None:
        """No calls after this."""
        with self._visit():
            self.closed = True
        self.world.closing(self)

    def abandon(self) -> None:
        """Left to a parent."""
        self.abandoned = True

    @contextmanager
    def _visit(self) -> Generator[None]:
        if not self.inside.acquire(blocking=False):
            self.world.misused("two threads at once")
        try:
            if self.closed:
                self.world.misused("called after it was closed")
            yield
        finally:
            self.inside.release()


@dataclass
class World:
    """The clock, what was opened, and what was told."""

    now: float = 1000.0
    opened: list[StandInConsumer] = field(default_factory=list[StandInConsumer])
    events: list[PoolEvent] = field(default_factory=list["PoolEvent"])
    misuses: list[str] = field(default_factory=list[str])
    opening: Callable[[], None] = lambda: None
    """Called before a consumer is made; may raise."""
    closing: Callable[[StandInConsumer], None] = lambda _consumer: None
    """Called after one was closed; may raise."""

    def connect(
        self, settings: ConnectionSettings, topic: str, partition: int, queue_bytes: int, /
    ) -> StandInConsumer:
        """A `Connect`."""
        assert queue_bytes > 0
        self.opening()
        consumer = StandInConsumer(self, settings, topic, partition)
        self.opened.append(consumer)
        return consumer

    def misused(self, what: str) -> None:
        """Count, and raise."""
        self.misuses.append(what)
        raise Misuse(what)

    @property
    def unclosed(self) -> int:
        """Consumers that exist."""
        return sum(not consumer.closed for consumer in self.opened)

    def pool(self, *, librdkafka: Any = None, **limits: Any) -> ConsumerPool:
        """A pool in this world. No thread looks for idle ones unless `idle_check_s` is given."""
        defaults: dict[str, Any] = {"idle_check_s": None, "wait_timeout_s": 0.0}
        settings = PoolSettings(**(defaults | limits))
        return ConsumerPool(
            "nowhere:9092",
            group_id="group",
            librdkafka=librdkafka,
            settings=settings,
            listener=self.events.append,
            connect=self.connect,
            clock=lambda: self.now,
        )

    def told(self, kind: type[PoolEvent]) -> list[Any]:
        """Events of this class since the last `forget`."""
        return [event for event in self.events if isinstance(event, kind)]


def consumer_of(world: World, lease: Lease) -> StandInConsumer:
    """The consumer behind a lease: they are numbered in the order in which they were asked for."""
    return world.opened[lease.consumer_number - 1]


def use(pool: ConsumerPool, topic: str = "t", partition: int = 0, **how: Any) -> int:
    """Lease and release; returns the consumer's number."""
    with pool.lease(topic, partition, **how) as lease:
        return lease.consumer_number
