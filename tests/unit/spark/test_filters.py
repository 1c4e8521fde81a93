"""Filters: whatever they are, no record that passes them is left out, and those that are done are truly done."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.ranges.planning import OFFSET_MAX
from headrace.spark.filters import Narrowing, narrowed

if TYPE_CHECKING:
    from collections.abc import Callable

# As pyspark 4.3 has them: told apart by the names of their classes.


@dataclass(frozen=True)
class OnValue:
    """A column beside a value."""

    attribute: tuple[str, ...]
    value: Any


class EqualTo(OnValue):
    """One of them."""


class EqualNullSafe(OnValue):
    """One of them."""


class GreaterThan(OnValue):
    """One of them."""


class GreaterThanOrEqual(OnValue):
    """One of them."""


class LessThan(OnValue):
    """One of them."""


class LessThanOrEqual(OnValue):
    """One of them."""


class In(OnValue):
    """One of them."""


class StringStartsWith(OnValue):
    """One of them."""


@dataclass(frozen=True)
class IsNotNull:
    """A column alone."""

    attribute: tuple[str, ...]


@dataclass(frozen=True)
class Not:
    """Another one, turned round."""

    child: Any


HOLDS: dict[type, Callable[[Any, Any], bool]] = {
    EqualTo: operator.eq,
    EqualNullSafe: operator.eq,
    GreaterThan: operator.gt,
    GreaterThanOrEqual: operator.ge,
    LessThan: operator.lt,
    LessThanOrEqual: operator.le,
}
COMPARED = tuple(HOLDS)


def moments(ms: int) -> datetime:
    """As Spark gives them."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def on(column: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Filters on a column: comparisons with a value, and with some."""
    some = st.lists(values, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        *(st.builds(kind, st.just((column,)), values) for kind in COMPARED),
        st.builds(In, st.just((column,)), some),
    )


def holds(one: Any, row: dict[str, Any]) -> bool:
    """Whether a row passes a filter."""
    value = row[one.attribute[0]]
    return value in one.value if type(one) is In else HOLDS[type(one)](value, one.value)


FILTERS = st.one_of(
    on("offset", st.integers(-2, 12)),
    on("partition", st.integers(0, 2)),
    on("topic", st.sampled_from("ab")),
    on("timestamp", st.integers(0, 12).map(moments)),
)


@given(st.lists(FILTERS, max_size=4))
def test_no_record_that_passes_is_left_out_and_done_is_done(filters: list[Any]) -> None:
    narrowing, left = narrowed(filters)
    assert all(any(one is other for other in filters) for one in left)
    done = [one for one in filters if not any(one is other for other in left)]
    for topic in "ab":
        for partition in range(3):
            for offset in range(10):
                # Two records in a row have timestamps out of order.
                ms = offset ^ 1
                row: dict[str, Any] = {
                    "topic": topic,
                    "partition": partition,
                    "offset": offset,
                    "timestamp": moments(ms),
                }
                within = (
                    narrowing.wants(topic, partition)
                    and narrowing.offset_min <= offset < narrowing.offset_end
                    and (narrowing.moment_ms is None or ms >= narrowing.moment_ms)
                )
                assert within or not all(holds(one, row) for one in filters)
                assert not within or all(holds(one, row) for one in done)


@pytest.mark.parametrize(
    "one",
    [
        EqualTo(("value",), b"x"),
        EqualTo(("offset",), None),
        EqualTo(("offset",), True),
        EqualTo(("headers", "key"), "x"),
        In(("topic",), ("a", None)),
        In(("partition",), ()),
        StringStartsWith(("topic",), "a"),
        GreaterThan(("partition",), 1),
        LessThan(("timestamp",), moments(5)),
        GreaterThan(("timestamp",), datetime(2026, 1, 1)),  # noqa: DTZ001 - which is no moment
        GreaterThan(("timestamp",), datetime(1960, 1, 1, tzinfo=UTC)),
        IsNotNull(("key",)),
        Not(EqualTo(("topic",), "a")),
    ],
)
def test_what_is_not_understood_is_left_to_spark(one: Any) -> None:
    assert narrowed([one]) == (Narrowing(), [one])


def test_columns_that_are_never_null() -> None:
    assert narrowed([IsNotNull(("offset",)), IsNotNull(("topic",))]) == (Narrowing(), [])


def test_offsets_beyond_all_bounds() -> None:
    narrowing, _ = narrowed([GreaterThan(("offset",), 2**63 - 1), LessThan(("offset",), -5)])
    assert (narrowing.offset_min, narrowing.offset_end) == (OFFSET_MAX, 0)


def test_a_moment_is_rounded_down() -> None:
    """Kafka's are milliseconds, and Spark's microseconds."""
    found, left = narrowed([GreaterThan(("timestamp",), datetime(1970, 1, 1, 0, 0, 1, 1999, tzinfo=UTC))])
    assert found.moment_ms == 1001
    assert len(left) == 1
