"""A tenure: one epoch of one partition on this member, from assign (or seek) to revoke, loss or seek.

Holds what is known of it; decides nothing but what follows from its own numbers. Records carry their tenure, so that a
late result, acknowledgement or commit names the epoch it belongs to.

Threads: `topic`, `partition`, `epoch` never change; the owner writes `open`, workers read it just before they start a
record. Everything else is the owner's alone.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Literal

from headrace._core.states import PHASE_TRANSITIONS, Phase, PhaseTrigger, advance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace._core.lanes import Lanes
    from headrace._core.ledger import Ledger
    from headrace.ports import TopicPartition
    from headrace.records import Record, Source

# Why a partition is not being fetched: bits, so that a user's pause and ours do not undo each other.
PAUSED_BY_FLOW = 1
PAUSED_BY_USER = 2
PAUSED_BY_STOP = 4
PAUSED_BY_QUIET = 8
PAUSE_NAMES = {
    PAUSED_BY_FLOW: "flow",
    PAUSED_BY_USER: "user",
    PAUSED_BY_STOP: "stop",
    PAUSED_BY_QUIET: "quiet",
}

Reason = Literal[
    "queued_records_max",
    "lookahead_records_max",
    "partition_bytes_max",
    "parked_records_max",
    "total_bytes_max",
]
"""Why a partition takes in no more: the budget it has reached."""

ARRIVAL_RECORDS = 32
"""Of every so many records of a delivery the first is asked for its timestamp: to ask each would cost 2% of a fast handler."""

CommitMark = tuple[int, int]
"""Committable offset and count of finished records: two equal marks would write the same commit."""


class Tenure:
    """One epoch of one partition. See the module's docstring for who may touch what."""

    __slots__ = (
        "_acknowledge",
        "arrivals",
        "bytes_held",
        "confirmed",
        "confirmed_mark",
        "dispatched",
        "dropped",
        "early_acks",
        "early_delivered",
        "epoch",
        "gated",
        "keeps_position_only",
        "key",
        "lanes",
        "leader_epoch",
        "ledger",
        "letters",
        "map_chars",
        "map_refused",
        "open",
        "parked",
        "partition",
        "paused",
        "paused_for",
        "phase",
        "queued",
        "ready_at",
        "rewinds",
        "settling",
        "start_resolved",
        "subscription",
        "topic",
        "unacked",
    )

    def __init__(
        self,
        key: TopicPartition,
        epoch: int,
        subscription: int,
        ledger: Ledger,
        lanes: Lanes,
        acknowledge: Callable[[Record[Any, Any]], bool],
        *,
        keeps_position_only: bool = False,
    ) -> None:
        self.key = key
        self.topic, self.partition = key
        self.epoch = epoch
        self.open = True
        self._acknowledge = acknowledge
        self.subscription = subscription
        self.ledger = ledger
        self.lanes = lanes
        self.phase = Phase.ACTIVE
        # Weaker guarantees commit what was delivered, finished or not.
        self.keeps_position_only = keeps_position_only
        self.paused = 0
        # Which budget stopped intake, while PAUSED_BY_FLOW.
        self.paused_for: Reason | None = None
        self.leader_epoch: int | None = None
        # Counts of unfinished records by where they are; with the lanes' own they sum to ledger.pending.
        self.dispatched = 0
        self.parked = 0
        self.settling = 0
        self.unacked = 0
        self.bytes_held = 0
        # Acknowledged while their handler still ran; by offset.
        self.early_acks: set[int] = set()
        # What a handler produced was acknowledged before its own outcome came in; by sequence number.
        self.early_delivered: dict[int, Exception | None] = {}
        # Why records were given up whose dead letter is on its way; by sequence number.
        self.letters: dict[int, BaseException] = {}
        # (sequence number, moment, timestamp in ms if it has one) of records that begin a run of a delivery, as long as
        # not all of the run is finished: gives the oldest age.
        self.arrivals: deque[tuple[int, float, int | None]] = deque()
        # Delivered but not to be started before their own commit is confirmed (at_most_once): (end offset, records).
        self.gated: deque[tuple[int, list[Record[Any, Any]]]] = deque()
        # In its subscription's round-robin of tenures with ready records.
        self.queued = False
        self.ready_at: float | None = None
        # What the broker last confirmed; None if nothing is committed.
        self.confirmed: int | None = None
        self.confirmed_mark: CommitMark | None = None
        self.map_refused = False
        # Length of the offset map in the last commit that was sent.
        self.map_chars = 0
        # Whether it began where there was no commit: at an offset that was looked up.
        self.start_resolved = False
        # Whether the broker may hold a later offset that is to be overwritten: after a seek, or a reset to before it.
        self.rewinds = False
        # Delivered records that will not be started though the position has passed them: it must not be committed.
        self.dropped = 0

    def acknowledge(self, record: Record[Any, Any]) -> bool:
        """Any thread: pass an acknowledgement on to the owner."""
        return self._acknowledge(record)

    def enter(self, trigger: PhaseTrigger) -> None:
        """Move to the next phase; raises `InvalidTransition` for what the table does not know."""
        self.phase = advance(PHASE_TRANSITIONS, self.phase, trigger)

    @property
    def runnable(self) -> int:
        """Unfinished records that are not set aside: what the queue budget counts."""
        return self.ledger.pending - self.parked - self.settling - self.unacked - self.lanes.held

    @property
    def waiting(self) -> int:
        """Unfinished records that were not dispatched and are not set aside."""
        return self.runnable - self.dispatched

    @property
    def startable(self) -> bool:
        """Whether its records may be started: while active and not quiet; to the end where their offsets are committed."""
        if self.keeps_position_only:
            return self.phase is not Phase.CLOSED
        return self.phase is Phase.ACTIVE and not self.paused & PAUSED_BY_QUIET

    @property
    def quiet(self) -> bool:
        """Whether nothing of it is to be started until the app is told to go on."""
        return self.paused & PAUSED_BY_QUIET != 0

    @property
    def drained(self) -> bool:
        """Whether nothing is left to wait for before it closes: parked retries are never waited for."""
        if self.dispatched or self.settling or self.gated:
            return False
        return not (self.keeps_position_only and self.waiting > self.dropped)

    def drop_gated(self, but_to: int | None = None) -> None:
        """Records that wait for their commit will be read by the next owner: they are not to be committed any more.

        But for those whose commit, to the offset `but_to`, was sent already.
        """
        kept = [entry for entry in self.gated if but_to is not None and entry[0] <= but_to]
        self.dropped += sum(len(records) for _, records in self.gated) - sum(
            len(records) for _, records in kept
        )
        self.gated = deque(kept)

    def arrived(self, first: int, sources: Sequence[Source], now: float) -> None:
        """Note when a delivery came, whose first record has this sequence number, and how old its records are."""
        for index in range(0, len(sources), ARRIVAL_RECORDS):
            kind, timestamp_ms = sources[index].timestamp()
            self.arrivals.append((first + index, now, timestamp_ms if kind else None))

    def oldest_timestamp_ms(self) -> int | None:
        """Timestamp of the first unfinished record, or of one at most `ARRIVAL_RECORDS` before it; None if there is none."""
        return self.arrivals[0][2] if self.oldest_since() is not None else None

    def oldest_since(self) -> float | None:
        """When the first unfinished record was delivered, or None with nothing pending."""
        arrivals = self.arrivals
        head = self.ledger.first_unfinished_seq
        while len(arrivals) > 1 and arrivals[1][0] <= head:
            arrivals.popleft()
        if not self.ledger.pending:
            arrivals.clear()
            return None
        return arrivals[0][1] if arrivals else None

    def __repr__(self) -> str:
        return f"<Tenure {self.topic}[{self.partition}] epoch {self.epoch} {self.phase.value}>"
