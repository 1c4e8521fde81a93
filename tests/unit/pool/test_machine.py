"""Leases in any order: what must hold after each step, whatever the steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from headrace.pool import LeaseReleased, PoolExhausted
from tests.unit.pool.stand_in import World, consumer_of

if TYPE_CHECKING:
    from headrace.pool import Lease
    from tests.unit.pool.stand_in import StandInConsumer

SOFT_MAX, HARD_MAX, CACHED_MAX, IDLE_S = 3, 5, 2, 10.0


class Leases(RuleBasedStateMachine):
    """One pool, three keys, everything that can be done to them."""

    leases = Bundle("leases")
    ended = Bundle("ended")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.pool = self.world.pool(
            consumers_soft_max=SOFT_MAX,
            consumers_hard_max=HARD_MAX,
            cached_per_key_max=CACHED_MAX,
            idle_timeout_s=IDLE_S,
        )
        self.live: list[Lease] = []
        self.doomed: set[int] = set()
        """Consumers that must not be lent again."""

    @rule(
        target=leases,
        partition=st.integers(0, 2),
        position=st.integers(0, 3),
        attempt=st.integers(0, 1),
        use_cache=st.booleans(),
    )
    def take(self, partition: int, position: int, attempt: int, use_cache: bool) -> Lease | None:
        """Take a lease."""
        idle = {c for c in self.world.opened if not c.closed and c not in map(self._consumer, self.live)}
        fitting = {c for c in idle if c.place_of == ("t", partition) and c.at == position}
        try:
            lease = self.pool.lease("t", partition, position=position, attempt=attempt, use_cache=use_cache)
        except PoolExhausted:
            assert len(self.live) == HARD_MAX
            return None
        assert lease.consumer_number not in self.doomed
        if attempt:
            self._doom(partition)
        elif use_cache and fitting:
            assert self._consumer(lease) in fitting
        if attempt or not use_cache:
            assert lease.kind == "private"
        if lease.kind == "private":
            assert self._consumer(lease) not in idle
            self.doomed.add(lease.consumer_number)
        if self.world.opened[-1] is self._consumer(lease) and self._consumer(lease) not in idle:
            assert self.world.unclosed <= SOFT_MAX or self.pool.counters().idle == 0
        assert lease.position == position
        self.live.append(lease)
        return lease

    @rule(lease=leases, count=st.integers(1, 3))
    def read(self, lease: Lease | None, count: int) -> None:
        """Read on."""
        if lease in self.live:
            assert lease is not None
            at = lease.position
            assert at is not None
            assert [r.offset() for r in lease.consume(count, 1.0)] == list(range(at, at + count))

    @rule(target=ended, lease=consumes(leases), how=st.sampled_from(["release", "invalidate"]))
    def end(self, lease: Lease | None, how: str) -> Lease | None:
        """End a lease."""
        if lease is not None:
            getattr(lease, how)()
            self.live.remove(lease)
            if how == "invalidate":
                self.doomed.add(lease.consumer_number)
            assert consumer_of(self.world, lease).closed is (lease.consumer_number in self.doomed)
        return lease

    @rule(lease=ended)
    def end_again(self, lease: Lease | None) -> None:
        """A lease that is over does nothing."""
        if lease is not None:
            before = self.pool.counters()
            lease.release()
            lease.invalidate()
            assert self.pool.counters() == before
            with pytest.raises(LeaseReleased):
                lease.consume(1, 1.0)

    @rule(partition=st.integers(0, 2))
    def invalidate(self, partition: int) -> None:
        """Give a key up."""
        self.pool.invalidate("t", partition)
        self._doom(partition)

    @rule(seconds=st.sampled_from([1.0, IDLE_S, IDLE_S + 0.5]))
    def wait(self, seconds: float) -> None:
        """Time passes, and somebody looks."""
        self.world.now += seconds
        self.pool.evict_idle()
        if seconds > IDLE_S:
            assert self.pool.counters().idle == 0

    @invariant()
    def nobody_shares(self) -> None:
        """One consumer, one lease; none of them closed; the counts are those of what exists."""
        used = [self._consumer(lease) for lease in self.live]
        assert len(set(map(id, used))) == len(used)
        assert not any(consumer.closed for consumer in used)
        counters = self.pool.counters()
        assert (counters.active, counters.closing) == (len(self.live), 0)
        assert self.world.unclosed == counters.active + counters.idle
        assert self.world.misuses == []

    @invariant()
    def limits_hold(self) -> None:
        """The hard one, and the one of each key; `take` looks at the soft one, which holds when one is opened."""
        assert self.world.unclosed <= HARD_MAX
        for partition in range(3):
            kept = [lease for lease in self.live if lease.partition == partition and lease.kind == "cached"]
            assert len(kept) <= CACHED_MAX

    def teardown(self) -> None:
        """Everything is closed in the end."""
        self.pool.close()
        for lease in self.live:
            lease.release()
        assert self.world.unclosed == 0

    def _consumer(self, lease: Lease) -> StandInConsumer:
        return consumer_of(self.world, lease)

    def _doom(self, partition: int) -> None:
        """All that the key has now, in use or idle: the idle ones are closed already."""
        self.doomed |= {lease.consumer_number for lease in self.live if lease.partition == partition}
        for number, consumer in enumerate(self.world.opened, start=1):
            if consumer.place_of == ("t", partition) and consumer.closed:
                self.doomed.add(number)


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
