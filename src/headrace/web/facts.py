"""Health and snapshots as plain values for JSON.

Decides the form that programs read: the names are those of the Python values. Refuses to judge. Invariant: no record's
value is among them, and a key only where records may be shown.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from headrace.web.showing import without_keys

if TYPE_CHECKING:
    from headrace._core.health import Health, Reason
    from headrace._runtime.snapshots import Snapshot
    from headrace.observe.reporting import Source
    from headrace.web.showing import Showing


def health_facts(health: Health) -> dict[str, Any]:
    """A verdict with its reasons, and the numbers behind it."""
    found: dict[str, Any] = {"live": health.live, "ready": health.ready}
    found |= {
        field.name: getattr(health, field.name)
        for field in dataclasses.fields(health)
        if field.name != "reasons"
    }
    return found | {"reasons": [reason_facts(reason) for reason in health.reasons]}


def reason_facts(reason: Reason) -> dict[str, Any]:
    """One reason: what it makes of the verdict, and its own fields under `facts`."""
    return {
        "name": reason.name,
        "severity": reason.severity,
        "unready": reason.unready,
        "facts": reason.facts(),
    }


def snapshot_facts(snapshot: Snapshot, now: float, showing: Showing) -> dict[str, Any]:
    """A snapshot, and how old it is at `now`, which is on the snapshot's clock.

    Without librdkafka's own statistics: they may be megabytes, and what matters of them is among the metrics.
    """
    owner = dataclasses.replace(without_keys(snapshot.owner), statistics="")
    found = dataclasses.asdict(dataclasses.replace(snapshot, owner=owner))
    found["owner"]["hot_keys"] = showing.hot_keys(snapshot.owner.hot_keys)
    return found | {"age_s": max(0.0, now - snapshot.as_of)}


def app_facts(source: Source, showing: Showing) -> dict[str, Any]:
    """All of one app: health, snapshot, what the broker said of each partition, and how reporters fare."""
    view = source.view()
    return {
        "group_id": source.group_id,
        "health": health_facts(view.health),
        "snapshot": snapshot_facts(view.snapshot, view.now, showing),
        "offsets_age_s": view.offsets_age_s(),
        "offsets": [
            {"topic": one.part.topic, "partition": one.part.partition, "lag": known(one.lag())}
            | {
                name: known(getattr(one.offsets, name))
                for name in ("start", "end", "stable", "committed", "readable")
            }
            for one in view.partitions()
        ],
        "reporters": [dataclasses.asdict(state) for state in view.reporters],
    }


def known(value: Any) -> Any:
    """A number as it is; what is unknown as an object with its reason, so that nobody takes it for 0."""
    return {"unknown": value.reason} if hasattr(value, "reason") else value
