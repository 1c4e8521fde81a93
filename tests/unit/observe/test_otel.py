"""The OpenTelemetry reporter: data points as an exporter gets them; a failed export is a failed report."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import export

from headrace import ConfigError, ExtraMissing, SubscriptionSnapshot
from headrace._core.durations import Durations
from headrace.observe import Gauge, OpenTelemetry, Reporting
from headrace.observe.filters import Selection
from headrace.observe.reporting import ReporterThread, make_report
from headrace.observe.settings import checked_reporters
from tests.unit.observe.views import offsets, part, source, view

if TYPE_CHECKING:
    from headrace.observe import Report


class Kept(export.MetricExporter):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[export.MetricsData] = []
        self.answer = export.MetricExportResult.SUCCESS
        self.ended = False

    def export(
        self, metrics_data: export.MetricsData, timeout_millis: float = 10_000, **_: object
    ) -> export.MetricExportResult:
        assert timeout_millis == 3000
        self.given.append(metrics_data)
        return self.answer

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return timeout_millis > 0

    def shutdown(self, timeout_millis: float = 30_000, **_: object) -> None:
        self.ended = timeout_millis > 0


def a_report(chosen: str | None = None) -> Report:
    durations = Durations()
    for took_s in (0.002, 0.002, 3.0):
        durations.add(1, took_s, ())
    made = view([part("orders", 0), part("orders", 1)], {("orders", 0): offsets(10, 130, 125, 80)})
    subscription = SubscriptionSnapshot("handle", 1, 0, 2, 1, 10, 0.1, durations.snapshot())
    object.__setattr__(made.snapshot.engine, "subscriptions", (subscription,))
    selection = Selection(Reporting(OpenTelemetry(Kept()), filter=chosen).chosen())
    return make_report(source(Gauge("own", lambda: 2.5, "orders"), made=made), selection)


def exported(report: Report) -> dict[str, Any]:
    """The metrics of one export as the SDK writes them, by name."""
    kept = Kept()
    OpenTelemetry(kept, timeout_s=3.0, resource={"service.name": "billing-app"}).report(report)
    (whole,) = json.loads(kept.given[0].to_json())["resource_metrics"]
    assert whole["resource"]["attributes"]["messaging.consumer.group.name"] == "billing"
    assert whole["resource"]["attributes"]["service.name"] == "billing-app"
    (scope,) = whole["scope_metrics"]
    assert scope["scope"]["name"] == "headrace"
    names = [metric["name"] for metric in scope["metrics"]]
    assert len(names) == len(set(names))
    return {metric["name"]: metric for metric in scope["metrics"]}


def test_gauges_have_their_labels_and_units() -> None:
    found = exported(a_report())
    lag = found["headrace_partition_lag_records"]
    assert lag["unit"] == "{records}"
    (point,) = lag["data"]["data_points"]  # of partition 1 nothing is known
    assert (point["attributes"], point["value"]) == ({"topic": "orders", "partition": "0"}, 45)
    assert found["headrace_partition_position"]["data"]["data_points"][1]["attributes"]["partition"] == "1"
    assert found["headrace_poll_age_seconds"]["unit"] == "s"
    assert found["own"]["data"]["data_points"][0]["value"] == 2.5


def test_counters_are_totals_that_only_rise() -> None:
    data = exported(a_report())["headrace_records_fetched_total"]["data"]
    assert data["is_monotonic"] is True
    assert data["aggregation_temporality"] == export.AggregationTemporality.CUMULATIVE
    (point,) = data["data_points"]
    assert 0 < point["start_time_unix_nano"] <= point["time_unix_nano"]


def test_a_histogram_is_one_with_counts_of_its_own_in_each_bucket() -> None:
    (point,) = exported(a_report())["headrace_subscription_handler_seconds"]["data"]["data_points"]
    assert point["attributes"] == {"subscription": "handle"}
    assert (point["count"], sum(point["bucket_counts"])) == (3, 3)
    assert point["sum"] == pytest.approx(3.004)
    assert len(point["bucket_counts"]) == len(point["explicit_bounds"]) + 1
    assert sorted(point["explicit_bounds"]) == point["explicit_bounds"]
    within = [
        bound for bound, count in zip(point["explicit_bounds"], point["bucket_counts"], strict=False) if count
    ]
    assert within[0] >= 0.002
    assert [count for count in point["bucket_counts"] if count] == [2, 1]


def test_a_histogram_of_which_a_filter_drops_a_part_is_left_out() -> None:
    found = exported(a_report("(?!.*_sum).*"))
    assert "headrace_subscription_handler_seconds" not in found
    assert "headrace_live" in found


def test_the_resource_is_made_once() -> None:
    kept = Kept()
    reporter = OpenTelemetry(kept, timeout_s=3.0)
    report = a_report()
    for _ in range(3):
        reporter.report(report)
    resources = [whole.resource_metrics[0].resource for whole in kept.given]
    assert resources[0] is resources[1] is resources[2]
    reporter.report(dataclasses.replace(report, group_id="other"))
    other = kept.given[-1].resource_metrics[0].resource
    assert other.attributes["messaging.consumer.group.name"] == "other"


def test_an_export_that_fails_is_a_failed_report() -> None:
    kept = Kept()
    kept.answer = export.MetricExportResult.FAILURE
    thread = ReporterThread(Reporting(OpenTelemetry(kept, timeout_s=3.0), 60.0), source())
    thread.start()
    thread.request_stop()
    assert thread.join(30.0)
    assert thread.state().failures > 0
    assert thread.state().last_error == "OSError: Kept said that the export failed"
    assert kept.ended


def test_a_file_names_the_exporter() -> None:
    (found,) = checked_reporters(
        [{"type": "opentelemetry", "exporter": "opentelemetry.sdk.metrics.export:ConsoleMetricExporter"}]
    )
    assert repr(found.reporter) == "OpenTelemetry(ConsoleMetricExporter)"
    for wrong in ("no.such:Exporter", "json.JSONDecoder", 7):
        with pytest.raises(ConfigError, match="exporter"):
            checked_reporters([{"type": "opentelemetry", "exporter": wrong}])
    needy = "opentelemetry.sdk.metrics.export:PeriodicExportingMetricReader"
    with pytest.raises(ConfigError, match=r"OpenTelemetry\.exporter.* without arguments \(TypeError"):
        checked_reporters([{"type": "opentelemetry", "exporter": needy}])


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.metrics.export", None)
    with pytest.raises(ExtraMissing, match=r"headrace\[otel\]"):
        OpenTelemetry(Kept())
