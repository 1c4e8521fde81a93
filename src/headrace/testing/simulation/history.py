"""The history of a simulation: what happened, when, to whom; what a judge sees and a reader replays.

Written by the model broker, the model workers and the members' surroundings, never by the core: what a member believes
is not evidence. Refuses to judge. Invariant: append-only, and the same seed writes the same lines.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.ports import TopicPartition


@final
@dataclass(frozen=True, slots=True)
class Produced:
    """A record is in the log; `visible` is False for what a reader must never see (aborted, a marker)."""

    place: TopicPartition
    offset: int
    key: bytes | None
    visible: bool = True


@final
@dataclass(frozen=True, slots=True)
class Removed:
    """Records are gone from the log: below the new start (retention), or one offset (compaction)."""

    place: TopicPartition
    start: int
    offset: int | None = None


@final
@dataclass(frozen=True, slots=True)
class MemberStarted:
    """A process with one app began. `member` names one life: a restart is a new member."""

    member: str


@final
@dataclass(frozen=True, slots=True)
class MemberKilled:
    """kill -9: nothing of it happens any more."""

    member: str


@final
@dataclass(frozen=True, slots=True)
class MemberFrozen:
    """SIGSTOP, a long garbage collection, a C call that holds the GIL: nothing of it happens for `frozen_s`."""

    member: str
    frozen_s: float


@final
@dataclass(frozen=True, slots=True)
class StopAsked:
    """The user stops the app."""

    member: str
    hard: bool = False


@final
@dataclass(frozen=True, slots=True)
class Failing:
    """The app tells its user that it ends by itself: from here on it is stopping."""

    member: str


@final
@dataclass(frozen=True, slots=True)
class MemberEnded:
    """The owner loop returned; `error` is the class name of the fatal error, None for a clean stop."""

    member: str
    error: str | None


@final
@dataclass(frozen=True, slots=True)
class Assigned:
    """The client's on_assign callback is about to be called: from here on these partitions are the member's."""

    member: str
    places: tuple[TopicPartition, ...]


@final
@dataclass(frozen=True, slots=True)
class AssignReturned:
    """It returned, `took_s` later."""

    member: str
    places: tuple[TopicPartition, ...]
    took_s: float


@final
@dataclass(frozen=True, slots=True)
class RevokeBegan:
    """The client's on_revoke callback is about to be called; `closing`: because the client is being closed."""

    member: str
    places: tuple[TopicPartition, ...]
    closing: bool = False


@final
@dataclass(frozen=True, slots=True)
class RevokeReturned:
    """It returned, `took_s` later."""

    member: str
    places: tuple[TopicPartition, ...]
    took_s: float


@final
@dataclass(frozen=True, slots=True)
class LostReturned:
    """The client's on_lost callback returned, `took_s` later: the partitions were taken without asking."""

    member: str
    places: tuple[TopicPartition, ...]
    took_s: float = 0.0


@final
@dataclass(frozen=True, slots=True)
class Fetched:
    """The client handed these offsets to the owner, in order."""

    member: str
    place: TopicPartition
    offsets: tuple[int, ...]


@final
@dataclass(frozen=True, slots=True)
class HandlerStarted:
    """A worker began this record. `run` numbers the runs of handlers in a history: the same for its end."""

    member: str
    place: TopicPartition
    offset: int
    key: bytes | None
    attempt: int
    run: int = 0


@final
@dataclass(frozen=True, slots=True)
class HandlerEnded:
    """The handler ended, or died with its worker process.

    outcome: "returned" (what it produced may not be acknowledged yet), "raised", "cancelled",
    "later" (RetryLater), "rejected" (Reject), "fatal" (what must stop the app), "died" (its process did).
    """

    member: str
    place: TopicPartition
    offset: int
    outcome: str
    run: int = 0


@final
@dataclass(frozen=True, slots=True)
class Settled:
    """This record is finished, by what happened outside the core.

    how: "handled" (its handler returned), "acked" (record.ack() returned True), "filtered", "dead_lettered" (the broker
    acknowledged the dead letter), "skipped" (given up as the user chose). `run`: of which run of its handler, 0 if of none.
    """

    member: str
    place: TopicPartition
    offset: int
    how: str
    run: int = 0


@final
@dataclass(frozen=True, slots=True)
class OutputRefused:
    """What the handler of this record had produced was refused, after the handler had returned. `run`: which run of it."""

    member: str
    place: TopicPartition
    offset: int
    run: int = 0


@final
@dataclass(frozen=True, slots=True)
class DeadLetterSent:
    """A dead letter was given to the producer. `run` numbers it among the runs of handlers: the same in its `Settled`."""

    member: str
    place: TopicPartition
    offset: int
    run: int = 0


@final
@dataclass(frozen=True, slots=True)
class CommitSent:
    """The client sent a commit: (topic, partition, offset) each, and the metadata of each in the same order.

    in_flight: commits of this member that are unanswered, with this one.
    """

    member: str
    offsets: tuple[tuple[str, int, int], ...]
    in_flight: int
    metadata: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class CommitApplied:
    """The coordinator wrote a commit. `before` is what was committed until now."""

    member: str
    place: TopicPartition
    offset: int
    before: int | None
    metadata: str


@final
@dataclass(frozen=True, slots=True)
class CommitAnswered:
    """on_commit was called for a commit; `error` is Kafka's code name, or None."""

    member: str
    place: TopicPartition
    offset: int
    error: str | None


@final
@dataclass(frozen=True, slots=True)
class SeekWanted:
    """The user asked to move a partition; `Sought` follows when it was moved."""

    member: str
    place: TopicPartition


@final
@dataclass(frozen=True, slots=True)
class Sought:
    """The client moved a partition as it was told (member set), or an operator reset the group's offset (member empty)."""

    member: str
    place: TopicPartition
    offset: int


@final
@dataclass(frozen=True, slots=True)
class PauseAsked:
    """The user paused, or resumed, these partitions."""

    member: str
    places: tuple[TopicPartition, ...]
    paused: bool


@final
@dataclass(frozen=True, slots=True)
class FaultBegan:
    """A fault was injected; `kind` is the name of its field in `Faults`."""

    kind: str
    detail: str = ""


@final
@dataclass(frozen=True, slots=True)
class FaultsOver:
    """From here on nothing fails any more: all must finish within a bounded time (L1).

    stuck: records whose handler goes on failing or hanging all the same; they hold up their own lanes and nothing else.
    """

    stuck: tuple[tuple[str, int, int], ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Turned:
    """Loop turns of a member since the last entry of this kind, over `span_s`; `idle` if it had nothing at all to do."""

    member: str
    turns: int
    span_s: float
    idle: bool


@final
@dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """A member's published snapshot, in numbers that a judge can add up; see `invariants`."""

    member: str
    fetched: int
    waiting: int
    in_flight: int
    parked: int
    finished: int
    stale: int
    bytes_held: int
    held_unchanged: bool


@final
@dataclass(frozen=True, slots=True)
class Told:
    """A notice of the runtime: for readers of the log only, no evidence."""

    member: str
    text: str


Entry = (
    Produced
    | Removed
    | MemberStarted
    | MemberKilled
    | MemberFrozen
    | StopAsked
    | Failing
    | MemberEnded
    | Assigned
    | AssignReturned
    | RevokeBegan
    | RevokeReturned
    | LostReturned
    | Fetched
    | HandlerStarted
    | HandlerEnded
    | Settled
    | OutputRefused
    | DeadLetterSent
    | CommitSent
    | CommitApplied
    | CommitAnswered
    | SeekWanted
    | Sought
    | PauseAsked
    | FaultBegan
    | FaultsOver
    | Turned
    | SnapshotTaken
    | Told
)


@final
class History:
    """What happened so far. `watch` sees each entry as it is written, and may raise."""

    __slots__ = ("_watch", "entries")

    def __init__(self, watch: Callable[[float, Entry], None] | None = None) -> None:
        self.entries: list[tuple[float, Entry]] = []
        self._watch = watch

    def add(self, now: float, entry: Entry) -> None:
        """Write one entry; raises what the watcher raises."""
        self.entries.append((now, entry))
        if self._watch is not None:
            self._watch(now, entry)

    def lines(self) -> list[str]:
        """One line for each entry: seconds, what, and its fields."""
        return [line_of(now, entry) for now, entry in self.entries]


def line_of(now: float, entry: Entry) -> str:
    """One entry as a line of text."""
    words = " ".join(f"{each.name}={_text(getattr(entry, each.name))}" for each in fields(entry))
    return f"{now:10.4f}  {type(entry).__name__:<15} {words}".rstrip()


def _text(value: Any) -> str:
    match value:
        case (str() as topic, int() as partition):
            return f"{topic}[{partition}]"
        case tuple():
            many: tuple[Any, ...] = value  # pyright: ignore[reportUnknownVariableType] - of anything
            return "(" + ",".join(_text(each) for each in many) + ")"
        case _:
            return repr(value) if isinstance(value, (bytes, str)) else str(value)
