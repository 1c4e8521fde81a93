"""Whether a partition is stuck: it has work, may go on, and nothing of it is finished for too long.

Decides only that, from immutable facts and the time given; what is done about it is the owner's. Slow is told from
stuck: a partition on which a handler runs within its time is slow, however little finishes.

Invariant: a partition is called stuck once per episode, and an episode ends only with progress, with a pause, with
nothing left to do, or with the partition. Owner thread only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from headrace._core.states import Phase
from headrace._core.tenure import PAUSED_BY_FLOW

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headrace._core.tenure import Tenure
    from headrace.ports import TopicPartition

STARVED_FACTOR = 5.0
"""A pool takes turns between partitions: one that waits for so many times the limit, though others run, is not slow."""

Cause = Literal["silent", "not_started", "not_reported", "hung"]
"""silent: there is lag, and no record comes. not_started: records wait, and no worker takes them. not_reported: a worker
has them, and no handler runs. hung: a handler runs beyond `Timeouts.hung_after_s`."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one partition stands now.

    paused: by the user, or for the stop. gated: its records wait for a commit of their own. waits_s: how long they may
    wait for company (`Batching.wait_s`).
    """

    topic: str
    partition: int
    epoch: int
    active: bool
    position: int
    committed: int | None
    finished: int
    waiting: int
    in_flight: int
    parked: int
    settling: int
    unacked: int
    held: int
    gated: bool
    paused: bool
    waits_s: float
    subscription: int

    @property
    def key(self) -> TopicPartition:
        """Topic and number."""
        return (self.topic, self.partition)

    @property
    def pending(self) -> bool:
        """Whether it has records that a worker should run, or runs."""
        return self.waiting > 0 or self.in_flight > 0

    @property
    def set_aside(self) -> int:
        """Records that wait for their moment, for the user or for the broker: none of that is ours to hurry."""
        return self.parked + self.settling + self.unacked + self.held


@dataclass(frozen=True, slots=True)
class Surrounds:
    """What is known of a partition from outside the engine.

    end: the offset behind its last record, None if it was not asked for. running_s: how long its oldest handler runs.
    saturated: whether all workers of its subscription are busy, none beyond its time.
    """

    end: int | None = None
    running_s: float | None = None
    saturated: bool = False


@dataclass(frozen=True, slots=True)
class Stall:
    """A partition that is stuck, and since when nothing of it was finished."""

    topic: str
    partition: int
    epoch: int
    cause: Cause
    since: float
    position: int
    end: int | None
    committed: int | None
    waiting: int
    in_flight: int

    @property
    def key(self) -> TopicPartition:
        """Topic and number."""
        return (self.topic, self.partition)


@dataclass(frozen=True, slots=True)
class _Mark:
    """What does not change while nothing is finished, and since when it has not."""

    progress: tuple[int, ...]
    since: float


class Stalls:
    """The partitions of one connection, watched. `stalled_after_s`, `hung_after_s`: see `Timeouts`."""

    __slots__ = ("_hung_after_s", "_marks", "_stalled_after_s", "current")

    def __init__(self, stalled_after_s: float, hung_after_s: float) -> None:
        self._stalled_after_s = stalled_after_s
        self._hung_after_s = hung_after_s
        self._marks: dict[TopicPartition, _Mark] = {}
        self.current: dict[TopicPartition, Stall] = {}

    def look(
        self, standings: Iterable[Standing], outside: Mapping[TopicPartition, Surrounds], now: float
    ) -> tuple[list[Stall], list[Stall]]:
        """Take in where the partitions stand; returns the stalls that began, and those that ended."""
        began: list[Stall] = []
        marks: dict[TopicPartition, _Mark] = {}
        current: dict[TopicPartition, Stall] = {}
        for standing in standings:
            key, around = standing.key, outside.get(standing.key, Surrounds())
            mark = marks[key] = self._mark(standing, around, now)
            cause = self._cause(standing, around, now - mark.since)
            if cause is None:
                continue
            before = self.current.get(key)
            current[key] = stall_of(standing, around, cause, mark.since)
            if before is None or before.epoch != standing.epoch:
                began.append(current[key])
        ended = [stall for key, stall in self.current.items() if key not in current]
        self._marks, self.current = marks, current
        return began, ended

    def since(self, key: TopicPartition) -> float | None:
        """Since when nothing of this partition was finished, as of the last look."""
        mark = self._marks.get(key)
        return None if mark is None else mark.since

    def _mark(self, standing: Standing, around: Surrounds, now: float) -> _Mark:
        # What is fetched is no progress while earlier records stand still.
        position = 0 if standing.pending else standing.position
        set_aside = (standing.parked, standing.settling, standing.unacked)
        progress = (standing.epoch, standing.finished, position, *set_aside)
        before = self._marks.get(standing.key)
        if before is None or before.progress != progress or not _has_work(standing, around):
            return _Mark(progress, now)
        return before

    def _cause(self, standing: Standing, around: Surrounds, still_s: float) -> Cause | None:
        limit_s = self._stalled_after_s + standing.waits_s
        if still_s < limit_s:
            return None
        if not standing.pending:
            return "silent"
        if around.running_s is not None:
            return "hung" if around.running_s >= self._hung_after_s else None
        if around.saturated and still_s < limit_s * STARVED_FACTOR:
            return None
        return "not_reported" if standing.in_flight else "not_started"


def _has_work(standing: Standing, around: Surrounds) -> bool:
    """Whether something could be finished now, if all went well."""
    if not standing.active or standing.gated:
        return False  # It is being given back; or it waits for a commit, whose refusals are told of as such.
    if standing.pending:
        return True
    return not standing.paused and not standing.set_aside and (around.end or 0) > standing.position


def stall_of(standing: Standing, around: Surrounds, cause: Cause, since: float) -> Stall:
    """The stall that follows from these facts."""
    return Stall(
        standing.topic,
        standing.partition,
        standing.epoch,
        cause,
        since,
        standing.position,
        around.end,
        standing.committed,
        standing.waiting,
        standing.in_flight,
    )


def standing_of(tenure: Tenure, waits_s: float) -> Standing:
    """The facts of one tenure."""
    return Standing(
        topic=tenure.topic,
        partition=tenure.partition,
        epoch=tenure.epoch,
        active=tenure.phase is Phase.ACTIVE,
        position=tenure.ledger.position,
        committed=tenure.confirmed,
        finished=tenure.ledger.finished,
        # What a quiet app holds back waits on purpose.
        waiting=0 if tenure.quiet and not tenure.startable else tenure.waiting - tenure.dropped,
        in_flight=tenure.dispatched,
        parked=tenure.parked,
        settling=tenure.settling,
        unacked=tenure.unacked,
        held=tenure.lanes.held,
        gated=bool(tenure.gated),
        # A pause by flow is no excuse: with nothing pending it should have been undone.
        paused=tenure.paused & ~PAUSED_BY_FLOW != 0,
        waits_s=waits_s,
        subscription=tenure.subscription,
    )
