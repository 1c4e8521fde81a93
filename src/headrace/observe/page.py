"""The reference page of metrics, generated from the catalogue: `python -m headrace.observe.page > docs/reference/metrics.md`.

Decides the page's words around the tables. Invariant: every metric of the catalogue has its row.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from headrace.observe.catalogue import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Iterator

_BEFORE = """# Metrics

Generated from `headrace.observe.catalogue`; a test compares. How to report them: [metrics and reporters](../howto/metrics.md).

All metrics of a report come from one [snapshot](snapshots.md), and offsets of the broker from the last time it was asked
(`headrace_offsets_age_seconds`). A value that is not known is *unknown*, with a reason: the console and the files say it, StatsD
and Prometheus leave the value out. It is never 0 instead.

Filters see `name{label=value,...}`, such as `headrace_partition_lag_records{topic=orders,partition=0}`. A gauge may go up and
down; a counter only rises, until the app starts anew; so do the buckets, sum and count of a histogram, which Prometheus gets as
one family. Prometheus adds the label `group`.
"""


def metrics_page() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _BEFORE.rstrip()
    for title, metrics in CATALOGUE.sections():
        labels = ", ".join(f"`{label}`" for label in metrics[0].labels)
        bound = metrics[0].bound
        yield f"\n## {title}\n"
        yield (
            f"Labels: {labels}. Values of each metric: at most one for each of the {bound}.\n"
            if labels
            else "No labels: one value each.\n"
        )
        yield "| metric | kind | unit | meaning |"
        yield "|---|---|---|---|"
        for metric in metrics:
            yield f"| `{metric.name}` | {metric.kind} | {metric.unit} | {metric.meaning} |"


if __name__ == "__main__":
    sys.stdout.write(metrics_page())
