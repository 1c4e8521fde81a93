"""What the runtime looked like at one moment: immutable values that any thread may read at any rate.

Made whole by the owner thread and swapped in whole; a reader can hold one for ever and it stays true of its `as_of`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING

from headrace._core.durations import DurationsSnapshot
from headrace._core.tenure import PAUSE_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace._core.board import Board
    from headrace._core.tenure import Tenure


_PAUSED = tuple(
    tuple(name for bit, name in PAUSE_NAMES.items() if bits & bit) for bits in range(2 * max(PAUSE_NAMES))
)
"""Names of the reasons by their bits together."""


@dataclass(frozen=True, slots=True)
class PartitionSnapshot:
    """One partition of ours. Counts are of records; `delivered` and `finished` since its epoch began.

    delivered = finished + waiting + in_flight + parked + held + settling + unacked.
    committable: offset of the first record not known finished. committed: what the broker confirmed, None if nothing.
    in_flight: given to workers. parked: wait for a retry. held: wait behind a parked record of their key. settling:
    handled, their dead letter or what they produced is unacknowledged. unacked: wait for `record.ack()`.
    oldest_age_s: how long ago the first unfinished record was delivered, None with nothing pending. oldest_timestamp_ms:
    its own timestamp, or that of a record up to 31 before it; None without one. map_chars: of the last commit's offset map.
    """

    topic: str
    partition: int
    epoch: int
    phase: str
    delivered: int
    finished: int
    waiting: int
    in_flight: int
    parked: int
    held: int
    settling: int
    unacked: int
    position: int
    committable: int
    committed: int | None
    bytes_held: int
    oldest_age_s: float | None
    paused: tuple[str, ...]
    oldest_timestamp_ms: int | None = None
    map_chars: int = 0


@dataclass(frozen=True, slots=True)
class CountersSnapshot:
    """Totals since the connection started; see `headrace._core.board.Counters`.

    fetched = finished + dropped + what is unfinished in the partitions.
    """

    fetched: int = 0
    finished: int = 0
    dropped: int = 0
    restored: int = 0
    succeeded: int = 0
    filtered: int = 0
    skipped: int = 0
    dead_lettered: int = 0
    failed: int = 0
    retried: int = 0
    stale_results: int = 0
    stale_acks: int = 0
    refetched: int = 0
    assigned: int = 0
    revoked: int = 0
    lost: int = 0
    abandoned: int = 0
    pauses: int = 0
    seeks: int = 0
    commits_sent: int = 0
    commits_confirmed: int = 0
    commits_refused: int = 0


@dataclass(frozen=True, slots=True)
class SubscriptionSnapshot:
    """The work of one subscription: records given to its workers, those of them whose tenure is over, and busy workers.

    durations: how long its handlers took.
    """

    name: str
    dispatched: int
    stale: int
    workers: int
    workers_busy: int
    chunk_records: int
    cost_s: float
    durations: DurationsSnapshot = field(default_factory=DurationsSnapshot)


@dataclass(frozen=True, slots=True)
class FailureSnapshot:
    """How often tries of a subscription failed with errors of one class, by its name, since the app started."""

    subscription: str
    error: str
    count: int


@dataclass(frozen=True, slots=True)
class EngineSnapshot:
    """One connection's engine at one moment."""

    partitions: tuple[PartitionSnapshot, ...] = ()
    counters: CountersSnapshot = field(default_factory=CountersSnapshot)
    subscriptions: tuple[SubscriptionSnapshot, ...] = ()
    commit_state: str = "idle"
    commit_confirmed_age_s: float | None = None
    failures: tuple[FailureSnapshot, ...] = ()


def take_snapshot(
    board: Board, busy_workers: Sequence[int], now: float, last: Sequence[PartitionSnapshot] = ()
) -> EngineSnapshot:
    """Copy the numbers out. Work is in proportion to partitions, not records.

    last: of the snapshot before. A partition at rest that did nothing since then gives the same object again.
    """
    commits, counts = board.commits, board.counters
    return EngineSnapshot(
        partitions=tuple(
            before if before is not None and _rests(tenure, before) else _partition(tenure, now)
            for tenure, before in zip_longest(board.tenures.values(), last[: len(board.tenures)])
        ),
        counters=CountersSnapshot(
            **{name: getattr(counts, name) for name in type(counts).__slots__},
            commits_sent=commits.sent,
            commits_confirmed=commits.confirmed,
            commits_refused=commits.refused,
        ),
        subscriptions=tuple(
            SubscriptionSnapshot(
                name=workload.settings.name,
                dispatched=workload.dispatched,
                stale=workload.stale,
                workers=workload.workers,
                workers_busy=busy,
                chunk_records=workload.chunk_records(),
                cost_s=workload.cost_s,
                durations=workload.durations.snapshot(),
            )
            for workload, busy in zip(board.workloads, busy_workers, strict=True)
        ),
        commit_state=commits.state.value,
        commit_confirmed_age_s=None if commits.confirmed_at is None else now - commits.confirmed_at,
        failures=tuple(
            FailureSnapshot(board.subscriptions[index].name, error, count)
            for (index, error), count in board.failures.items()
        ),
    )


def _rests(tenure: Tenure, before: PartitionSnapshot) -> bool:
    """Whether all of it would be the same, and nothing is unfinished, whose age would not.

    The ledger of an epoch only grows: with nothing pending now and then, equal positions mean that nothing came.
    """
    ledger = tenure.ledger
    position = ledger.position
    return (
        before.oldest_age_s is None
        and position == before.position
        and ledger.finished == before.delivered == ledger.delivered
        and tenure.epoch == before.epoch
        and tenure.partition == before.partition
        and tenure.confirmed == before.committed
        and tenure.map_chars == before.map_chars
        and tenure.bytes_held == before.bytes_held
        and tenure.phase.value == before.phase
        and _PAUSED[tenure.paused] == before.paused
        and tenure.topic == before.topic
    )


def _partition(tenure: Tenure, now: float) -> PartitionSnapshot:
    # In the order of the fields, since names cost a third more: a test compares each with its name.
    ledger, held = tenure.ledger, tenure.lanes.held
    delivered, finished = ledger.delivered, ledger.finished
    in_flight, parked, settling, unacked = tenure.dispatched, tenure.parked, tenure.settling, tenure.unacked
    since = tenure.oldest_since()
    return PartitionSnapshot(
        tenure.topic,
        tenure.partition,
        tenure.epoch,
        tenure.phase.value,
        delivered,
        finished,
        delivered - finished - in_flight - parked - held - settling - unacked,
        in_flight,
        parked,
        held,
        settling,
        unacked,
        ledger.position,
        ledger.committable,
        tenure.confirmed,
        tenure.bytes_held,
        None if since is None else now - since,
        _PAUSED[tenure.paused],
        None if since is None else tenure.arrivals[0][2],
        tenure.map_chars,
    )
