"""Which partitions are ours, since when, and how they come and go; and what they take in.

Opens a tenure at assign and seek, closes it at revoke, loss and seek; every opening raises the epoch and nothing else
does. Invariants: after a close has returned nothing of that tenure is started or committed; records that never started
are dropped (their new owner reads them); handlers that still run keep their lanes, so that a key which comes back on
this member waits for them.

Owner thread only.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import count, repeat
from typing import TYPE_CHECKING, Any

from headrace._core import notices
from headrace._core.effects import Cancel, Recall, Seek
from headrace._core.lanes import DONE, Lanes
from headrace._core.ledger import Ledger
from headrace._core.offset_map import Replay, decode
from headrace._core.states import Phase, PhaseTrigger
from headrace._core.tenure import PAUSED_BY_QUIET, PAUSED_BY_STOP, PAUSED_BY_USER, Tenure
from headrace.records import Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace._core.assignments import Reason
    from headrace._core.board import Board
    from headrace._core.events import Assigned, Fetched, SeekAsked, Start
    from headrace._core.finished import FinishedMap
    from headrace.ports import TopicPartition
    from headrace.records import Source


CLOSED_FOR: Mapping[PhaseTrigger, Reason] = {
    PhaseTrigger.REVOKE_ENDED: "revoked",
    PhaseTrigger.LOST: "lost",
    PhaseTrigger.SEEK: "sought",
}
"""What ends a tenure, in the words of `AssignmentsChange`."""


class Custody:
    """The part of the engine that holds partitions. See the module's docstring."""

    __slots__ = ("_board",)

    def __init__(self, board: Board) -> None:
        self._board = board

    def fetched(self, event: Fetched, now: float) -> None:
        """Take in what a poll brought."""
        board = self._board
        for topic, partition, sources in event.groups:
            tenure = board.tenures.get((topic, partition))
            if tenure is None or tenure.phase is not Phase.ACTIVE:
                board.counters.refetched += len(sources)
                continue
            self._take_in(tenure, sources, now)

    def assigned(self, event: Assigned, now: float) -> None:
        """These partitions are ours; everything needed to begin was read before."""
        board = self._board
        board.commits.rebalanced()
        if board.stopping:
            return
        for start in event.starts:
            key = (start.topic, start.partition)
            subscription = board.routing.subscription_of(start.topic)
            if subscription is None:
                continue
            old = board.tenures.get(key)
            if old is not None:  # A revoke we were not told of: as if lost.
                self._close(old, PhaseTrigger.LOST)
            restored = self._restored(start)
            tenure = self._open(key, subscription, start.offset, restored)
            tenure.confirmed = start.committed
            tenure.rewinds = start.committed is not None and start.offset < start.committed
            tenure.leader_epoch = start.leader_epoch
            tenure.start_resolved = start.committed is None
            if start.committed == start.offset:
                tenure.confirmed_mark = (start.offset, 0)
            else:
                # A start that was resolved, not committed, is committed at once: else an idle partition would be
                # resolved anew at every rebalance, and "latest" would skip what came in between.
                board.commits.hurry(now)
            if key in board.user_paused:
                board.pause(tenure, PAUSED_BY_USER)
            if board.quiet:
                board.pause(tenure, PAUSED_BY_QUIET)
            board.counters.assigned += 1
            board.tell(
                notices.PartitionAssigned(
                    *key,
                    epoch=tenure.epoch,
                    offset=start.offset,
                    committed=start.committed,
                    restored=0 if restored is None else len(restored),
                )
            )

    def revoke_began(self, partitions: Sequence[TopicPartition]) -> None:
        """Stop intake of these and take unstarted records back; running handlers go on."""
        self._board.commits.rebalanced()
        tenures = self._held(partitions)
        for tenure in tenures:
            tenure.enter(PhaseTrigger.REVOKE_BEGAN)
            tenure.drop_gated()
        self._recall(tenures)

    def revoke_ended(self, partitions: Sequence[TopicPartition], now: float) -> None:
        """Commit what is finished, then close: by now everything that could be waited for was taken in."""
        board = self._board
        tenures = self._held(partitions)
        if not tenures:
            return
        board.effects += board.commits.farewell(tenures, now)
        for tenure in tenures:
            board.counters.revoked += 1
            board.counters.abandoned += tenure.dispatched
            board.tell(
                notices.PartitionRevoked(
                    *tenure.key,
                    epoch=tenure.epoch,
                    committable=tenure.ledger.committable,
                    abandoned=tenure.dispatched,
                    unfinished=tenure.ledger.pending,
                )
            )
            self._close(tenure, PhaseTrigger.REVOKE_ENDED)

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """These are somebody else's already: no commit."""
        board = self._board
        board.commits.rebalanced()
        tenures = self._held(partitions)
        for tenure in tenures:
            board.counters.lost += 1
            board.tell(
                notices.PartitionLost(*tenure.key, epoch=tenure.epoch, unfinished=tenure.ledger.pending)
            )
            board.commits.forget(tenure)
            self._close(tenure, PhaseTrigger.LOST)

    def sought(self, event: SeekAsked, now: float) -> None:
        """Move a partition: a new tenure at the target, which is committed at once."""
        board = self._board
        key = (event.topic, event.partition)
        tenure = board.tenures.get(key)
        if tenure is None or tenure.phase is not Phase.ACTIVE:
            return
        board.commits.forget(tenure)
        paused, subscription = tenure.paused, tenure.subscription
        confirmed = tenure.confirmed
        # Running handlers end in peace, unlike at a revoke: nobody else works on these keys.
        self._close(tenure, PhaseTrigger.SEEK, cancel=False)
        fresh = self._open(key, subscription, event.offset, None)
        fresh.rewinds = True
        fresh.confirmed = confirmed if confirmed is not None and confirmed <= event.offset else None
        board.counters.seeks += 1
        board.effects.append(Seek(event.topic, event.partition, event.offset))
        if kept := paused & (PAUSED_BY_USER | PAUSED_BY_QUIET):
            board.pause(fresh, kept)
        elif paused:  # By flow: the fresh tenure holds nothing.
            fresh.paused = paused
            board.unpause(fresh, paused)
        board.commits.hurry(now)
        board.tell(notices.PartitionSought(*key, offset=event.offset, epoch=fresh.epoch, reason=event.reason))

    def stop_began(self) -> None:
        """The app stops: no intake, unstarted records back; running handlers go on."""
        board = self._board
        board.stopping = True
        tenures = list(board.tenures.values())
        for tenure in tenures:
            tenure.enter(PhaseTrigger.STOP)
            # What is being committed now will be nobody's otherwise: it is still handled.
            tenure.drop_gated(board.commits.on_its_way(tenure))
            board.pause(tenure, PAUSED_BY_STOP)
        self._recall(tenures)

    def pause_asked(self, partitions: Sequence[TopicPartition]) -> None:
        """The user pauses these; it holds across rebalances until the user resumes."""
        for key in partitions:
            self._board.user_paused.add(key)
            tenure = self._board.tenures.get(key)
            if tenure is not None:
                self._board.pause(tenure, PAUSED_BY_USER)

    def resume_asked(self, partitions: Sequence[TopicPartition]) -> None:
        """The user resumes these."""
        for key in partitions:
            self._board.user_paused.discard(key)
            tenure = self._board.tenures.get(key)
            if tenure is not None:
                self._board.unpause(tenure, PAUSED_BY_USER)

    def quiet_asked(self) -> None:
        """Nothing new: no intake, unstarted records back, where they wait; running handlers go on, and so do commits."""
        board = self._board
        board.quiet = True
        tenures = [tenure for tenure in board.tenures.values() if tenure.phase is Phase.ACTIVE]
        for tenure in tenures:
            board.pause(tenure, PAUSED_BY_QUIET)
        self._recall(tenures)

    def quiet_ended(self, now: float) -> None:
        """Go on with what waits, and take in again."""
        board = self._board
        board.quiet = False
        for tenure in board.tenures.values():
            board.unpause(tenure, PAUSED_BY_QUIET)
            board.workloads[tenure.subscription].enqueue(tenure, now)

    def positions_read(self, positions: Sequence[tuple[str, int, int]]) -> None:
        """Trailing transaction markers moved the client's position beyond the last record."""
        for topic, partition, position in positions:
            tenure = self._board.tenures.get((topic, partition))
            if tenure is not None and not tenure.ledger.pending and not tenure.gated:
                tenure.ledger.advance_position(position)

    def release_gated(self, tenure: Tenure, now: float) -> None:
        """at_most_once: what is committed may start, by a commit of this epoch: an older one may be overwritten yet."""
        mark = tenure.confirmed_mark
        released = False
        while tenure.gated and mark is not None and tenure.gated[0][0] <= mark[0]:
            tenure.lanes.add(tenure.gated.popleft()[1])
            released = True
        if released:
            self._board.workloads[tenure.subscription].enqueue(tenure, now)
        if tenure.gated and tenure.phase is Phase.DRAINING and self._board.commits.on_its_way(tenure) is None:
            tenure.drop_gated()

    def _take_in(self, tenure: Tenure, sources: Sequence[Source], now: float) -> None:
        board = self._board
        ledger = tenure.ledger
        offsets: list[int] = [source.offset() for source in sources]  # type: ignore[misc] # a fetched record has one
        if offsets[0] < ledger.position:  # Fetched again after a pause or a late seek.
            fresh = [
                source for source, offset in zip(sources, offsets, strict=True) if offset >= ledger.position
            ]
            board.counters.refetched += len(sources) - len(fresh)
            if fresh:
                self._take_in(tenure, fresh, now)
            return
        if ledger.restoring:
            covered = sources[: bisect_left(offsets, ledger.restored_until)]
            if _rewritten(covered, tenure.leader_epoch):
                ledger.forget_restored()
        restoring = ledger.restoring
        first = ledger.deliver(offsets)
        board.counters.fetched += len(offsets)
        tenure.arrived(first, sources, now)
        held = sum(map(len, sources))
        tenure.bytes_held += held
        board.bytes_held += held
        if not ledger.restoring:
            tenure.leader_epoch = sources[-1].leader_epoch()
        keys = [source.key() for source in sources]
        # `map` over the class: the loop over what is made per record runs in C.
        records: list[Record[Any, Any]] = list(
            map(Record, sources, repeat(tenure), offsets, keys, count(first))  # type: ignore[arg-type] # mypy cannot solve K and V here
        )
        if restoring:
            records = self._drop_restored(tenure, records, first)
        if board.subscriptions[tenure.subscription].guarantee == "at_most_once":
            tenure.gated.append((ledger.position, records))
            board.commits.hurry(now)
        else:
            tenure.lanes.add(records)
            board.workloads[tenure.subscription].enqueue(tenure, now)
        board.regulate(tenure)

    def _drop_restored(
        self, tenure: Tenure, records: list[Record[Any, Any]], first: int
    ) -> list[Record[Any, Any]]:
        """Records that the offset map calls finished are not handled again."""
        flags = tenure.ledger.already_finished(first, len(records))
        if not flags:
            return records
        done = [record for record, flag in zip(records, flags, strict=True) if flag]
        for record in done:
            record._state = DONE
        freed = sum(len(record._source) for record in done)
        tenure.bytes_held -= freed
        self._board.bytes_held -= freed
        self._board.counters.restored += len(done)
        self._board.counters.finished += len(done)
        return [record for record, flag in zip(records, flags, strict=True) if not flag]

    def _restored(self, start: Start) -> FinishedMap | None:
        if start.committed is None or start.offset != start.committed or not start.metadata:
            return None
        decoded = decode(start.metadata, committed=start.committed, leader_epoch=start.leader_epoch)
        if isinstance(decoded, Replay):
            self._board.tell(notices.OffsetMapRejected(start.topic, start.partition, reason=str(decoded)))
            return None
        return decoded

    def _open(
        self, key: TopicPartition, subscription: int, offset: int, restored: FinishedMap | None
    ) -> Tenure:
        board = self._board
        board.epoch += 1
        settings = board.subscriptions[subscription]
        lanes = board.lanes.pop(key, None) or Lanes(settings.order_by)
        tenure = Tenure(
            key,
            board.epoch,
            subscription,
            Ledger(offset, restored),
            lanes,
            board.acknowledge,
            keeps_position_only=settings.guarantee != "at_least_once",
        )
        board.tenures[key] = tenure
        board.opened.append((*key, board.epoch))
        return tenure

    def _close(self, tenure: Tenure, trigger: PhaseTrigger, *, cancel: bool = True) -> None:
        board = self._board
        # First of all: a worker looks at this just before it starts a record.
        tenure.open = False
        tenure.enter(trigger)
        workload = board.workloads[tenure.subscription]
        workload.dispatched -= tenure.dispatched
        workload.stale += tenure.dispatched
        board.bytes_held -= tenure.bytes_held
        tenure.bytes_held = 0
        board.counters.dropped += tenure.ledger.pending
        board.parking.forget(tenure)
        board.squeezed.pop(tenure, None)
        board.brimming.pop(tenure, None)
        board.closed.append((*tenure.key, tenure.epoch))
        board.closed_for = CLOSED_FOR[trigger]
        tenure.lanes.clear()
        if len(tenure.lanes):
            # Handlers still run, of this tenure or of one before it: a key that comes back waits for them.
            board.lanes[tenure.key] = tenure.lanes
        if tenure.dispatched:
            board.effects.append(Recall(tenure.subscription, [tenure]))
            if cancel:
                board.effects.append(Cancel(tenure.subscription, [tenure]))
        del board.tenures[tenure.key]

    def _recall(self, tenures: Sequence[Tenure]) -> None:
        by_subscription: dict[int, list[Tenure]] = {}
        for tenure in tenures:
            # Weaker guarantees have committed these already: to take them back would be to lose them.
            if tenure.dispatched and not tenure.keeps_position_only:
                by_subscription.setdefault(tenure.subscription, []).append(tenure)
        for subscription, group in by_subscription.items():
            self._board.effects.append(Recall(subscription, group))

    def _held(self, partitions: Sequence[TopicPartition]) -> list[Tenure]:
        tenures = self._board.tenures
        return [tenures[key] for key in partitions if key in tenures]


def _rewritten(sources: Sequence[Source], map_epoch: int | None) -> bool:
    """Whether these offsets, of which the map speaks, were written after it: by a leader that had other records there.

    What lies behind the map may well be of a newer leader: every restart of a broker makes one.
    """
    if map_epoch is None:
        return False
    return any((source.leader_epoch() or 0) > map_epoch for source in sources)
