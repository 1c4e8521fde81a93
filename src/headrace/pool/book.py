"""Who has which consumer: the decisions of the pool, without consumers, clocks, threads or locks.

Decides what a lease gets, what becomes of a consumer when its lease ends, and who makes room. Refuses to know how a
consumer is opened or closed: it returns what is to be done. Invariant: a consumer is in use by at most one lease; what
is named as to be closed is given to nobody again. Not thread-safe: the pool calls it under its lock.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, final

from headrace.pool.events import (
    ConsumerEvicted,
    ConsumerInvalidated,
    EndReason,
    GrantReason,
    LeaseEnded,
    LeaseGranted,
    SoftLimitPassed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from headrace.pool.events import Kind, PoolEvent
    from headrace.pool.keys import LeaseKey
    from headrace.pool.settings import PoolSettings


class Asked(Enum):
    """How a lease was asked for. A retry counts first, then `use_cache=False`."""

    RETRY = "retry"
    UNCACHED = "uncached"
    CACHED = "cached"


class Found(Enum):
    """What the key has, as that asker sees it."""

    NOTHING = "nothing"
    IN_USE = "in use"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of leases."""

    kind: Kind
    reason: GrantReason
    invalidates: bool = False


LEASES: Final[Mapping[tuple[Asked, Found], Row]] = MappingProxyType(
    {
        (Asked.RETRY, Found.IN_USE): Row("private", GrantReason.RETRY_IN_USE, invalidates=True),
        (Asked.RETRY, Found.IDLE): Row("private", GrantReason.RETRY_IDLE, invalidates=True),
        (Asked.RETRY, Found.NOTHING): Row("private", GrantReason.RETRY_NEW),
        (Asked.UNCACHED, Found.IN_USE): Row("private", GrantReason.UNCACHED),
        (Asked.UNCACHED, Found.IDLE): Row("private", GrantReason.UNCACHED),
        (Asked.UNCACHED, Found.NOTHING): Row("private", GrantReason.UNCACHED),
        (Asked.CACHED, Found.NOTHING): Row("cached", GrantReason.OPENED),
        (Asked.CACHED, Found.IN_USE): Row("private", GrantReason.IN_USE),
        (Asked.CACHED, Found.IDLE): Row("cached", GrantReason.REUSED),
    }
)


class State(StrEnum):
    """Where a consumer is."""

    PRIVATE = "private"
    LEASED = "leased"
    MARKED = "marked"
    """In use, and to be closed afterwards."""
    FORGOTTEN = "forgotten"
    """In use, and the pool is closed."""
    IDLE = "idle"
    CLOSING = "closing"
    GONE = "gone"


ENDS: Final[Mapping[State, tuple[State, EndReason]]] = MappingProxyType(
    {
        State.PRIVATE: (State.CLOSING, EndReason.PRIVATE_CLOSED),
        State.MARKED: (State.CLOSING, EndReason.MARKED_CLOSED),
        State.LEASED: (State.IDLE, EndReason.RETURNED),
        State.FORGOTTEN: (State.CLOSING, EndReason.FORGOTTEN_CLOSED),
    }
)
"""What becomes of a consumer when its lease ends well. A state that is absent here has no lease that could end."""

IN_USE: Final = tuple(ENDS)
OF_KEY: Final = frozenset({State.LEASED, State.MARKED, State.IDLE})


@dataclass(slots=True, eq=False)
class Entry:
    """One consumer in the book. Equal to itself only: two that look alike must not be taken for one another."""

    key: LeaseKey
    number: int
    state: State
    position: int | None = None
    idle_since: float = 0.0


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease may have this consumer. `fresh`: it must be opened, after those of `closing` were closed."""

    entry: Entry
    kind: Kind
    reason: GrantReason
    fresh: bool
    closing: Sequence[Entry]
    events: Sequence[PoolEvent]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be closed, and what to tell."""

    closing: Sequence[Entry]
    events: Sequence[PoolEvent]


@final
class Book:
    """All consumers of one pool."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._cached: dict[LeaseKey, list[Entry]] = {}
        # In the order in which they became idle.
        self._idle: dict[Entry, None] = {}
        self._private: set[Entry] = set()
        self._last_number = 0
        self.states: Counter[State] = Counter()
        """How many consumers are in each state now."""
        self.totals: Counter[str] = Counter()
        """What happened since the beginning, by the names of `PoolCounters`."""

    @property
    def open(self) -> int:
        """Consumers that exist, those being opened or closed included."""
        return self.states.total() - self.states[State.GONE]

    def acquire(self, key: LeaseKey, position: int | None, *, retry: bool, use_cache: bool) -> Grant | None:
        """Decide what a lease gets. None: the hard limit leaves no room now, and nothing has changed."""
        asked = Asked.RETRY if retry else Asked.CACHED if use_cache else Asked.UNCACHED
        row = LEASES[asked, self._found(key, asked)]
        if row.reason is GrantReason.REUSED:
            return self._reuse(key, row, position)
        entries = self._cached.get(key, [])
        stale = [e for e in entries if e.state is State.IDLE] if row.invalidates else []
        evicted = self._room(stale)
        if evicted is None:
            return None
        outcome = self._invalidate(entries if row.invalidates else ())
        events = [*outcome.events, *self._evict(evicted, "capacity")]
        self._last_number += 1
        private = row.kind == "private"
        entry = Entry(key, self._last_number, State.PRIVATE if private else State.LEASED)
        self.states[entry.state] += 1
        self.totals["created"] += 1
        if private:
            self.totals["private"] += 1
            self._private.add(entry)
        else:
            self._cached.setdefault(key, []).append(entry)
        # Those that make room are closed before this one is opened.
        consumers = self.open - len(outcome.closing) - len(evicted)
        if consumers > self._settings.consumers_soft_max:
            events.append(SoftLimitPassed(consumers, self._settings.consumers_soft_max))
        events.append(LeaseGranted(key, entry.number, row.kind, row.reason, position))
        return Grant(entry, row.kind, row.reason, True, (*outcome.closing, *evicted), tuple(events))

    def end(self, entry: Entry, position: int | None, now: float, failed: EndReason | None) -> Outcome | None:
        """A lease ended; `failed` if not well. None if it had ended before: that changes nothing."""
        if entry.state not in ENDS:
            return None
        state, reason = ENDS[entry.state]
        if failed is not None:
            state, reason = State.CLOSING, failed
            self.totals["invalidated"] += 1
        entry.position, entry.idle_since = position, now
        self._move(entry, state)
        event = LeaseEnded(entry.key, entry.number, reason, position)
        return Outcome((entry,) if state is State.CLOSING else (), (event,))

    def gone(self, entry: Entry) -> None:
        """It was closed, or could not be opened: its place is free. Again: nothing happens."""
        if entry.state is State.CLOSING:
            self._move(entry, State.GONE)

    def invalidate(self, matches: Callable[[LeaseKey], bool]) -> Outcome:
        """Close the idle consumers of these keys and mark those in use."""
        found = [e for key, entries in self._cached.items() if matches(key) for e in entries]
        return self._invalidate(found)

    def evict_idle(self, now: float) -> Outcome:
        """Those that have been idle for *longer* than the limit."""
        limit = self._settings.idle_timeout_s
        if limit is None:
            return Outcome((), ())
        old = [entry for entry in self._idle if entry.idle_since < now - limit]
        return Outcome(old, self._evict(old, "idle"))

    def close(self) -> Outcome:
        """No more leases: the idle ones are closed, those in use when their leases end."""
        idle = list(self._idle)
        for entry in idle:
            self._move(entry, State.CLOSING)
        for entry in [*self._private, *(e for entries in self._cached.values() for e in entries)]:
            self._move(entry, State.FORGOTTEN)
        return Outcome(idle, ())

    def _found(self, key: LeaseKey, asked: Asked) -> Found:
        states = Counter(entry.state for entry in self._cached.get(key, ()))
        in_use = states[State.LEASED] + states[State.MARKED]
        if asked is Asked.RETRY and in_use:
            return Found.IN_USE
        if states[State.IDLE]:
            return Found.IDLE
        return Found.IN_USE if in_use >= self._settings.cached_per_key_max else Found.NOTHING

    def _reuse(self, key: LeaseKey, row: Row, position: int | None) -> Grant:
        idle = [entry for entry in self._cached[key] if entry.state is State.IDLE]
        # What stands where it is wanted has fetched ahead from there; of the others, the one that waited longest.
        entry = min(idle, key=lambda e: (position is None or e.position != position, e.idle_since, e.number))
        self._move(entry, State.LEASED)
        self.totals["reused"] += 1
        granted = LeaseGranted(key, entry.number, row.kind, row.reason, position)
        return Grant(entry, row.kind, row.reason, False, (), (granted,))

    def _room(self, stale: Sequence[Entry]) -> list[Entry] | None:
        """Idle consumers to close for a new one, beside the stale ones; None if the hard limit allows none."""
        after = self.open - len(stale) + 1
        others = [entry for entry in self._idle if entry not in stale]
        evicted = others[: max(0, after - self._settings.consumers_soft_max)]
        return evicted if after - len(evicted) <= self._settings.consumers_hard_max else None

    def _invalidate(self, entries: Iterable[Entry]) -> Outcome:
        closing: list[Entry] = []
        events: list[PoolEvent] = []
        for entry in list(entries):
            if entry.state is State.MARKED:
                continue
            idle = entry.state is State.IDLE
            self._move(entry, State.CLOSING if idle else State.MARKED)
            self.totals["invalidated"] += 1
            events.append(ConsumerInvalidated(entry.key, entry.number, idle))
            if idle:
                closing.append(entry)
        return Outcome(closing, events)

    def _evict(self, entries: Iterable[Entry], reason: str) -> list[PoolEvent]:
        events: list[PoolEvent] = []
        for entry in entries:
            self._move(entry, State.CLOSING)
            self.totals["evicted"] += 1
            events.append(
                ConsumerEvicted(entry.key, entry.number, "idle" if reason == "idle" else "capacity")
            )
        return events

    def _move(self, entry: Entry, state: State) -> None:
        self.states[entry.state] -= 1
        self.states[state] += 1
        entry.state = state
        self._idle.pop(entry, None)
        if state is State.IDLE:
            self._idle[entry] = None
        elif state not in OF_KEY:
            self._private.discard(entry)
            entries = self._cached.get(entry.key, [])
            if entry in entries:
                entries.remove(entry)
            if not entries:
                self._cached.pop(entry.key, None)
