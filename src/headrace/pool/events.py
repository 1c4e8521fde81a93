"""What a pool tells: one event for every branch of its decisions.

Decides the words; refuses to know who listens. Invariant: an event is immutable and shows no secret.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from headrace.pool.keys import LeaseKey

Kind = Literal["cached", "private"]
"""A cached consumer goes back to the pool when its lease ends; a private one is closed."""


class GrantReason(StrEnum):
    """Why a lease is of its kind."""

    RETRY_IN_USE = "retry_in_use"
    """Private: the attempt before failed. The key's consumers in use are marked: they close when they come back."""
    RETRY_IDLE = "retry_idle"
    """Private: the attempt before failed. The key's idle consumers were closed."""
    RETRY_NEW = "retry_new"
    """Private: the attempt before failed, and the key had no consumer."""
    UNCACHED = "uncached"
    """Private: asked for with `use_cache=False`."""
    OPENED = "opened"
    """Cached: the key had room for a new consumer."""
    IN_USE = "in_use"
    """Private: the key's consumers are all in use."""
    REUSED = "reused"
    """Cached: an idle consumer of the key. If it stood at the wanted position, what it has fetched is kept."""


class EndReason(StrEnum):
    """What became of a consumer when its lease ended."""

    PRIVATE_CLOSED = "private_closed"
    """It was private."""
    RETURNED = "returned"
    """It is idle again."""
    MARKED_CLOSED = "marked_closed"
    """Its key was invalidated while it was in use."""
    FORGOTTEN_CLOSED = "forgotten_closed"
    """The pool was closed while it was in use."""
    FAILED_CLOSED = "failed_closed"
    """The lease ended with an error or was invalidated: nobody knows what state the consumer is in."""
    DROPPED_CLOSED = "dropped_closed"
    """Nobody released the lease: it was collected as garbage. Use `with`."""


@dataclass(frozen=True, slots=True)
class PoolEvent:
    """Base of all events of a pool. `level` is that of `logging`. Immutable."""

    level: ClassVar[int] = logging.DEBUG


@dataclass(frozen=True, slots=True)
class LeaseGranted(PoolEvent):
    """A lease begins. `consumer` is the number of its consumer in this pool. `position`: the wanted one."""

    key: LeaseKey
    consumer: int
    kind: Kind
    reason: GrantReason
    position: int | None


@dataclass(frozen=True, slots=True)
class LeaseEnded(PoolEvent):
    """A lease is over. `position`: where its consumer stood."""

    key: LeaseKey
    consumer: int
    reason: EndReason
    position: int | None


@dataclass(frozen=True, slots=True)
class ConsumerInvalidated(PoolEvent):
    """A consumer must not be used again. `closed`: False while it is in use; it is closed when its lease ends."""

    key: LeaseKey
    consumer: int
    closed: bool


@dataclass(frozen=True, slots=True)
class ConsumerEvicted(PoolEvent):
    """An idle consumer is closed: to make room ("capacity"), or since nobody wanted it for long ("idle")."""

    key: LeaseKey
    consumer: int
    reason: Literal["capacity", "idle"]


@dataclass(frozen=True, slots=True)
class SoftLimitPassed(PoolEvent):
    """More consumers than `consumers_soft_max` are open, and none of them is idle."""

    level: ClassVar[int] = logging.INFO
    consumers: int
    soft_max: int


@dataclass(frozen=True, slots=True)
class LeaseRefused(PoolEvent):
    """The hard limit left no room in time; the caller got `PoolExhausted`."""

    level: ClassVar[int] = logging.WARNING
    key: LeaseKey
    hard_max: int
    waited_s: float


@dataclass(frozen=True, slots=True)
class OpenFailed(PoolEvent):
    """A consumer could not be made, or not placed; the caller got the error, whose class this names."""

    level: ClassVar[int] = logging.WARNING
    key: LeaseKey
    consumer: int
    error: str


@dataclass(frozen=True, slots=True)
class CloseFailed(PoolEvent):
    """Closing a consumer raised an error of this class. The consumer is forgotten all the same."""

    level: ClassVar[int] = logging.WARNING
    key: LeaseKey
    consumer: int
    error: str


@dataclass(frozen=True, slots=True)
class PoolForked(PoolEvent):
    """This process is the child of a fork: the parent's consumers are left alone, and the pool is empty here."""

    level: ClassVar[int] = logging.INFO
    abandoned: int
    pid: int


@dataclass(frozen=True, slots=True)
class PoolEnded(PoolEvent):
    """The pool was closed. `leased`: consumers still in use; each is closed when its lease ends."""

    leased: int
