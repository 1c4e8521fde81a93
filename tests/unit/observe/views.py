"""Views made by hand, for metrics without an app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace import EngineSnapshot, PartitionSnapshot, Snapshot
from headrace._core.health import Facts, Limits, Vitals, judge
from headrace._core.states import AppState
from headrace.observe.metrics import Unknown
from headrace.observe.reporting import Source
from headrace.observe.views import PartitionOffsets, View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.observe.metrics import Gauge
    from headrace.observe.states import ReporterState

NOW = 100.0


def part(topic: str = "orders", partition: int = 0, **changed: object) -> PartitionSnapshot:
    """A partition with all numbers different, so that none passes for another."""
    numbers: dict[str, object] = {
        "epoch": 3, "phase": "active", "delivered": 70, "finished": 40, "waiting": 11, "in_flight": 7, "parked": 5, "held": 4, "settling": 2,
        "unacked": 1, "position": 120, "committable": 81, "committed": 80, "bytes_held": 999, "oldest_age_s": 6.0, "paused": (),
    }  # fmt: skip
    return PartitionSnapshot(topic, partition, **(numbers | changed))  # type: ignore[arg-type]


def offsets(
    start: int = 10, end: int = 130, stable: int = 125, committed: int | None = 80
) -> PartitionOffsets:
    """What a broker said to one who reads what is committed."""
    return PartitionOffsets(start, end, stable, committed, stable)


def view(
    parts: Sequence[PartitionSnapshot] = (),
    known: dict[tuple[str, int], PartitionOffsets] | None = None,
    reporters: tuple[ReporterState, ...] = (),
) -> View:
    """A view of a running app, two seconds after its snapshot."""
    facts = Facts(AppState.RUNNING, Vitals(polled_at=99.5), tuple(parts), 98.0, 97.0, 99.0, None, None)
    health = judge(facts, Limits(60, 10, 60, 60, 30), NOW)
    nothing = PartitionOffsets.unknown("not asked")
    return View(
        Snapshot(98.0, 7, "running", EngineSnapshot(tuple(parts))),
        health,
        NOW,
        lambda topic, partition: (known or {}).get((topic, partition), nothing),
        lambda: None,
        reporters,
    )


def source(*gauges: Gauge, made: View | None = None) -> Source:
    """An app as reporters see it."""
    found = view([part()]) if made is None else made
    return Source("billing", lambda: found, gauges)


def is_unknown(value: object, reason: str) -> bool:
    """Whether it is unknown, for this reason."""
    return isinstance(value, Unknown) and reason in value.reason
