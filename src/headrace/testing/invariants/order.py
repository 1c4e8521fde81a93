"""S3: whether a handler may start now, by the order of its key, or of its partition.

Decides it from what is at work and what this assignment has begun. Refuses to know who may own what. Invariant: on one
member a lane waits even for a handler that outlived its assignment; across members it need not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.testing.invariants.evidence import Partition, Run, Tenure
    from headrace.testing.simulation import history as told


def out_of_order(
    partition: Partition, tenure: Tenure, entry: told.HandlerStarted, runs: Iterable[Run]
) -> str | None:
    """Say what this start should have waited for, or None."""
    lane = partition.lane(entry.key)
    for run in runs:
        if _in_the_way(partition, tenure, entry, lane, run):
            return f"while {run.member} was at work on {run.offset} of the same lane"
    # Of a topic made anew what one offset means cannot be told: only handlers at work are compared, by their own keys.
    if lane is None or partition.unpromised:
        return None
    return _begun_wrongly(partition, tenure, entry, lane) or _left_out(partition, tenure, entry, lane)


def _in_the_way(
    partition: Partition, tenure: Tenure, entry: told.HandlerStarted, lane: bytes | None, run: Run
) -> bool:
    if run.tenure.place != entry.place or run.number == entry.run != 0:  # one run: one batch
        return False
    if lane is None:
        # Without a key there is no order; only one assignment does not try one record twice at once.
        return run.offset == entry.offset and run.tenure is tenure
    # The key that each was given, not the log's: that may have been made anew, and an offset mean another record.
    same_record = run.offset == entry.offset and not partition.unpromised
    if not same_record and partition.lane(run.key) != lane:
        return False
    return run.member == tenure.member or not (run.outlived or run.tenure.contested or tenure.contested)


def _begun_wrongly(
    partition: Partition, tenure: Tenure, entry: told.HandlerStarted, lane: bytes
) -> str | None:
    again = entry.offset in tenure.outcomes
    for offset, outcome in tenure.outcomes.items():
        if offset not in partition.records or partition.lane_at(offset) != lane:
            continue
        if offset > entry.offset and not again:
            return f"after {offset} of the same lane"
        waits = outcome not in ("returned", None) and offset not in tenure.settled
        if offset < entry.offset and waits and partition.rules.guarantee == "at_least_once":
            return f"while {offset} of the same lane was unfinished ({outcome})"
    return None


def _left_out(partition: Partition, tenure: Tenure, entry: told.HandlerStarted, lane: bytes) -> str | None:
    if partition.rules.guarantee != "at_least_once":
        return None
    # What it was told is finished it may pass, though another's move, not committed yet, calls for it again.
    before = [
        offset
        for offset in partition.unsettled
        if offset < entry.offset
        and offset in tenure.fetched
        and offset not in tenure.outcomes
        and offset not in tenure.restored
        and partition.lane_at(offset) == lane
    ]
    return f"before {min(before)} of the same lane" if before else None
