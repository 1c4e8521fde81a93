"""Whether a partition takes in more records: budgets with hysteresis, as pure functions of its numbers.

Pausing throws away what librdkafka has prefetched for that partition, so it must be rare: a partition pauses at a
budget and resumes well below it. Records set aside for a retry have a budget of their own, so that failing keys do
not stop healthy ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace._core.tenure import Reason, Tenure
    from headrace.config import Budgets


def reason_to_pause(tenure: Tenure, budgets: Budgets, bytes_total: int, partitions: int) -> Reason | None:
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


def brims(tenure: Tenure, budgets: Budgets) -> bool:
    """Whether the next records may bring this partition to its queue budget."""
    return tenure.runnable * 4 >= budgets.queued_records_max * 3


def may_resume(reason: Reason, tenure: Tenure, budgets: Budgets, bytes_total: int, partitions: int) -> bool:
    """Whether a partition that reached this budget is far enough below it.

    Of the other budgets it need only be below: a stuck head or failing keys stop a partition at their limit, not at
    three quarters of it because it paused for something else once.
    """
    match reason:
        case "queued_records_max":
            return tenure.runnable <= budgets.queued_records_max // 2
        case "lookahead_records_max":
            return tenure.ledger.span <= budgets.lookahead_records_max * 3 // 4
        case "partition_bytes_max":
            return tenure.bytes_held <= budgets.partition_bytes_max // 2
        case "parked_records_max":
            return tenure.parked + tenure.lanes.held <= budgets.parked_records_max * 3 // 4
        case "total_bytes_max":
            return (
                bytes_total <= budgets.total_bytes_max * 3 // 4
                or tenure.bytes_held * partitions * 2 <= budgets.total_bytes_max
            )
