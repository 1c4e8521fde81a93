"""Every way in which a lease ends, is misused, or fails; most are cases that Spark's suites leave out."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import threading
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import ConcurrentAccess
from headrace.pool import (
    LeaseEnded,
    LeaseReleased,
    PoolForked,
)
from tests.unit.pool.stand_in import RECORDS, World, consumer_of, use

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from headrace.pool import ConsumerPool, Lease

WAIT_S = 20.0

USES: dict[str, Callable[[Lease], Any]] = {
    "consume": lambda lease: lease.consume(1, 1.0),
    "seek": lambda lease: lease.seek(1),
    "watermarks": lambda lease: lease.watermarks(1.0),
    "position": lambda lease: lease.position,
    "trouble": lambda lease: lease.trouble,
}


# ---- The end of a lease


@pytest.mark.parametrize("use_it", USES.values(), ids=list(USES))
@pytest.mark.parametrize("end_it", ["release", "invalidate"])
def test_a_lease_that_is_over_reaches_nothing(use_it: Callable[[Lease], Any], end_it: str) -> None:
    """Also when another user has its consumer by now, whom it must not disturb."""
    world = World()
    pool = world.pool()
    stale = pool.lease("t", 3, position=0)
    getattr(stale, end_it)()
    with pool.lease("t", 3, position=7) as lease:
        with pytest.raises(LeaseReleased) as raised:
            use_it(stale)
        assert (raised.value.topic, raised.value.partition) == ("t", 3)
        assert lease.position == 7
    assert world.misuses == []


def test_released_twice_is_released_once() -> None:
    """Though another user has the consumer in between."""
    world = World()
    pool = world.pool()
    first = pool.lease("t", 0, position=0)
    first.release()
    with pool.lease("t", 0, position=0) as second:
        first.release()
        first.invalidate()
        assert second.consumer_number == 1
        assert (pool.counters().active, pool.counters().idle) == (1, 0)
        with pool.lease("t", 0) as third:
            assert third.consumer_number == 2
    assert len(world.told(LeaseEnded)) == 3
    assert pool.counters().idle == 1


def test_a_generator_that_is_closed_early_gives_back() -> None:
    """It is no error: the consumer stands where the next one goes on."""
    world = World()
    pool = world.pool()
    lists = pool.read("t", 0, 0, 500, records_max=100)
    assert len(next(lists)) == 100
    assert pool.counters().active == 1
    lists.close()  # type: ignore[attr-defined]
    assert (pool.counters().active, pool.counters().idle) == (0, 1)
    rest = [record.offset() for records in pool.read("t", 0, 100, 500) for record in records]
    assert rest == list(range(100, 500))
    assert (pool.counters().created, pool.counters().seeks) == (1, 0)


def test_a_range_that_was_read_to_its_end_gives_back() -> None:
    """And the next range begins there, without a seek."""
    pool = World().pool()
    for start in range(0, RECORDS, 250):
        found = [r.offset() for records in pool.read("t", 0, start, start + 250) for r in records]
        assert found == list(range(start, start + 250))
    counters = pool.counters()
    assert (counters.created, counters.reused, counters.seeks, counters.idle) == (1, 3, 0, 1)


def test_an_error_of_the_client_ends_the_range_and_its_consumer() -> None:
    """It is not lent again."""
    world = World()
    pool = world.pool()
    lists = pool.read("t", 0, 0, 500, records_max=100)
    next(lists)

    def broken() -> None:
        raise OSError("gone")

    world.opened[0].within = broken
    with pytest.raises(OSError, match="gone"):
        next(lists)
    assert world.opened[0].closed
    assert use(pool) == 2


def test_a_cancelled_task_gives_its_consumer_up() -> None:
    """The cancellation leaves `with` like any error."""
    world = World()
    pool = world.pool()

    async def task(inside: asyncio.Event) -> None:
        with pool.lease("t", 0, position=0):
            inside.set()
            await asyncio.sleep(3600)

    async def main() -> None:
        inside = asyncio.Event()
        running = asyncio.create_task(task(inside))
        await inside.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert world.unclosed == 0
    assert [event.reason for event in world.told(LeaseEnded)] == ["failed_closed"]


def test_a_lease_that_nobody_released_is_found() -> None:
    """By the next call, after the collector."""
    world = World()
    pool = world.pool()
    pool.lease("t", 0, position=0)  # dropped at once
    gc.collect()
    assert pool.counters().active == 1
    pool.evict_idle()
    assert (pool.counters().active, world.unclosed) == (0, 0)
    assert [event.reason for event in world.told(LeaseEnded)] == ["dropped_closed"]


def test_a_lease_without_a_position_inherits_none() -> None:
    """It stands where its consumer was left, which is nobody's business to rely on; a new one stands nowhere."""
    pool = World().pool()
    with pool.lease("t", 0) as lease:
        assert lease.position is None
        lease.seek(4)
        assert [record.offset() for record in lease.consume(2, 1.0)] == [4, 5]
    assert pool.counters().seeks == 1


# ---- Two threads


@pytest.mark.parametrize("use_it", USES.values(), ids=list(USES))
def test_two_threads_at_once_are_refused(use_it: Callable[[Lease], Any]) -> None:
    """The second one; the first goes on undisturbed."""
    world = World()
    pool = world.pool()
    lease = pool.lease("t", 0, position=0)
    entered, leave = threading.Event(), threading.Event()

    def within() -> None:
        entered.set()
        assert leave.wait(WAIT_S)

    consumer_of(world, lease).within = within
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(lease.consume(3, 1.0)), name="first")
    thread.start()
    assert entered.wait(WAIT_S)
    with pytest.raises(ConcurrentAccess, match="'first'") as raised:
        use_it(lease)
    assert raised.value.inside_call == "consume"
    assert "within" in raised.value.inside_stack
    leave.set()
    thread.join(WAIT_S)
    assert [record.offset() for record in found] == [0, 1, 2]
    lease.consume(1, 1.0)  # one after the other may
    lease.release()
    assert world.misuses == []


def test_released_while_another_is_inside() -> None:
    """Over for all at once; the consumer is closed when that thread comes out, and lent to nobody before."""
    world = World()
    pool = world.pool()
    lease = pool.lease("t", 0, position=0)
    entered, leave = threading.Event(), threading.Event()

    def within() -> None:
        entered.set()
        assert leave.wait(WAIT_S)

    consumer_of(world, lease).within = within
    thread = threading.Thread(target=lambda: lease.consume(3, 1.0))
    thread.start()
    assert entered.wait(WAIT_S)
    lease.release()
    with pytest.raises(LeaseReleased):
        lease.seek(0)
    assert (pool.counters().active, world.unclosed) == (1, 1)
    with pool.lease("t", 0) as other:
        assert other.consumer_number == 2
    leave.set()
    thread.join(WAIT_S)
    assert world.opened[0].closed
    assert (pool.counters().active, world.misuses) == (0, [])


def test_many_threads_borrow_and_return() -> None:
    """No consumer is used by two at once, none after it was closed, none is left; every range is exact."""
    world = World()
    pool = world.pool(
        consumers_soft_max=4,
        consumers_hard_max=6,
        cached_per_key_max=2,
        wait_timeout_s=WAIT_S,
        idle_timeout_s=5,
    )
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for n in range(60):
                start = (seed * 37 + n * 91) % 900
                with pool.lease(
                    "t",
                    (seed + n) % 3,
                    position=start,
                    attempt=int((seed + n) % 7 == 0),
                    use_cache=(seed + n) % 5 != 0,
                ) as lease:
                    found = [record.offset() for record in lease.consume(100, 1.0, end=start + 50)]
                    assert found == list(range(start, start + 50))
                if n % 20 == 0:
                    pool.invalidate("t", n % 3)
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert failures == []
    assert world.misuses == []
    assert pool.counters().active == pool.counters().closing == 0
    assert world.unclosed == pool.counters().idle <= 6
    pool.close()
    assert world.unclosed == 0


# ---- Fork


def in_child(pool: ConsumerPool, world: World, lease: Lease, answer: Connection) -> None:
    """What a child of a fork sees."""
    refused = ""
    try:
        lease.consume(1, 1.0)
    except LeaseReleased as error:
        refused = error.why
    lease.release()
    there = [(consumer.abandoned, consumer.closed) for consumer in world.opened]
    own = use(pool)
    forks = [event.abandoned for event in world.told(PoolForked)]
    answer.send((refused, there, own, forks, pool.counters().created))
    answer.close()


# From Python 3.12 on a fork beside threads warns; this one has none of its own, but the run may.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_leaves_the_parents_consumers_alone() -> None:
    """The child begins empty, calls none of them, and the parent notices nothing, also if its lock was held."""
    world = World()
    pool = world.pool()
    use(pool, partition=1)
    lease = pool.lease("t", 0, position=0)
    forking = multiprocessing.get_context("fork")
    here, there = forking.Pipe(duplex=False)
    with pool._condition:  # as another thread might
        child = forking.Process(target=in_child, args=(pool, world, lease, there))
        child.start()
    assert here.poll(WAIT_S), "the child hangs"
    refused, consumers, own, forks, created = here.recv()
    child.join(WAIT_S)
    assert child.exitcode == 0
    assert "forked" in refused
    assert consumers == [(True, False), (True, False)]
    assert (own, forks, created) == (1, [2], 1)
    assert len(lease.consume(2, 1.0)) == 2
    lease.release()
    assert (pool.counters().idle, world.told(PoolForked)) == (2, [])
