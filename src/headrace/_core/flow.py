"""Whether a partition takes in more records: budgets with hysteresis, as pure functions of its numbers.

Pausing throws away what librdkafka has prefetched for that partition, so it must be rare: a partition pauses at a
budget and resumes well below it. Records set aside for a retry have a budget of their own, so that failing keys do
not stop healthy ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace._core.tenure import Tenure
    from headrace.config import Budgets


def reason_to_pause(tenure: Tenure, budgets: Budgets, bytes_total: int, partitions: int) -> str | None:
    """Which budget this partition has reached, or None."""
    if tenure.runnable >= budgets.queued_records_max:
        return "queued_records_max"
    if tenure.ledger.span >= budgets.lookahead_records_max:
        return "lookahead_records_max"
    if tenure.bytes_held >= budgets.partition_bytes_max:
        return "partition_bytes_max"
    if tenure.parked + tenure.lanes.held >= budgets.parked_records_max:
        return "parked_records_max"
    # Beyond the total only those above their fair share stop: one partition's backlog must not starve another.
    if bytes_total >= budgets.total_bytes_max and tenure.bytes_held * partitions >= budgets.total_bytes_max:
        return "total_bytes_max"
    return None


def may_resume(tenure: Tenure, budgets: Budgets, bytes_total: int, partitions: int) -> bool:
    """Whether a partition paused for a budget is far enough below every one of them."""
    return (
        tenure.runnable <= budgets.queued_records_max // 2
        and tenure.ledger.span <= budgets.lookahead_records_max * 3 // 4
        and tenure.bytes_held <= budgets.partition_bytes_max // 2
        and tenure.parked + tenure.lanes.held <= budgets.parked_records_max * 3 // 4
        and (
            bytes_total <= budgets.total_bytes_max * 3 // 4
            or tenure.bytes_held * partitions * 2 <= budgets.total_bytes_max
        )
    )
