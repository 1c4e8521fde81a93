"""What a pool may hold, opens, closes and tells apart: limits, failures on the way, and keys."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from headrace.errors import ConfigError
from headrace.pool import (
    CloseFailed,
    ConsumerEvicted,
    LeaseRefused,
    OpenFailed,
    PoolClosed,
    PoolEnded,
    PoolEvent,
    PoolExhausted,
    SoftLimitPassed,
)
from tests.unit.pool.stand_in import StandInConsumer, World, use

WAIT_S = 20.0


# ---- Limits


def test_the_hard_limit_waits_for_whoever_ends_first() -> None:
    """A lease that ends lets the next one in."""
    world = World()
    pool = world.pool(consumers_soft_max=1, consumers_hard_max=1, wait_timeout_s=WAIT_S)
    held = pool.lease("t", 0, position=0)
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.append(f"consumer {use(pool, partition=1)}"))
    thread.start()
    assert got == []
    held.release()
    thread.join(WAIT_S)
    assert got == ["consumer 2"]
    assert world.opened[0].closed, "the idle one made room"
    assert world.unclosed == 1


def test_the_hard_limit_refuses_in_the_end() -> None:
    """And has changed nothing: not even a retry's invalidation."""
    world = World()
    pool = world.pool(consumers_soft_max=2, consumers_hard_max=2)
    one, two = pool.lease("t", 0, position=0), pool.lease("t", 1, position=0)
    before = pool.counters()
    with pytest.raises(PoolExhausted) as raised:
        pool.lease("t", 0, attempt=1)
    assert (raised.value.partition, raised.value.consumers_hard_max) == (0, 2)
    assert len(world.told(LeaseRefused)) == 1
    assert pool.counters() == before
    one.release()
    two.release()
    assert pool.counters().idle == 2


def test_what_is_being_closed_still_counts() -> None:
    """The limit is on what exists: connections do not vanish with a decision."""
    world = World()
    pool = world.pool(consumers_soft_max=1, consumers_hard_max=1)
    seen: list[object] = []

    def while_closing(_consumer: StandInConsumer) -> None:
        try:
            pool.lease("t", 1)
        except PoolExhausted as error:
            seen.append(error)

    world.closing = while_closing
    use(pool, use_cache=False)
    assert len(seen) == 1
    world.closing = lambda _consumer: None
    assert use(pool, partition=1) == 2


def test_room_is_made_from_whoever_was_idle_for_longest() -> None:
    """And told, as is a limit that is passed."""
    world = World()
    pool = world.pool(consumers_soft_max=2)
    use(pool, partition=0)
    use(pool, partition=1)
    use(pool, partition=0)  # used again: now 1 is the eldest
    with pool.lease("t", 2):
        assert [event.key.partition for event in world.told(ConsumerEvicted)] == [1]
        assert world.told(SoftLimitPassed) == []
        with pool.lease("t", 0), pool.lease("t", 3):
            (passed,) = world.told(SoftLimitPassed)
            assert (passed.consumers, passed.soft_max) == (3, 2)


# ---- Opening and closing


def test_a_consumer_that_cannot_be_opened_leaves_no_trace() -> None:
    """Its place is free again."""
    world = World()
    pool = world.pool(consumers_soft_max=1, consumers_hard_max=1)

    def broken() -> None:
        raise OSError("no")

    world.opening = broken
    for _ in range(3):
        with pytest.raises(OSError, match="no"):
            pool.lease("t", 0)
    assert [event.error for event in world.told(OpenFailed)] == ["OSError"] * 3
    assert (pool.counters().active, pool.counters().closing, world.opened) == (0, 0, [])


def test_a_close_that_raises_is_told_and_forgotten() -> None:
    """The one who ends a lease can do nothing about it."""
    world = World()
    pool = world.pool(consumers_soft_max=1, consumers_hard_max=1)

    def broken(_consumer: StandInConsumer) -> None:
        raise OSError("cannot")

    world.closing = broken
    use(pool, use_cache=False)
    assert [event.error for event in world.told(CloseFailed)] == ["OSError"]
    assert use(pool) == 2


def test_nothing_is_opened_or_closed_or_told_under_the_lock() -> None:
    """Each may call the pool: under the lock it would wait for itself."""
    world = World()
    pool = world.pool(consumers_soft_max=2)
    counted: list[object] = []
    world.opening = lambda: counted.append(pool.counters())
    world.closing = lambda _consumer: counted.append(pool.counters())

    def listen(_event: PoolEvent) -> None:
        counted.append(pool.counters())

    pool._listener = listen
    for partition in range(4):
        use(pool, partition=partition)
        use(pool, partition=partition, attempt=1)
    pool.close()
    assert len(counted) > 20


def test_a_listener_that_raises_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged."""
    world = World()
    pool = world.pool()

    def broken(_event: object) -> None:
        raise OSError("listener")

    pool._listener = broken
    assert use(pool) == 1
    assert "listener" in caplog.text


def test_closed_while_leased() -> None:
    """The lease goes on; its consumer is closed when it ends; nothing new is lent."""
    world = World()
    pool = world.pool()
    use(pool, partition=1)
    lease = pool.lease("t", 0, position=0)
    pool.close()
    pool.close()
    assert [event.leased for event in world.told(PoolEnded)] == [1]
    assert [consumer.closed for consumer in world.opened] == [True, False]
    assert len(lease.consume(5, 1.0)) == 5
    with pytest.raises(PoolClosed):
        pool.lease("t", 0)
    lease.release()
    assert world.unclosed == 0
    assert pool.counters().active == pool.counters().idle == 0


def test_closed_while_another_waits() -> None:
    """It is told at once, and not after its whole wait."""
    world = World()
    pool = world.pool(consumers_soft_max=1, consumers_hard_max=1, wait_timeout_s=3600)
    lease = pool.lease("t", 0)
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            pool.lease("t", 1)
        except PoolClosed as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    pool.close()
    thread.join(WAIT_S)
    assert len(raised) == 1
    lease.release()


# ---- Keys


def test_a_secret_is_in_no_event_and_no_key() -> None:
    """Nor in an error."""
    world = World()
    pool = world.pool(librdkafka={"sasl.password": "hunter2", "client.id": "me"})
    with pool.lease("t", 0) as lease:
        assert "hunter2" not in f"{world.events}{lease!r}"
    assert "hunter2" not in repr(world.events)


def test_the_same_settings_in_another_order_are_the_same_key() -> None:
    """And a number is not its text."""
    given: dict[str, Any] = {"client.id": "a", "fetch.min.bytes": 1}
    pool = World().pool(librdkafka=lambda: given)
    assert use(pool) == 1
    given = {"fetch.min.bytes": 1, "client.id": "a"}
    assert use(pool) == 1
    given = {"fetch.min.bytes": "1", "client.id": "a"}
    assert use(pool) == 2


def test_a_method_as_a_callback_is_the_same_each_time() -> None:
    """It is another object each time; but of another object it is another callback."""

    class Tokens:
        def token(self, _config: str) -> tuple[str, float]:
            return ("", 0.0)

    tokens = Tokens()
    pool = World().pool(librdkafka=lambda: {"oauth_cb": tokens.token})
    assert use(pool) == use(pool) == 1
    tokens = Tokens()
    assert use(pool) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"topic": ""},
        {"partition": -1},
        {"position": -1},
        {"attempt": -1},
        {"position": True},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, Any]) -> None:
    """Before anything is opened."""
    arguments = dict(arguments)
    world = World()
    with pytest.raises(ConfigError):
        world.pool().lease(arguments.pop("topic", "t"), arguments.pop("partition", 0), **arguments)
    assert world.opened == []


def test_limits_that_contradict_each_other_are_refused() -> None:
    """And those that would mean never to one and at once to another."""
    for limits in (
        {"consumers_soft_max": 9, "consumers_hard_max": 8},
        {"idle_timeout_s": 0},
        {"idle_timeout_s": -1},
    ):
        with pytest.raises(ConfigError):
            World().pool(**limits)


def test_settings_that_are_headraces_are_refused_when_the_pool_is_made() -> None:
    """As everywhere."""
    with pytest.raises(ConfigError, match=r"group\.id"):
        World().pool(librdkafka={"group.id": "x"})
