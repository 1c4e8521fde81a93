"""What a pool has counted, as a value.

Decides nothing. Invariant: a snapshot never changes, and all its numbers are of one moment.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolCounters:
    """Counts of one pool in one process, at one moment. Immutable.

    created: consumers opened, or tried to. reused: leases that got an idle one. private: leases that got one of their own.
    evicted: idle ones closed for room or age. invalidated: consumers given up, on errors and retries. seeks: times a
    consumer was moved away from where it stood; what it had fetched was lost. idle, active: consumers that are so now.
    closing: being closed now.
    """

    created: int
    reused: int
    private: int
    evicted: int
    invalidated: int
    seeks: int
    idle: int
    active: int
    closing: int
