"""Judges a whole run from its ledgers, group by group, and names what must not have happened.

Decides only from what producers, handlers, brokers and the doer of faults wrote down; shares no code with the runtime.

| anomaly | when |
|---|---|
| lost | an acknowledged record has no handler that returned, though a commit passed it |
| stuck | the same, and no commit passed it: somebody never came to it |
| duplicate | a record was started again after a handler returned for it, and either nothing excuses that, or the commit its new holder began from called it finished |
| order | records of one key at once or out of order, by members who could know better |
| commit past unfinished | an accepted commit, or its map, covers a record that no handler had finished |
| commit went back | (named once, not for each record that is repeated for it) a later commit of a partition is lower than an earlier one, and its member neither committed anew within `MENDED_WITHIN_S`, nor said that the last one of a revoke had overtaken it; the last one of a revoke may be written twice |
| zombie | a handler started on a partition that its member had given back, or that another member was given, and the member could know |
| unknown record | a handler ran a record that no producer had acknowledged |

A member *cannot know* while it is adrift: frozen, cut off, or its interpreter held; nor while a broker is away, the
coordinator moves, or is still loading by its own word; and for `GRACE_S` after, in which it hears from its coordinator again. What is repeated, overlaps or starts too late for that reason is counted, not hidden.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.members.ledger import Line

Name = Literal[
    "lost", "stuck", "duplicate", "order", "commit past unfinished", "commit went back", "zombie", "unknown record",
]  # fmt: skip
GRACE_S = 5.0
"""After it came back a member needs a reconnect (up to 1 s), a coordinator, a heartbeat (0.5 s) and its answer."""
CLOCK_SLACK_S = 0.03
"""Between a broker's time of day, in whole milliseconds, and ours; and between a worker's last look and its line."""
MENDED_WITHIN_S = 1.0
"""A commit that was given up as unanswered may be written after a newer one: the newer is to be written again at once."""
OVERTAKEN = "an older commit was written after it"
"""The last commit of a revoke cannot wait for one that is on its way; its member says so when it comes to that."""
COORDINATOR_AWAY = ("broker restart", "coordinator move")
"""Faults in which a member may find no coordinator that could tell it anything."""
LOADING = "COORDINATOR_LOAD_IN_PROGRESS"
"""What a coordinator answers that is there again, and has still to read what it is to say."""
STOP_UNCONFIRMED = "stop_unconfirmed"
"""What a member says when its stop goes on without an answer to the last commit."""
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One thing that must not happen, where, and what shows it."""

    name: Name
    group: str
    partition: int
    offset: int
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.group}[{self.partition}]@{self.offset} {self.detail}"


@dataclass(slots=True)
class Verdict:
    """What was found in one group. `allowed`: duplicates, overlaps and late starts by their excuse."""

    group: str
    anomalies: list[Anomaly] = field(default_factory=list[Anomaly])
    records: int = 0
    runs: int = 0
    commits: int = 0
    generations: int = 0
    allowed: Counter[str] = field(default_factory=Counter[str])
    latest_zombie_s: float = 0.0
    told: Counter[str] = field(default_factory=Counter[str])

    def names(self) -> set[str]:
        return {anomaly.name for anomaly in self.anomalies}


@dataclass(slots=True)
class _Run:
    offset: int
    key: str | None
    member: str
    began: Line
    ended: Line | None = None

    @property
    def ok(self) -> bool:
        return self.ended is not None and self.ended.ok

    @property
    def ended_at(self) -> float:
        return NEVER if self.ended is None else self.ended.at


@dataclass(slots=True)
class _Story:
    """One partition."""

    acked: dict[int, Line] = field(default_factory=dict[int, "Line"])
    runs: list[_Run] = field(default_factory=list[_Run])
    commits: list[Line] = field(default_factory=list["Line"])
    custody: list[Line] = field(default_factory=list["Line"])
    noticed_at: list[float] = field(default_factory=list[float])
    """When members said that a commit had gone back."""

    def given_to(self, member: str, at: float) -> Line | None:
        """The last assignment of the partition to this member before then."""
        return max(
            (c for c in self.custody if c.kind == "assigned" and c.member == member and c.at <= at),
            key=lambda line: line.at,
            default=None,
        )


def process_of(member: str) -> str:
    """The process that a member lives in, as the ledger of faults calls it."""
    return member.partition("/")[0]


class _Troubles:
    """When which process was adrift, or died."""

    def __init__(self, lines: Iterable[Line], own: Iterable[Line]) -> None:
        """`lines` of the ledger of faults; `own` of the group's."""
        told = [line for line in own if line.kind == "told"]
        self.unconfirmed_stops = {line.member for line in told if line.detail == STOP_UNCONFIRMED}
        self._loading_at = sorted(line.at for line in told if LOADING in line.detail)
        self.adrift: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self.killed: dict[str, float] = {}
        self._away: list[tuple[float, float]] = []
        began: dict[tuple[str, str], float] = {}
        away_at: dict[str, float] = {}
        for line in lines:
            match line.kind:
                case "fault" if line.detail.startswith(COORDINATOR_AWAY):
                    away_at[line.detail] = line.at
                case "fault over" if line.detail in away_at:
                    self._away.append((away_at.pop(line.detail), self._loaded_from(line.at)))
                case "adrift":
                    began[(line.member, line.detail)] = line.at
                case "back":
                    self.adrift[line.member].append((began.pop((line.member, line.detail)), line.at))
                case "killed":
                    self.killed[line.member] = line.at
                case _:
                    pass
        for (member, _), at in began.items():  # Killed while adrift.
            self.adrift[member].append((at, NEVER))
        for member, windows in self.adrift.items():
            self.adrift[member] = [(a, self._heard_from(b)) for a, b in windows]

    def _loaded_from(self, there_at: float) -> float:
        """When a coordinator that is there again can tell its group something."""
        for at in self._loading_at:
            if there_at < at <= there_at + GRACE_S:
                there_at = at
        return there_at

    def _heard_from(self, back_at: float) -> float:
        """When a member that came back then finds its coordinator there."""
        for away, there in sorted(self._away):
            if away <= back_at + GRACE_S and there > back_at:
                back_at = there
        return back_at

    def is_adrift(self, member: str, since: float, until: float | None = None) -> bool:
        """Whether the member could not know at some moment between."""
        windows = self.adrift.get(process_of(member), ())
        return any(a <= (since if until is None else until) and since <= b + GRACE_S for a, b in windows)

    def is_coordinator_away(self, at: float) -> bool:
        """Whether nobody could be told anything then, or only just: members that were put out meanwhile hear of it afterwards."""
        return any(away <= at <= there + GRACE_S for away, there in self._away)

    def late_s(self, member: str, at: float) -> float:
        """How long after it came back."""
        ends = [b for a, b in self.adrift.get(process_of(member), ()) if a <= at <= b + GRACE_S]
        return max((at - b for b in ends), default=0.0)

    def died_between(self, member: str, since: float, until: float) -> bool:
        return since <= self.killed.get(process_of(member), NEVER) <= until


def judge(group: str, acked: Iterable[Line], lines: Sequence[Line], faults: Iterable[Line]) -> Verdict:
    """Judge one group: `lines` are its own ledger, commits included; `acked` and `faults` are everybody's."""
    verdict = Verdict(group)
    troubles = _Troubles(faults, lines)
    verdict.generations = len({line.offset for line in lines if line.kind == "generation"})
    verdict.told.update(line.detail for line in lines if line.kind == "told")
    stories = _stories(acked, lines)
    for partition, story in sorted(stories.items()):
        verdict.records += len(story.acked)
        verdict.runs += len(story.runs)
        verdict.commits += len(story.commits)
        _Judgement(partition, story, troubles, verdict).all()
    return verdict


def _stories(acked: Iterable[Line], lines: Iterable[Line]) -> dict[int, _Story]:
    stories: dict[int, _Story] = defaultdict(_Story)
    for line in acked:
        stories[line.partition].acked[line.offset] = line
    running: dict[tuple[str, int, int], _Run] = {}
    for line in lines:
        if line.partition < 0:
            continue
        story, here = stories[line.partition], (line.member, line.partition, line.offset)
        match line.kind:
            case "start":
                running[here] = _Run(line.offset, line.key, line.member, line)
                story.runs.append(running[here])
            case "end":
                running.pop(here).ended = line
            case "committed":
                story.commits.append(line)
            case "assigned" | "revoked" | "unconfirmed":
                story.custody.append(line)
            case "told" if line.detail.startswith("commit_went_back"):
                story.noticed_at.append(line.at)
            case _:
                pass
    for story in stories.values():
        story.runs.sort(key=lambda run: run.began.at)
        story.custody.sort(key=lambda line: line.at)
    return stories


@dataclass(frozen=True, slots=True)
class _Judgement:
    """One partition of one group."""

    partition: int
    story: _Story
    troubles: _Troubles
    verdict: Verdict

    def all(self) -> None:
        self._unfinished()
        self._commits()
        late = self._zombies()
        self._repetitions(late)
        self._order(late)
        for run in self.story.runs:
            if run.offset not in self.story.acked:
                self._say("unknown record", run.offset, f"run by {run.member}")

    def _say(self, name: Name, offset: int, detail: str) -> None:
        self.verdict.anomalies.append(Anomaly(name, self.verdict.group, self.partition, offset, detail))

    def _unfinished(self) -> None:
        done = {run.offset for run in self.story.runs if run.ok}
        committed = max((line.offset for line in self.story.commits), default=0)
        for offset in sorted(self.story.acked.keys() - done):
            self._say("lost" if offset < committed else "stuck", offset, f"committed is {committed}")

    def _commits(self) -> None:
        """Each accepted commit against what was finished when the broker took it."""
        ends: dict[int, float] = {}
        for run in self.story.runs:
            if run.ok and run.ended is not None:
                ends[run.offset] = min(run.ended.at, ends.get(run.offset, NEVER))
        offsets = sorted(self.story.acked)
        # The latest end among a partition's first n records, and whose it is.
        latest: list[tuple[float, int]] = []
        for offset in offsets:
            end = (ends.get(offset, NEVER), offset)
            latest.append(max(latest[-1], end) if latest else end)
        highest = 0
        for index, commit in enumerate(self.story.commits):
            below = bisect_left(offsets, commit.offset)
            if below and latest[below - 1][0] > commit.at + CLOCK_SLACK_S:
                detail = f"was not finished when {commit.offset} was committed"
                self._say("commit past unfinished", latest[below - 1][1], detail)
            for offset in _beyond(commit):
                if ends.get(offset, NEVER) > commit.at + CLOCK_SLACK_S:
                    detail = f"was called finished by the map of {commit.offset}"
                    self._say("commit past unfinished", offset, detail)
            highest = self._place_after(index, highest)

    def _place_after(self, index: int, highest: int) -> int:
        """Where the group stands after this commit; it says so if that went back and nothing permits it."""
        commit = self.story.commits[index]
        if commit.offset >= highest:
            return commit.offset
        if self._is_mended(index, highest):
            self.verdict.allowed["commit went back after it had been given up, noticed and mended"] += 1
        elif self._is_rewritten(index, highest):
            self.verdict.allowed["commit went back, and the last one of a revoke was written again"] += 1
        elif self._is_overtaken(commit):
            self.verdict.allowed["commit went back, overtaken by the last one of a revoke, and told"] += 1
            return commit.offset
        else:
            self._say("commit went back", commit.offset, f"after {highest} had been committed")
        return highest

    def _is_overtaken(self, commit: Line) -> bool:
        until_at = commit.at + GRACE_S
        return any(
            line.kind == "unconfirmed"
            and line.detail == OVERTAKEN
            and commit.at - CLOCK_SLACK_S <= line.at <= until_at
            for line in self.story.custody
        )

    def _is_rewritten(self, index: int, highest: int) -> bool:
        """librdkafka wrote both anew, in their order, when the coordinator was there again, and nobody had begun meanwhile."""
        began_at = self.story.commits[index].at
        custody = [line for line in self.story.custody if line.at <= began_at + MENDED_WITHIN_S]
        if not custody or custody[-1].kind != "revoked" or custody[-1].offset != highest:
            return False
        later = self.story.commits[index + 1 :]
        return any(commit.offset == highest and commit.at <= began_at + MENDED_WITHIN_S for commit in later)

    def _is_mended(self, index: int, highest: int) -> bool:
        began_at = self.story.commits[index].at
        until_at = began_at + MENDED_WITHIN_S
        noticed = any(began_at - CLOCK_SLACK_S <= at <= until_at for at in self.story.noticed_at)
        later = self.story.commits[index + 1 :]
        return noticed and any(commit.offset >= highest and commit.at <= until_at for commit in later)

    def _zombies(self) -> set[int]:
        """Starts of a member that was not the holder. Returns, by identity, those that it could not help."""
        late: set[int] = set()
        stale = self._stale_assignments()
        for run in self.story.runs:
            own, taken = self._custody_at(run, stale)
            adrift = self.troubles.is_adrift(run.member, run.began.at)
            is_holder = own is not None and own.kind == "assigned" and taken is None
            if is_holder and not (adrift and id(own) in stale):
                continue
            if own is not None and own.kind == "assigned" and adrift:
                late.add(id(run))
                self.verdict.allowed["started by a member that was adrift, after another was given it"] += 1
                late_s = self.troubles.late_s(run.member, run.began.at)
                self.verdict.latest_zombie_s = max(self.verdict.latest_zombie_s, late_s)
                continue
            if own is not None and own.kind == "assigned" and self.troubles.is_coordinator_away(run.began.at):
                late.add(id(run))
                self.verdict.allowed[
                    "started while the coordinator was away, after another was given it"
                ] += 1
                continue
            why = "though it was never given it"
            if own is not None:
                how = "revoke" if own.kind == "revoked" else "loss"
                why = f"after {taken.member} was given it" if taken is not None else f"after its own {how}"
            self._say("zombie", run.offset, f"started by {run.member} {why}")
        return late

    def _stale_assignments(self) -> set[int]:
        """Those, by identity, that a member took note of when the group had long gone on without it.

        A member that comes back finds the assignment that it slept through, takes it, and hears a moment later that it
        is lost; or revoked, since librdkafka forgets of a loss where something is assigned: that is one only where another,
        who can know, holds the partition. Whoever holds it by then does not lose it by that.
        """
        stale: set[int] = set()
        for index, line in enumerate(self.story.custody):
            if line.kind == "assigned" and self.troubles.is_adrift(line.member, line.at):
                own = (later for later in self.story.custody[index + 1 :] if later.member == line.member)
                after = next(own, None)
                if after is None or after.at > line.at + GRACE_S:
                    continue
                if after.detail == "lost" or (after.kind == "revoked" and self._is_held_before(index)):
                    stale.add(id(line))
        return stale

    def _is_held_before(self, index: int) -> bool:
        """Whether another, alive and not adrift, was given the partition before this line, and neither gave it back nor lost it.

        One that is adrift may have been put out without knowing: then the partition is free for who takes note here.
        """
        line = self.story.custody[index]
        last = {before.member: before for before in self.story.custody[:index]}
        return any(
            member != line.member
            and before.kind == "assigned"
            and not self.troubles.is_adrift(member, line.at)
            and not self.troubles.died_between(member, before.at, line.at)
            for member, before in last.items()
        )

    def _custody_at(self, run: _Run, stale: set[int]) -> tuple[Line | None, Line | None]:
        """The last line of the run's member on its custody, and the first assignment to another after it."""
        own: Line | None = None
        taken: Line | None = None
        for line in self.story.custody:
            slack_s = 0.0 if line.kind == "assigned" and line.member == run.member else CLOCK_SLACK_S
            if line.at > run.began.at - slack_s:
                continue
            if line.member == run.member and (line.kind != "unconfirmed" or line.detail == "lost"):
                own, taken = line, None
            elif line.kind == "assigned" and taken is None and id(line) not in stale:
                taken = line
        return own, taken

    def _repetitions(self, late: set[int]) -> None:
        by_offset: dict[int, list[_Run]] = defaultdict(list)
        for run in self.story.runs:
            by_offset[run.offset].append(run)
        for offset, runs in by_offset.items():
            for before, after in pairwise(runs):
                if not before.ok or before.ended_at > after.began.at:
                    continue  # Not finished then: a redelivery of unfinished work, or an overlap, which is judged as order.
                self._repetition(offset, before, after, is_late=id(after) in late)

    def _repetition(self, offset: int, before: _Run, after: _Run, *, is_late: bool) -> None:
        told = f"{before.member} had finished it, then {after.member} started it"
        if is_late:
            self.verdict.allowed["repeated by a member that was adrift"] += 1
            return
        given = self.story.given_to(after.member, after.began.at)
        began_from = None if given is None else self._committed_before(given)
        if began_from is not None and (offset < began_from.offset or offset in _beyond(began_from)):
            self._say("duplicate", offset, f"{told}, though commit {began_from.offset} called it finished")
            return
        if began_from is not None and began_from.offset < self._highest_until(began_from):
            self.verdict.allowed["repeated, since a commit had gone back (see there)"] += 1
            return
        excuse = self._excuse(before, after)
        if excuse is None:
            self._say("duplicate", offset, told)
        else:
            self.verdict.allowed[excuse] += 1

    def _highest_until(self, commit: Line) -> int:
        return max(other.offset for other in self.story.commits if other.at <= commit.at)

    def _committed_before(self, given: Line) -> Line | None:
        """The commit that this assignment began from."""
        last: Line | None = None
        for commit in self.story.commits:
            if commit.at > given.at:
                break
            last = commit
        return last

    def _excuse(self, before: _Run, after: _Run) -> str | None:
        since, until = before.began.at, after.began.at
        if self.troubles.died_between(before.member, since, until):
            return "repeated, unconfirmed when its member was killed"
        if self.troubles.is_adrift(before.member, since, until):
            return "repeated, unconfirmed when its member went adrift"
        if before.member in self.troubles.unconfirmed_stops:
            return "repeated, its member could not confirm its last commit when it stopped"
        for line in self.story.custody:
            if line.member != before.member or line.at < since:
                continue
            if line.kind == "assigned":
                break  # A new tenure: what ended the old one was told before.
            if line.kind == "unconfirmed":
                # The answer to a last commit may be told after the next holder began.
                return f"repeated, unconfirmed: {line.detail}"
            if line.kind == "revoked" and line.detail != "clean":
                return "repeated, its drain overran"
        return None

    def _order(self, late: set[int]) -> None:
        by_key: dict[str, list[_Run]] = defaultdict(list)
        for run in self.story.runs:
            if run.key is not None:
                by_key[run.key].append(run)
        offsets: dict[str, list[int]] = defaultdict(list)
        for offset, line in sorted(self.story.acked.items()):
            if line.key is not None:
                offsets[line.key].append(offset)
        for key, runs in by_key.items():
            self._overlaps(key, runs, late)
            self._inversions(key, runs, late, offsets[key])

    def _overlaps(self, key: str, runs: Sequence[_Run], late: set[int]) -> None:
        for index, after in enumerate(runs):
            for before in runs[max(0, index - 4) : index]:
                if before.ended_at <= after.began.at + (
                    0.0 if before.member == after.member else CLOCK_SLACK_S
                ):
                    continue
                if before.ended is None and self.troubles.died_between(before.member, 0.0, after.began.at):
                    continue
                either = (before.member, after.member)
                apart = before.member != after.member
                if apart and any(self.troubles.is_adrift(who, after.began.at) for who in either):
                    self.verdict.allowed["at once with a handler of a member that was adrift"] += 1
                    continue
                detail = f"of key {key!r} ran on {after.member} while @{before.offset} ran on {before.member}"
                self._say("order", after.offset, detail)

    def _inversions(self, key: str, runs: Sequence[_Run], late: set[int], offsets: Sequence[int]) -> None:
        """No record of a key before all earlier ones of that key are done."""
        done: set[int] = set()
        next_index = 0
        finished = sorted((run.ended_at, run.offset) for run in runs if run.ok)
        taken = 0
        for run in runs:
            if id(run) in late:
                continue
            while taken < len(finished) and finished[taken][0] <= run.began.at + CLOCK_SLACK_S:
                done.add(finished[taken][1])
                taken += 1
            while next_index < len(offsets) and offsets[next_index] in done:
                next_index += 1
            if next_index < len(offsets) and offsets[next_index] < run.offset:
                detail = f"of key {key!r} started on {run.member} before @{offsets[next_index]} was done"
                self._say("order", run.offset, detail)


def _beyond(commit: Line) -> frozenset[int]:
    return frozenset(int(offset) for offset in commit.detail.split(",") if offset)
