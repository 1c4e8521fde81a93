"""Scripts of what happens to a group, and the trace each leaves: what is compared between one Kafka and another.

A script is lines of a verb and its words. Decides what of a run must be equal everywhere; refuses to know on which Kafka
it runs. Invariant: a trace holds nothing that depends on time, on a member's id, or on which member leads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from headrace.ports import CommitNotSent, CommitRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.ports import Client, CommitResult, Fault, TopicPartition

PARTITIONS = 4
SESSION_S = 2.0
MAX_POLL_S = 2.5
WAIT_S = 25.0


@dataclass
class Member:
    """One consumer: begins at what is committed, commits when it gives back and when it is told to."""

    name: str
    client: Client
    told: list[tuple[str, tuple[TopicPartition, ...]]] = field(default_factory=list)
    seen: dict[TopicPartition, list[int]] = field(default_factory=dict)
    answers: list[CommitResult] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    settled: int = 0
    """How much of `told` was there when all was settled last."""
    unread: list[TopicPartition] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Commits that it is to send in its next poll, by their metadata: on the model only its own thread may."""
    sent: int = 0
    answered: int = 0

    def on_assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("assign", tuple(sorted(partitions))))
        self.unread.extend(partitions)
        self._begin()

    def on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        self.commit(partitions)
        self._gone("revoke", partitions)

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        self._gone("lost", partitions)

    def on_commit(self, results: Sequence[CommitResult]) -> None:
        self.answers.extend(results)
        self.answered += 1

    def commit(self, partitions: Sequence[TopicPartition], metadata: str = "") -> None:
        """Commit where it stands."""
        positions = self.client.positions(partitions)
        requests = [CommitRequest(*place, offset, metadata) for place, offset in sorted(positions.items())]
        if requests:
            try:
                self.client.commit(requests)
            except CommitNotSent:
                return
            self.sent += 1

    def poll(self, timeout_s: float) -> None:
        """Take what comes; do what was asked."""
        while self.asked:
            self.commit(sorted(self.held), self.asked.pop())
        polled = self.client.poll(500, timeout_s)
        for topic, partition, records in polled.groups:
            self.seen.setdefault((topic, partition), []).extend(each.offset() or 0 for each in records)
        self.faults.extend(polled.faults)
        if self.unread:
            self._begin()

    @property
    def is_answered(self) -> bool:
        """Whether no commit of its is open."""
        return not self.asked and self.answered >= self.sent

    @property
    def held(self) -> set[TopicPartition]:
        """What it was given and not taken."""
        has: set[TopicPartition] = set()
        for call, places in self.told:
            has = has | set(places) if call == "assign" else has - set(places)
        return has

    def moves(self) -> tuple[str, ...]:
        """What it was told, as calls and counts: without rounds that changed nothing, and with two of a kind as one."""
        merged: list[tuple[str, int]] = []
        for call, places in self.told:
            if not places:
                continue
            if merged and merged[-1][0] == call:
                merged[-1] = (call, merged[-1][1] + len(places))
            else:
                merged.append((call, len(places)))
            # An eager round in which everybody is given as much as before; how many there are is a matter of time.
            if merged[-3:] == [("assign", len(places)), ("revoke", len(places)), ("assign", len(places))]:
                del merged[-2:]
        return tuple(f"{call} {count}" for call, count in merged)

    def _gone(self, call: str, partitions: Sequence[TopicPartition]) -> None:
        self.told.append((call, tuple(sorted(partitions))))
        self.unread = [place for place in self.unread if place not in partitions]

    def _begin(self) -> None:
        found = self.client.committed(self.unread, 1.0) if self.unread else []
        if found:
            self.unread = []
            self.client.assign({(each.topic, each.partition): each.offset or 0 for each in found})


class Stage(Protocol):
    """A Kafka, and what can be done to it and to the members on it."""

    members: dict[str, Member]
    places: list[TopicPartition]

    def join(self, name: str, instance: str | None) -> None: ...
    def leave(self, name: str) -> None: ...
    def kill(self, name: str) -> None: ...
    def sleep(self, name: str, sleep_s: float) -> None: ...
    def wait(self, wait_s: float) -> None: ...
    def cut(self, name: str) -> None: ...
    def silence(self, name: str) -> None: ...
    def speak(self, name: str) -> None: ...
    def restart(self, down_s: float) -> None: ...
    def refuse(self, api: str, code: str) -> None: ...
    def produce(self, partition: int, count: int) -> None: ...
    def ends(self) -> list[int]: ...
    def committed(self) -> list[int]: ...
    def until(self, condition: Callable[[], bool], what: str) -> None: ...


@dataclass(frozen=True)
class Trace:
    """What must be equal: each member's moves, what its commits were answered, and what became of the records."""

    moves: tuple[tuple[str, tuple[str, ...]], ...]
    refusals: tuple[str, ...]
    in_order: bool
    missed: int
    repeated: bool
    committed: tuple[int, ...]


def play(script: str, stage: Stage) -> Trace:
    """Do every line, then say what was seen."""
    for line in script.strip().splitlines():
        verb, *words = line.split()
        _do(stage, verb, words)
    return trace(stage)


def _do(stage: Stage, verb: str, words: list[str]) -> None:
    if verb in {"leave", "kill", "cut", "silence", "speak"}:
        (name,) = words
        getattr(stage, verb)(name)
    elif verb in {"commit", "await"}:
        _with_member(stage, stage.members[words[0]], verb, words[1:])
    else:
        _with_group(stage, verb, words)


def _with_member(stage: Stage, member: Member, verb: str, words: list[str]) -> None:
    if verb == "commit":
        member.asked.append("m" * int(words[0]) if words else "")
        stage.until(lambda: member.is_answered, "the commit is answered")
    else:
        (call,) = words
        stage.until(
            lambda: call in [heard for heard, _ in member.told[member.settled :]],
            f"{member.name} hears {call}",
        )


def _with_group(stage: Stage, verb: str, words: list[str]) -> None:
    match verb, words:
        case "produce", [count]:
            for number in range(PARTITIONS):
                stage.produce(number, int(count))
        case "join", [name]:
            stage.join(name, None)
        case "join", [name, "as", instance]:
            stage.join(name, instance)
        case "sleep", [name, sleep_s]:
            stage.sleep(name, float(sleep_s))
        case "wait", [wait_s]:
            stage.wait(float(wait_s))
        case "restart", [down_s]:
            stage.restart(float(down_s))
        case "refuse", [api, code]:
            stage.refuse(api, code)
        case "settle", []:
            settle(stage)
        case _:
            raise ValueError(f"no such step: {verb} {' '.join(words)}")


def settle(stage: Stage) -> None:
    """Everybody has a share, all of it is read, and all of it is committed."""
    shared = set(stage.places)

    def is_shared() -> bool:
        held = [member.held for member in stage.members.values() if member.held]
        return sum(len(each) for each in held) == len(shared) and set().union(*held) == shared

    def is_even() -> bool:
        counts = [len(member.held) for member in stage.members.values()]
        return is_shared() and max(counts) - min(counts) <= 1

    def is_read() -> bool:
        seen = {
            place: max((max(m.seen.get(place, [-1])) for m in everybody(stage)), default=-1)
            for place in stage.places
        }
        ends = stage.ends()
        return all(seen[place] + 1 >= end for place, end in zip(stage.places, ends, strict=True))

    stage.until(is_even, "the partitions are shared")
    stage.until(is_read, "everything is read")
    for _ in range(10):
        if stage.committed() == stage.ends():
            for member in stage.members.values():
                member.settled = len(member.told)
            return
        for member in list(stage.members.values()):
            member.asked.append("")
        stage.until(
            lambda: all(member.is_answered for member in stage.members.values()),
            "the commits are answered",
        )
    raise AssertionError(f"not committed: {stage.committed()} of {stage.ends()}")


def everybody(stage: Stage) -> list[Member]:
    """Those that are there, and those that were."""
    gone: list[Member] = getattr(stage, "gone", [])
    return [*gone, *stage.members.values()]


def trace(stage: Stage) -> Trace:
    """What the members saw."""
    members = everybody(stage)
    seen = {place: [o for m in members for o in m.seen.get(place, [])] for place in stage.places}
    return Trace(
        tuple(sorted((member.name, member.moves()) for member in members)),
        tuple(sorted({answer.error for member in members for answer in member.answers if answer.error})),
        all(_rises(offsets) for member in members for offsets in member.seen.values()),
        sum(end - len(set(seen[place])) for place, end in zip(stage.places, stage.ends(), strict=True)),
        any(len(offsets) != len(set(offsets)) for offsets in seen.values()),
        tuple(stage.committed()),
    )


def _rises(offsets: list[int]) -> bool:
    """In order, but for a return to what was not committed."""
    return all(later <= before + 1 for before, later in pairwise(offsets))
