"""The bars of the benchmark and the gate of its quick form: what is judged, from numbers alone.

Decides what is met; refuses to know how numbers came about. Invariant: a bar without its numbers is "not measured", never
met. Ratios are medians over rounds, each of two runs of one round.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.peers.cells import cell_named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Runs = list[dict[str, Any]]

WORSE = 1.25
PAIRS = 3
PAYLOAD_BYTES = 116
FLAT = 0.1
"""Twice the cost for a thousand times as much."""

LOOPS = {"raw", "raw-default", "librdkafka-c", "bare-processes", "headrace", "headrace-one-core"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bar: what it asks, what was found, and whether that meets it; None: not measured."""

    asks: str
    found: str
    met: bool | None


@dataclass(frozen=True, slots=True)
class Results:
    """Runs by cell and contender; of a contender that cannot run, none."""

    runs: Mapping[tuple[str, str], Runs]

    def middle(self, cell: str, contender: str, number: str) -> float | None:
        """The median of a number."""
        values = [run[number] for run in self.runs.get((cell, contender), []) if number in run]
        return statistics.median(values) if values else None

    def ratio(self, cell: str, ours: str, theirs: str, number: str) -> float | None:
        """The median over rounds of ours divided by theirs. Runs that were not of one round are not compared."""
        others = {run["round"]: run for run in self.runs.get((cell, theirs), [])}
        pairs = [(run, others.get(run["round"], {})) for run in self.runs.get((cell, ours), [])]
        found = [mine[number] / other[number] for mine, other in pairs if other.get(number)]
        return statistics.median(found) if found else None

    def best_peer(self, cell: str) -> tuple[str, float] | None:
        """The fastest of the cell that is not a bare loop; None unless each of them ran, or is known to be unable to."""
        peers = [contender for contender in cell_named(cell).contenders if contender not in LOOPS]
        if any((cell, peer) not in self.runs for peer in peers):
            return None
        rates = [(peer, rate) for peer in peers if (rate := self.middle(cell, peer, "per_s"))]
        return max(rates, key=lambda each: each[1], default=None)


TIMES_OF_PEERS = (
    ("faststream-confluent", 30),
    ("faststream-aiokafka", 30),
    ("arroyo", 4),
    ("quix", 4),
    ("pc-key", 3),
    ("pc-key-tuned", 3),
)
"""By how much the rate of a no-op `def` handler is to be above each peer's."""


def bars(results: Results, growth: Sequence[Mapping[str, Any]] = ()) -> list[Verdict]:
    """All bars, in the order in which they were set; those on growth need its entries."""
    found = [
        at_least(
            "`def`, 0 ms: rate, of the raw loop's", results.ratio("def-0", "headrace", "raw", "per_s"), 0.4
        ),
        at_most(
            "`def`, 0 ms: CPU per record, times the raw loop's",
            results.ratio("def-0", "headrace", "raw", "cpu_us"),
            3,
        ),
    ]
    for peer, times in TIMES_OF_PEERS:
        rate = results.ratio("def-0", "headrace", peer, "per_s")
        found.append(at_least(f"`def`, 0 ms: rate, times that of {peer}", rate, times))
    found += [
        at_least(
            "`async def`, 0 ms: rate, of the raw loop's",
            results.ratio("async-0", "headrace", "raw", "per_s"),
            0.25,
        ),
        at_least(
            "batches, 0 ms: rate, of the raw loop's",
            results.ratio("batch-0", "headrace", "raw", "per_s"),
            0.75,
        ),
    ]
    found += [
        at_least(f"{text}: records/s", results.middle(cell, "headrace", "per_s"), bar)
        for cell, text, bar in (
            ("await-10", "10 ms awaited, concurrency 1,000", 45_000),
            ("await-100", "100 ms awaited, concurrency 10,000", 45_000),
            ("block-10", "10 ms blocking, 200 threads (90% of 20,000)", 18_000),
        )
    ]
    for cell in ("await-1", "await-10", "await-100", "block-1", "block-10", "block-100"):
        peer_of = results.best_peer(cell)
        mine = results.middle(cell, "headrace", "per_s")
        value = mine / peer_of[1] if peer_of and mine else None
        found.append(
            at_least(f"{cell}: rate, of the best peer's ({peer_of[0] if peer_of else 'none'})", value, 1.0)
        )
    return found + other_bars(results) + growth_bars({entry["name"]: entry for entry in growth})


def other_bars(results: Results) -> list[Verdict]:
    """Those that are of one contender, or of two cells."""
    cool, hot = (results.middle(cell, "headrace", "p99_ms") for cell in ("cool", "hot"))
    ratio = results.ratio
    return [
        at_least(
            "1 ms of CPU, 2 processes: of bare processes' rate, or of their CPU per record, the smaller",
            smaller(
                ratio("cpu-1", "headrace", "bare-processes", "per_s"),
                ratio("cpu-1", "bare-processes", "headrace", "cpu_us"),
            ),
            0.9,
        ),
        at_most(
            "p99 of other keys beside a hot one, times that without it",
            hot / cool if hot and cool else None,
            2,
        ),
        at_most("idle: share of one core", results.middle("idle", "headrace", "idle_share"), 0.01),
        at_most("100 records/s: p99 in ms", results.middle("latency", "headrace", "p99_ms"), 10),
        at_most(
            "64 partitions, 1,000,000 keys: CPU per record, of 8 and 10,007", across(results, "cpu_us"), 1.2
        ),
        at_least("64 partitions, 1,000,000 keys: rate, of 8 and 10,007", across(results, "per_s"), 0.8),
    ]


def growth_bars(entries: Mapping[str, Mapping[str, Any]]) -> list[Verdict]:
    """What a record in flight takes of memory, and that cost stays flat."""
    taken = entries.get("in-flight", {}).get("bytes_per_record")
    beyond = None if taken is None else taken - PAYLOAD_BYTES
    found = [at_most("a record in flight: bytes beyond its payload", beyond, 1024)]
    for name in ("in-flight", "keys", "partitions", "backlog"):
        power = entries.get(name, {}).get("exponent")
        found.append(at_most(f"CPU per record as {name} grows: exponent", power, FLAT))
    return found


def across(results: Results, number: str) -> float | None:
    """The cell of many keys as a share of the plain one; each against the raw loop of its own rounds."""
    many = results.ratio("keys-1m", "headrace", "raw", number)
    plain = results.ratio("def-0", "headrace", "raw", number)
    return many / plain if many and plain else None


def smaller(rate: float | None, thrift: float | None) -> float | None:
    """On a busy machine a rate may be any: those that wait now and then are given the processor first."""
    return None if rate is None or thrift is None else min(rate, thrift)


def at_least(asks: str, value: float | None, bar: float) -> Verdict:
    """Met by as much or more."""
    return Verdict(f"{asks}: at least {bar:,g}", shown(value), None if value is None else value >= bar)


def at_most(asks: str, value: float | None, bar: float) -> Verdict:
    """Met by as much or less."""
    return Verdict(f"{asks}: at most {bar:,g}", shown(value), None if value is None else value <= bar)


def shown(value: float | None) -> str:
    """Three figures are what such numbers are worth."""
    if value is None:
        return "not measured"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def is_worse(stored: float, pairs: Sequence[float]) -> bool:
    """Whether a quick run fails: each of at least three pairs is more than a quarter above the stored ratio."""
    return len(pairs) >= PAIRS and all(pair > stored * WORSE for pair in pairs)


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Of cost as a power of size, by least squares over the logarithms: 0 is flat, 1 is in proportion."""
    xs, ys = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    middle_x, middle_y = statistics.fmean(xs), statistics.fmean(ys)
    spread = sum((x - middle_x) ** 2 for x in xs)
    return sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / spread
