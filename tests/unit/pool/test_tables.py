"""The tables of leases and of their ends: every row, with what it does to the key's consumers and the event it tells."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from headrace.pool import ConsumerEvicted, ConsumerInvalidated, LeaseEnded, LeaseGranted
from headrace.pool.book import ENDS, LEASES, Asked, Found, State
from tests.unit.pool.stand_in import World, consumer_of, use

if TYPE_CHECKING:
    from headrace.pool import ConsumerPool, Lease

Before = str
"""What the key has: "in use", "marked" (in use, and to be closed), "idle" or "nothing"."""


def prepared(pool: ConsumerPool, before: Before) -> Lease | None:
    """Bring the key to a state; returns the lease that keeps it in use."""
    if before == "nothing":
        return None
    lease = pool.lease("t", 0)
    if before == "idle":
        lease.release()
        return None
    if before == "marked":
        pool.invalidate("t", 0)
    return lease


# Row, what the key has, attempt, use_cache; then kind, reason, and what becomes of the consumer that was there.
ACQUIRE = [
    ("1a", "in use", 1, True, "private", "retry_in_use", "marked"),
    ("1a", "in use", 2, False, "private", "retry_in_use", "marked"),
    ("1a", "marked", 1, True, "private", "retry_in_use", "as it was"),
    ("1b", "idle", 1, True, "private", "retry_idle", "closed"),
    ("1b", "idle", 1, False, "private", "retry_idle", "closed"),
    ("1c", "nothing", 1, True, "private", "retry_new", "none"),
    ("2", "idle", 0, False, "private", "uncached", "as it was"),
    ("2", "in use", 0, False, "private", "uncached", "as it was"),
    ("2", "nothing", 0, False, "private", "uncached", "none"),
    ("3", "nothing", 0, True, "cached", "opened", "none"),
    ("4", "in use", 0, True, "private", "in_use", "as it was"),
    ("4", "marked", 0, True, "private", "in_use", "as it was"),
    ("5", "idle", 0, True, "cached", "reused", "lent"),
]


@pytest.mark.parametrize(
    ("row", "before", "attempt", "use_cache", "kind", "reason", "fate"),
    ACQUIRE,
    ids=[f"{row}-{before}-{attempt}-{cache}" for row, before, attempt, cache, *_ in ACQUIRE],
)
def test_what_a_lease_gets(
    row: str, before: Before, attempt: int, use_cache: bool, kind: str, reason: str, fate: str
) -> None:
    """Spark's seven rows: consumer, kind, reason, the event of the branch, and the fate of what was there."""
    del row
    world = World()
    pool = world.pool()
    held = prepared(pool, before)
    world.events.clear()
    lease = pool.lease("t", 0, attempt=attempt, use_cache=use_cache, position=5)
    assert (lease.kind, lease.reason) == (kind, reason)
    (granted,) = world.told(LeaseGranted)
    assert (granted.kind, granted.reason, granted.position) == (kind, reason, 5)
    assert granted.consumer == lease.consumer_number
    invalidated = [(event.consumer, event.closed) for event in world.told(ConsumerInvalidated)]
    assert invalidated == {"marked": [(1, False)], "closed": [(1, True)]}.get(fate, [])
    assert world.told(ConsumerEvicted) == []
    if fate != "none":
        assert world.opened[0].closed is (fate == "closed")
        assert (lease.consumer_number == 1) is (fate == "lent")
    lease.release()
    assert consumer_of(world, lease).closed is (kind == "private")
    if held is not None:
        held.release()
        assert world.opened[0].closed is ("marked" in (fate, before))


def test_the_table_is_whole() -> None:
    """Every way to ask meets everything a key can have; nothing but a retry invalidates."""
    assert set(LEASES) == set(product(Asked, Found))
    assert {asked for (asked, _), row in LEASES.items() if row.invalidates} == {Asked.RETRY}
    assert {row.reason for (asked, _), row in LEASES.items() if asked is Asked.UNCACHED} == {"uncached"}


# Row, then how it comes to be; then reason, whether it is closed, and idle ones afterwards.
RELEASE = [
    ("private", "private_closed", True, 0),
    ("marked", "marked_closed", True, 0),
    ("kept", "returned", False, 1),
    ("forgotten", "forgotten_closed", True, 0),
]


@pytest.mark.parametrize(("how", "reason", "closed", "idle"), RELEASE, ids=[row[0] for row in RELEASE])
def test_what_becomes_of_a_consumer(how: str, reason: str, closed: bool, idle: int) -> None:
    """Spark's four rows."""
    world = World()
    pool = world.pool()
    lease = pool.lease("t", 0, position=7, use_cache=how != "private")
    if how == "marked":
        pool.invalidate("t", 0)
    if how == "forgotten":
        pool.close()
    assert pool.counters().active == 1
    assert not world.opened[0].closed
    lease.release()
    (ended,) = world.told(LeaseEnded)
    assert (ended.consumer, ended.reason, ended.position) == (1, reason, 7)
    assert world.opened[0].closed is closed
    assert (pool.counters().idle, pool.counters().active, pool.counters().closing) == (idle, 0, 0)


@pytest.mark.parametrize("how", [row[0] for row in RELEASE])
def test_an_error_closes_whatever_it_was(how: str) -> None:
    """Never returned."""
    world = World()
    pool = world.pool()

    def failing() -> None:
        with pool.lease("t", 0, use_cache=how != "private"):
            if how == "marked":
                pool.invalidate("t", 0)
            if how == "forgotten":
                pool.close()
            raise KeyError(how)

    with pytest.raises(KeyError):
        failing()
    (ended,) = world.told(LeaseEnded)
    assert ended.reason == "failed_closed"
    assert world.unclosed == 0
    assert pool.counters().idle == 0


def test_only_what_is_in_use_can_end() -> None:
    """The other states have no lease."""
    assert set(State) - set(ENDS) == {State.IDLE, State.CLOSING, State.GONE}


def test_after_a_retry_the_key_is_empty_until_a_first_attempt() -> None:
    """The retry's own consumer is never kept."""
    world = World()
    pool = world.pool()
    use(pool)
    use(pool, attempt=1)
    assert (pool.counters().idle, world.unclosed) == (0, 0)
    use(pool)
    assert pool.counters().idle == 1


def test_a_private_one_leaves_the_idle_one_where_it_stands() -> None:
    """Also its age: it is not used by that."""
    world = World()
    pool = world.pool()
    with pool.lease("t", 0, position=9):
        pass
    with pool.lease("t", 0, position=3, use_cache=False):
        pass
    assert (world.opened[0].at, world.opened[0].places) == (9, 1)
