"""What `headrace top` draws of an app: a heading, its health, its loop, its handlers, its hottest keys, its partitions.

Decides the form, and how rates follow from two sights. Refuses to ask. Invariants: no byte of a name or an error steers the
terminal; a value that is not known is shown as such, never as 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

COLOURS = {
    "ok": "green",
    "degraded": "yellow",
    "stuck": "red",
    "ended": "red",
    "not live": "red",
    "not ready": "yellow",
}
UNKNOWN = "?"
LINES_AROUND = 9
"""Lines of the screen that are no rows of tables."""
KEYS_MAX = 5


@dataclass(frozen=True, slots=True)
class Sight:
    """What an app said at one moment of ours."""

    at: float
    facts: Mapping[str, Any]

    @property
    def as_of(self) -> float:
        """The moment of its snapshot, on its own clock."""
        found: float = self.facts["snapshot"]["as_of"]
        return found

    @property
    def engine(self) -> Mapping[str, Any]:
        """Of its snapshot."""
        found: Mapping[str, Any] = self.facts["snapshot"]["engine"]
        return found

    def per_s(self, before: Sight, counter: str) -> float | None:
        """How fast a counter rises; None where there is no time between, or the app started anew."""
        seconds = self.as_of - before.as_of
        found, then = self.engine["counters"][counter], before.engine["counters"][counter]
        if found is None or then is None:
            return None
        return (found - then) / seconds if seconds > 0 and found >= then else None

    def shares(self, before: Sight) -> dict[str, float]:
        """What the owner loop spent its time on since then, as shares of 1."""
        then = dict(before.facts["snapshot"]["owner"]["loop_s"])
        spent = {name: s - then.get(name, 0.0) for name, s in self.facts["snapshot"]["owner"]["loop_s"]}
        whole = sum(spent.values())
        return {name: s / whole for name, s in spent.items()} if whole > 0 else {}


def drawn(now: Sight, before: Sight, address: str, error: str, *, rows_max: int | None) -> RenderableType:
    """The whole screen. rows_max: lines that it has; None for no limit."""
    parts: list[RenderableType] = [_heading(now, address), *_reasons(now)]
    if error:
        parts.append(Text(plain(error), "red"))
    parts += [_flow(now, before), _loop(now, before), _handlers(now), *_hot_keys(now)]
    room = None
    if rows_max is not None:
        room = max(1, rows_max - LINES_AROUND - len(parts) - len(now.engine["subscriptions"]))
    return Group(*parts, *_partitions(now, room))


def plain(text: object) -> str:
    """A name or an error as one line without control characters."""
    return "".join(c if c.isprintable() else UNKNOWN for c in str(text))


def quantile_s(durations: Mapping[str, Any], share: float) -> str:
    """The bound below which so large a share of handlers stayed, as text."""
    counts: Sequence[int] = durations["counts"]
    wanted, seen = share * sum(counts), 0
    if not wanted:
        return "-"
    for bound_s, count in zip(durations["bounds_s"], counts, strict=False):
        seen += count
        if seen >= wanted:
            return f"<{_span(bound_s)}"
    return f">{_span(durations['bounds_s'][-1])}"


def _heading(now: Sight, address: str) -> Text:
    health, snapshot = now.facts["health"], now.facts["snapshot"]
    verdict = str(health["verdict"])
    text = Text(plain(now.facts["group_id"]), "bold")
    text.append(f"  {plain(verdict)}", COLOURS.get(verdict, "cyan"))
    text.append(f"  {plain(snapshot['state'])}, {len(now.engine['partitions'])} partitions", "none")
    text.append(f"  {plain(address)}  snapshot {snapshot['age_s']:.1f} s old", "dim")
    return text


def _reasons(now: Sight) -> list[RenderableType]:
    return [
        Text(
            plain(f"{reason['name']} " + " ".join(f"{k}={v}" for k, v in reason["facts"].items()))[:200],
            COLOURS.get(reason["severity"], "yellow"),
        )
        for reason in now.facts["health"]["reasons"][:5]
    ]


def _flow(now: Sight, before: Sight) -> Text:
    parts, counters = now.engine["partitions"], now.engine["counters"]
    lags = [one["lag"] for one in now.facts["offsets"]]
    lag = f"{sum(lags):,}" if all(isinstance(one, int) for one in lags) else UNKNOWN

    def held(name: str) -> str:
        counts = [part[name] for part in parts]
        return UNKNOWN if None in counts else f"{sum(counts):,}"

    def rate(name: str) -> str:
        found = now.per_s(before, name)
        return UNKNOWN if found is None else f"{found:,.0f}/s"

    return Text(
        f"finished {rate('finished')}  fetched {rate('fetched')}  lag {lag}  waiting {held('waiting')}  "
        f"in flight {held('in_flight')}  parked {held('parked')}  failed {rate('failed')}  "
        f"dead letters {_number(counters['dead_lettered'])}"
    )


def _loop(now: Sight, before: Sight) -> Text:
    shares = now.shares(before)
    told = "  ".join(f"{plain(name)} {share:.0%}" for name, share in shares.items()) or UNKNOWN
    return Text(f"loop  {told}", "dim")


def _handlers(now: Sight) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("handler", no_wrap=True)
    for title in ("busy", "workers", "given", "a chunk", "p50", "p99", "stale"):
        table.add_column(title, justify="right")
    for one in now.engine["subscriptions"]:
        durations = one["durations"]
        table.add_row(
            Text(plain(one["name"])),
            *(_number(one[key]) for key in ("workers_busy", "workers", "dispatched", "chunk_records")),
            quantile_s(durations, 0.5),
            quantile_s(durations, 0.99),
            _number(one["stale"]),
        )
    return table


def _hot_keys(now: Sight) -> list[RenderableType]:
    """Those with the largest shares that are sure. An app of an older Headrace tells none."""
    found: Mapping[str, Any] = now.facts["snapshot"]["owner"].get("hot_keys", {})
    told = "  ".join(
        f"{one['key']} {(one['count'] - one['error']) / found['samples']:.0%} ({one['topic']}[{one['partition']}])"
        for one in found.get("top", ())[:KEYS_MAX]
    )
    return [Text(plain(f"hot keys  {told}"), no_wrap=True, overflow="ellipsis")] if told else []


def _partitions(now: Sight, rows_max: int | None) -> list[RenderableType]:
    """Those that are worst off first: by lag, then by the age of what is unfinished."""
    offsets = {(one["topic"], one["partition"]): one for one in now.facts["offsets"]}

    def weight(part: Mapping[str, Any]) -> tuple[float, float]:
        lag = offsets.get((part["topic"], part["partition"]), {}).get("lag")
        return (-lag if isinstance(lag, int) else 0.0, -(part["oldest_age_s"] or 0.0))

    parts = sorted(now.engine["partitions"], key=weight)
    shown = parts if rows_max is None else parts[:rows_max]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("topic", no_wrap=True)
    for title in ("partition", "committable", "position", "end", "lag", "waiting", "in flight", "parked"):
        table.add_column(title, justify="right")
    table.add_column("oldest", justify="right")
    table.add_column("paused")
    for part in shown:
        known = offsets.get((part["topic"], part["partition"]), {})
        age_s = part["oldest_age_s"]
        table.add_row(
            Text(plain(part["topic"])),
            str(part["partition"]),
            _number(part["committable"]),
            _number(part["position"]),
            _number(known.get("end")),
            _number(known.get("lag")),
            *(_number(part[key]) for key in ("waiting", "in_flight", "parked")),
            "-" if age_s is None else _span(age_s),
            Text(plain(" ".join(part["paused"]))),
        )
    rest = len(parts) - len(shown)
    return [table, Text(f"and {rest:,} more", "dim")] if rest else [table]


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else UNKNOWN


def _span(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:,.0f} s"
