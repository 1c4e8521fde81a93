"""The gate: Headrace against the raw loop of the same run, beside the ratios that are stored.

Decides what is compared: CPU per record, which moves least when other work shares the machine. Refuses to judge rates.
Invariants: one or two bad pairs never fail it; a run that ends with an error does. When time is up a cell is judged by the pairs
that it has, and that is said; one whose pairs were all bad so far gets its third.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.peers.cells import Shape, cell_named
from benchmarks.peers.contenders import contender_named
from benchmarks.peers.environments import ROOT
from benchmarks.peers.judging import PAIRS, WORSE, is_worse
from benchmarks.peers.measuring import say

if TYPE_CHECKING:
    from benchmarks.peers.measuring import Bench

STORED = ROOT / "benchmarks" / "quick_ratios.json"
CELLS = ("def-0", "async-0", "batch-0")
SHAPE = Shape(records=1_000_000)
LIMIT_S = 140.0


class RunFailed(Exception):
    """A contender gave no answer."""


def quick(bench: Bench, *, write: bool) -> int:
    """The exit code: 1 if a cell is worse in each of three pairs, or a run failed. With `write`, the medians are stored."""
    stored: dict[str, float] = {} if write else json.loads(STORED.read_text())
    try:
        pairs = all_pairs(bench, stored)
    except RunFailed as failed:
        say(f"the gate cannot judge: {failed}")
        return 1
    if write:
        ratios = {name: round(statistics.median(found), 2) for name, found in pairs.items()}
        STORED.write_text(json.dumps(ratios, indent=1) + "\n")
        say(f"stored: {STORED.read_text()}")
        return 0
    worse = [name for name in CELLS if is_worse(stored[name], pairs[name])]
    for name in CELLS:
        found = ", ".join(f"{ratio:.2f}" for ratio in pairs[name])
        verdict = "WORSE" if name in worse else "ok"
        print(
            f"{name:10} CPU per record, times the raw loop's: {found}; stored {stored[name]:.2f}, fails above {stored[name] * WORSE:.2f}: {verdict}"
        )
    return 1 if worse else 0


def all_pairs(bench: Bench, stored: dict[str, float]) -> dict[str, list[float]]:
    """Of each cell; round by round, so that each has its pairs if time ends early. Raises `RunFailed`."""
    give_up_at = time.monotonic() + LIMIT_S
    pairs: dict[str, list[float]] = {name: [] for name in CELLS}
    for number in range(PAIRS):
        for name in CELLS:
            may_fail = bool(stored) and all(pair > stored[name] * WORSE for pair in pairs[name])
            if not stored or may_fail or time.monotonic() < give_up_at:
                pairs[name].append(one_pair(bench, name, ours_first=bool(number % 2)))
    return pairs


def one_pair(bench: Bench, name: str, *, ours_first: bool) -> float:
    """Headrace's CPU per record by the raw loop's, run right after one another. Raises `RunFailed`."""
    cell = replace(cell_named(name), shape=SHAPE)
    order = ("headrace", "raw") if ours_first else ("raw", "headrace")
    found = {contender: bench.run(contender_named(contender), cell) for contender in order}
    for contender, run in found.items():
        if "error" in run:
            raise RunFailed(f"{name} {contender}: {run['error']}")
    return float(found["headrace"]["cpu_us"] / found["raw"]["cpu_us"])
