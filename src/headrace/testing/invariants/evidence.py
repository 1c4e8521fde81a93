"""What the history has shown so far of partitions, members and their tenures, as far as promises are about it.

Decides which records are unfinished and which may come again; refuses to call anything a violation. Invariants: only
what happened outside the core is taken in; a record counts as settled only for the tenure that ran it, and only until
that was over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.ports import TopicPartition
    from headrace.testing.invariants.rules import TopicRules

LANE_OF_ALL: Final = b""


@final
@dataclass(slots=True, eq=False)
class Run:
    """A handler at work on one record."""

    member: str
    tenure: Tenure
    offset: int
    key: bytes | None
    number: int
    outlived: bool = False
    """Its tenure is over: who owns the partition now need not wait for it."""


@final
@dataclass(slots=True, eq=False)
class SentCommit:
    """A commit as the client sent it."""

    at: float
    tenures: dict[TopicPartition, Tenure]
    offsets: dict[TopicPartition, tuple[int, str]]
    answered: bool = False
    # The last commit of a revoke was sent before this one was answered.
    overtaken: bool = False


@final
@dataclass(frozen=True, slots=True)
class Promised:
    """Which records of a partition are owed, at one moment."""

    origin: int | None
    unsettled: frozenset[int]
    settled: frozenset[int]
    started: frozenset[int]
    may_repeat: frozenset[int]


@final
@dataclass(slots=True, eq=False)
class Tenure:
    """One partition on one member, from assign to revoke, loss or seek."""

    member: str
    place: TopicPartition
    restored: frozenset[int]
    # What was committed then, or where the user moved it.
    given_at: int | None
    closed: bool = False
    # Another member held it too for a while: one of them had not been told that the group gave it away.
    contested: bool = False
    fetched: set[int] = field(default_factory=set[int])
    position: int | None = None
    # By offset: how its last run ended, None while it runs.
    outcomes: dict[int, str | None] = field(default_factory=dict[int, "str | None"])
    acked_early: set[int] = field(default_factory=set[int])
    ended_at: dict[int, float] = field(default_factory=dict[int, float])
    # By offset: when it was settled, and how.
    settled: dict[int, tuple[float, str]] = field(default_factory=dict[int, tuple[float, str]])
    runs: list[Run] = field(default_factory=list[Run])
    # What the newest commit that was sent covers.
    sent_at: float = -1.0
    sent_to: int = 0
    sent_map: frozenset[int] = frozenset()
    # Where it began because the user moved it, and what was promised before: that holds until a commit says otherwise.
    moved_to: int | None = None
    before: Promised | None = None

    def unfinished(self) -> set[int]:
        """What it was given and did not finish itself; what a map called finished it was not given."""
        return self.fetched - self.restored - self.settled.keys()

    def covered_by_sent(self, offset: int) -> bool:
        """Whether the newest commit that was sent says that this record is finished."""
        return offset < self.sent_to or offset in self.sent_map


@final
@dataclass(slots=True, eq=False)
class Partition:
    """One partition's log and what the group did with it."""

    place: TopicPartition
    rules: TopicRules
    # Visible records that exist, with their keys, oldest first.
    records: dict[int, bytes | None] = field(default_factory=dict[int, "bytes | None"])
    end: int = 0
    start: int = 0
    # Nothing is promised of records below; None until the group's first start is known.
    origin: int | None = 0
    unsettled: set[int] = field(default_factory=set[int])
    settled: set[int] = field(default_factory=set[int])
    started: set[int] = field(default_factory=set[int])
    # Settled records that may come again: unconfirmed when their tenure ended.
    may_repeat: set[int] = field(default_factory=set[int])
    committed: int | None = None
    kept: frozenset[int] = frozenset()
    tenures: list[Tenure] = field(default_factory=list[Tenure])
    sought_at: float | None = None
    # Made anew, so that offsets mean other records; or the user chose to pass over what retention left.
    unpromised: bool = False

    def produced(self, offset: int, key: bytes | None, *, visible: bool) -> None:
        """A record is there to be read."""
        if offset < self.end:
            self.made_anew()
        self.end = offset + 1
        if visible:
            self.records[offset] = key
            self.unsettled.add(offset)

    def removed(self, start: int, offset: int | None) -> None:
        """Records are gone."""
        gone = [each for each in self.records if each < start] if offset is None else [offset]
        self.start = max(self.start, start)
        for each in gone:
            self.records.pop(each, None)
            self.unsettled.discard(each)
        if self.rules.ends_after_retention and gone:
            self.unpromised = True

    def made_anew(self) -> None:
        """The topic was deleted and made again: nothing that was known holds, and commits may be of either."""
        self.unpromised = True
        self.records.clear()
        self.end = self.start = 0
        self.origin = 0
        for known in (self.unsettled, self.settled, self.started, self.may_repeat):
            known.clear()
        self.committed, self.kept = None, frozenset()

    def begins_at(self, offset: int) -> None:
        """The group's first start, where that is not the log's; until it is committed the next start is the first."""
        if not self.rules.starts_at_end or self.committed is not None:
            return
        if self.origin is None or self.origin < offset:
            self.origin = offset
            self.unsettled = {each for each in self.unsettled if each >= offset}

    def sought(self, offset: int, now: float) -> None:
        """From here on everything from `offset` on is owed, whether it was handled before or not."""
        self.origin = offset
        self.sought_at = now
        self.unsettled = {each for each in self.records if each >= offset}
        self.settled = {each for each in self.settled if each < offset}
        self.started = {each for each in self.started if each < offset}
        self.may_repeat.clear()

    def promised(self) -> Promised:
        """What is owed now."""
        return Promised(
            self.origin,
            frozenset(self.unsettled),
            frozenset(self.settled),
            frozenset(self.started),
            frozenset(self.may_repeat),
        )

    def _forget_move(self, before: Promised) -> None:
        """The partition was moved, and no commit said so before it was taken away: the group goes on as before."""
        again = self.settled - before.settled
        self.may_repeat.update(before.may_repeat, self.settled & before.settled)
        self.origin = before.origin
        self.settled |= before.settled
        self.started |= before.started
        low = -1 if before.origin is None else before.origin
        new = {
            each
            for each in self.records
            if each >= max(low, max(before.unsettled | before.settled, default=-1) + 1)
        }
        self.unsettled = {each for each in before.unsettled | new if each in self.records} - again

    def covered(self, offset: int) -> bool:
        """Whether what is committed says that this record is finished."""
        return (self.committed is not None and offset < self.committed) or offset in self.kept

    def forget_repeats(self, before: int | None = None) -> None:
        """What is committed comes no more (`before` an offset that was read, or at all)."""
        self.may_repeat = {
            each
            for each in self.may_repeat
            if not self.covered(each) or (before is not None and each >= before)
        }

    def unsettled_between(self, start: int | None, end: int) -> list[int]:
        """Unfinished records from `start` (None: from the origin) up to and without `end`."""
        if self.origin is None:
            return []
        low = max(self.origin, start if start is not None else self.origin)
        return sorted(each for each in self.unsettled if low <= each < end)

    def lane_at(self, offset: int) -> bytes | None:
        """The lane of a record that exists."""
        return self.lane(self.records.get(offset))

    def lane(self, key: bytes | None) -> bytes | None:
        """Which records wait for each other; None for one that waits for none."""
        match self.rules.order_by:
            case "key":
                return None if key is None else b"key " + key
            case "partition":
                return LANE_OF_ALL
            case "none":
                return None

    def open(self, tenure: Tenure) -> None:
        """A tenure begins; if another has not ended, one of the two is not the group's."""
        self.tenures.append(tenure)
        if len(self.tenures) > 1:
            for each in self.tenures:
                each.contested = True

    def close(self, tenure: Tenure) -> None:
        """A tenure is over: what it was given and nobody confirmed may come again."""
        if tenure.closed:
            return
        tenure.closed = True
        self.tenures.remove(tenure)
        for run in tenure.runs:
            run.outlived = True
        if tenure.before is not None:
            self._forget_move(tenure.before)
        self.may_repeat.update(each for each in tenure.fetched if not self.covered(each))


@final
@dataclass(slots=True, eq=False)
class Member:
    """One life of a process with one app."""

    name: str
    alive: bool = True
    ended: bool = False
    tenures: dict[TopicPartition, Tenure] = field(default_factory=dict["TopicPartition", Tenure])
    runs: dict[tuple[TopicPartition, int], Run] = field(
        default_factory=dict[tuple["TopicPartition", int], Run]
    )
    # By run and partition: the assignment in which it was handed to its handler.
    ran: dict[tuple[int, TopicPartition], Tenure] = field(
        default_factory=dict[tuple[int, "TopicPartition"], Tenure]
    )
    commits: list[SentCommit] = field(default_factory=list[SentCommit])
    stop_at: float | None = None
    stop_hard: bool = False
    callback_at: float | None = None
    closing: bool = False
    freezes: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    # How many seeks the user asked for and has not seen; one may replace another.
    seeks_wanted: dict[TopicPartition, int] = field(default_factory=dict["TopicPartition", int])
    # A broker refused an offset map of it: it may leave maps out.
    map_refused: bool = False
    snapshot_drained: bool = True
    blamed: set[str] = field(default_factory=set[str])

    def frozen_since(self, since: float, now: float) -> float:
        """How much of this time it did nothing, because it was frozen."""
        total, counted = 0.0, since
        for began, until in sorted(self.freezes):
            low, high = max(began, counted), min(until, now)
            if high > low:
                total += high - low
                counted = high
        return total

    def held(self) -> Iterator[Tenure]:
        """Its tenures that are not closed."""
        return (tenure for tenure in self.tenures.values() if not tenure.closed)
