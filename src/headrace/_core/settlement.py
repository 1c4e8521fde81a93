"""What becomes of records that were handled: finished, tried again, dead-lettered, skipped, or given back.

Takes in the outcomes of handlers, dead letters, acknowledgements and produced records. Invariant: a record is marked
finished in its ledger only here and only once, after its handler returned (or it was given up), everything it
produced was acknowledged by the broker, and it was acknowledged by the user where that is asked for.

Owner thread only.
"""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from headrace._core import notices
from headrace._core.effects import ProduceDeadLetter, StopApp
from headrace._core.lanes import DISPATCHED, DONE, HELD, PARKED, READY, SETTLING, UNACKED, WAITING
from headrace._core.verdicts import STOPPING, DeadLetter, Retry, Skip, Stop, judge
from headrace.errors import DeadLetterFailed, ProduceFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace._core.board import Board
    from headrace._core.events import Acknowledged, DeadLettered, Delivered, Finished
    from headrace._core.tenure import Tenure
    from headrace.records import Record

_tenure_of = attrgetter("_tenure")
_sequence_of = attrgetter("_sequence")
_source_of = attrgetter("_source")

DEAD_LETTER_RETRY_S = 5.0
"""Pause before a dead letter is tried again: the producer has spent its own retries by then."""


class Settlement:
    """The part of the engine that settles records. See the module's docstring."""

    __slots__ = ("_board",)

    def __init__(self, board: Board) -> None:
        self._board = board

    def finished(self, event: Finished, now: float) -> None:
        """Outcomes of dispatched records."""
        board = self._board
        workload = board.workloads[event.subscription]
        workload.learn(event.started, event.busy_s, event.cpu_s, event.waits_s)
        workload.durations.add(event.started, event.busy_s, event.waits_s)
        board.counters.filtered += event.filtered
        touched: dict[Tenure, None] = {}
        for tenure, records in self._by_tenure(event.succeeded):
            self._take_from_executor(tenure, len(records))
            touched[tenure] = None
            if not tenure.open:
                self._stale(tenure, records, now)
            elif board.subscriptions[tenure.subscription].ack == "manual":
                self._handled_unacked(tenure, records)
            else:
                self._finish(tenure, records)
        board.counters.succeeded += len(event.succeeded) - event.filtered
        for record, error in event.failed:
            tenure = cast("Tenure", record._tenure)
            self._take_from_executor(tenure, 1)
            touched[tenure] = None
            self._failed(tenure, record, error, now)
        for record in event.awaiting:
            tenure = cast("Tenure", record._tenure)
            self._take_from_executor(tenure, 1)
            touched[tenure] = None
            self._await_produced(tenure, record, now)
        for tenure, records in self._by_tenure(event.returned):
            self._take_from_executor(tenure, len(records))
            touched[tenure] = None
            if tenure.open:
                tenure.lanes.put_back(records)
            else:
                self._stale(tenure, records, now)
        for tenure in touched:
            self._after(tenure, now)

    def acknowledged(self, event: Acknowledged, now: float) -> None:
        """`record.ack()` on a subscription with ack="manual"."""
        for record in event.records:
            tenure = cast("Tenure", record._tenure)
            if not tenure.open:
                self._board.counters.stale_acks += 1
            elif record._state == UNACKED:
                tenure.unacked -= 1
                record._state = DONE
                self._mark(tenure, [record])
            elif record._state in (READY, WAITING, HELD, DISPATCHED):
                # Its handler runs, or will run again: the record is finished with that.
                tenure.early_acks.add(record.offset)
            elif record._state == SETTLING and record._sequence not in tenure.letters:
                tenure.early_acks.add(record.offset)
            elif record._state == PARKED:
                self._unpark(tenure, record)
                tenure.lanes.resolve([record], DONE)
                self._mark(tenure, [record])
            self._after(tenure, now)

    def produced(self, event: Delivered, now: float) -> None:
        """The broker answered for all that a handler produced while it handled this record."""
        record = event.record
        tenure = cast("Tenure", record._tenure)
        if not tenure.open:
            return
        if record._state == DISPATCHED:  # The answer overtook the outcome of its handler.
            tenure.early_delivered[record._sequence] = event.error
        elif record._state == SETTLING:
            self._settle_produced(tenure, record, event.error, now)
            self._after(tenure, now)

    def dead_lettered(self, event: DeadLettered, now: float) -> None:
        """The broker answered for a dead letter: only its acknowledgement finishes the record."""
        board, record = self._board, event.record
        tenure = cast("Tenure", record._tenure)
        if not tenure.open or record._state != SETTLING:
            return
        if event.error is None:
            tenure.settling -= 1
            board.counters.dead_lettered += 1
            why = tenure.letters.pop(record._sequence)
            tenure.lanes.resolve([record], DONE)
            self._mark(tenure, [record])
            board.tell(
                notices.RecordDeadLettered(
                    *tenure.key, offset=record.offset, attempts=record.attempt, error=_describe(why)
                )
            )
            self._after(tenure, now)
            return
        settings = board.subscriptions[tenure.subscription]
        board.tell(
            notices.DeadLetterRefused(
                *tenure.key, offset=record.offset, error=str(event.error), permanent=event.permanent
            )
        )
        if event.permanent and settings.on_dead_letter_failure == "stop":
            # Held for good, and nothing that a drain should wait for.
            tenure.settling -= 1
            tenure.parked += 1
            tenure.letters.pop(record._sequence, None)
            record._state = PARKED
            board.effects.append(
                StopApp(DeadLetterFailed(tenure.topic, settings.dead_letter or "", str(event.error)))
            )
            return
        board.parking.park(record, now + DEAD_LETTER_RETRY_S)

    def due(self, now: float) -> None:
        """Retries whose moment has come."""
        for record in self._board.parking.pop_due(now):
            tenure = cast("Tenure", record._tenure)
            if not tenure.open:
                continue
            if record._state == SETTLING:
                self._produce_letter(tenure, record, tenure.letters[record._sequence])
            elif record._state == PARKED:
                tenure.parked -= 1
                tenure.lanes.make_ready(record)
                self._after(tenure, now)

    def _by_tenure(
        self, records: Sequence[Record[Any, Any]]
    ) -> Sequence[tuple[Tenure, Sequence[Record[Any, Any]]]]:
        """The records of each tenure, in their order: what is done for a tenure is then done once."""
        if not records:
            return []
        # Chunks are mostly of one tenure; what many threads or a loop answered together is of all of them in turn.
        if len({*map(_tenure_of, records)}) == 1:
            return [(cast("Tenure", records[0]._tenure), records)]
        gathered: dict[Tenure, list[Record[Any, Any]]] = {}
        for tenure, run in groupby(records, key=_tenure_of):
            gathered.setdefault(cast("Tenure", tenure), []).extend(run)
        return list(gathered.items())

    def _take_from_executor(self, tenure: Tenure, count: int) -> None:
        workload = self._board.workloads[tenure.subscription]
        tenure.dispatched -= count
        if tenure.open:
            workload.dispatched -= count
        else:
            workload.stale -= count

    def _stale(self, tenure: Tenure, records: Sequence[Record[Any, Any]], now: float) -> None:
        """Handlers that outlived their tenure ended. Their lanes may have new records behind them."""
        board = self._board
        board.counters.stale_results += len(records)
        tenure.lanes.drop(records)
        current = board.tenures.get(tenure.key)
        if current is not None:
            board.workloads[current.subscription].enqueue(current, now)
        elif not len(tenure.lanes) and board.lanes.get(tenure.key) is tenure.lanes:
            # Handlers of other epochs of this partition may still run: they share the lanes.
            del board.lanes[tenure.key]

    def _finish(self, tenure: Tenure, records: Sequence[Record[Any, Any]]) -> None:
        tenure.lanes.resolve(records, DONE)
        self._mark(tenure, records)

    def _mark(self, tenure: Tenure, records: Sequence[Record[Any, Any]]) -> None:
        """The one place where records become finished."""
        board = self._board
        sequence = list(map(_sequence_of, records))
        run = range(sequence[0], sequence[0] + len(sequence)) if sequence else range(0)
        # Usually a chunk is one run, which the ledger marks at a tenth of the cost.
        newly = tenure.ledger.finish(run if sequence == list(run) else sequence)
        board.counters.finished += newly
        board.commits.finished_since += newly
        freed = sum(map(len, map(_source_of, records)))
        tenure.bytes_held -= freed
        board.bytes_held -= freed

    def _handled_unacked(self, tenure: Tenure, records: Sequence[Record[Any, Any]]) -> None:
        tenure.lanes.resolve(records, UNACKED)
        early = [record for record in records if record.offset in tenure.early_acks]
        tenure.unacked += len(records) - len(early)
        for record in early:
            tenure.early_acks.discard(record.offset)
            record._state = DONE
        self._mark(tenure, early)

    def _failed(self, tenure: Tenure, record: Record[Any, Any], error: BaseException, now: float) -> None:
        board = self._board
        if not tenure.open:
            self._stale(tenure, [record], now)
            if isinstance(error, STOPPING):
                self._stop(tenure, record, error)
            return
        if record._previous is not None and not tenure.keeps_position_only:
            # An earlier record of its lane failed with it, in one batch: it waits for that one and is handled again.
            tenure.lanes.put_back([record])
            return
        board.count_failure(tenure.subscription, error)
        acked = record.offset in tenure.early_acks
        tenure.early_acks.discard(record.offset)
        # An acknowledgement covers its attempt, not outputs that were never written, be that known late or at once.
        if acked and not isinstance(error, ProduceFailed):
            self._finish(tenure, [record])
            if isinstance(error, STOPPING):
                self._stop(tenure, record, error)
            return
        settings = board.subscriptions[tenure.subscription]
        match judge(settings, record, error, board.jitter()):
            case Retry(delay_s, counted):
                tenure.lanes.hold(record, PARKED)
                tenure.parked += 1
                board.counters.retried += 1
                board.tell(
                    notices.RecordRetried(
                        *tenure.key,
                        offset=record.offset,
                        attempt=record.attempt,
                        delay_s=delay_s,
                        error=_describe(error),
                    )
                )
                if counted:
                    record.attempt += 1
                board.parking.park(record, now + delay_s)
            case DeadLetter():
                tenure.lanes.hold(record, SETTLING)
                tenure.settling += 1
                self._produce_letter(tenure, record, error)
            case Skip():
                board.counters.skipped += 1
                board.tell(
                    notices.RecordSkipped(
                        *tenure.key, offset=record.offset, attempts=record.attempt, error=_describe(error)
                    )
                )
                self._finish(tenure, [record])
            case Stop(fatal):
                # Held for good: nothing behind it in its lane may start while the app stops.
                tenure.lanes.hold(record, PARKED)
                tenure.parked += 1
                board.effects.append(StopApp(fatal))

    def _stop(self, tenure: Tenure, record: Record[Any, Any], error: BaseException) -> None:
        verdict = judge(self._board.subscriptions[tenure.subscription], record, error, 0.0)
        if isinstance(verdict, Stop):
            self._board.effects.append(StopApp(verdict.error))

    def _produce_letter(self, tenure: Tenure, record: Record[Any, Any], error: BaseException) -> None:
        tenure.letters[record._sequence] = error
        self._board.effects.append(ProduceDeadLetter(tenure.subscription, record, error))

    def _await_produced(self, tenure: Tenure, record: Record[Any, Any], now: float) -> None:
        if not tenure.open:
            self._stale(tenure, [record], now)
            return
        self._board.counters.succeeded += 1
        tenure.lanes.hold(record, SETTLING)
        tenure.settling += 1
        if record._sequence in tenure.early_delivered:
            self._settle_produced(tenure, record, tenure.early_delivered.pop(record._sequence), now)

    def _settle_produced(
        self, tenure: Tenure, record: Record[Any, Any], error: Exception | None, now: float
    ) -> None:
        tenure.settling -= 1
        if error is None:
            if self._board.subscriptions[tenure.subscription].ack == "manual":
                self._handled_unacked(tenure, [record])
            else:
                self._finish(tenure, [record])
        else:
            tenure.early_acks.discard(record.offset)  # Void, as where it was known at once.
            record._state = DISPATCHED  # Back to where a failure is judged.
            self._failed(tenure, record, error, now)

    def _unpark(self, tenure: Tenure, record: Record[Any, Any]) -> None:
        tenure.parked -= 1
        record._state = READY  # Its entry in the parking lot is passed over when due.

    def _after(self, tenure: Tenure, now: float) -> None:
        if tenure.open:
            self._board.workloads[tenure.subscription].enqueue(tenure, now)
            self._board.regulate(tenure)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]
