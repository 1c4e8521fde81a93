"""What this process holds of the machine: threads, native threads, open files, memory; and what apps leave of it.

Decides how each is counted, from /proc, so on Linux alone. Refuses to know what an app is. Invariant: a native thread
named rdk:... belongs to a librdkafka handle that was not destroyed; there is no other witness of those from outside.
"""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTLE_S = 10.0
"""How long threads and sockets may take to go after the call that ends them has returned."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Footprint:
    """Names of Python threads, names of all the process's threads, targets of its open files."""

    threads: tuple[str, ...]
    native: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def handles(self) -> int:
        """Threads of librdkafka: at least two for each of its handles that lives."""
        return sum(name.startswith("rdk:") for name in self.native)

    def counts(self) -> tuple[int, int, int]:
        """Numbers to compare: names repeat and change, numbers must not grow."""
        return (len(self.threads), len(self.native), len(self.files))


def footprint() -> Footprint:
    """Of this process, now."""
    return Footprint(
        threads=tuple(sorted(thread.name for thread in threading.enumerate())),
        native=tuple(sorted(_texts(Path("/proc/self/task"), "comm"))),
        files=tuple(sorted(_links(Path("/proc/self/fd")))),
    )


def settled_footprint(at_most: Footprint) -> Footprint:
    """The footprint once it is no larger than `at_most`, or what it is after `SETTLE_S`."""
    give_up_at = time.monotonic() + SETTLE_S
    while True:
        gc.collect()
        now = footprint()
        larger = any(mine > limit for mine, limit in zip(now.counts(), at_most.counts(), strict=True))
        if not larger or time.monotonic() >= give_up_at:
            return now
        time.sleep(0.02)


def assert_no_larger(now: Footprint, before: Footprint) -> None:
    """Fail naming what was left."""
    left = {
        kind: _surplus(getattr(now, kind), getattr(before, kind)) for kind in ("threads", "native", "files")
    }
    counts = zip(now.counts(), before.counts(), strict=True)
    assert all(mine <= limit for mine, limit in counts), f"left behind: {left}"


def resident_bytes() -> int:
    """Memory of this process that is in use now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def used_bytes() -> int:
    """Memory in use, without what the allocator keeps of earlier peaks: it gives that back first.

    A backlog of records is freed in no particular order, so glibc holds on to much of its memory: 200 MiB after a peak
    of 290, of which 60 are in use. What it holds moves in steps of tens of MiB and says nothing of leaks.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return resident_bytes()


def slope(values: Sequence[float]) -> float:
    """Growth per step, by least squares: one peak among many steps moves it little."""
    middle = (len(values) - 1) / 2
    mean = sum(values) / len(values)
    spread = sum((step - middle) ** 2 for step in range(len(values)))
    return sum((step - middle) * (value - mean) for step, value in enumerate(values)) / spread


def _surplus(now: Sequence[str], before: Sequence[str]) -> list[str]:
    left = list(now)
    for name in before:
        if name in left:
            left.remove(name)
    return left


def _texts(folder: Path, name: str) -> list[str]:
    found: list[str] = []
    for entry in folder.iterdir():
        try:
            found.append((entry / name).read_text().strip())
        except OSError:  # ended meanwhile
            continue
    return found


def _links(folder: Path) -> list[str]:
    found: list[str] = []
    for entry in folder.iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:  # the folder's own, closed meanwhile
            continue
    return found
