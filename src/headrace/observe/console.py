"""A reporter that prints a table, for people.

Decides what a value looks like. Invariant: an unknown value is shown with its reason, and no label can steer the terminal.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from headrace.observe.metrics import Unknown

if TYPE_CHECKING:
    from headrace.observe.metrics import Sample
    from headrace.observe.reporting import Report


class Console:
    """Prints each report as a table. stream: standard error, if none is given, as it is at the time of the report."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def report(self, report: Report) -> None:
        """Print it."""
        stream = sys.stderr if self._stream is None else self._stream
        rows = [(_printable(sample.key), _shown(sample)) for sample in report.samples]
        width = max((len(key) for key, _ in rows), default=0)
        lines = [
            f"metrics of {_printable(report.group_id)} at {report.at.isoformat(timespec='milliseconds')}"
        ]
        lines += [f"  {key.ljust(width)}  {shown}" for key, shown in rows]
        stream.write("\n".join(lines) + "\n")
        stream.flush()

    def close(self) -> None:
        """Nothing to let go: the stream is not ours."""

    def __repr__(self) -> str:
        return "Console()"


def _shown(sample: Sample) -> str:
    value = sample.value
    if isinstance(value, Unknown):
        return f"unknown ({_printable(value.reason)})"
    number = f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
    return f"{number} {_printable(sample.metric.unit)}".rstrip()


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
