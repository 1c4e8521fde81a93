"""What Spark's suites assert of its pools, in this pool's words; the numbers are theirs.

Spark has a pool of consumers and one of fetched data; here what was fetched stays in the consumer that fetched it, so
both speak of the same thing.
"""

from __future__ import annotations

import threading

from headrace.pool import ConsumerPool, PoolSettings
from tests.unit.pool.stand_in import World, consumer_of, use


def counts(pool: ConsumerPool) -> tuple[int, int, int]:
    """Idle, active, and both."""
    now = pool.counters()
    return now.idle, now.active, now.idle + now.active


# ---- Consumers of one task after the other


def test_the_same_consumer_serves_one_after_the_other() -> None:
    """KafkaDataConsumerSuite 1."""
    world = World()
    pool = world.pool()
    assert use(pool) == use(pool) == 1
    assert counts(pool) == (1, 0, 1)


def test_a_retry_gets_another_one_and_empties_the_key() -> None:
    """KafkaDataConsumerSuite 2; SQL KafkaDataConsumerSuite 2."""
    world = World()
    pool = world.pool()
    first = use(pool, attempt=0)
    assert counts(pool) == (1, 0, 1)
    assert use(pool, attempt=1) != first
    assert counts(pool) == (0, 0, 0)


# ---- InternalKafkaConsumerPoolSuite


def test_one_key_has_a_limit_on_what_is_kept() -> None:
    """1: three are kept, a fourth at once is closed when it comes back."""
    world = World()
    pool = world.pool(cached_per_key_max=3)
    leases = [pool.lease("t", 0) for _ in range(3)]
    assert counts(pool) == (0, 3, 3)
    leases.append(pool.lease("t", 0))
    assert counts(pool) == (0, 4, 4)
    for lease in leases[:3]:
        lease.release()
    assert counts(pool) == (3, 1, 4)
    leases[3].release()
    assert counts(pool) == (3, 0, 3)
    assert world.unclosed == 3


def test_keys_are_counted_apart() -> None:
    """2: two topics of six partitions."""
    pool = World().pool()
    leases = [pool.lease(topic, partition) for topic in "ab" for partition in range(6)]
    assert counts(pool) == (0, 12, 12)
    assert {lease.consumer_number for lease in leases} == set(range(1, 13))
    for returned, lease in enumerate(leases, start=1):
        lease.release()
        assert counts(pool) == (returned, 12 - returned, 12)


def test_the_soft_limit_is_passed_when_all_are_in_use() -> None:
    """3."""
    pool = World().pool(consumers_soft_max=16)
    leases = [pool.lease("t", partition) for partition in range(17)]
    assert counts(pool) == (0, 17, 17)
    assert leases[-1].kind == "cached"


def test_idle_ones_make_room_and_not_all_of_them() -> None:
    """4: here one goes, since one is needed."""
    world = World()
    pool = world.pool(consumers_soft_max=16)
    leases = [pool.lease("t", partition) for partition in range(16)]
    for lease in leases[:3]:
        lease.release()
    assert counts(pool) == (3, 13, 16)
    new = pool.lease("new", 0)
    assert (new.kind, counts(pool)) == ("cached", (2, 14, 16))
    assert world.opened[0].closed  # the one that had been idle for longest


def test_the_pools_thread_closes_what_is_idle_for_long() -> None:
    """5: of ten, the five that came back are gone after a while, without a call. Real time, short limits."""
    world = World()
    closed = threading.Semaphore(0)
    world.closing = lambda _consumer: closed.release()
    pool = ConsumerPool(
        "nowhere:9092",
        settings=PoolSettings(idle_timeout_s=0.05, idle_check_s=0.01),
        connect=world.connect,
    )
    leases = [pool.lease("t", partition) for partition in range(10)]
    for lease in leases[::2]:
        lease.release()
    for _ in range(5):
        assert closed.acquire(timeout=20)
    assert pool.counters().active == 5
    assert [consumer.closed for consumer in world.opened] == [True, False] * 5
    pool.close()


def test_other_parameters_after_an_invalidation() -> None:
    """6: the next consumer has them."""
    world = World()
    given = {"client.id": "a"}
    pool = world.pool(librdkafka=lambda: given)
    use(pool)
    pool.invalidate("t", 0)
    assert counts(pool) == (0, 0, 0)
    given["client.id"] = "b"
    with pool.lease("t", 0) as lease:
        assert consumer_of(world, lease).settings.librdkafka["client.id"] == "b"
        assert counts(pool) == (0, 1, 1)


def test_other_parameters_in_another_pool_after_a_close() -> None:
    """7: a pool that is closed stays closed; its successor begins empty."""
    world = World()
    old = world.pool(librdkafka={"client.id": "a"})
    use(old)
    old.close()
    assert (counts(old), world.unclosed) == ((0, 0, 0), 0)
    new = world.pool(librdkafka={"client.id": "b"})
    with new.lease("t", 0):
        assert world.opened[-1].settings.librdkafka["client.id"] == "b"
        assert counts(new) == (0, 1, 1)


# ---- FetchedDataPoolSuite: what was fetched is the consumer's, and is found by its position


def test_every_key_has_its_own() -> None:
    """1: ten keys, one consumer each, idle afterwards with what they have fetched."""
    world = World()
    pool = world.pool()
    assert counts(pool) == (0, 0, 0)
    leases = [pool.lease("t", partition, position=0) for partition in range(10)]
    assert counts(pool) == (0, 10, 10)
    for lease in leases:
        assert len(lease.consume(5, 1.0)) == 5
        lease.release()
    assert counts(pool) == (10, 0, 10)
    assert [consumer.at for consumer in world.opened] == [5] * 10


def test_whoever_goes_on_where_it_stands_gets_what_it_has_fetched() -> None:
    """2: no seek."""
    world = World()
    pool = world.pool()
    with pool.lease("t", 0, position=0) as lease:
        lease.consume(4, 1.0)
    with pool.lease("t", 0, position=4) as again:
        assert again.consumer_number == lease.consumer_number
        assert counts(pool) == (0, 1, 1)
    assert (pool.counters().seeks, pool.counters().reused) == (0, 1)


def test_two_tasks_of_one_key_find_each_its_own_again() -> None:
    """3; SQL KafkaDataConsumerSuite 6: by position, though the other one was idle for longer."""
    world = World()
    pool = world.pool(cached_per_key_max=2)
    one, two = pool.lease("t", 0, position=0), pool.lease("t", 0, position=0)
    assert one.consumer_number != two.consumer_number
    one.consume(4, 1.0)
    one.release()
    two.consume(6, 1.0)
    two.release()
    again_two = pool.lease("t", 0, position=6)
    assert again_two.consumer_number == two.consumer_number
    again_one = pool.lease("t", 0, position=4)
    assert again_one.consumer_number == one.consumer_number
    assert pool.counters().seeks == 0
    again_one.release()
    again_two.release()
    assert counts(pool) == (2, 0, 2)


def test_the_limit_on_idleness_is_strict() -> None:
    """4: limit 2 s; three came back half a second apart; each goes when it is older than the limit, and not at it."""
    world = World()
    pool = world.pool(idle_timeout_s=2.0)
    leases = [pool.lease("t", partition) for partition in range(10)]
    for lease in leases[:3]:
        lease.release()
        world.now += 0.5
    world.now += 0.5  # the first has been idle for 2.0 s
    assert pool.evict_idle() == 0
    for gone in (1, 2, 3):
        world.now += 0.1 if gone == 1 else 0.5
        assert pool.evict_idle() == 1
        assert [consumer.closed for consumer in world.opened] == [True] * gone + [False] * (10 - gone)
    assert (pool.counters().created, counts(pool)) == (10, (0, 7, 7))
    for lease in leases[-3:]:
        lease.release()
    world.now += 2.1
    assert counts(pool) == (3, 4, 7)  # nobody looked
    assert pool.evict_idle() == 3


def test_no_limit_on_idleness_means_never() -> None:
    """A fault of Spark's: there, a limit that means "never" in the documentation closes everything at once."""
    world = World()
    pool = world.pool(idle_timeout_s=None)
    use(pool)
    world.now += 1e9
    assert (pool.evict_idle(), counts(pool)) == (0, (1, 0, 1))


def test_an_invalidated_key_is_empty_and_late_returns_are_not_kept() -> None:
    """5: one idle and one in use of a key; another key is left alone."""
    world = World()
    pool = world.pool(cached_per_key_max=2)
    first, second = pool.lease("t", 1), pool.lease("t", 1)
    other = pool.lease("t", 2)
    first.release()
    assert counts(pool) == (1, 2, 3)
    pool.invalidate("t", 1)
    assert (counts(pool), pool.counters().created) == ((0, 2, 2), 3)
    second.release()
    assert counts(pool) == (0, 1, 1)
    other.release()
    assert counts(pool) == (1, 0, 1)


def test_empties_are_not_taken_for_one_another() -> None:
    """A fault of Spark's: two entries that look alike; returning one made the other idle while it was in use."""
    world = World()
    pool = world.pool(cached_per_key_max=2)
    one, two = pool.lease("t", 0, position=0), pool.lease("t", 0, position=0)
    two.release()
    with pool.lease("t", 0, position=0) as third:
        assert third.consumer_number == two.consumer_number
        assert third.consumer_number != one.consumer_number
    one.consume(1, 1.0)
    assert world.misuses == []


# ---- SQL KafkaDataConsumerSuite


def test_the_same_token_has_the_same_consumer_and_a_new_one_another() -> None:
    """3 and 4: a secret is part of the key."""
    world = World()
    token = {"sasl.password": "first"}
    pool = world.pool(librdkafka=lambda: token)
    assert use(pool) == use(pool) == 1
    token["sasl.password"] = "second"
    assert use(pool) == 2
    token["sasl.password"] = "first"
    assert use(pool) == 1


def test_the_same_offset_while_the_one_that_has_it_is_in_use() -> None:
    """7: another consumer. 8: and the same one if it is free."""
    world = World()
    pool = world.pool(cached_per_key_max=2)
    held = pool.lease("t", 0, position=0)
    held.consume(5, 1.0)
    with pool.lease("t", 0, position=5) as other:
        assert other.consumer_number != held.consumer_number
    held.release()
    world.now += 1
    with pool.lease("t", 0, position=5) as free:
        assert free.consumer_number in {1, 2}
        assert counts(pool) == (1, 1, 2)
    assert pool.counters().seeks == 0


# ---- KafkaRDDSuite: an empty range takes nothing


def test_an_empty_range_leases_nothing() -> None:
    """SPARK-24987: what is not taken need not be given back."""
    world = World()
    pool = world.pool()
    assert list(pool.read("t", 0, 18, 18)) == []
    assert world.opened == []
    assert world.events == []
