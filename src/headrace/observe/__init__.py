"""Watching an app: metrics, filters, reporters, broker offsets; and the guard for other people's consumers.

Everything here reads immutable snapshots, or asks Kafka on a connection of its own. Invariant: nothing here holds what
the owner thread waits for.
"""

from headrace.observe.console import Console
from headrace.observe.files import Csv, JsonLines
from headrace.observe.filters import Expressions, Filter
from headrace.observe.metrics import Gauge, Metric, Sample, Unknown
from headrace.observe.otel import OpenTelemetry
from headrace.observe.prometheus import Prometheus
from headrace.observe.reporting import Report, Reporter
from headrace.observe.settings import Reporting, load_reporters
from headrace.observe.states import ReporterState
from headrace.observe.statsd import StatsD
from headrace.observe.tracing import Tracing

__all__ = [
    "Console",
    "Csv",
    "Expressions",
    "Filter",
    "Gauge",
    "JsonLines",
    "Metric",
    "OpenTelemetry",
    "Prometheus",
    "Report",
    "Reporter",
    "ReporterState",
    "Reporting",
    "Sample",
    "StatsD",
    "Tracing",
    "Unknown",
    "load_reporters",
]
