"""Whether an app is well: one typed verdict with reasons, judged by progress and never by the mere absence of errors.

A pure function of immutable facts. Refuses to know how they were gathered, and what is done with the verdict. Invariant:
a verdict that is neither "ok" nor part of an orderly life names at least one reason.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Literal

from headrace._core.states import JOINED, AppState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace._core.snapshot import PartitionSnapshot
    from headrace._core.stalls import Stall
    from headrace.ports import TopicPartition

Verdict = Literal["new", "starting", "ok", "degraded", "stuck", "stopping", "ended"]
Severity = Literal["degraded", "stuck"]

STORM_REBALANCES = 10
"""So many rebalances within `STORM_WINDOW_S` are a storm: a rolling restart of a small group makes fewer."""
STORM_WINDOW_S = 300.0
POLL_SHARE = 0.5
"""Share of `max.poll.interval.ms` without a poll that is worth a reason: half is left to do something about it."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Base of every reason. `name` is stable; `severity` is what it makes of the verdict; `unready`: records do not flow."""

    name: ClassVar[str] = "reason"
    severity: ClassVar[Severity] = "degraded"
    unready: ClassVar[bool] = False

    def facts(self) -> dict[str, object]:
        """The reason's fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __str__(self) -> str:
        return f"{self.name} " + " ".join(f"{key}={value}" for key, value in self.facts().items())


@dataclass(frozen=True, slots=True)
class OwnerBlocked(Reason):
    """The owner thread does not turn: a listener or a callback blocks it, or the client hangs."""

    name: ClassVar[str] = "owner_blocked"
    severity: ClassVar[Severity] = "stuck"
    unready: ClassVar[bool] = True
    silent_s: float


@dataclass(frozen=True, slots=True)
class LoopBlocked(Reason):
    """The event loop of the async handlers does not turn: something on it blocks."""

    name: ClassVar[str] = "loop_blocked"
    severity: ClassVar[Severity] = "stuck"
    unready: ClassVar[bool] = True
    blocked_s: float


@dataclass(frozen=True, slots=True)
class PartitionStuck(Reason):
    """A partition has work and may go on, and nothing of it was finished for `Timeouts.stalled_after_s`."""

    name: ClassVar[str] = "partition_stuck"
    severity: ClassVar[Severity] = "stuck"
    topic: str
    partition: int
    cause: str
    stalled_s: float
    lag: int | None


@dataclass(frozen=True, slots=True)
class PollOverdue(Reason):
    """Kafka was not polled for half of `max.poll.interval.ms`: the group will soon take the partitions away."""

    name: ClassVar[str] = "poll_overdue"
    age_s: float
    max_poll_interval_s: float


@dataclass(frozen=True, slots=True)
class HandlerHanging(Reason):
    """A handler runs for longer than `Timeouts.hung_after_s`; its key waits, others go on."""

    name: ClassVar[str] = "handler_hanging"
    topic: str
    partition: int
    offset: int
    running_s: float
    worker: str


@dataclass(frozen=True, slots=True)
class HeadBlocked(Reason):
    """Intake of a partition is paused, and its first unfinished record is older than `Timeouts.stalled_after_s`."""

    name: ClassVar[str] = "head_blocked"
    topic: str
    partition: int
    offset: int
    age_s: float


@dataclass(frozen=True, slots=True)
class RecordsWaiting(Reason):
    """Records older than `Timeouts.stalled_after_s` wait to be tried again, acknowledged, or for their dead letter."""

    name: ClassVar[str] = "records_waiting"
    topic: str
    partition: int
    parked: int
    settling: int
    unacked: int
    age_s: float


@dataclass(frozen=True, slots=True)
class CommitsRefused(Reason):
    """Commits are refused or unanswered since `age_s`; consumption goes on, and they are sent again."""

    name: ClassVar[str] = "commits_refused"
    code: str
    count: int
    age_s: float


@dataclass(frozen=True, slots=True)
class CommitsOverdue(Reason):
    """Finished work has stayed uncommitted for longer than `Commit.alert_after_s`."""

    name: ClassVar[str] = "commits_overdue"
    age_s: float


@dataclass(frozen=True, slots=True)
class StartsUnknown(Reason):
    """Partitions are ours, but their committed offsets could not be read yet: nothing of them runs."""

    name: ClassVar[str] = "starts_unknown"
    partitions: int
    age_s: float


@dataclass(frozen=True, slots=True)
class RebalanceOpen(Reason):
    """A rebalance has not ended within `Timeouts.rebalance_s`; `held` partitions are consumed meanwhile."""

    name: ClassVar[str] = "rebalance_open"
    age_s: float
    held: int


@dataclass(frozen=True, slots=True)
class NothingHeld(RebalanceOpen):
    """The same, and no partition is held: nothing is consumed."""

    name: ClassVar[str] = "nothing_held"
    unready: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class RebalanceStorm(Reason):
    """Ten rebalances or more within `within_s`: the group is busy with itself."""

    name: ClassVar[str] = "rebalance_storm"
    count: int
    within_s: float


@dataclass(frozen=True, slots=True)
class Rebuilding(Reason):
    """The connection is being made anew, for the `count`-th time."""

    name: ClassVar[str] = "rebuilding"
    unready: ClassVar[bool] = True
    why: str
    count: int
    age_s: float


@dataclass(frozen=True, slots=True)
class BrokersAway(Reason):
    """The client lost its last connection to a broker, and none has answered since."""

    name: ClassVar[str] = "brokers_away"
    unready: ClassVar[bool] = True
    age_s: float


@dataclass(frozen=True, slots=True)
class ConnectionFailing(Reason):
    """One of several connections is away, for the `count`-th time in a row; others work. `connection` is its number."""

    name: ClassVar[str] = "connection_failing"
    connection: int
    error: str
    count: int
    age_s: float


@dataclass(frozen=True, slots=True)
class HookHanging(Reason):
    """A hook runs for longer than `Timeouts.hung_after_s`; later calls of hooks wait for it."""

    name: ClassVar[str] = "hook_hanging"
    hook: str
    running_s: float


@dataclass(frozen=True, slots=True)
class AppEnded(Reason):
    """The app ended because of an error; `App.wait` raises it."""

    name: ClassVar[str] = "app_ended"
    unready: ClassVar[bool] = True
    error: str
    message: str


REASONS: tuple[type[Reason], ...] = (
    OwnerBlocked,
    LoopBlocked,
    PartitionStuck,
    PollOverdue,
    HandlerHanging,
    HeadBlocked,
    RecordsWaiting,
    CommitsRefused,
    CommitsOverdue,
    StartsUnknown,
    RebalanceOpen,
    NothingHeld,
    RebalanceStorm,
    Rebuilding,
    BrokersAway,
    ConnectionFailing,
    HookHanging,
    AppEnded,
)
"""All there are, the gravest first: the order of `Health.reasons`."""


@dataclass(frozen=True, slots=True)
class Hung:
    """A handler that runs beyond its time, since `since`."""

    topic: str
    partition: int
    offset: int
    since: float
    worker: str


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the owner knows of its connection beside the snapshot, at `as_of`. Moments are on the owner's clock."""

    as_of: float = 0.0
    polled_at: float | None = None
    max_poll_interval_s: float = 300.0
    joined: bool = False
    hung: tuple[Hung, ...] = ()
    stalls: tuple[Stall, ...] = ()
    refused: tuple[str, int, float] | None = None
    """Code, count and beginning of the episode of refused commits."""
    uncommitted_since: float | None = None
    starts: tuple[TopicPartition, ...] = ()
    starts_since: float | None = None
    rebalance_since: float | None = None
    rebalances: tuple[float, ...] = ()
    """Moments of the last ones, at most `STORM_REBALANCES`."""
    rebuild: tuple[str, float] | None = None
    """Why the connection is being made anew, and since when."""
    rebuilds: int = 0
    brokers_away_since: float | None = None
    loop_silent_since: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """From which moment on something is a reason; see `Timeouts` and `Commit`."""

    stalled_after_s: float
    blocked_after_s: float
    rebalance_s: float
    hung_after_s: float
    alert_after_s: float


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a verdict follows from. `turned_at`: the owner's last turn. `hook`: the hook that runs, and since when."""

    state: AppState
    vitals: Vitals
    partitions: tuple[PartitionSnapshot, ...]
    snapshot_at: float
    confirmed_at: float | None
    turned_at: float | None
    hook: tuple[str, float] | None
    error: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Health:
    """How an app is. Made by `App.health`; a value, true of the moment it was asked for.

    verdict: "new", "starting", "ok", "degraded" (it works, and something needs attention), "stuck" (something does not
    move and will not by itself), "stopping", "ended". reasons: the gravest first; empty when all is well.
    Ages are in seconds, None where there is nothing yet: of the owner's last turn, of the last poll, of the last
    confirmed commit, of finished work that is not committed, of the oldest unfinished record.
    """

    verdict: Verdict
    reasons: tuple[Reason, ...]
    state: str
    partitions: int
    turn_age_s: float | None
    poll_age_s: float | None
    commit_age_s: float | None
    uncommitted_age_s: float | None
    oldest_age_s: float | None
    rebuilds: int

    @property
    def live(self) -> bool:
        """Whether a restart would *not* help: False when it is stuck, or ended with an error."""
        return self.verdict != "stuck" and not any(isinstance(reason, AppEnded) for reason in self.reasons)

    @property
    def ready(self) -> bool:
        """Whether it has joined its group and records can flow."""
        return self.verdict in ("ok", "degraded") and not any(reason.unready for reason in self.reasons)


def judge(facts: Facts, limits: Limits, now: float) -> Health:
    """The verdict of this moment."""
    vitals = facts.vitals
    reasons = tuple(sorted(_reasons(facts, limits, now), key=lambda reason: REASONS.index(type(reason))))
    ages = [part.oldest_age_s for part in facts.partitions if part.oldest_age_s is not None]
    since_snapshot_s = max(0.0, now - facts.snapshot_at)
    return Health(
        verdict=_verdict(facts.state, reasons),
        reasons=reasons,
        state=facts.state.value,
        partitions=len(facts.partitions),
        turn_age_s=_age(facts.turned_at, now),
        poll_age_s=_age(vitals.polled_at, now),
        commit_age_s=_age(facts.confirmed_at, now),
        uncommitted_age_s=_age(vitals.uncommitted_since, now),
        oldest_age_s=max(ages) + since_snapshot_s if ages else None,
        rebuilds=vitals.rebuilds,
    )


def _verdict(state: AppState, reasons: tuple[Reason, ...]) -> Verdict:
    match state:
        case AppState.NEW:
            return "new"
        case AppState.STOPPED | AppState.FAILED:
            return "ended"
        case _ if any(reason.severity == "stuck" for reason in reasons):
            return "stuck"
        case AppState.STARTING:
            return "starting"
        case AppState.DRAINING | AppState.COMMITTING | AppState.CLOSING:
            return "stopping"
        case AppState.RUNNING | AppState.QUIETING | AppState.QUIET | AppState.REBUILDING:
            return "degraded" if reasons else "ok"


def _reasons(facts: Facts, limits: Limits, now: float) -> Iterator[Reason]:
    if facts.state in (AppState.NEW, AppState.STOPPED, AppState.FAILED):
        if facts.error is not None:
            yield AppEnded(*facts.error)
        return
    silent_s = _age(facts.turned_at, now)
    if silent_s is not None and silent_s >= limits.blocked_after_s:
        yield OwnerBlocked(silent_s)
    loop_s = _age(facts.vitals.loop_silent_since, now)
    if loop_s is not None and loop_s >= limits.blocked_after_s:
        yield LoopBlocked(loop_s)
    if facts.hook is not None and now - facts.hook[1] >= limits.hung_after_s:
        yield HookHanging(facts.hook[0], now - facts.hook[1])
    for hung in facts.vitals.hung:
        yield HandlerHanging(hung.topic, hung.partition, hung.offset, now - hung.since, hung.worker)
    if facts.state not in JOINED and facts.state is not AppState.REBUILDING:
        return  # What follows is not expected of an app that starts or stops.
    yield from _of_connection(facts, limits, now)
    yield from _of_partitions(facts, limits, now)


def _of_connection(facts: Facts, limits: Limits, now: float) -> Iterator[Reason]:
    vitals = facts.vitals
    if vitals.polled_at is not None and now - vitals.polled_at > vitals.max_poll_interval_s * POLL_SHARE:
        yield PollOverdue(now - vitals.polled_at, vitals.max_poll_interval_s)
    if vitals.rebuild is not None:
        yield Rebuilding(vitals.rebuild[0], vitals.rebuilds, now - vitals.rebuild[1])
    if vitals.brokers_away_since is not None:
        yield BrokersAway(now - vitals.brokers_away_since)
    if vitals.refused is not None:
        code, count, since = vitals.refused
        yield CommitsRefused(code, count, now - since)
    if vitals.uncommitted_since is not None and now - vitals.uncommitted_since >= limits.alert_after_s:
        yield CommitsOverdue(now - vitals.uncommitted_since)
    if vitals.starts and vitals.starts_since is not None:
        yield StartsUnknown(len(vitals.starts), now - vitals.starts_since)
    if vitals.rebalance_since is not None and now - vitals.rebalance_since >= limits.rebalance_s:
        held = len(facts.partitions)
        kind = RebalanceOpen if held else NothingHeld
        yield kind(now - vitals.rebalance_since, held)
    recent = [moment for moment in vitals.rebalances if now - moment <= STORM_WINDOW_S]
    if len(recent) >= STORM_REBALANCES:
        yield RebalanceStorm(len(recent), now - recent[0])


def _of_partitions(facts: Facts, limits: Limits, now: float) -> Iterator[Reason]:
    for stall in facts.vitals.stalls:
        lag = None if stall.end is None else stall.end - (stall.committed or 0)
        yield PartitionStuck(stall.topic, stall.partition, stall.cause, now - stall.since, lag)
    since_snapshot_s = max(0.0, now - facts.snapshot_at)
    for part in facts.partitions:
        if part.oldest_age_s is None:
            continue
        age_s = part.oldest_age_s + since_snapshot_s
        if age_s < limits.stalled_after_s:
            continue
        if "flow" in part.paused:
            yield HeadBlocked(part.topic, part.partition, part.committable, age_s)
        if part.parked or part.settling or part.unacked:
            yield RecordsWaiting(part.topic, part.partition, part.parked, part.settling, part.unacked, age_s)


def _age(moment: float | None, now: float) -> float | None:
    return None if moment is None else max(0.0, now - moment)
