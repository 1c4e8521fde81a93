"""What happens to the engine: the inputs of `Engine.step`.

One event per batch of happenings, never per record: a poll, a finished chunk, a commit's answer. Frozen, so that a
history of events replays exactly. Refuses to know where an event came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.ports import CommitResult, TopicPartition
    from headrace.records import Record, Source


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; nothing else happened."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Records from one poll, grouped by partition and in offset order within each."""

    groups: Sequence[tuple[str, int, Sequence[Source]]]


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of records that were dispatched together, or of some of them.

    succeeded: their handler returned (or the filter turned them away: `filtered` of them).
    failed: their handler raised; `BaseException`s that must stop the runtime are here too.
    returned: never started: taken back, stale, or behind a failed record of their lane.
    awaiting: their handler returned, but records it produced are not all acknowledged yet: one `Delivered` follows.
    busy_s, cpu_s: time the worker spent on the started ones, on the wall and on the processor.
    started: how many records that time was spent on.
    waits_s: durations of those of the started ones whose own are known, from start to end: those that waited on an event
        loop, and those of short lists that were joined.
    """

    subscription: int
    succeeded: Sequence[Record[Any, Any]] = ()
    failed: Sequence[tuple[Record[Any, Any], BaseException]] = ()
    returned: Sequence[Record[Any, Any]] = ()
    awaiting: Sequence[Record[Any, Any]] = ()
    filtered: int = 0
    busy_s: float = 0.0
    cpu_s: float = 0.0
    started: int = 0
    waits_s: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """`record.ack()` was called on these."""

    records: Sequence[Record[Any, Any]]


@dataclass(frozen=True, slots=True)
class Delivered:
    """All that a handler produced while it handled `record` is answered for; `error` is the first failure."""

    record: Record[Any, Any]
    error: Exception | None


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """The broker answered for a dead letter. `permanent` errors do not go away by waiting."""

    record: Record[Any, Any]
    error: Exception | None
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """One partition that was assigned, with everything needed to begin: read and resolved by the shell.

    offset: where to begin. committed: what the group had committed, None if nothing. metadata: the commit's offset map.
    """

    topic: str
    partition: int
    offset: int
    committed: int | None
    metadata: str = ""
    leader_epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Assigned:
    """These partitions are ours from now on."""

    starts: Sequence[Start]


@dataclass(frozen=True, slots=True)
class RevokeBegan:
    """The group takes these back: stop intake, take unstarted records back, let the running ones end."""

    partitions: Sequence[TopicPartition]


@dataclass(frozen=True, slots=True)
class RevokeEnded:
    """The drain is over, by completion or by its deadline: commit, close the tenures."""

    partitions: Sequence[TopicPartition]


@dataclass(frozen=True, slots=True)
class Lost:
    """These were taken without asking: no commit is possible any more."""

    partitions: Sequence[TopicPartition]


@dataclass(frozen=True, slots=True)
class CommitAnswered:
    """The broker's answer to a commit, possibly late, possibly to an older one."""

    results: Sequence[CommitResult]


@dataclass(frozen=True, slots=True)
class CommitRefused:
    """The client would not even send the commit."""

    code: str


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """The client is closed: commits that it did not answer will never be."""


@dataclass(frozen=True, slots=True)
class PositionsRead:
    """The client's positions of idle partitions: beyond the last record where transaction markers trail it."""

    positions: Sequence[tuple[str, int, int]]


@dataclass(frozen=True, slots=True)
class PauseAsked:
    """The user pauses these partitions."""

    partitions: Sequence[TopicPartition]


@dataclass(frozen=True, slots=True)
class ResumeAsked:
    """The user resumes these partitions."""

    partitions: Sequence[TopicPartition]


@dataclass(frozen=True, slots=True)
class QuietAsked:
    """Take nothing in and start nothing, of any partition, until `QuietEnded`; what runs ends, and is committed."""


@dataclass(frozen=True, slots=True)
class QuietEnded:
    """Go on."""


@dataclass(frozen=True, slots=True)
class ShareSet:
    """So many connections share what the subscriptions may run at once."""

    connections: int


@dataclass(frozen=True, slots=True)
class SeekAsked:
    """The user, or an offset that no longer exists, moves a partition to `offset`; the target is committed."""

    topic: str
    partition: int
    offset: int
    reason: str = "user"


@dataclass(frozen=True, slots=True)
class StopBegan:
    """The app stops: no intake, take unstarted records back, let the running ones end, then commit."""


Event = (
    Tick
    | Fetched
    | Finished
    | Acknowledged
    | Delivered
    | DeadLettered
    | Assigned
    | RevokeBegan
    | RevokeEnded
    | Lost
    | CommitAnswered
    | CommitRefused
    | ConnectionClosed
    | PositionsRead
    | PauseAsked
    | ResumeAsked
    | QuietAsked
    | QuietEnded
    | ShareSet
    | SeekAsked
    | StopBegan
)

TICK = Tick()
