"""One app as the dashboard shows it: a value for JSON, made whole from one snapshot.

Decides what a page gets to see. Invariant: all numbers of a state come from one snapshot, so its sums match its parts; no
record's value is among them, a key only where records may be shown, and texts are cut.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

from headrace.observe.metrics import Unknown, total
from headrace.web.chronicle import STACK_FIELDS, Chronicle, Sample
from headrace.web.facts import health_facts

if TYPE_CHECKING:
    from headrace._core.durations import DurationsSnapshot
    from headrace._core.snapshot import SubscriptionSnapshot
    from headrace.observe.reporting import Source
    from headrace.observe.views import PartitionView, View
    from headrace.web.chronicle import Told
    from headrace.web.showing import Showing

TEXT_CHARS_MAX = 300
STACK_CHARS_MAX = 6000
COLUMNS = (
    "topic", "partition", "phase", "epoch", "committed", "committable", "position", "end", "lag",
    "in_flight", "waiting", "aside", "beyond", "oldest_age_s", "paused",
)  # fmt: skip
"""Of a partition. aside: parked, held, settling and unacked. beyond: offsets finished beyond the committable one."""
SUMMED = ("waiting", "in_flight", "parked", "held", "settling", "unacked")


class DashboardState:
    """Makes states of one app. Any thread."""

    def __init__(self, source: Source, chronicle: Chronicle, showing: Showing) -> None:
        self._source = source
        self._chronicle = chronicle
        self._showing = showing

    def sample(self) -> None:
        """Note how far the app is now."""
        view = self._source.view()
        counters, parts = view.snapshot.engine.counters, view.snapshot.engine.partitions
        lag = _lag(view)
        self._chronicle.sample(
            Sample(
                time.time(),
                counters.finished,
                counters.failed,
                None if isinstance(lag, Unknown) else int(lag),
                sum(part.in_flight for part in parts),
                sum(part.waiting for part in parts),
            )
        )

    def state(self) -> dict[str, Any]:
        """All of it, as of now."""
        view, account = self._source.view(), self._chronicle.account()
        engine = view.snapshot.engine
        lag = _lag(view)
        several, scaling = view.snapshot.connections, view.snapshot.scaling
        return {
            "name": self._source.group_id,
            "at": time.time(),
            "health": health_facts(view.health),
            "counters": dataclasses.asdict(engine.counters),
            "totals": {name: sum(getattr(part, name) for part in engine.partitions) for name in SUMMED}
            | {"lag": None if isinstance(lag, Unknown) else lag},
            "lag_unknown": lag.reason if isinstance(lag, Unknown) else "",
            "columns": COLUMNS,
            "partitions": [_row(part) for part in view.partitions()],
            "connections": [
                dataclasses.asdict(each) | {"error": each.error[:TEXT_CHARS_MAX]} for each in several
            ],
            "scaling": None if scaling is None else {"why": scaling.why, "meaning": scaling.meaning},
            "subscriptions": [_subscription(one) for one in engine.subscriptions],
            "hot_keys": self._showing.hot_keys(view.snapshot.owner.hot_keys),
            "reporters": [dataclasses.asdict(state) for state in view.reporters],
            "events": [_event(told) for told in account.events],
            "failures": [_event(told) for told in account.failures],
            "stacks": [_event(told) | {"stack": _stack(told)} for told in account.stacks],
            "sample_columns": [field.name for field in dataclasses.fields(Sample)],
            "samples": [dataclasses.astuple(sample) for sample in account.samples],
        }


def _lag(view: View) -> int | float | Unknown:
    parts = view.partitions()
    if not parts:
        return Unknown("no partition is ours")
    for part in parts:
        if isinstance(found := part.lag(), Unknown):
            return Unknown(f"{part.part.topic}[{part.part.partition}]: {found.reason}"[:TEXT_CHARS_MAX])
    return total(part.lag() for part in parts)


def _row(one: PartitionView) -> list[Any]:
    part, offsets, lag = one.part, one.offsets, one.lag()
    aside = part.parked + part.held + part.settling + part.unacked
    unfinished = part.waiting + part.in_flight + aside
    return [
        part.topic,
        part.partition,
        part.phase,
        part.epoch,
        part.committed,
        part.committable,
        part.position,
        None if isinstance(offsets.readable, Unknown) else offsets.readable,
        None if isinstance(lag, Unknown) else lag,
        part.in_flight,
        part.waiting,
        aside,
        max(0, part.position - part.committable - unfinished),
        one.view.age_s(part.oldest_age_s),
        list(part.paused),
    ]


def _subscription(one: SubscriptionSnapshot) -> dict[str, Any]:
    found = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    durations = found.pop("durations")
    return found | {"p50": _quantile(durations, 0.5), "p99": _quantile(durations, 0.99)}


def _quantile(durations: DurationsSnapshot, share: float) -> tuple[float, bool] | None:
    """A bound in seconds, and whether so large a share of handlers stayed below it; if not, it is the last one there is."""
    wanted = share * durations.count
    if not wanted:
        return None
    within = (bound_s for bound_s in durations.bounds_s if durations.within(bound_s) >= wanted)
    bound_s = next(within, None)
    return (durations.bounds_s[-1], False) if bound_s is None else (bound_s, True)


def _event(told: Told) -> dict[str, Any]:
    facts = {
        name: value if isinstance(value, int | float | None) else str(value)[:TEXT_CHARS_MAX]
        for name, value in told.notice.facts().items()
        if name not in STACK_FIELDS
    }
    return {
        "at": told.at,
        "name": told.notice.name,
        "level": told.notice.level,
        "count": told.count,
        "facts": facts,
    }


def _stack(told: Told) -> str:
    found = [str(getattr(told.notice, field, "")) for field in STACK_FIELDS]
    return next((text for text in found if text), "")[:STACK_CHARS_MAX]
