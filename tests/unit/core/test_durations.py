"""Durations count every handler once; failures are counted by class, and a flood of classes is bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.board import FAILURE_KINDS_MAX, OTHER_FAILURES, Board
from headrace._core.durations import BOUNDS_S, Durations
from headrace._core.tenure import ARRIVAL_RECORDS
from tests.unit.core.makers import finish, make_tenure

if TYPE_CHECKING:
    from collections.abc import Sequence


@given(st.lists(st.floats(0, 1000)), st.integers(0, 500), st.floats(0, 1000))
def test_every_handler_is_counted_once(waits_s: list[float], quick: int, busy_s: float) -> None:
    durations = Durations()
    durations.add(quick + len(waits_s), busy_s, waits_s)
    made = durations.snapshot()
    assert made.count == quick + len(waits_s)
    assert made.total_s == pytest.approx(sum(waits_s) + (busy_s if quick else 0.0))
    each = [*waits_s, *([busy_s / quick] * quick if quick else [])]
    for bound_s in BOUNDS_S:
        assert made.within(bound_s) == sum(one <= bound_s for one in each)


def test_a_flood_of_classes_of_errors_is_bounded() -> None:
    board = Board((), (), *[cast("Any", None)] * 5)
    for number in range(3 * FAILURE_KINDS_MAX):
        board.count_failure(0, type(f"Error{number}", (Exception,), {})())
        board.count_failure(0, KeyError())
    assert len(board.failures) == FAILURE_KINDS_MAX + 1
    assert board.failures[0, "KeyError"] == 3 * FAILURE_KINDS_MAX
    assert sum(board.failures.values()) == board.counters.failed == 6 * FAILURE_KINDS_MAX
    assert board.failures[0, OTHER_FAILURES] > 0


class Timed:
    """A source that has a timestamp, or none."""

    def __init__(self, timestamp_ms: int | None) -> None:
        self._timestamp_ms = timestamp_ms

    def timestamp(self) -> tuple[int, int]:
        return (0, 0) if self._timestamp_ms is None else (1, self._timestamp_ms)


def arrive(timestamps_ms: Sequence[int | None]) -> Any:
    """A tenure with one delivery, none of it finished, and its records."""
    from tests.unit.core.makers import deliver

    tenure = make_tenure()
    records = deliver(tenure, [b"k"] * len(timestamps_ms))
    tenure.arrived(0, [cast("Any", Timed(one)) for one in timestamps_ms], 1.0)
    return tenure, records


def test_the_timestamp_of_the_head_is_at_most_31_records_old() -> None:
    tenure, records = arrive([1000 + index for index in range(100)])
    for done, record in enumerate(records):
        found = tenure.oldest_timestamp_ms()
        assert 1000 + done - (ARRIVAL_RECORDS - 1) <= found <= 1000 + done
        finish(tenure, [record])
    assert tenure.oldest_timestamp_ms() is None


def test_a_record_without_a_timestamp_has_none() -> None:
    tenure, _ = arrive([None])
    assert tenure.oldest_timestamp_ms() is None
    assert tenure.oldest_since() == 1.0
