"""The catalogue of what is worth telling: one typed notice per branch that an operator may ask about.

Logs, counters and (later) metrics and the dashboard come from these and from nothing else. A notice never holds a
record's value. Refuses to know who listens.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

# The numbers of `logging`, which the core may not import.
DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40


@dataclass(frozen=True, slots=True)
class Notice:
    """Base of every notice. `name` is stable and documented; `level` is a `logging` level."""

    name: ClassVar[str] = "notice"
    level: ClassVar[int] = INFO

    def facts(self) -> dict[str, object]:
        """The notice's fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __str__(self) -> str:
        return f"{self.name} " + " ".join(f"{key}={value}" for key, value in self.facts().items())


@dataclass(frozen=True, slots=True)
class StateChanged(Notice):
    """The app moved to another state."""

    name: ClassVar[str] = "state_changed"
    previous: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class PartitionAssigned(Notice):
    """A partition is ours; consumption begins at `offset`. `restored` records beyond it are already finished."""

    name: ClassVar[str] = "partition_assigned"
    topic: str
    partition: int
    epoch: int
    offset: int
    committed: int | None
    restored: int


@dataclass(frozen=True, slots=True)
class OffsetMapRejected(Notice):
    """A commit's metadata is not an offset map of ours for that offset: records beyond it are handled again."""

    name: ClassVar[str] = "offset_map_rejected"
    level: ClassVar[int] = WARNING
    topic: str
    partition: int
    reason: str


@dataclass(frozen=True, slots=True)
class OffsetMapTruncated(Notice):
    """The map of finished records did not fit into the commit: a restart now would handle `dropped` records again."""

    name: ClassVar[str] = "offset_map_truncated"
    level: ClassVar[int] = WARNING
    topic: str
    partition: int
    dropped: int


@dataclass(frozen=True, slots=True)
class PartitionRevoked(Notice):
    """A partition went back to the group. `abandoned` handlers outlived the drain; their records will be handled again."""

    name: ClassVar[str] = "partition_revoked"
    topic: str
    partition: int
    epoch: int
    committable: int
    abandoned: int
    unfinished: int


@dataclass(frozen=True, slots=True)
class RevokeConfirmed(Notice):
    """The last commit of a revoked partition was written: if it was drained too, its new owner repeats nothing."""

    name: ClassVar[str] = "revoke_confirmed"
    topic: str
    partition: int
    offset: int
    drained: bool


@dataclass(frozen=True, slots=True)
class RevokeUnconfirmed(Notice):
    """The last commit of a revoked partition was refused: its new owner may repeat what was unconfirmed."""

    name: ClassVar[str] = "revoke_unconfirmed"
    level: ClassVar[int] = WARNING
    topic: str
    partition: int
    offset: int
    code: str


@dataclass(frozen=True, slots=True)
class PartitionLost(Notice):
    """A partition was taken without asking: what was not committed will be handled again by its new owner."""

    name: ClassVar[str] = "partition_lost"
    level: ClassVar[int] = WARNING
    topic: str
    partition: int
    epoch: int
    unfinished: int


@dataclass(frozen=True, slots=True)
class PartitionSought(Notice):
    """A partition's position was moved."""

    name: ClassVar[str] = "partition_sought"
    topic: str
    partition: int
    offset: int
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class CommitRefused(Notice):
    """Commits are refused or unanswered; the offsets stay dirty and are sent again. One line per episode and doubling."""

    name: ClassVar[str] = "commit_refused"
    level: ClassVar[int] = WARNING
    code: str
    count: int
    age_s: float


@dataclass(frozen=True, slots=True)
class CommitRecovered(Notice):
    """Commits are written again after an episode of refusals."""

    name: ClassVar[str] = "commit_recovered"
    refusals: int
    age_s: float


@dataclass(frozen=True, slots=True)
class CommitOverdue(Notice):
    """Finished work has stayed uncommitted for longer than `Commit.alert_after_s`."""

    name: ClassVar[str] = "commit_overdue"
    level: ClassVar[int] = ERROR
    age_s: float
    code: str


@dataclass(frozen=True, slots=True)
class CommitWentBack(Notice):
    """An older commit was written after a newer one; the newer offset is sent again."""

    name: ClassVar[str] = "commit_went_back"
    level: ClassVar[int] = WARNING
    topic: str
    partition: int
    written: int
    confirmed: int


@dataclass(frozen=True, slots=True)
class RecordRetried(Notice):
    """A record failed and waits for its next try."""

    name: ClassVar[str] = "record_retried"
    level: ClassVar[int] = DEBUG
    topic: str
    partition: int
    offset: int
    attempt: int
    delay_s: float
    error: str


@dataclass(frozen=True, slots=True)
class RecordSkipped(Notice):
    """A record was given up and counts as finished."""

    name: ClassVar[str] = "record_skipped"
    level: ClassVar[int] = WARNING
    topic: str
    partition: int
    offset: int
    attempts: int
    error: str


@dataclass(frozen=True, slots=True)
class RecordDeadLettered(Notice):
    """A record was given up; the broker acknowledged its dead letter. `error` is why."""

    name: ClassVar[str] = "record_dead_lettered"
    level: ClassVar[int] = WARNING
    topic: str
    partition: int
    offset: int
    attempts: int
    error: str


@dataclass(frozen=True, slots=True)
class DeadLetterRefused(Notice):
    """A dead letter was not acknowledged; it is tried again and its key waits."""

    name: ClassVar[str] = "dead_letter_refused"
    level: ClassVar[int] = ERROR
    topic: str
    partition: int
    offset: int
    error: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class IntakePaused(Notice):
    """A partition reached one of its budgets; `head` is its first unfinished offset."""

    name: ClassVar[str] = "intake_paused"
    level: ClassVar[int] = DEBUG
    topic: str
    partition: int
    reason: str
    head: int


@dataclass(frozen=True, slots=True)
class HandlerHung(Notice):
    """A handler runs for longer than `Timeouts.hung_after_s`."""

    name: ClassVar[str] = "handler_hung"
    level: ClassVar[int] = ERROR
    topic: str
    partition: int
    offset: int
    running_s: float
    worker: str
    stack: str


@dataclass(frozen=True, slots=True)
class DrainOverran(Notice):
    """Handlers did not end within the drain's budget; they were cancelled or marked stale."""

    name: ClassVar[str] = "drain_overran"
    level: ClassVar[int] = WARNING
    budget_s: float
    running: str


@dataclass(frozen=True, slots=True)
class OffsetsUnreadable(Notice):
    """The committed offsets of newly assigned partitions could not be read; nothing of them runs until they are."""

    name: ClassVar[str] = "offsets_unreadable"
    level: ClassVar[int] = WARNING
    partitions: str
    tries: int


@dataclass(frozen=True, slots=True)
class OffsetOutOfRange(Notice):
    """The position of a partition does not exist (any more); `target` is where it goes on. Records may be missing."""

    name: ClassVar[str] = "offset_out_of_range"
    level: ClassVar[int] = ERROR
    topic: str
    partition: int
    offset: int | None
    target: int


@dataclass(frozen=True, slots=True)
class BrokerAwaited(Notice):
    """The start waits for a broker that has not answered yet. Told after a few seconds, then rarely."""

    name: ClassVar[str] = "broker_awaited"
    level: ClassVar[int] = WARNING
    bootstrap_servers: str
    waited_s: float
    detail: str


@dataclass(frozen=True, slots=True)
class ClientFault(Notice):
    """The Kafka client reported an error that it deals with itself."""

    name: ClassVar[str] = "client_fault"
    level: ClassVar[int] = WARNING
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class ConnectionRebuilt(Notice):
    """The connection was closed and made anew."""

    name: ClassVar[str] = "connection_rebuilt"
    level: ClassVar[int] = WARNING
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class HookOverran(Notice):
    """A hook took longer than `Timeouts.hook_s`, or raised."""

    name: ClassVar[str] = "hook_overran"
    level: ClassVar[int] = WARNING
    hook: str
    problem: str


@dataclass(frozen=True, slots=True)
class PartitionReassigned(Notice):
    """A partition had lag but stayed silent; it was assigned again to wake its fetcher."""

    name: ClassVar[str] = "partition_reassigned"
    level: ClassVar[int] = WARNING
    topic: str
    partition: int
    position: int
    silent_s: float


@dataclass(frozen=True, slots=True)
class PartitionStalled(Notice):
    """A partition is stuck: it has work and may go on, and nothing of it was finished for `Timeouts.stalled_after_s`.

    `cause` is as in the reason `partition_stuck`; `stacks` shows its handlers, or the threads that should run one;
    `remedy` is what is done now: `App(on_stall=...)`.
    """

    name: ClassVar[str] = "partition_stalled"
    level: ClassVar[int] = ERROR
    topic: str
    partition: int
    epoch: int
    cause: str
    stalled_s: float
    position: int
    end: int | None
    committed: int | None
    waiting: int
    in_flight: int
    oldest_running_s: float | None
    poll_age_s: float | None
    remedy: str
    stacks: str


@dataclass(frozen=True, slots=True)
class StallEnded(Notice):
    """A partition that was stuck moves again, has nothing left to do, or is gone."""

    name: ClassVar[str] = "stall_ended"
    topic: str
    partition: int
    stalled_s: float


@dataclass(frozen=True, slots=True)
class OwnerBlocked(Notice):
    """The owner thread has not turned for `Timeouts.blocked_after_s`; `stack` shows where it stands."""

    name: ClassVar[str] = "owner_blocked"
    level: ClassVar[int] = ERROR
    silent_s: float
    remedy: str
    stack: str


@dataclass(frozen=True, slots=True)
class OwnerResumed(Notice):
    """The owner thread turns again."""

    name: ClassVar[str] = "owner_resumed"
    level: ClassVar[int] = WARNING
    silent_s: float


@dataclass(frozen=True, slots=True)
class LoopBlocked(Notice):
    """The event loop of the async handlers has not turned for `Timeouts.blocked_after_s`; `stack` shows what blocks it."""

    name: ClassVar[str] = "loop_blocked"
    level: ClassVar[int] = ERROR
    blocked_s: float
    stack: str


@dataclass(frozen=True, slots=True)
class LoopResumed(Notice):
    """The event loop of the async handlers turns again."""

    name: ClassVar[str] = "loop_resumed"
    level: ClassVar[int] = WARNING
    blocked_s: float


@dataclass(frozen=True, slots=True)
class AppFailed(Notice):
    """The app stops because of an error; `App.wait` raises it."""

    name: ClassVar[str] = "app_failed"
    level: ClassVar[int] = ERROR
    error: str
    message: str
