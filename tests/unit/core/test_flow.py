"""Budgets: where intake stops, where it goes on, and that it always does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.flow import may_resume, reason_to_pause
from headrace._core.lanes import DONE, PARKED
from headrace.config import Budgets
from tests.unit.core.makers import deliver, finish, make_tenure

BUDGETS = Budgets(
    queued_records_max=10,
    lookahead_records_max=20,
    partition_bytes_max=2000,
    total_bytes_max=4000,
    parked_records_max=8,
)
REASONS: tuple[Reason, ...] = (
    "queued_records_max",
    "lookahead_records_max",
    "partition_bytes_max",
    "parked_records_max",
    "total_bytes_max",
)

if TYPE_CHECKING:
    from headrace._core.tenure import Reason


def test_the_queue_pauses_at_its_budget_and_resumes_at_half() -> None:
    tenure = make_tenure()
    records = deliver(tenure, [None] * 9, size=0)
    assert reason_to_pause(tenure, BUDGETS, 0, 1) is None
    records += deliver(tenure, [None], size=0)
    assert reason_to_pause(tenure, BUDGETS, 0, 1) == "queued_records_max"
    finish(tenure, records[:4])
    assert not may_resume("queued_records_max", tenure, BUDGETS, 0, 1)
    finish(tenure, records[4:5])
    assert may_resume("queued_records_max", tenure, BUDGETS, 0, 1)


def test_a_stuck_head_pauses_at_the_look_ahead() -> None:
    """Finished records behind it count: they are what the offset map must hold."""
    tenure = make_tenure()
    records = deliver(tenure, [None] * 20, size=0)
    finish(tenure, records[1:])
    assert reason_to_pause(tenure, BUDGETS, 0, 1) == "lookahead_records_max"
    finish(tenure, records[:1])
    assert may_resume("lookahead_records_max", tenure, BUDGETS, 0, 1)


def test_parked_records_and_those_behind_them_have_a_budget_of_their_own() -> None:
    """parallel-consumer PR 487: retries filled the intake gate, and healthy keys starved."""
    tenure = make_tenure()
    budgets = Budgets(queued_records_max=4, parked_records_max=8)
    first, *_ = deliver(tenure, [b"poison"] * 7, size=0)
    tenure.lanes.take(1)
    tenure.lanes.hold(first, PARKED)
    tenure.parked = 1
    assert reason_to_pause(tenure, budgets, 0, 1) is None
    deliver(tenure, [b"poison"], size=0)
    assert reason_to_pause(tenure, budgets, 0, 1) == "parked_records_max"


def test_a_pause_for_the_queue_does_not_lower_the_other_limits() -> None:
    """Found in this core: with 80% of the parked budget in use, one full queue stopped the healthy keys for good."""
    tenure = make_tenure()
    first, *_ = deliver(tenure, [b"poison"] * 7, size=0)
    tenure.lanes.take(1)
    tenure.lanes.hold(first, PARKED)
    tenure.parked = 1
    assert reason_to_pause(tenure, BUDGETS, 0, 1) is None
    assert may_resume("queued_records_max", tenure, BUDGETS, 0, 1)


def test_bytes_pause_a_partition() -> None:
    tenure = make_tenure()
    deliver(tenure, [None, None], size=1000)
    assert reason_to_pause(tenure, BUDGETS, 2000, 1) == "partition_bytes_max"
    tenure.bytes_held = 1001
    assert not may_resume("partition_bytes_max", tenure, BUDGETS, 0, 1)
    tenure.bytes_held = 1000
    assert may_resume("partition_bytes_max", tenure, BUDGETS, 0, 1)


def test_beyond_the_total_only_those_above_their_fair_share_pause() -> None:
    """One partition's backlog must not starve another."""
    tenure = make_tenure()
    tenure.bytes_held = 999
    assert reason_to_pause(tenure, BUDGETS, 5000, 4) is None
    tenure.bytes_held = 1000
    assert reason_to_pause(tenure, BUDGETS, 5000, 4) == "total_bytes_max"
    assert not may_resume("total_bytes_max", tenure, BUDGETS, 5000, 4)
    assert may_resume("total_bytes_max", tenure, BUDGETS, 3000, 4)
    tenure.bytes_held = 500
    assert may_resume("total_bytes_max", tenure, BUDGETS, 5000, 4)


budgets = st.builds(
    Budgets,
    queued_records_max=st.integers(1, 20),
    lookahead_records_max=st.integers(1, 20),
    partition_bytes_max=st.integers(1024, 3000),
    total_bytes_max=st.integers(1024, 3000),
    parked_records_max=st.integers(1, 20),
)


@given(budgets, st.integers(0, 40), st.integers(0, 10_000), st.integers(1, 50))
def test_intake_never_wedges(limits: Budgets, count: int, others_bytes: int, partitions: int) -> None:
    """When everything of a partition is finished it may go on, whatever stopped it and whatever others hold."""
    tenure = make_tenure()
    records = deliver(tenure, [b"a"] * count, size=100)
    while taken := tenure.lanes.take(3):
        tenure.lanes.resolve(taken, DONE)
    finish(tenure, records)
    tenure.bytes_held = 0
    assert reason_to_pause(tenure, limits, others_bytes, partitions) is None
    for reason in REASONS:
        assert may_resume(reason, tenure, limits, others_bytes, partitions)


@given(budgets, st.integers(0, 40), st.integers(1, 50))
def test_what_has_just_paused_does_not_resume_at_once(limits: Budgets, count: int, partitions: int) -> None:
    """Every pause throws away what the client has prefetched."""
    tenure = make_tenure()
    deliver(tenure, [None] * count, size=100)
    held = tenure.bytes_held
    reason = reason_to_pause(tenure, limits, held, partitions)
    if reason is not None:
        assert not may_resume(reason, tenure, limits, held, partitions)


@pytest.mark.parametrize("reason", REASONS)
def test_every_budget_is_met_by_some_partition(reason: Reason) -> None:
    tenure = make_tenure()
    held = 0
    match reason:
        case "queued_records_max":
            deliver(tenure, [None] * 10, size=0)
        case "lookahead_records_max":
            finish(tenure, deliver(tenure, [None] * 20, size=0)[1:])
        case "partition_bytes_max":
            tenure.bytes_held = 2000
        case "parked_records_max":
            deliver(tenure, [None] * 8, size=0)
            tenure.parked = 8
        case "total_bytes_max":
            tenure.bytes_held = held = 1999
            held *= 3
    assert reason_to_pause(tenure, BUDGETS, held, 3) == reason
