"""The catalogue: values as in Apache Storm's metric tests, unknown as unknown, and a reference page that is generated."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headrace import (
    ConnectionSnapshot,
    CountersSnapshot,
    EngineSnapshot,
    FailureSnapshot,
    PartitionSnapshot,
    ScalingSnapshot,
    Snapshot,
    SubscriptionSnapshot,
)
from headrace._core.durations import Durations
from headrace.observe import Gauge, ReporterState, Unknown
from headrace.observe.catalogue import CATALOGUE
from headrace.observe.evaluation import evaluate
from headrace.observe.filters import Selection
from headrace.observe.page import metrics_page
from headrace.observe.views import PartitionOffsets, View
from tests.unit.observe.views import is_unknown, offsets, part, view

if TYPE_CHECKING:
    from headrace.observe.metrics import Value

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


def values(made: View, *gauges: Gauge) -> dict[str, Value]:
    """All of a view, by key without the prefix."""
    samples = evaluate(made, gauges, Selection(None))
    keys = [sample.key.removeprefix("headrace_") for sample in samples]
    assert len(keys) == len(set(keys)), "one value a key"
    return dict(zip(keys, (sample.value for sample in samples), strict=True))


def test_a_partition_as_storm_users_expect() -> None:
    """End 100, committed 90: lag 10. Begins at 1: 99 records. Storm's latestEmitted is our position, less one."""
    made = view([part("t", 0, position=50, committed=40)], {("t", 0): offsets(1, 100, 100, 90)})
    found = values(made)
    assert found["partition_lag_records{topic=t,partition=0}"] == 10
    assert found["partition_records{topic=t,partition=0}"] == 99
    assert found["partition_start_offset{topic=t,partition=0}"] == 1
    assert found["partition_end_offset{topic=t,partition=0}"] == 100
    assert found["partition_position{topic=t,partition=0}"] == 50
    assert found["partition_confirmed_offset{topic=t,partition=0}"] == 40
    assert found["partition_committed_offset{topic=t,partition=0}"] == 90


def test_totals_of_a_topic_do_not_accumulate() -> None:
    """100/90 and 200/170: 40 behind, however often it is read; no other topic's partitions count."""
    known = {
        ("a", 1): offsets(1, 100, 100, 90),
        ("a", 2): offsets(2, 200, 200, 170),
        ("b", 1): offsets(0, 5, 5, 0),
    }
    made = view([part("a", 2), part("b", 1), part("a", 1)], known)
    for _ in range(2):
        found = values(made)
        assert found["topic_lag_records{topic=a}"] == 40
        assert found["topic_records{topic=a}"] == 99 + 198
        assert found["topic_start_offset_sum{topic=a}"] == 3
        assert found["topic_end_offset_sum{topic=a}"] == 300
        assert found["topic_committed_offset_sum{topic=a}"] == 260
        assert found["topic_position_sum{topic=a}"] == 240
        assert found["topic_lag_records{topic=b}"] == 5


def test_what_is_revoked_is_gone() -> None:
    known = {("a", 1): offsets(), ("a", 2): offsets()}
    assert not [key for key in values(view([part("a", 2)], known)) if "partition=1" in key]
    assert not [key for key in values(view([], known)) if "topic=" in key]


def test_lag_without_a_commit_is_all_that_exists_and_never_below_zero() -> None:
    lag = "partition_lag_records{topic=t,partition=0}"
    assert values(view([part("t")], {("t", 0): offsets(10, 130, 130, None)}))[lag] == 120
    assert values(view([part("t")], {("t", 0): offsets(10, 130, 130, 4)}))[lag] == 120, "cut by retention"
    assert values(view([part("t")], {("t", 0): offsets(10, 130, 130, 131)}))[lag] == 0


def test_lag_ends_where_the_app_may_read() -> None:
    uncommitted = PartitionOffsets(10, 130, 125, 80, 130)
    assert (
        values(view([part("t")], {("t", 0): offsets()}))["partition_lag_records{topic=t,partition=0}"] == 45
    )
    assert (
        values(view([part("t")], {("t", 0): uncommitted}))["partition_lag_records{topic=t,partition=0}"] == 50
    )


@pytest.mark.parametrize("missing", ["start", "readable", "committed"])
def test_unknown_is_unknown_with_its_reason_and_never_a_number(missing: str) -> None:
    numbers: dict[str, int | Unknown] = {"start": 1, "end": 9, "stable": 9, "committed": 3, "readable": 9}
    numbers[missing] = Unknown("no ACL")
    found = values(
        view([part("t", 0), part("t", 1)], {("t", 0): offsets(), ("t", 1): PartitionOffsets(**numbers)})
    )
    assert is_unknown(found["partition_lag_records{topic=t,partition=1}"], "no ACL")
    assert is_unknown(found["topic_lag_records{topic=t}"], "partition 1: no ACL")
    assert found["partition_lag_records{topic=t,partition=0}"] == 45


def test_nothing_pending_is_no_age_of_zero() -> None:
    found = values(view([part("t", 0, oldest_age_s=None, committed=None)]))
    assert is_unknown(
        found["partition_oldest_unfinished_age_seconds{topic=t,partition=0}"], "nothing is unfinished"
    )
    assert is_unknown(found["topic_oldest_unfinished_age_seconds{topic=t}"], "nothing is unfinished")
    assert is_unknown(found["partition_confirmed_offset{topic=t,partition=0}"], "nothing is committed")


def test_lag_in_seconds_is_the_age_of_the_first_unfinished_record() -> None:
    lag = "partition_lag_seconds{topic=t,partition=0}"
    known = {("t", 0): offsets(end=130, stable=125)}
    waits = part("t", oldest_timestamp_ms=1_000_000)
    assert values(replace(view([waits], known), wall_s=1_007.5))[lag] == 7.5
    assert values(replace(view([waits], known), wall_s=999.0))[lag] == 0.0, "a clock ahead of ours"
    assert is_unknown(values(view([part("t")], known))[lag], "carries no timestamp")


def test_lag_in_seconds_is_zero_only_where_nothing_is_left_to_read() -> None:
    lag = "partition_lag_seconds{topic=t,partition=0}"
    known = {("t", 0): offsets(end=130, stable=125)}
    assert values(view([part("t", oldest_age_s=None, position=125)], known))[lag] == 0
    assert is_unknown(values(view([part("t", oldest_age_s=None, position=120)], known))[lag], "not fetched")
    assert is_unknown(values(view([part("t", oldest_age_s=None)]))[lag], "not asked")
    both = [part("t", 0, oldest_timestamp_ms=4_000), part("t", 1, oldest_timestamp_ms=1_000)]
    assert values(replace(view(both), wall_s=10.0))["topic_lag_seconds{topic=t}"] == 9.0


def test_durations_and_failures() -> None:
    durations = Durations()
    durations.add(100, 0.05, ())
    durations.add(3, 0.0, [0.02, 0.02, 250.0])
    subscription = SubscriptionSnapshot("s", 0, 0, 1, 0, 1, 0.0, durations.snapshot())
    made = view()
    failures = (FailureSnapshot("s", "KeyError", 7),)
    engine = EngineSnapshot(subscriptions=(subscription,), failures=failures)
    found = values(replace(made, snapshot=Snapshot(98.0, 7, "running", engine)))
    buckets = {
        key.rpartition("le=")[2].rstrip("}"): value
        for key, value in found.items()
        if key.startswith("subscription_handler_seconds_bucket")
    }
    assert (buckets["0.0003"], buckets["0.001"], buckets["0.03"], buckets["100"]) == (0, 100, 102, 102)
    assert buckets["+Inf"] == found["subscription_handler_seconds_count{subscription=s}"] == 103
    assert found["subscription_handler_seconds_sum{subscription=s}"] == pytest.approx(250.09)
    assert found["subscription_failures_total{subscription=s,error=KeyError}"] == 7


def test_ages_grow_with_the_snapshot() -> None:
    """The snapshot is two seconds old: what was six seconds old then is eight now."""
    found = values(view([part("t", 0), part("t", 1, oldest_age_s=1.0)]))
    assert found["snapshot_age_seconds"] == 2.0
    assert found["partition_oldest_unfinished_age_seconds{topic=t,partition=0}"] == 8.0
    assert found["topic_oldest_unfinished_age_seconds{topic=t}"] == 8.0


def test_every_number_of_a_snapshot_has_its_metric() -> None:
    """Each field with a value of its own must come out somewhere: a new field needs a metric."""
    counters = CountersSnapshot(**{f.name: 1000 + i for i, f in enumerate(fields(CountersSnapshot))})
    subscription = SubscriptionSnapshot("s", 2001, 2002, 2003, 2004, 2005, 2006.5)
    left_out = {"topic", "partition", "phase", "paused", "oldest_age_s", "oldest_timestamp_ms"}
    names = [f.name for f in fields(PartitionSnapshot) if f.name not in left_out]
    one = part("t", 0, **{name: 3000 + i for i, name in enumerate(names)})
    made = view([one])
    snapshot = Snapshot(98.0, 7, "running", EngineSnapshot((one,), counters, (subscription,)))
    made = View(snapshot, made.health, made.now, made.offsets_of, made.offsets_age_s)
    found = set(values(made).values())
    expected = {1000 + i for i in range(len(fields(CountersSnapshot)))} | {
        3000 + i for i in range(len(names))
    }
    expected |= {2001, 2002, 2003, 2004, 2005}
    assert sorted(expected - {value for value in found if isinstance(value, int)}) == []
    assert 2006.5 in found


def test_gauges_of_the_user() -> None:
    def broken() -> float:
        raise LookupError("no such table")

    gauges = (
        Gauge("mine", lambda: 7),
        Gauge("none", lambda: None),
        Gauge("broken", broken),
        Gauge("infinite", lambda: float("inf")),
        Gauge("text", lambda: "seven"),  # type: ignore[arg-type, return-value] # pyright: ignore[reportArgumentType]
    )
    found = values(view(reporters=(ReporterState("r", 1.0, reports=3),)), *gauges)
    assert found["mine"] == 7
    assert is_unknown(found["none"], "no value")
    assert is_unknown(found["broken"], "LookupError: no such table")
    assert is_unknown(found["infinite"], "no finite number")
    assert is_unknown(found["text"], "no finite number")
    assert found["reporter_reports_total{reporter=r}"] == 3


def test_names_are_one_each_and_end_as_their_kind() -> None:
    metrics = [metric for _, found in CATALOGUE.sections() for metric in found]
    assert len({metric.name for metric in metrics}) == len(metrics)
    for metric in metrics:
        assert re.fullmatch(r"headrace_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.meaning
        assert metric.bound
        assert not metric.name.endswith(("_s", "_ms")), "seconds are written out"


def test_the_reference_page_is_the_catalogue() -> None:
    """Otherwise: python -m headrace.observe.page > docs/reference/metrics.md."""
    assert PAGE.read_text(encoding="utf-8") == metrics_page()


def test_several_connections_are_counted_and_named_and_decisions_are_counted_by_reason() -> None:
    scaling = ScalingSnapshot(
        "at_max",
        "there are as many as max",
        opened=2,
        closed=1,
        decisions=(("at_max", 7), ("fetch_bound", 2)),
    )
    connections = (
        ConnectionSnapshot(0, "running", partitions=3, in_flight=2, finished=40),
        ConnectionSnapshot(2, "failing", failures=5, error="NotAuthorized: no"),
    )
    made = view([part("t")], {})
    found = values(replace(made, snapshot=replace(made.snapshot, connections=connections, scaling=scaling)))
    assert found["connections"] == 1
    assert (found["connections_opened_total"], found["connections_closed_total"]) == (2, 1)
    assert found["connection_up{connection=0}"] == 1
    assert found["connection_partitions{connection=0}"] == 3
    assert found["connection_finished_records_total{connection=0}"] == 40
    assert found["connection_up{connection=2}"] == 0
    assert found["connection_failures{connection=2}"] == 5
    assert found["scaling_decisions_total{why=at_max}"] == 7


def test_one_connection_has_no_metrics_of_its_own() -> None:
    found = values(view([part("t")], {}))
    assert found["connections_opened_total"] == 0
    assert not [key for key in found if key.startswith(("connection_", "scaling_"))]
