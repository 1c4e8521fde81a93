"""The progress of a read as one line on stderr, drawn over itself on a terminal, and a last line that stays.

Decides what is shown; refuses to know where it goes wrong. Elsewhere than on a terminal only the last line is written.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from headrace.ranges import Progress

_KILO = 1000.0


@final
class Meter:
    """Shows progress as it comes. Used by one thread."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._width = 0

    def show(self, progress: Progress) -> None:
        """Draw the line anew."""
        if self._live:
            text = line(progress)
            sys.stderr.write("\r" + text.ljust(self._width))
            sys.stderr.flush()
            self._width = len(text)

    def clear(self) -> None:
        """Take the line away."""
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0


def line(progress: Progress) -> str:
    """How far it is."""
    share = progress.done / progress.offsets if progress.offsets else 1.0
    busy = sum(partition.done < partition.offsets for partition in progress.partitions)
    left = "" if progress.left_s is None else f"  {clock(progress.left_s)} left"
    return (
        f"{share:4.0%}  {progress.records:,} records  {amount(progress.bytes)}  {rate(progress)}"
        f"  {busy} of {len(progress.partitions)} partitions to go{left}"
    )


def summary(progress: Progress) -> str:
    """What it came to."""
    return (
        f"{progress.records:,} records, {amount(progress.bytes)}, "
        f"in {progress.elapsed_s:.1f} s ({rate(progress)})"
    )


def rate(progress: Progress) -> str:
    """Records a second since the beginning."""
    return f"{progress.records / max(progress.elapsed_s, 1e-3):,.0f}/s"


def amount(size: float) -> str:
    """Bytes, in the unit that suits."""
    for unit in ("B", "kB", "MB"):
        if size < _KILO:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _KILO
    return f"{size:.2f} GB"


def clock(seconds: float) -> str:
    """A span as h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
