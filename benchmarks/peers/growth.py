"""Cost as work grows: CPU per record by records in flight, keys, partitions and backlog, with the exponent of each.

Decides the sizes, and what stands still while one grows. Refuses to judge. Invariant: in flight grows with the time that a
handler waits, so that the rate asked for is the same at each size; what is left to grow is the cost of a record in flight.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.peers.cells import Cell, Shape
from benchmarks.peers.contenders import contender_named
from benchmarks.peers.judging import exponent
from benchmarks.peers.measuring import say

if TYPE_CHECKING:
    from benchmarks.peers.measuring import Bench

RATE_PER_S = 15_000
REACHED = 0.8
RECORDS = 1_000_000
"""The same for each number in flight, and a tenth of it is the largest: warm is when all places were taken once."""
PARTITIONS = Shape().partitions


@dataclass(frozen=True, slots=True)
class Sweep:
    """One thing that grows."""

    name: str
    title: str
    sizes: tuple[int, ...]


SWEEPS = (
    Sweep("in-flight", "records in flight (awaited, 15,000 records/s)", (100, 1_000, 10_000, 100_000)),
    Sweep("keys", "keys (`def`, 0 ms)", (1, 100, 10_000, 1_000_000)),
    Sweep("partitions", "partitions (`def`, 0 ms)", (1, 8, 64, 1_000)),
    Sweep("backlog", "records behind (`def`, 0 ms)", (1_000_000, 2_000_000, 4_000_000)),
)


def cell_of(sweep: Sweep, size: int) -> Cell:
    """The cell of one size."""
    if sweep.name == "in-flight":
        wait_s = size / RATE_PER_S
        shape = Shape(records=RECORDS, keys=1_000_000)
        seconds = max(8.0, 3 * wait_s)  # records come in waves, one for each wait
        return Cell(
            sweep.name, sweep.title, "async", wait_s * 1000, concurrency=size, shape=shape, seconds=seconds
        )
    shape = {
        "keys": Shape(keys=size),
        "partitions": Shape(partitions=size),
        "backlog": Shape(records=size),
    }[sweep.name]
    return Cell(sweep.name, sweep.title, shape=shape, seconds=12)


def deep(size: int) -> dict[str, Any]:
    """Room for so many in flight, and for little that waits: what is held beside them would be counted as theirs."""
    queued = max(1000, size * 3 // 2 // PARTITIONS)
    budgets = {"queued_records_max": queued, "lookahead_records_max": 200_000, "total_bytes_max": 2**30}
    return {"budgets": budgets, "warm_all": True}


def grow(bench: Bench, rounds: int, only: str | None) -> list[dict[str, Any]]:
    """An entry for each sweep: points, exponent, and what a record in flight takes of memory."""
    found: list[dict[str, Any]] = []
    for sweep in SWEEPS:
        if only and sweep.name != only:
            continue
        runs: dict[int, list[dict[str, Any]]] = {size: [] for size in sweep.sizes}
        for _ in range(rounds):
            for size in sweep.sizes:
                options = deep(size) if sweep.name == "in-flight" else {}
                run = bench.run(contender_named("headrace"), cell_of(sweep, size), options)
                say(f"growth {sweep.name} {size:,}: {run}")
                if "error" not in run:
                    runs[size].append(run)
        found.append(entry_of(sweep, runs))
    return found


def entry_of(sweep: Sweep, runs: dict[int, list[dict[str, Any]]]) -> dict[str, Any]:
    """Points, exponent and memory; sizes that a slow machine never reached are left out, and told."""
    reached = {size: each for size, each in runs.items() if each and is_reached(sweep, each)}
    points = [(size, statistics.median(run["cpu_us"] for run in each)) for size, each in reached.items()]
    entry: dict[str, Any] = {
        "name": sweep.name,
        "title": sweep.title,
        "points": points,
        "exponent": None,
        "not_reached": [size for size in sweep.sizes if size not in reached],
        "runs": {str(size): each for size, each in runs.items()},
    }
    if len(points) > 1:
        entry["exponent"] = exponent([size for size, _ in points], [cost for _, cost in points])
        small, large = points[0][0], points[-1][0]
        if sweep.name == "in-flight":
            more_mb = memory_of(runs[large]) - memory_of(runs[small])
            entry["bytes_per_record"] = more_mb * 2**20 / (large - small)
    return entry


def is_reached(sweep: Sweep, runs: list[dict[str, Any]]) -> bool:
    """Whether so many really were in flight: the rate times the wait says how many were."""
    rate = statistics.median(run["per_s"] for run in runs)
    return sweep.name != "in-flight" or rate >= REACHED * RATE_PER_S


def memory_of(runs: list[dict[str, Any]]) -> float:
    """The median peak."""
    return float(statistics.median(run["peak_mb"] for run in runs))
