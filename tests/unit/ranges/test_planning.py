"""Cutting ranges: every case of Spark's range calculator, and that parts always make up the whole."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ConfigError
from headrace.ranges import OffsetRange, preferred_worker, split

Bounds = tuple[int, int]


def steps(start: int, *ends: int) -> list[Bounds]:
    """Neighbouring ranges from one offset to the next."""
    return list(itertools.pairwise((start, *ends)))


# Spark's KafkaOffsetRangeCalculatorSuite: (minPartitions, maxRecordsPerPartition, ranges of t1, t2, t3, parts of each).
SPARK: list[tuple[int | None, int | None, list[Bounds], list[list[Bounds]]]] = [
    (None, None, [(1, 2)], [[(1, 2)]]),
    (None, None, [(1, 2), (1, 1)], [[(1, 2)], []]),
    (3, None, [(1, 2), (1, 2), (1, 2)], [[(1, 2)], [(1, 2)], [(1, 2)]]),
    (4, None, [(1, 5)], [steps(1, 2, 3, 4, 5)]),
    (4, None, [(1, 5), (1, 21)], [[(1, 5)], steps(1, 7, 14, 21)]),
    (4, None, [(1, 1), (1, 21)], [[], steps(1, 6, 11, 16, 21)]),
    (4, None, [(1, 2), (1, 1001)], [[(1, 2)], steps(1, 334, 667, 1001)]),
    (1, None, [(1, 5), (1, 21)], [[(1, 5)], [(1, 21)]]),
    (3, None, [(1, 11)], [steps(1, 4, 7, 11)]),
    (4, None, [(1, 5), (1, 21), (1, 1)], [[(1, 5)], steps(1, 7, 14, 21), []]),
    (6, None, [(0, 10), (0, 10), (0, 1)], [steps(0, 3, 6, 10), steps(0, 3, 6, 10), [(0, 1)]]),
    (
        9,
        None,
        [(0, 10_000), (0, 15_000), (0, 20_000)],
        [steps(0, 5000, 10_000), steps(0, 5000, 10_000, 15_000), steps(0, 5000, 10_000, 15_000, 20_000)],
    ),
    (
        6,
        None,
        [(0, 500), (0, 12_000), (0, 15_001)],
        [[(0, 500)], steps(0, 6000, 12_000), steps(0, 5000, 10_000, 15_001)],
    ),
    (6, None, [(0, 1), (0, 1), (0, 10_000)], [[(0, 1)], [(0, 1)], steps(0, 2500, 5000, 7500, 10_000)]),
    (None, 4, [(1, 5), (1, 2), (1, 6)], [[(1, 5)], [(1, 2)], steps(1, 3, 6)]),
    (None, 4, [(1, 5)], [[(1, 5)]]),
    (None, 4, [(1, 2)], [[(1, 2)]]),
    (None, 4, [(1, 6)], [steps(1, 3, 6)]),
    (
        None,
        20,
        [(1, 40), (1, 50), (1, 60)],
        [steps(1, 20, 40), steps(1, 17, 33, 50), steps(1, 20, 40, 60)],
    ),
    (1, 20, [(1, 40)], [steps(1, 20, 40)]),
    (4, 20, [(1, 40)], [steps(1, 10, 20, 30, 40)]),
    # Of its micro-batch suite: how many tasks read [0, 100).
    (None, None, [(0, 100)], [[(0, 100)]]),
    (1, None, [(0, 100)], [[(0, 100)]]),
    (4, None, [(0, 100)], [steps(0, 25, 50, 75, 100)]),
    # Of its offset reader suite, with what Spark binds late already resolved.
    (3, None, [(1, 4)], [steps(1, 2, 3, 4)]),
    (3, None, [(0, 4)], [steps(0, 1, 2, 4)]),
    (4, None, [(0, 100), (0, 3)], [steps(0, 33, 66, 100), [(0, 3)]]),
    (4, None, [(0, 100), (0, 4)], [steps(0, 33, 66, 100), [(0, 4)]]),
]


@pytest.mark.parametrize(("parts_min", "records_max", "given_ranges", "expected"), SPARK)
def test_parts_are_those_of_spark(
    parts_min: int | None, records_max: int | None, given_ranges: list[Bounds], expected: list[list[Bounds]]
) -> None:
    ranges = [OffsetRange(f"t{i}", 1, *bounds) for i, bounds in enumerate(given_ranges, start=1)]
    parts = split(ranges, parts_min=parts_min, records_max=records_max)
    assert parts == [
        OffsetRange(f"t{i}", 1, *bounds) for i, cuts in enumerate(expected, start=1) for bounds in cuts
    ]


def test_partitions_prefer_the_workers_that_spark_gives_them() -> None:
    """Spark's suite: t1-1, t2-1 and t3-1 on exec1 to exec3 go to exec3, exec1 and exec2."""
    workers = ("exec1", "exec2", "exec3")
    chosen = [workers[preferred_worker(f"t{i}", 1, 3)] for i in (1, 2, 3)]
    assert chosen == ["exec3", "exec1", "exec2"]
    assert preferred_worker("t1", 1, 1) == 0
    assert preferred_worker("t1", 1, 10_000) == 4637  # the hash itself, as Java has it
    # A hash below zero in Java still names a worker.
    assert all(0 <= preferred_worker("a-rather-long-topic-name", p, 7) < 7 for p in range(100))


@pytest.mark.parametrize("limit", ["a", "1.0", "0", "-1", 0, -1, 1.0, True])
@pytest.mark.parametrize("name", ["parts_min", "records_max"])
def test_a_limit_that_is_none_is_refused(name: str, limit: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        split([OffsetRange("t", 0, 0, 10)], **{name: limit})


ranges_of_all_sizes = st.lists(
    st.tuples(
        st.integers(0, 5), st.integers(0, 1 << 55), st.one_of(st.integers(0, 50), st.integers(0, 1 << 55))
    ),
    max_size=8,
)


@given(ranges_of_all_sizes, st.none() | st.integers(1, 60), st.none() | st.integers(1, 200))
def test_parts_make_up_the_whole_in_order(
    shapes: list[tuple[int, int, int]], parts_min: int | None, records_max: int | None
) -> None:
    """No gap, no overlap, none empty, none too large; the order of the ranges is kept."""
    if records_max is not None:
        records_max = max(records_max, max((size for _, _, size in shapes), default=1) // 100)
    ranges = [OffsetRange("t", p, start, start + size) for p, start, size in shapes]
    parts = split(ranges, parts_min=parts_min, records_max=records_max)
    remaining = iter(parts)
    for whole in ranges:
        at = whole.start
        while at < whole.end:
            part = next(remaining)
            assert (part.partition, part.start) == (whole.partition, at)
            assert part.size > 0
            assert records_max is None or part.size <= records_max
            at = part.end
        assert at == whole.end
    assert next(remaining, None) is None


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=8), st.integers(1, 100))
def test_about_as_many_parts_as_asked_for(sizes: list[int], parts_min: int) -> None:
    """Each range's share is rounded, so each may be off by less than one; sizes within a range by at most one offset."""
    ranges = [OffsetRange("t", p, 0, size) for p, size in enumerate(sizes)]
    parts = split(ranges, parts_min=parts_min)
    asked = max(len(ranges), min(parts_min, sum(sizes)))
    assert abs(len(parts) - asked) <= len(ranges)
    for whole in ranges:
        lengths = [part.size for part in parts if part.partition == whole.partition]
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    "wrong",
    [("", 0, 0, 1), ("t", -1, 0, 1), ("t", 0, -2, -1), ("t", 0, 5, 4), ("t", 0, 0, 1 << 63), (b"t", 0, 0, 1)],
)
def test_a_range_that_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="OffsetRange"):
        OffsetRange(*wrong)


def test_a_range_tells_what_it_is() -> None:
    one = OffsetRange("t", 3, 10, 12)
    assert (one.size, one.place, str(one)) == (2, ("t", 3), "t[3] 10..12")
