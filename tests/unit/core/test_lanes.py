"""Lanes against an oracle that keeps a plain list per lane, and the scenarios other libraries broke on."""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace._core.lanes import (
    DISPATCHED,
    DONE,
    GONE,
    HELD,
    PARKED,
    READY,
    SETTLING,
    STATE_NAMES,
    UNACKED,
    WAITING,
    Lanes,
)
from tests.unit.core.makers import deliver, make_tenure

if TYPE_CHECKING:
    from headrace.records import Record
    from headrace.subscriptions import OrderBy

KEYS = (b"a", b"b", b"", None)


class LanesAgainstOracle(RuleBasedStateMachine):
    """One partition's lanes through several tenures. The oracle: per lane, the records that have not ended, in order."""

    @initialize(order_by=st.sampled_from(("key", "key", "partition", "none")))
    def begin(self, order_by: OrderBy) -> None:
        self.order_by = order_by
        self.lanes = Lanes(order_by)
        self.tenure = make_tenure(lanes=self.lanes)
        self.order: dict[object, list[Record[Any, Any]]] = {}
        self.dispatched: list[Record[Any, Any]] = []
        self.parked: list[Record[Any, Any]] = []
        self.settling: list[Record[Any, Any]] = []
        self.stale: list[Record[Any, Any]] = []

    def lane(self, record: Record[Any, Any]) -> object:
        if self.order_by == "none" or (self.order_by == "key" and record.raw_key is None):
            return record  # a lane of its own
        return record.raw_key if self.order_by == "key" else b""

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=6))
    def records_come(self, keys: list[bytes | None]) -> None:
        for record in deliver(self.tenure, keys):
            self.order.setdefault(self.lane(record), []).append(record)

    @rule(count=st.integers(1, 8))
    def take(self, count: int) -> None:
        could = self.lanes.takeable(count)
        taken = self.lanes.take(count)
        assert len(taken) == could <= count
        for record in taken:
            line = self.order[self.lane(record)]
            before = line[: line.index(record)]
            # All that come before it and have not ended go with it, in this very run.
            assert all(other in taken for other in before), (
                "a later record was dispatched past an earlier one"
            )
            assert [other for other in taken if other in before] == before
        self.dispatched += taken

    def head_of_its_lane(self, record: Record[Any, Any]) -> bool:
        return self.order[self.lane(record)][0] is record

    def heads(self) -> list[Record[Any, Any]]:
        return [record for record in self.dispatched if self.head_of_its_lane(record)]

    def leave(self, record: Record[Any, Any]) -> None:
        line = self.order[self.lane(record)]
        line.remove(record)
        if not line:
            del self.order[self.lane(record)]

    @precondition(lambda self: self.heads())
    @rule(data=st.data(), state=st.sampled_from((DONE, UNACKED)))
    def resolve(self, data: st.DataObject, state: int) -> None:
        record = data.draw(st.sampled_from(self.heads()))
        self.dispatched.remove(record)
        self.leave(record)
        self.lanes.resolve([record], state)
        assert record._state == state

    @precondition(lambda self: self.heads())
    @rule(data=st.data(), state=st.sampled_from((PARKED, SETTLING)))
    def hold(self, data: st.DataObject, state: int) -> None:
        record = data.draw(st.sampled_from(self.heads()))
        self.dispatched.remove(record)
        (self.parked if state == PARKED else self.settling).append(record)
        self.lanes.hold(record, state)
        # A worker starts none behind a failure: what went with it comes back, now or a little later.
        if data.draw(st.booleans()):
            behind = [other for other in self.dispatched if self.lane(other) == self.lane(record)]
            self.give_back(behind)

    @precondition(lambda self: self.parked)
    @rule(data=st.data())
    def due(self, data: st.DataObject) -> None:
        record = data.draw(st.sampled_from(self.parked))
        self.parked.remove(record)
        self.lanes.make_ready(record)

    @precondition(lambda self: self.parked or self.settling)
    @rule(data=st.data())
    def settled(self, data: st.DataObject) -> None:
        record = data.draw(st.sampled_from([*self.parked, *self.settling]))
        (self.parked if record in self.parked else self.settling).remove(record)
        self.leave(record)
        self.lanes.resolve([record], DONE)

    @precondition(lambda self: self.dispatched)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.dispatched))
        line = self.order[self.lane(one)]
        behind = line[line.index(one) :]
        self.give_back([other for other in self.dispatched if other in behind])

    def give_back(self, records: list[Record[Any, Any]]) -> None:
        self.dispatched = [record for record in self.dispatched if record not in records]
        self.lanes.put_back(records)

    @rule()
    def tenure_closes(self) -> None:
        """Running handlers outlive it; another tenure of the partition begins on this member."""
        self.lanes.clear()
        self.stale += self.dispatched
        self.order = {
            lane: kept for lane, line in self.order.items() if (kept := [r for r in line if r in self.stale])
        }
        self.dispatched, self.parked, self.settling = [], [], []
        self.tenure = make_tenure(start=self.tenure.ledger.position, lanes=self.lanes)

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def stale_ends(self, data: st.DataObject) -> None:
        """In any order: some ran to their end, some were given back from behind a running one."""
        records = data.draw(st.lists(st.sampled_from(self.stale), min_size=1, unique_by=id))
        for record in records:
            self.stale.remove(record)
            self.leave(record)
        self.lanes.drop(records)
        assert all(record._state == GONE for record in records)

    @invariant()
    def states_follow_from_the_order(self) -> None:
        if not hasattr(self, "lanes"):
            return
        ready = set(map(id, self.lanes.ready))
        assert len(ready) == len(self.lanes.ready), "a record twice in ready"
        held = 0
        for line in self.order.values():
            for index, record in enumerate(line):
                state = record._state
                held += state == HELD
                assert (state == READY) == (id(record) in ready), STATE_NAMES[state]
                self.state_is_right(record, line[:index])
        assert self.lanes.held == held
        laned = [lane for lane, line in self.order.items() if lane is not line[0]]
        assert len(self.lanes) == len(laned), "a lane is known exactly while it has an unended record"

    def state_is_right(self, record: Record[Any, Any], before: list[Record[Any, Any]]) -> None:
        state = record._state
        if record in self.dispatched or record in self.stale:
            assert state == DISPATCHED
        elif record in self.parked:
            assert state == PARKED
        elif record in self.settling:
            assert state == SETTLING
        elif not before:
            assert state == READY
        elif any(other in self.dispatched for other in before):
            # What went with a failed record settles those behind it when it comes back.
            assert state in (WAITING, HELD)
        elif any(other in self.parked or other in self.settling for other in before):
            assert state == HELD
        else:
            assert state == WAITING


TestLanesAgainstOracle = LanesAgainstOracle.TestCase
TestLanesAgainstOracle.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


# ---- Scenarios


@pytest.mark.parametrize("records", [1, 2, 5, 10, 20, 30, 50, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_key_keeps_its_order_at_high_volume(records: int) -> None:
    """100 keys, as many records each, interleaved: parallel-consumer's highVolumeKeyOrder."""
    tenure = make_tenure()
    keys = [b"%d" % number for number in range(100)]
    deliver(tenure, list(islice(cycle(keys), 100 * records)))
    seen: dict[bytes, list[int]] = {key: [] for key in keys}
    while taken := tenure.lanes.take(64):
        for record in taken:
            assert record.raw_key is not None
            seen[record.raw_key].append(record.offset)
        tenure.lanes.resolve(taken, DONE)
    for number, key in enumerate(keys):
        assert seen[key] == list(range(number, 100 * records, 100))
    assert len(tenure.lanes) == 0


def test_keys_run_in_parallel_and_partitions_do_not() -> None:
    """orderedByKeyParallel, orderedByPartitionsParallel: one run per lane, whatever is asked for."""
    by_key, by_partition = make_tenure(), make_tenure(order_by="partition")
    for tenure in (by_key, by_partition):
        deliver(tenure, [b"a", b"b", b"c"])
    assert [len(by_key.lanes.take(1)) for _ in range(4)] == [1, 1, 1, 0]
    assert [len(by_partition.lanes.take(1)) for _ in range(2)] == [1, 0]


def test_a_record_in_flight_blocks_its_key_alone() -> None:
    """OrderedInFlightShouldBlockQueue."""
    tenure = make_tenure()
    first, second, other = deliver(tenure, [b"a", b"a", b"b"])
    assert tenure.lanes.take(1) == [first]
    assert tenure.lanes.take(10) == [other]
    tenure.lanes.resolve([first], DONE)
    assert tenure.lanes.take(10) == [second]


def test_a_parked_record_blocks_its_key_alone() -> None:
    """OrderedAndDelayed: its retry comes before what came later."""
    tenure = make_tenure()
    first, second, other = deliver(tenure, [b"a", b"a", b"b"])
    tenure.lanes.take(1)
    tenure.lanes.hold(first, PARKED)
    assert tenure.lanes.take(10) == [other]
    assert tenure.lanes.held == 1
    tenure.lanes.make_ready(first)
    assert tenure.lanes.take(10) == [first, second]


def test_records_without_a_key_have_no_order() -> None:
    """An empty key is a key all the same."""
    tenure = make_tenure()
    deliver(tenure, [None, None, b"", b""])
    assert [len(tenure.lanes.take(1)) for _ in range(4)] == [1, 1, 1, 0]


def test_keys_are_compared_by_value() -> None:
    """parallel-consumer #579: two arrays with the same bytes were two keys."""
    tenure = make_tenure()
    deliver(tenure, [bytes([1, 2]), bytes(bytearray([1, 2]))])
    assert len(tenure.lanes) == 1


def test_what_comes_while_a_given_back_record_is_out_is_held_with_it() -> None:
    """Found in this core: it counted as runnable, and a failing key could fill the budget of healthy ones."""
    tenure = make_tenure()
    first, second = deliver(tenure, [b"a", b"a"])
    tenure.lanes.take(2)
    tenure.lanes.hold(first, PARKED)
    deliver(tenure, [b"a"] * 10)
    tenure.lanes.put_back([second])
    assert tenure.lanes.held == 11
    tenure.lanes.make_ready(first)
    assert len(tenure.lanes.take(100)) == 12


def test_a_stale_record_given_back_does_not_free_the_lane_of_a_running_one() -> None:
    """Found in this core: the key that came back ran beside its own stale handler."""
    tenure = make_tenure()
    running, unclaimed = deliver(tenure, [b"a", b"a"])
    tenure.lanes.take(2)
    tenure.lanes.clear()
    fresh = make_tenure(start=2, lanes=tenure.lanes)
    deliver(fresh, [b"a"])
    fresh.lanes.drop([unclaimed])
    assert not fresh.lanes.take(1)
    fresh.lanes.drop([running])
    assert len(fresh.lanes.take(1)) == 1
