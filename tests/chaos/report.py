"""What a run did, in figures, and what was found: made from the ledgers, and printed.

Decides how things are counted and said; refuses to judge (`judge` does). Invariant: every figure comes from a line that
somebody wrote while it happened.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.chaos.judge import process_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.chaos.judge import Verdict
    from tests.chaos.progress import Stall
    from tests.members.ledger import Line

SHOWN_MAX = 10


@dataclass(slots=True)
class Outcome:
    """One run, judged."""

    command: str
    versions: str
    seed: int
    duration_s: float
    verdicts: list[Verdict]
    faults_done: Mapping[str, int]
    faults_skipped: Mapping[str, int]
    troubles: list[str] = field(default_factory=list[str])
    """What went wrong beside the ledgers' anomalies: stalls, deaths, faults that failed."""
    handovers: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    produced: int = 0
    handled: int = 0
    slow_s: float = 0.0
    oldest_s: float = 0.0
    files: str = ""

    @property
    def clean(self) -> bool:
        return not self.troubles and not any(verdict.anomalies for verdict in self.verdicts)

    def of_protocol(self, protocol: str) -> list[Verdict]:
        """The verdicts on its groups."""
        return [verdict for verdict in self.verdicts if verdict.group.startswith(protocol)]


def handovers(lines: Sequence[Line], faults: Iterable[Line]) -> dict[str, list[float]]:
    """How long each partition rested when its member was killed or stopped: to the next start by another, in seconds.

    By "kill -9" and "clean stop". The time ends with a record: with little traffic it holds the wait for one, too.
    """
    custody: dict[int, list[Line]] = defaultdict(list)
    starts: dict[int, list[Line]] = defaultdict(list)
    for line in lines:
        if line.kind in {"assigned", "revoked", "unconfirmed"}:
            custody[line.partition].append(line)
        elif line.kind == "start":
            starts[line.partition].append(line)
    found: dict[str, list[float]] = {"kill -9": [], "clean stop": []}
    for fault in faults:
        if fault.kind not in {"killed", "stopping"}:
            continue
        for partition, history in custody.items():
            before = [line for line in history if line.at <= fault.at]
            if not before or before[-1].kind != "assigned" or process_of(before[-1].member) != fault.member:
                continue
            later = starts[partition][bisect_right(starts[partition], fault.at, key=lambda line: line.at) :]
            taken = next((line for line in later if process_of(line.member) != fault.member), None)
            if taken is not None:
                found["kill -9" if fault.kind == "killed" else "clean stop"].append(taken.at - fault.at)
    return found


def spread(values: Sequence[float]) -> str:
    """Count, median and maximum."""
    if not values:
        return "none"
    return f"{len(values)}, median {median(values):.2f} s, longest {max(values):.2f} s"


def stall_text(stall: Stall, now: float, holder_log: str) -> str:
    """One stall, with its evidence."""
    who = f"{stall.group}[{stall.partition}] of {stall.who}"
    return f"stuck: {who}: nothing for {now - stall.since_at:.0f} s, {stall.detail}\n{holder_log}"


def text_of(outcome: Outcome) -> str:
    """The report."""
    total: Counter[str] = Counter()
    for verdict in outcome.verdicts:
        total.update(verdict.allowed)
    lines = [
        "",
        f"chaos: seed {outcome.seed}, {outcome.duration_s:.0f} s, {outcome.versions}",
        f"  produced {outcome.produced} ({outcome.produced / outcome.duration_s:.0f}/s)",
        f"  handled {outcome.handled} in {len(outcome.verdicts)} groups ({outcome.handled / outcome.duration_s:.0f}/s)",
        f"  slow partition-seconds {outcome.slow_s:.0f}, oldest waiting record {outcome.oldest_s:.1f} s",
        "  faults done: " + _counts(outcome.faults_done),
        "  faults skipped, everybody being busy: " + _counts(outcome.faults_skipped),
    ]
    for verdict in outcome.verdicts:
        lines.append(
            f"  {verdict.group}: {verdict.records} records, {verdict.runs} runs, {verdict.commits} commits, "
            f"{verdict.generations} generations; allowed: {_counts(verdict.allowed)}"
        )
        if verdict.latest_zombie_s:
            lines.append(
                f"    latest start of a member that was adrift: {verdict.latest_zombie_s:.2f} s after it was back"
            )
        if verdict.told:
            lines.append(f"    told: {_counts(verdict.told)}")
    lines += [f"  handover, {how}: {spread(values)}" for how, values in outcome.handovers.items()]
    lines.append(f"  allowed in all: {_counts(total)}")
    lines += [f"  {trouble}" for trouble in outcome.troubles[:SHOWN_MAX]]
    anomalies = [anomaly for verdict in outcome.verdicts for anomaly in verdict.anomalies]
    seen: Counter[str] = Counter()
    for anomaly in anomalies:
        seen[anomaly.name] += 1
        if seen[anomaly.name] <= SHOWN_MAX:
            lines.append(f"  {anomaly}")
    if anomalies:
        lines.append(f"  anomalies in all: {_counts(seen)}")
    if outcome.clean:
        lines.append("  no anomaly")
    else:
        lines += [f"  ledgers and logs: {outcome.files}", f"  again: {outcome.command}"]
    return "\n".join(lines)


def _counts(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"
