"""A reporter that Prometheus asks: a page of metrics over HTTP, made anew at each scrape.

Needs the extra `headrace[prometheus]`. Decides how metrics become families. Invariant: what is unknown is absent; a page
is made of one report, which is of the moment of the scrape.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from headrace.config import require_count
from headrace.errors import ConfigError, ExtraMissing
from headrace.observe.metrics import Unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.observe.metrics import Metric, Sample
    from headrace.observe.reporting import Report


class Prometheus:
    """Serves `/metrics` for Prometheus, with the label `group` on every metric.

    port: 0 lets the system choose, see `port`. host: loopback unless you say otherwise: the page has no password.
    registry: add the metrics to a registry of prometheus_client that you serve yourself; nothing is served then.
    Raises `ExtraMissing` where `headrace[prometheus]` is not installed. The page is made when it is asked for, so
    `every_s` only says how soon a port that was taken is tried again.
    """

    def __init__(self, port: int = 9464, *, host: str = "127.0.0.1", registry: Any = None) -> None:
        require_count("Prometheus.port", port, 0, 65_535)
        if not isinstance(host, str) or not host:
            raise ConfigError("Prometheus.host", host, "a host name or address")
        try:
            self._library: Any = importlib.import_module("prometheus_client")
            self._core: Any = importlib.import_module("prometheus_client.core")
        except ImportError:
            raise ExtraMissing("the Prometheus reporter", "prometheus") from None
        self._address = (host, port)
        self._registry: Any = registry
        # The reporter's thread writes; scrapes read.
        self._report: Report | None = None
        self._server: Any = None
        self.port: int | None = None
        """The port that is served, once it is. The reporter's thread writes; anyone reads."""

    def report(self, report: Report) -> None:
        """Begin to serve, at the first. Raises `OSError` where the port is taken."""
        if self._report is not None:
            return
        if self._registry is None:
            registry = self._library.CollectorRegistry(auto_describe=False)
            registry.register(self)
            host, port = self._address
            self._server, _thread = self._library.start_http_server(port, host, registry)
            self.port = self._server.server_port
        else:
            self._registry.register(self)
        self._report = report

    def close(self) -> None:
        """Serve no more."""
        if self._report is None:
            return
        self._report = None
        if self._server is None:
            self._registry.unregister(self)
            return
        self._server.shutdown()
        self._server.server_close()

    def describe(self) -> list[Any]:
        """For prometheus_client: nothing is fixed beforehand."""
        return []

    def collect(self) -> Iterator[Any]:
        """For prometheus_client: the metrics of this moment. Scrapes run on threads of the server."""
        first = self._report
        if first is None:
            return
        families: dict[str, Any] = {}
        histograms: dict[str, Any] = {}
        for sample in (report := first.again()).samples:
            if isinstance(sample.value, Unknown):
                continue
            if sample.metric.kind == "histogram":
                self._add_part(histograms, sample, report.group_id)
                continue
            family = families.get(sample.metric.name)
            if family is None:
                family = families[sample.metric.name] = self._family(sample.metric)
            family.add_metric((report.group_id, *sample.labels), sample.value)
        yield from families.values()
        yield from histograms.values()

    def _add_part(self, histograms: dict[str, Any], sample: Sample, group_id: str) -> None:
        """One bucket, the sum or the count: Prometheus wants all of them in one family."""
        name = sample.metric.name.rpartition("_")[0]
        family = histograms.get(name)
        if family is None:
            family = histograms[name] = self._core.Metric(name, "how long handlers took", "histogram")
        labels = dict(zip(("group", *sample.metric.labels), (group_id, *sample.labels), strict=True))
        family.add_sample(sample.metric.name, labels, sample.value)

    def _family(self, metric: Metric) -> Any:
        kind = self._core.CounterMetricFamily if metric.kind == "counter" else self._core.GaugeMetricFamily
        return kind(metric.name, metric.meaning or metric.name, labels=("group", *metric.labels))

    def __repr__(self) -> str:
        return f"Prometheus({self._address[1]}, host={self._address[0]!r})"
