"""Plans: from options and a cluster's answers to ranges, in batches and in triggers; what is lost before it was read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ConfigError, OffsetsMissing, RecordsLost, TopicMissing
from headrace.ranges import OffsetRange
from headrace.spark.filters import Narrowing
from headrace.spark.offsets import from_json, limited, to_json
from headrace.spark.planning import Planner
from tests.unit.spark.given import Cluster, options

if TYPE_CHECKING:
    from headrace.spark.options import Mode

A0, A1, B0 = ("a", 0), ("a", 1), ("b", 0)


def plan(cluster: Cluster | None = None, narrowing: Narrowing | None = None, /, **given: str) -> list[str]:
    """The ranges of a batch, as text."""
    planner = Planner(options(**given), cluster or Cluster())
    return [str(part) for part in planner.batch(narrowing or Narrowing())]


def stream(cluster: Cluster | None = None, /, **given: str) -> Planner:
    """A stream's."""
    return Planner(options("stream", **given), cluster or Cluster())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["a[0] 0..100", "a[1] 20..50"]),
        ({"subscribe": "b,a"}, ["a[0] 0..100", "a[1] 20..50", "b[0] 0..4"]),
        ({"subscribePattern": "[ab]"}, ["a[0] 0..100", "a[1] 20..50", "b[0] 0..4"]),
        ({"subscribePattern": ".*"}, ["a[0] 0..100", "a[1] 20..50", "b[0] 0..4"]),  # none of the brokers' own
        ({"subscribePattern": "nothing"}, []),
        ({"assign": '{"a": [1]}'}, ["a[1] 20..50"]),
        ({"startingOffsets": '{"a": {"0": 90, "1": -2}}'}, ["a[0] 90..100", "a[1] 20..50"]),
        ({"endingOffsets": '{"a": {"0": 5, "1": -1}}'}, ["a[0] 0..5", "a[1] 20..50"]),
        ({"startingTimestamp": "30500"}, ["a[0] 31..100", "a[1] 31..50"]),
        ({"endingTimestamp": "60000"}, ["a[0] 0..60", "a[1] 20..50"]),  # none so young: to the end
        (
            {"startingTimestamp": "60000", "startingOffsetsByTimestampStrategy": "latest"},
            ["a[0] 60..100"],
        ),
        ({"startingTimestamp": "40000", "endingTimestamp": "30000"}, []),
        ({"maxRecordsPerPartition": "50"}, ["a[0] 0..50", "a[0] 50..100", "a[1] 20..50"]),
        ({"minPartitions": "4"}, ["a[0] 0..33", "a[0] 33..66", "a[0] 66..100", "a[1] 20..50"]),
    ],
)
def test_batches(given: dict[str, str], expected: list[str]) -> None:
    assert plan(**given) == expected


@pytest.mark.parametrize(
    ("narrowing", "expected"),
    [
        (Narrowing(topics=frozenset("b")), ["b[0] 0..4"]),
        (Narrowing(partitions=frozenset([1])), ["a[1] 20..50"]),
        (Narrowing(offset_min=30, offset_end=40), ["a[0] 30..40", "a[1] 30..40"]),
        (Narrowing(moment_ms=48_000), ["a[0] 48..100", "a[1] 48..50"]),
        (Narrowing(moment_ms=99_500), []),
        (Narrowing(offset_min=1000), []),
    ],
)
def test_filters_narrow_what_is_read(narrowing: Narrowing, expected: list[str]) -> None:
    cluster = Cluster()
    assert plan(cluster, narrowing, subscribe="a,b") == expected
    assert all(narrowing.wants(*place) for place in cluster.asked)


def test_what_stands_after_an_open_transaction_is_kept_back_where_that_is_asked_for() -> None:
    cluster = Cluster(stable={A0: 70})
    assert plan(cluster, subscribe="a") == ["a[0] 0..100", "a[1] 20..50"]
    committed = {"kafka.isolation.level": "read_committed"}
    assert plan(cluster, **committed) == ["a[0] 0..70", "a[1] 20..50"]
    assert (
        plan(cluster, startingTimestamp="80000", startingOffsetsByTimestampStrategy="latest", **committed)
        == []
    )


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"startingOffsets": '{"a": {"0": 0}}'}, ConfigError),
        ({"startingOffsets": '{"a": {"0": 0, "1": 20, "2": 0}}'}, ConfigError),
        ({"assign": '{"a": [7]}'}, ConfigError),
        ({"subscribe": "nowhere"}, TopicMissing),
        ({"startingTimestamp": "60000"}, ConfigError),
        (
            {"startingOffsets": '{"a": {"0": 9, "1": 20}}', "endingOffsets": '{"a": {"0": 8, "1": 30}}'},
            ConfigError,
        ),
        ({"startingOffsets": '{"a": {"0": 0, "1": 0}}'}, RecordsLost),
        ({"endingOffsets": '{"a": {"0": 101, "1": 30}}'}, OffsetsMissing),
    ],
)
def test_batches_that_cannot_be(given: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        plan(**given)
    if error in {RecordsLost, OffsetsMissing}:
        assert "failOnDataLoss" in raised.value.__notes__[0]


def test_loss_that_is_allowed_is_told(caplog: pytest.LogCaptureFixture) -> None:
    lost = {"startingOffsets": '{"a": {"0": 0, "1": 0}}', "endingOffsets": '{"a": {"0": 105, "1": 30}}'}
    with caplog.at_level(logging.WARNING, "headrace.spark"):
        assert plan(failOnDataLoss="false", **lost) == ["a[0] 0..100", "a[1] 20..30"]
    assert [record.getMessage() for record in caplog.records] == [
        "a[0] ends at 100: there is nothing up to 105",
        "a[1]: offsets 0 to 20 are lost",
    ]


# ---- Streams


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {A0: 100, A1: 50}),
        ({"startingOffsets": "earliest"}, {A0: 0, A1: 20}),
        ({"startingOffsets": '{"a": {"0": 7, "1": -1}}'}, {A0: 7, A1: 50}),
        ({"startingTimestamp": "30000"}, {A0: 30, A1: 30}),
    ],
)
def test_where_a_stream_begins(given: dict[str, str], expected: dict[Any, int]) -> None:
    assert stream(**given).initial() == expected


def test_a_trigger_reads_what_is_new() -> None:
    planner = stream()
    found = planner.trigger({A0: 90, A1: 50}, planner.latest())
    assert found == [OffsetRange("a", 0, 90, 100)]


def test_partitions_that_came_since_begin_at_their_first_record() -> None:
    cluster = Cluster({A0: (0, 10), A1: (0, 5)})
    assert [str(part) for part in stream(cluster).trigger({A0: 10}, {A0: 10, A1: 5})] == ["a[1] 0..5"]
    cluster.bounds[A1] = (3, 5)
    with pytest.raises(RecordsLost):
        stream(cluster).trigger({A0: 10}, {A0: 10, A1: 5})
    allowed = stream(cluster, failOnDataLoss="false")
    assert [str(part) for part in allowed.trigger({A0: 10}, {A0: 10, A1: 5})] == ["a[1] 3..5"]


@pytest.mark.parametrize(
    ("start", "end", "error"), [({A0: 5, B0: 1}, {A0: 6}, TopicMissing), ({A0: 5}, {A0: 4}, OffsetsMissing)]
)
def test_what_is_gone_or_shorter_is_an_error_or_told(
    start: dict[Any, int], end: dict[Any, int], error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(error):
        stream().trigger(start, end)
    with caplog.at_level(logging.WARNING, "headrace.spark"):
        stream(failOnDataLoss="false").trigger(start, end)
    assert len(caplog.records) == 1


# ---- Offsets and shares


def test_shares_are_those_of_spark() -> None:
    starts = dict.fromkeys([A0, A1, B0], 0)
    assert limited(starts, {A0: 9000, A1: 900, B0: 10}, 1000) == {A0: 908, A1: 90, B0: 1}
    assert limited(starts, {A0: 90, A1: 9, B0: 1}, 1000) == {A0: 90, A1: 9, B0: 1}


@given(
    st.dictionaries(st.tuples(st.just("t"), st.integers(0, 30)), st.integers(0, 10**12)),
    st.integers(1, 10**12),
)
def test_every_trigger_makes_progress_within_its_limit(ends: dict[Any, int], limit: int) -> None:
    """A partition that has something gets on; what is beyond the limit is one record for each at most."""
    starts = dict.fromkeys(ends, 0)
    found = limited(starts, ends, limit)
    assert found.keys() == ends.keys()
    assert all(0 <= found[place] <= end and (found[place] > 0) == (end > 0) for place, end in ends.items())
    assert sum(found.values()) <= limit + sum(end > 0 for end in ends.values())


@given(st.dictionaries(st.tuples(st.text(min_size=1), st.integers(0, 300)), st.integers(0, 2**62)))
def test_offsets_have_one_text(offsets: dict[Any, int]) -> None:
    again = dict(sorted(offsets.items(), reverse=True))
    assert from_json(to_json(offsets)) == offsets
    assert str(to_json(again)) == str(to_json(offsets))


@pytest.mark.parametrize("mode", ["batch", "stream"])
def test_partitions_are_in_the_order_of_their_numbers(mode: Mode) -> None:
    cluster = Cluster({("a", n): (0, 1) for n in (10, 2, 1)})
    found = Planner(options(mode), cluster)
    assert list(to_json(found.initial())["a"]) == ["1", "2", "10"]
