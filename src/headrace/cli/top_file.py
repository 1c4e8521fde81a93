"""What `headrace top` is shown of a file of reports: the newest lines of the JSON lines reporter, as an app would tell them.

Decides how metrics become what the screen draws. Refuses to judge: a verdict is no better than what was reported.
Invariants: what a filter kept out of the file is not known, and never 0; a line that is torn, or no report, is passed over;
what is read of a file at once has a bound.
"""

from __future__ import annotations

import json
import math
import re
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from headrace._core.durations import BOUNDS_S
from headrace.cli.exits import Unusable
from headrace.cli.top_screen import Sight

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BYTES_MAX = 64_000_000
"""Of the end of a file: a report of 10,000 partitions has about 10 MB."""
FIRST_BYTES = 1_000_000
KEY = re.compile(r"headrace_([a-z_]+)(?:\{(.*)\})?", re.DOTALL)
PARTITION = re.compile(r"topic=(.*),partition=(\d+)", re.DOTALL)
BUCKET = re.compile(r"subscription=(.*),le=([^,]*)", re.DOTALL)
COUNTERS = {
    "finished": "records_finished_total",
    "fetched": "records_fetched_total",
    "failed": "tries_failed_total",
    "dead_lettered": "records_dead_lettered_total",
}
"""What the screen counts, and the metric of each."""
OF_PARTITION = {
    "committable": "committable_offset",
    "position": "position",
    "waiting": "waiting_records",
    "in_flight": "in_flight_records",
    "parked": "parked_records",
    "oldest_age_s": "oldest_unfinished_age_seconds",
}
OF_SUBSCRIPTION = {
    "dispatched": "dispatched_records",
    "stale": "stale_records",
    "workers": "workers",
    "workers_busy": "workers_busy",
    "chunk_records": "chunk_records",
}


class ReportFile:
    """Follows a file that may be put aside and begun anew. One thread's alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._newest: dict[str, Any] | None = None

    def newest(self) -> tuple[Sight, Sight]:
        """The last two reports, older first; twice the same where there is but one. Raises `Unusable`."""
        found = self._reports()
        if not found and self._newest is None:
            raise Unusable(f"{self._path} has no report; name a file of the JSON lines reporter")
        if self._newest is not None and len(found) < 2:
            # The file was put aside since: the last report before is in another one.
            found = [self._newest, *(one for one in found if one != self._newest)]
        self._newest = found[-1]
        older, newer = (sight_of(one) for one in (found[-2] if len(found) > 1 else found[-1], found[-1]))
        return older, newer

    def _reports(self) -> list[dict[str, Any]]:
        wanted = FIRST_BYTES
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, 2)
                while True:
                    file.seek(max(0, size - wanted))
                    lines = file.read(wanted).split(b"\n")
                    # The first may have been cut off by us, the last may not be written to its end yet.
                    whole = lines[0 if wanted >= size else 1 : -1]
                    if len(whole) >= 2 or wanted >= min(size, BYTES_MAX):
                        return [one for line in whole[-2:] if (one := report_of(line)) is not None]
                    wanted = min(BYTES_MAX, wanted * 4)
        except FileNotFoundError:
            if self._newest is not None:
                return []  # between a file that was put aside and the next
            raise Unusable(f"{self._path}: no such file") from None
        except OSError as error:
            raise Unusable(f"{self._path}: {error.strerror}") from None


def report_of(line: bytes) -> dict[str, Any] | None:
    """One line's report; None if it is none."""
    try:
        loaded: object = json.loads(line)
        if not isinstance(loaded, dict):
            return None
        found = cast("dict[str, Any]", loaded)
        datetime.fromisoformat(found["at"])
        are_there = isinstance(found["metrics"], dict) and isinstance(found["unknown"], dict)
    except (ValueError, KeyError, TypeError):
        return None
    return found if are_there else None


def sight_of(report: Mapping[str, Any]) -> Sight:
    """A report as the app itself would have told it over HTTP."""
    at_s = datetime.fromisoformat(report["at"]).timestamp()
    app, parts, subscriptions, loop, reasons = _sorted(report)
    snapshot_age_s = app.get("snapshot_age_seconds") or 0.0
    facts = {
        "group_id": str(report.get("group", "")),
        "health": {
            "verdict": _verdict(app, reasons),
            "reasons": [
                {"name": name, "severity": "degraded", "facts": {"times": count}}
                for name, count in reasons.items()
                if count
            ],
        },
        "snapshot": {
            "as_of": at_s - snapshot_age_s,
            "age_s": max(0.0, time.time() - at_s) + snapshot_age_s,
            "state": "as reported",
            "owner": {"loop_s": list(loop.items())},
            "engine": {
                "partitions": [
                    {"topic": topic, "partition": partition}
                    | {field: found.get(name) for field, name in OF_PARTITION.items()}
                    | {"paused": ["yes"] if found.get("paused") else []}
                    for (topic, partition), found in sorted(parts.items())
                ],
                "counters": {field: app.get(name) for field, name in COUNTERS.items()},
                "subscriptions": [
                    {"name": name, "durations": _durations(found)}
                    | {field: found.get(metric) for field, metric in OF_SUBSCRIPTION.items()}
                    for name, found in subscriptions.items()
                ],
            },
        },
        "offsets": [
            {
                "topic": topic,
                "partition": partition,
                "lag": found.get("lag_records"),
                "end": found.get("end_offset"),
            }
            for (topic, partition), found in parts.items()
        ],
    }
    return Sight(time.monotonic(), facts)


Values = dict[str, Any]


def _sorted(
    report: Mapping[str, Any],
) -> tuple[Values, dict[tuple[str, int], Values], dict[str, Values], Values, Values]:
    """The report's values by what they are of: the app, partitions, subscriptions, activities of the loop, reasons."""
    app: Values = {}
    parts: dict[tuple[str, int], Values] = {}
    subscriptions: dict[str, Values] = {}
    loop: Values = {}
    reasons: Values = {}
    for key, value in (dict.fromkeys(report["unknown"]) | report["metrics"]).items():
        found = KEY.fullmatch(key)
        if found is None or not (value is None or _is_number(value)):
            continue
        name, labels = found[1], found[2]
        if labels is None:
            app[name] = value
        elif name.startswith("partition_") and (place := PARTITION.fullmatch(labels)):
            parts.setdefault((place[1], int(place[2])), {})[name.removeprefix("partition_")] = value
        elif name == "subscription_handler_seconds_bucket" and (bucket := BUCKET.fullmatch(labels)):
            subscriptions.setdefault(bucket[1], {})[f"le={bucket[2]}"] = value
        elif (
            name.startswith("subscription_")
            and labels.startswith("subscription=")
            and ",error=" not in labels
        ):
            subscription = subscriptions.setdefault(labels.removeprefix("subscription="), {})
            subscription[name.removeprefix("subscription_")] = value
        elif name == "loop_seconds_total" and value is not None:
            loop[labels.removeprefix("activity=")] = value
        elif name == "health_reasons":
            reasons[labels.removeprefix("reason=")] = value
    return app, parts, subscriptions, loop, reasons


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _verdict(app: Values, reasons: Values) -> str:
    if app.get("live") is None or app.get("ready") is None:
        return "verdict not reported"
    if not app["live"]:
        return "not live"
    if not app["ready"]:
        return "not ready"
    return "degraded" if any(reasons.values()) else "ok"


def _durations(found: Values) -> dict[str, Any]:
    """Counts of each bucket, which are reported added up; none where one of them is not."""
    within = [found.get(f"le={bound_s:g}") for bound_s in BOUNDS_S] + [found.get("le=+Inf")]
    known = [count for count in within if count is not None]
    if len(known) < len(within):
        return {"counts": [], "bounds_s": []}
    counts = [count - before for count, before in zip(known, [0, *known], strict=False)]
    return {"counts": counts, "bounds_s": list(BOUNDS_S)}
