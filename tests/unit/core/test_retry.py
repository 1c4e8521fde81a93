"""Backoff and the parking lot."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.retry import ParkingLot, backoff_s
from headrace.config import RetryPolicy
from tests.unit.core.makers import deliver, make_tenure

policies = st.builds(
    RetryPolicy,
    attempts_max=st.integers(1, 100),
    backoff_initial_s=st.floats(0, 3600),
    backoff_factor=st.floats(1, 100),
    backoff_max_s=st.floats(0, 86_400),
    jitter=st.floats(0, 1),
)
spreads = st.floats(0, 1, exclude_max=True)


@given(policies, st.integers(1, 100), spreads)
def test_backoff_is_finite_and_never_negative(policy: RetryPolicy, attempt: int, spread: float) -> None:
    """Storm's overflowed at the 57th failure and became a loop without any wait."""
    delay_s = backoff_s(policy, attempt, spread)
    assert math.isfinite(delay_s)
    assert 0 <= delay_s <= policy.backoff_max_s * (1 + policy.jitter) * (1 + 1e-12)


@given(policies, spreads)
def test_backoff_never_falls_and_saturates(policy: RetryPolicy, spread: float) -> None:
    delays = [backoff_s(policy, attempt, spread) for attempt in range(1, 101)]
    assert delays == sorted(delays)


def test_backoff_reaches_its_cap_and_stays() -> None:
    policy = RetryPolicy(attempts_max=100, backoff_initial_s=0.002, backoff_max_s=10, jitter=0)
    assert [backoff_s(policy, attempt, 0.5) for attempt in (1, 2, 3)] == [0.002, 0.004, 0.008]
    assert {backoff_s(policy, attempt, 0.5) for attempt in range(14, 101)} == {10}


def test_waits_double_exactly() -> None:
    """Storm's `exponential`: 8, 16, 32 s."""
    policy = RetryPolicy(backoff_initial_s=8, backoff_max_s=100, jitter=0)
    assert [backoff_s(policy, attempt, 0.9) for attempt in (1, 2, 3)] == [8, 16, 32]


def test_the_cap_holds_for_the_first_wait_too() -> None:
    """Storm's `maxDelay`: an initial wait of 500 s with a cap of 2 s."""
    assert backoff_s(RetryPolicy(backoff_initial_s=500, backoff_max_s=2, jitter=0), 1, 0.5) == 2


@pytest.mark.parametrize(("spread", "delay_s"), [(0.0, 8.0), (0.5, 10.0), (0.75, 11.0)])
def test_jitter_spreads_both_ways(spread: float, delay_s: float) -> None:
    policy = RetryPolicy(backoff_initial_s=10, backoff_max_s=10, jitter=0.2)
    assert backoff_s(policy, 1, spread) == pytest.approx(delay_s)


def test_a_record_is_due_at_its_moment_and_not_before() -> None:
    """Storm's canScheduleRetry and multipleMessagesOnPartition."""
    lot, records = ParkingLot(), deliver(make_tenure(), [b"a", b"b"])
    assert lot.next_due() is None
    lot.park(records[1], 1.5)
    lot.park(records[0], 1.0)
    assert lot.next_due() == 1.0
    assert lot.pop_due(0.999) == []
    assert lot.pop_due(1.0) == [records[0]]
    assert lot.pop_due(2.0) == [records[1]]
    assert not len(lot)


def test_records_of_one_moment_all_come_out() -> None:
    """Storm's tree lost one of two schedules that compared equal."""
    lot, records = ParkingLot(), deliver(make_tenure(), [b"a"] * 50)
    for record in records:
        lot.park(record, 7.0)
    assert lot.pop_due(7.0) == records


def test_the_order_in_the_lot_does_not_follow_what_changes_outside() -> None:
    """Mutant 11: a queue ordered by a field that changes while queued grew without bound."""
    lot, records = ParkingLot(), deliver(make_tenure(), [b"a"] * 20)
    moments = random.Random(1).sample(range(100), 20)  # noqa: S311 - a shuffle, not a secret
    for record, due_at in zip(records, moments, strict=True):
        lot.park(record, due_at)
    for record in records:
        record.attempt += 5
    popped: list[int] = []
    for now in range(100):
        popped += [moments[record.offset] for record in lot.pop_due(now)]
    assert popped == sorted(moments)


def test_a_closed_tenure_is_forgotten_alone() -> None:
    """Storm's multipleTopics: retainAll drops the others."""
    lot, gone, kept = ParkingLot(), make_tenure(0), make_tenure(1)
    for tenure in (gone, kept):
        lot.park(deliver(tenure, [b"a"])[0], 1.0)
    lot.forget(gone)
    assert [record.partition for record in lot.pop_due(9.0)] == [1]
