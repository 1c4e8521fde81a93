"""The offline verifier: reads an outside ledger and names what went wrong.

Decides only from lines that members, producers and outside observers wrote; shares no code with what it judges.

| anomaly | when |
|---|---|
| lost | an acknowledged record has no handler that returned, though a commit passed it |
| stuck | an acknowledged record has no handler that returned, and no commit passed it |
| duplicate | a handler returned, and the record was started again, though nothing that excuses it happened in between |
| order | a record started before one of its key with a lower offset had ended, or two of a key ran at once |
| commit past unfinished | a commit passed a record that no handler had finished at that time |
| zombie | a handler started on a partition after its member had given it back |
| unknown record | a handler ran a record that no producer had acknowledged |

What excuses a repetition: its member was killed, or its partition went uncleanly, in between, and the record was not
among what was confirmed at that time.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.members.ledger import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.members.ledger import Line

Name = Literal["lost", "stuck", "duplicate", "order", "commit past unfinished", "zombie", "unknown record"]
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One thing that must not happen, where, and what shows it."""

    name: Name
    topic: str
    partition: int
    offset: int
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.topic}[{self.partition}]@{self.offset} {self.detail}"


@dataclass(slots=True)
class Run:
    """One run of a handler; without an end it was still running when its member died, or still is."""

    offset: int
    key: str | None
    member: str
    began: Line
    ended: Line | None = None

    @property
    def ok(self) -> bool:
        return self.ended is not None and self.ended.ok


@dataclass(slots=True)
class Verdict:
    """What was found. `repeated`: records whose handler returned and that were excusably started again."""

    anomalies: list[Anomaly] = field(default_factory=list[Anomaly])
    records: int = 0
    runs: int = 0
    repeated: list[tuple[str, int, int]] = field(default_factory=list[tuple[str, int, int]])

    def names(self) -> set[str]:
        return {anomaly.name for anomaly in self.anomalies}

    def __str__(self) -> str:
        shown = [f"{self.records} records, {self.runs} runs, {len(self.repeated)} repeated"]
        shown += [str(anomaly) for anomaly in self.anomalies[:20]]
        if len(self.anomalies) > 20:
            shown.append(f"... and {len(self.anomalies) - 20} more")
        return "\n".join(shown)


@dataclass(slots=True)
class _Story:
    """The lines of one partition, sorted by what they tell."""

    acked: dict[int, Line] = field(default_factory=dict[int, "Line"])
    runs: list[Run] = field(default_factory=list[Run])
    commits: list[Line] = field(default_factory=list["Line"])
    custody: list[Line] = field(default_factory=list["Line"])


@dataclass(slots=True)
class _Excuse:
    """A moment after which a member's unconfirmed records may be repeated."""

    at: float
    committed: int
    finished_beyond: frozenset[int] = frozenset()

    def covers(self, offset: int) -> bool:
        return offset >= self.committed and offset not in self.finished_beyond


def verify(
    lines: Sequence[Line], *, delivery: Literal["at_least_once", "at_most_once"] = "at_least_once"
) -> Verdict:
    """Judge a whole ledger. Under "at_most_once" records may be lost, and none may ever start twice."""
    verdict = Verdict()
    killed = {line.member: line.at for line in lines if line.kind == "killed"}
    excuses = _excuses(lines, killed)
    for place, story in sorted(_stories(lines).items()):
        verdict.records += len(story.acked)
        verdict.runs += len(story.runs)
        if delivery == "at_least_once":
            verdict.anomalies += _unfinished(place, story)
            verdict.anomalies += _early_commits(place, story)
            _judge_repetitions(place, story, excuses, verdict)
        else:
            verdict.anomalies += _second_starts(place, story)
        verdict.anomalies += _disorder(place, story, killed, complete=delivery == "at_least_once")
        verdict.anomalies += _zombies(place, story)
        verdict.anomalies += [
            Anomaly("unknown record", *place, run.offset)
            for run in story.runs
            if run.offset not in story.acked
        ]
    return verdict


# ---- Reading


def _stories(lines: Iterable[Line]) -> dict[Place, _Story]:
    stories: dict[Place, _Story] = defaultdict(_Story)
    running: dict[tuple[str, str, int, int], Run] = {}
    for line in lines:
        story = stories[(line.topic, line.partition)] if line.topic else None
        if story is None:
            continue
        match line.kind:
            case "acked":
                story.acked[line.offset] = line
            case "start":
                run = Run(line.offset, line.key, line.member, line)
                running[(line.member, line.topic, line.partition, line.offset)] = run
                story.runs.append(run)
            case "end":
                running.pop((line.member, line.topic, line.partition, line.offset)).ended = line
            case "committed":
                story.commits.append(line)
            case "assigned" | "revoked":
                story.custody.append(line)
            case _:
                pass
    return stories


def _excuses(lines: Iterable[Line], killed: dict[str, float]) -> dict[tuple[str, Place], list[_Excuse]]:
    excuses: dict[tuple[str, Place], list[_Excuse]] = defaultdict(list)
    for line in lines:
        who = (line.member, (line.topic, line.partition))
        match line.kind:
            case "confirmed":
                beyond = frozenset(int(offset) for offset in line.detail.split(",") if offset)
                excuses[who].append(_Excuse(killed[line.member], max(line.offset, 0), beyond))
            case "unconfirmed":
                excuses[who].append(_Excuse(line.at, 0))
            case "revoked" if line.detail != "clean":
                # What was abandoned had not returned; what had returned was committed.
                excuses[who].append(_Excuse(line.at, line.offset))
            case _:
                pass
    return excuses


# ---- Judging


def _unfinished(place: Place, story: _Story) -> list[Anomaly]:
    done = {run.offset for run in story.runs if run.ok}
    committed = max((line.offset for line in story.commits), default=0)
    return [
        Anomaly("lost", *place, offset, f"committed is {committed}")
        if offset < committed
        else Anomaly("stuck", *place, offset, f"committed is {committed}")
        for offset in sorted(story.acked.keys() - done)
    ]


def _early_commits(place: Place, story: _Story) -> list[Anomaly]:
    first_end: dict[int, float] = {}
    for run in story.runs:
        if run.ok and run.ended is not None:
            first_end[run.offset] = min(run.ended.at, first_end.get(run.offset, run.ended.at))
    found: list[Anomaly] = []
    for commit in story.commits:
        found += [
            Anomaly("commit past unfinished", *place, offset, f"committed was {commit.offset}")
            for offset in story.acked
            if offset < commit.offset and first_end.get(offset, float("inf")) > commit.at
        ]
    return found


def _judge_repetitions(
    place: Place, story: _Story, excuses: dict[tuple[str, Place], list[_Excuse]], verdict: Verdict
) -> None:
    by_offset: dict[int, list[Run]] = defaultdict(list)
    for run in story.runs:
        by_offset[run.offset].append(run)
    for offset, runs in by_offset.items():
        for before, after in pairwise(sorted(runs, key=lambda run: run.began.at)):
            if not before.ok or before.ended is None:
                continue
            since, until = before.began.at, after.began.at
            if any(
                excuse.covers(offset) and since <= excuse.at <= until
                for excuse in excuses[(before.member, place)]
            ):
                verdict.repeated.append((*place, offset))
            else:
                detail = f"{before.member} had finished it, then {after.member} started it"
                verdict.anomalies.append(Anomaly("duplicate", *place, offset, detail))


def _second_starts(place: Place, story: _Story) -> list[Anomaly]:
    seen: set[int] = set()
    found: list[Anomaly] = []
    for run in story.runs:
        if run.offset in seen:
            found.append(Anomaly("duplicate", *place, run.offset, f"started again by {run.member}"))
        seen.add(run.offset)
    return found


def _disorder(place: Place, story: _Story, killed: dict[str, float], *, complete: bool) -> list[Anomaly]:
    """Runs of one key must follow each other, and none may start before all earlier records of the key are done."""
    by_key: dict[str, list[Run]] = defaultdict(list)
    for run in story.runs:
        if run.key is not None:
            by_key[run.key].append(run)
    offsets: dict[str, list[int]] = defaultdict(list)
    for offset, line in sorted(story.acked.items()):
        if line.key is not None:
            offsets[line.key].append(offset)
    found: list[Anomaly] = []
    for key, runs in by_key.items():
        runs.sort(key=lambda run: run.began.at)
        for before, after in pairwise(runs):
            if _overlap(before, after, killed):
                detail = f"of key {key!r} ran on {after.member} while @{before.offset} ran on {before.member}"
                found.append(Anomaly("order", *place, after.offset, detail))
        if complete:
            found += _inversions(place, key, runs, offsets[key])
    return found


def _overlap(before: Run, after: Run, killed: dict[str, float]) -> bool:
    if before.ended is None:
        gone_at = killed.get(before.member)
        return gone_at is None or after.began.at < gone_at
    return after.began.at < before.ended.at


def _inversions(place: Place, key: str, runs: Sequence[Run], offsets: Sequence[int]) -> list[Anomaly]:
    """`runs` of one key in order of their start; `offsets` of its acknowledged records, ascending."""
    found: list[Anomaly] = []
    done: set[int] = set()
    next_index = 0
    for run in runs:
        while next_index < len(offsets) and offsets[next_index] in done:
            next_index += 1
        if next_index < len(offsets) and offsets[next_index] < run.offset:
            detail = f"of key {key!r} started on {run.member} before @{offsets[next_index]} was done"
            found.append(Anomaly("order", *place, run.offset, detail))
        if run.ok:
            done.add(run.offset)
    return found


def _zombies(place: Place, story: _Story) -> list[Anomaly]:
    custody: dict[str, list[Line]] = defaultdict(list)
    for line in story.custody:
        custody[line.member].append(line)
    found: list[Anomaly] = []
    for run in story.runs:
        last = max(
            (line for line in custody[run.member] if line.at < run.began.at),
            key=lambda line: line.at,
            default=None,
        )
        if last is not None and last.kind == "revoked":
            found.append(Anomaly("zombie", *place, run.offset, f"started by {run.member} after its revoke"))
    return found


if __name__ == "__main__":
    judged = verify(Reader(Path(sys.argv[1])).refresh())
    sys.stdout.write(f"{judged}\n")
    sys.exit(1 if judged.anomalies else 0)
