"""What several connections of one app look like as one: snapshots added up, verdicts put together.

Decides only how. Invariants: sums match: a total is the sum of what the connections say, those that were closed included; a
partition is there once; what is wrong with one connection does not make the app unready while another works.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from headrace._core.board import FAILURE_KINDS_MAX, OTHER_FAILURES
from headrace._core.durations import DurationsSnapshot
from headrace._core.health import (
    REASONS,
    BrokersAway,
    ConnectionFailing,
    HookHanging,
    LoopBlocked,
    NothingHeld,
    OwnerBlocked,
    Rebuilding,
)
from headrace._core.snapshot import CountersSnapshot, EngineSnapshot, FailureSnapshot, SubscriptionSnapshot
from headrace._core.states import AppState, CommitState
from headrace._runtime.hot_keys import HotKeys, together
from headrace._runtime.link import THE_FIRST
from headrace._runtime.rebalances import RebalanceSnapshot
from headrace._runtime.snapshots import OwnerSnapshot, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace._core.health import Health, Reason, Verdict
    from headrace._core.snapshot import PartitionSnapshot
    from headrace.ports import TopicPartition

GRAVITY = ("ok", "degraded", "stuck")
COMMIT_GRAVITY = (CommitState.IDLE.value, CommitState.IN_FLIGHT.value, CommitState.BACKING_OFF.value)
OF_ONE_CONNECTION = (OwnerBlocked, Rebuilding, BrokersAway, NothingHeld)
"""What is wrong with one connection alone: others work on, and the group gives them its partitions in the end."""
OF_THE_APP = (HookHanging, LoopBlocked)
"""What all connections share: each would tell of it, with an age of its own."""
OVER = (AppState.STOPPED.value, AppState.FAILED.value)


def merged(snapshots: Sequence[Snapshot], past: Snapshot | None) -> Snapshot:
    """One snapshot of all, those that were closed included; as old as the oldest, in the state of the first."""
    first = snapshots[0]
    # One that was just opened has told nothing yet.
    snapshots = [first, *(each for each in snapshots[1:] if each.sequence)]
    if past is None and len(snapshots) == 1:
        return first
    parts: dict[TopicPartition, tuple[float, PartitionSnapshot]] = {}
    for snapshot in snapshots:
        for part in snapshot.engine.partitions:
            key = part.topic, part.partition
            # Seen twice while it moves, or where one connection hangs: who has told of it last has it.
            if key not in parts or parts[key][0] <= snapshot.as_of:
                parts[key] = snapshot.as_of, part
    counted = [*snapshots, past] if past is not None else list(snapshots)
    ages = [age for each in snapshots if (age := each.engine.commit_confirmed_age_s) is not None]
    engine = EngineSnapshot(
        partitions=tuple(part for _, part in parts.values()),
        counters=_counters(each.engine.counters for each in counted),
        subscriptions=tuple(
            map(_subscription, zip(*(each.engine.subscriptions for each in counted), strict=True))
        ),
        commit_state=max((each.engine.commit_state for each in snapshots), key=COMMIT_GRAVITY.index),
        commit_confirmed_age_s=max(ages) if ages else None,
        failures=_failures(failure for each in counted for failure in each.engine.failures),
    )
    return replace(
        first,
        as_of=min(each.as_of for each in snapshots),
        sequence=sum(each.sequence for each in counted),
        state=together_in([each.state for each in snapshots]),
        engine=engine,
        owner=_owner(first.owner, [each.owner for each in counted]),
    )


def ended(past: Snapshot | None, last: Snapshot) -> Snapshot | None:
    """The past, with the last snapshot of a connection that is over: counts stay, what was held is gone."""
    if not last.sequence:
        return past
    subscriptions = tuple(
        replace(each, dispatched=0, stale=0, workers=0, workers_busy=0) for each in last.engine.subscriptions
    )
    left = replace(
        last,
        engine=replace(last.engine, partitions=(), subscriptions=subscriptions),
        owner=replace(last.owner, hot_keys=HotKeys()),
    )
    return left if past is None else merged([left], past)


def together_in(states: Sequence[str]) -> str:
    """The app's state: that of its first connection; quiet only when all are, and over only when all are."""
    first, others = states[0], {*states[1:]} - {AppState.NEW.value}
    active = {AppState.RUNNING.value, AppState.QUIETING.value}
    if first == AppState.QUIET.value and not active.isdisjoint(others):
        return AppState.QUIETING.value
    if first in OVER and not others.issubset(OVER):
        return AppState.CLOSING.value
    return first


def verdict_of(
    healths: Sequence[tuple[int, Health]], failing: Sequence[ConnectionFailing], rebuilds: int = 0
) -> Health:
    """The verdict of the first connection where it starts or stops; else the gravest of all, with all reasons.

    While one connection works, what keeps another from it is told as `connection_failing`. The app is over when all are.
    rebuilds: of connections that are over.
    """
    first = replace(healths[0][1], rebuilds=rebuilds + sum(health.rebuilds for _, health in healths))
    left = [(number, health) for number, health in healths if health.verdict not in ("new", "ended")]
    if first.verdict == "ended" and left:
        reasons = _reasons_of(left, ())
        return replace(
            first, verdict=_gravest(reasons, "stopping"), reasons=reasons, state=AppState.CLOSING.value
        )
    if first.verdict not in GRAVITY:
        return first
    judged = [(number, health) for number, health in healths if health.verdict in GRAVITY]
    reasons = _reasons_of(judged, failing)
    sound = [health for _, health in judged]
    return replace(
        first,
        verdict=_gravest(reasons, "degraded" if reasons else "ok"),
        reasons=reasons,
        partitions=sum(health.partitions for health in sound),
        oldest_age_s=max(
            (each.oldest_age_s for each in sound if each.oldest_age_s is not None), default=None
        ),
        uncommitted_age_s=max(
            (each.uncommitted_age_s for each in sound if each.uncommitted_age_s is not None), default=None
        ),
    )


def _gravest(reasons: Sequence[Reason], else_: Verdict) -> Verdict:
    return "stuck" if any(reason.severity == "stuck" for reason in reasons) else else_


def _reasons_of(
    judged: Sequence[tuple[int, Health]], failing: Sequence[ConnectionFailing]
) -> tuple[Reason, ...]:
    """All of them, the gravest first, each once."""
    works = any(health.ready for _, health in judged)
    reasons: dict[Reason, None] = dict.fromkeys(failing)
    of_the_app: set[type[Reason]] = set()
    for number, health in judged:
        for reason in health.reasons:
            if isinstance(reason, OF_THE_APP):
                if type(reason) in of_the_app:
                    continue
                of_the_app.add(type(reason))
            aside = works and isinstance(reason, OF_ONE_CONNECTION)
            # Where the thread that runs the app is blocked, the app can neither be stopped nor scaled.
            if aside and not (number == THE_FIRST and isinstance(reason, OwnerBlocked)):
                reasons[_set_aside(number, reason)] = None
            else:
                reasons[reason] = None
    return tuple(sorted(reasons, key=lambda reason: REASONS.index(type(reason))))


def _set_aside(number: int, reason: Reason) -> ConnectionFailing:
    facts = reason.facts()
    ages = [
        value for key, value in facts.items() if key in ("age_s", "silent_s") and isinstance(value, float)
    ]
    count = facts.get("count", 1)
    return ConnectionFailing(number, reason.name, count if isinstance(count, int) else 1, ages[0])


def _counters(parts: Iterable[CountersSnapshot]) -> CountersSnapshot:
    found = list(parts)
    return CountersSnapshot(
        **{field.name: sum(getattr(each, field.name) for each in found) for field in fields(CountersSnapshot)}
    )


def _subscription(parts: tuple[SubscriptionSnapshot, ...]) -> SubscriptionSnapshot:
    durations = [part.durations for part in parts]
    return replace(
        parts[0],
        dispatched=sum(part.dispatched for part in parts),
        stale=sum(part.stale for part in parts),
        workers=sum(part.workers for part in parts),
        workers_busy=sum(part.workers_busy for part in parts),
        durations=DurationsSnapshot(
            tuple(map(sum, zip(*(each.counts for each in durations), strict=True))),
            sum(each.total_s for each in durations),
        ),
    )


def _failures(parts: Iterable[FailureSnapshot]) -> tuple[FailureSnapshot, ...]:
    counts: Counter[tuple[str, str]] = Counter()
    for each in parts:
        key = each.subscription, each.error
        if key not in counts and len(counts) >= FAILURE_KINDS_MAX:
            key = each.subscription, OTHER_FAILURES
        counts[key] += each.count
    return tuple(FailureSnapshot(name, error, count) for (name, error), count in counts.items())


def _owner(first: OwnerSnapshot, parts: Sequence[OwnerSnapshot]) -> OwnerSnapshot:
    """Times and rebalances of all; librdkafka's statistics of the first."""
    spent: dict[str, float] = {}
    rebalances: Counter[str] = Counter()
    took_s: dict[str, float | None] = {}
    for each in parts:
        for activity, seconds in each.loop_s:
            spent[activity] = spent.get(activity, 0.0) + seconds
        for one in each.rebalances:
            rebalances[one.cause] += one.count
            took_s[one.cause] = None if one.total_s is None else (took_s.get(one.cause) or 0.0) + one.total_s
    return OwnerSnapshot(
        loop_s=tuple(spent.items()),
        rebalances=tuple(
            RebalanceSnapshot(cause, count, took_s[cause]) for cause, count in rebalances.items()
        ),
        statistics=first.statistics,
        hot_keys=together([each.hot_keys for each in parts]),
    )
