"""A reporter that hands each report to an OpenTelemetry exporter, which pushes it where the user wants.

Needs the extra `headrace[otel]`. Decides how samples become data points. Refuses to know protocols: the exporter is the
user's, and is called on this reporter's thread alone. Invariant: what is unknown is absent; one report is one export.
"""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any, cast

from headrace.config import require_range
from headrace.errors import ConfigError, ExtraMissing
from headrace.observe.metrics import Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from headrace.observe.metrics import Metric, Sample
    from headrace.observe.reporting import Report

GROUP = "messaging.consumer.group.name"
UNITS = {"seconds": "s", "bytes": "By", "flag": "1", "": ""}
"""OpenTelemetry's units (UCUM) for ours; things that are counted stand in braces."""


class OpenTelemetry:
    """Gives each report to an OpenTelemetry metric exporter, such as `OTLPMetricExporter`.

    exporter: an object with OpenTelemetry's `MetricExporter.export`, or the dotted path of what makes one, as in a file.
    timeout_s: what an export may take, as far as the exporter keeps to it. resource: attributes of the resource, beside
    those of the environment (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`).
    Names are Headrace's own; the group is the attribute `messaging.consumer.group.name` of the resource. An export that
    fails is a report that failed: counted, logged, and made anew when the next is due.
    Raises `ExtraMissing` where `headrace[otel]` is not installed.
    """

    def __init__(
        self, exporter: Any, *, timeout_s: float = 10.0, resource: Mapping[str, Any] | None = None
    ) -> None:
        require_range("OpenTelemetry.timeout_s", timeout_s, 0.001, 3600)
        try:
            self._sdk: Any = importlib.import_module("opentelemetry.sdk.metrics.export")
            self._resources: Any = importlib.import_module("opentelemetry.sdk.resources")
            self._scopes: Any = importlib.import_module("opentelemetry.sdk.util.instrumentation")
        except ImportError:
            raise ExtraMissing("the OpenTelemetry reporter", "otel") from None
        self._exporter = made(exporter)
        self._timeout_ms = timeout_s * 1000
        self._attributes = {} if resource is None else dict(resource)
        # This reporter's thread alone: of which group the resource is, and the resource. To make one takes milliseconds.
        self._resource: tuple[str, Any] | None = None
        # Counters and histograms are totals since then.
        self._began_ns = time.time_ns()

    def report(self, report: Report) -> None:
        """Export it. Raises `OSError` where the exporter says that it failed, and whatever it raises."""
        result = self._exporter.export(self._data(report), timeout_millis=self._timeout_ms)
        if result is not self._sdk.MetricExportResult.SUCCESS:
            msg = f"{type(self._exporter).__name__} said that the export failed"
            raise OSError(msg)

    def close(self) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown()

    def _data(self, report: Report) -> Any:
        at_ns = max(self._began_ns, _nanoseconds(report.at))
        families: dict[str, list[Sample]] = {}
        histograms: dict[tuple[str, str], list[Sample]] = {}
        for sample in report.samples:
            if isinstance(sample.value, Unknown):
                continue
            if sample.metric.kind == "histogram":
                name = sample.metric.name.rpartition("_")[0]
                histograms.setdefault((name, sample.labels[0]), []).append(sample)
            else:
                families.setdefault(sample.metric.name, []).append(sample)
        metrics = [self._family(samples, at_ns) for samples in families.values()]
        metrics += self._histograms(histograms, at_ns)
        resource = self._resource_of(report.group_id)
        scope = self._scopes.InstrumentationScope("headrace")
        return self._sdk.MetricsData(
            [self._sdk.ResourceMetrics(resource, [self._sdk.ScopeMetrics(scope, metrics, "")], "")]
        )

    def _resource_of(self, group_id: str) -> Any:
        if self._resource is None or self._resource[0] != group_id:
            made = self._resources.Resource.create({**self._attributes, GROUP: group_id})
            self._resource = group_id, made
        return self._resource[1]

    def _family(self, samples: list[Sample], at_ns: int) -> Any:
        """All samples of one metric."""
        metric, sdk = samples[0].metric, self._sdk
        counts = metric.kind == "counter"
        began_ns = self._began_ns if counts else None
        points = [
            sdk.NumberDataPoint(_attributes(metric, sample.labels), began_ns, at_ns, sample.value)
            for sample in samples
        ]
        data = sdk.Sum(points, sdk.AggregationTemporality.CUMULATIVE, counts) if counts else sdk.Gauge(points)
        return sdk.Metric(metric.name, metric.meaning, _unit(metric.unit), data)

    def _histograms(self, found: dict[tuple[str, str], list[Sample]], at_ns: int) -> list[Any]:
        """The parts put together: ours are cumulative, OpenTelemetry's buckets are not."""
        points: dict[str, list[Any]] = {}
        for (name, subscription), parts in found.items():
            counted: dict[str, int] = {}
            whole: dict[str, float] = {}
            for sample in parts:
                value = cast("float", sample.value)
                if len(sample.labels) == 1:
                    whole[sample.metric.name.rpartition("_")[2]] = value
                else:
                    counted[sample.labels[1]] = int(value)
            if "+Inf" not in counted or not {"sum", "count"} <= whole.keys():
                continue  # A filter dropped some of it.
            running = list(counted.values())
            counts = [after - before for before, after in zip([0, *running], running, strict=False)]
            bounds = [float(bound) for bound in counted if bound != "+Inf"]
            point = self._sdk.HistogramDataPoint(
                {"subscription": subscription}, self._began_ns, at_ns, int(whole["count"]), whole["sum"],
                counts, bounds, None, None,
            )  # fmt: skip
            points.setdefault(name, []).append(point)
        return [
            self._sdk.Metric(
                name, "how long handlers took", "s",
                self._sdk.Histogram(of_name, self._sdk.AggregationTemporality.CUMULATIVE),
            )
            for name, of_name in points.items()
        ]  # fmt: skip

    def __repr__(self) -> str:
        return f"OpenTelemetry({type(self._exporter).__name__})"


def made(exporter: Any) -> Any:
    """The exporter; one that is given as a dotted path is imported and made. Raises `ConfigError`."""
    found = exporter
    if isinstance(exporter, str):
        module, _, name = exporter.replace(":", ".").rpartition(".")
        try:
            make = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError("OpenTelemetry.exporter", exporter, f"what can be imported: {error}") from None
        try:
            found = make()
        except Exception as error:  # whatever an exporter of the user's raises, this names the setting
            because = f"what can be made without arguments ({type(error).__name__}: {error}); one that needs them is given as an object"
            raise ConfigError("OpenTelemetry.exporter", exporter, because) from error
    if not all(callable(getattr(found, call, None)) for call in ("export", "shutdown")):
        raise ConfigError("OpenTelemetry.exporter", exporter, "an OpenTelemetry MetricExporter")
    return found


def _attributes(metric: Metric, labels: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(metric.labels, labels, strict=True))


def _unit(unit: str) -> str:
    return UNITS.get(unit) if unit in UNITS else f"{{{unit}}}"  # type: ignore[return-value]


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1000
