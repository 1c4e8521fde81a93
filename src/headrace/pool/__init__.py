"""Consumers for bounded reads, leased to one user at a time. Importing it loads no client library."""

from headrace.errors import LeaseReleased, PoolClosed, PoolExhausted
from headrace.pool.consumers import Connect, PooledConsumer
from headrace.pool.counters import PoolCounters
from headrace.pool.events import (
    CloseFailed,
    ConsumerEvicted,
    ConsumerInvalidated,
    EndReason,
    GrantReason,
    LeaseEnded,
    LeaseGranted,
    LeaseRefused,
    OpenFailed,
    PoolEnded,
    PoolEvent,
    PoolForked,
    SoftLimitPassed,
)
from headrace.pool.keys import LeaseKey
from headrace.pool.leases import Lease
from headrace.pool.pool import ConsumerPool
from headrace.pool.settings import PoolSettings

__all__ = [
    "CloseFailed",
    "Connect",
    "ConsumerEvicted",
    "ConsumerInvalidated",
    "ConsumerPool",
    "EndReason",
    "GrantReason",
    "Lease",
    "LeaseEnded",
    "LeaseGranted",
    "LeaseKey",
    "LeaseRefused",
    "LeaseReleased",
    "OpenFailed",
    "PoolClosed",
    "PoolCounters",
    "PoolEnded",
    "PoolEvent",
    "PoolExhausted",
    "PoolForked",
    "PoolSettings",
    "PooledConsumer",
    "SoftLimitPassed",
]
