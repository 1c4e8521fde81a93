"""What one partition may commit: every delivered record, whether it is finished, and the offset that follows from it.

Decides the committable offset, and which records of a delivery a restored offset map already calls finished.
Refuses to know keys, lanes, time, retries, and whether a commit was sent or accepted: one ledger serves one partition
for one epoch, and is dropped with it.

Invariant: `committable` never passes a delivered record that is not finished (guarantee S1).

Only *delivered* offsets are tracked, since compaction and transaction markers leave gaps that can be observed but never
computed. Each delivered record gets a dense sequence number, so that "finished" is one byte in a bytearray and the head
advances with `find`, at C speed, whatever the order of completion. The technique is the ring of acknowledgement flags
known from TCP receivers, with a growing buffer trimmed from the front in place of the ring.
"""

from __future__ import annotations

import operator
from array import array
from typing import TYPE_CHECKING, Final

from headrace._core.finished import FinishedBeyond, FinishedMap

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# Below this many finished records in front, trimming costs more than the nine bytes a record it gives back.
_TRIM_RECORDS_MIN: Final = 4096
_RUN_BYTES: Final = 80  # of a restored map: two places in a tuple and two integers
_FINISHED: Final = b"\x01"
_UNFINISHED: Final = b"\x00"


class LedgerError(RuntimeError):
    """An invariant that guards a commit broke: a defect in Headrace. Stop the partition, commit nothing more of it.

    It is raised, not asserted, because `python -O` removes asserts and a wrong commit loses records for good.
    """


class Ledger:
    """The delivered records of one partition in one epoch. Not thread-safe: the owner thread alone touches it."""

    __slots__ = ("_base", "_done", "_finished", "_head", "_offsets", "_position", "_restored")

    def __init__(self, start: int, restored: FinishedMap | None = None) -> None:
        """Begin at `start`, the position consumption begins from, with what the previous owner's commit said."""
        if start < 0:
            raise LedgerError(f"a ledger starts at an offset of 0 or more, got {start}")
        if restored is not None and start < restored.base:
            raise LedgerError(
                f"the offset map is for {restored.base} and later, the ledger starts before it, at {start}"
            )
        self._offsets = array("q")
        self._done = bytearray()  # parallel to _offsets: 1 is finished
        self._base = 0  # sequence number of element 0 of both; rises as the finished front is trimmed
        self._head = 0  # index of the first unfinished element: everything before it is finished
        self._finished = 0
        self._position = start
        self._restored = None if restored is None else restored.beyond(start)

    def deliver(self, offsets: Sequence[int]) -> int:
        """Take in strictly increasing offsets; return the sequence number of the first, the others follow densely.

        Ask `already_finished` about the run before dispatching it: a restored map may have finished some of it.
        """
        first = self._base + len(self._done)
        if not offsets:
            return first
        if offsets[0] < self._position:
            raise LedgerError(f"offset {offsets[0]} was delivered below the position {self._position}")
        if not all(map(operator.lt, offsets, offsets[1:])):
            raise LedgerError(f"offsets {offsets[0]} to {offsets[-1]} were delivered out of order")
        self._offsets.extend(array("q", offsets))
        self._position = offsets[-1] + 1
        if self._restored is None:
            self._done += bytes(len(offsets))
            return first
        flags = self._restored.flags(offsets)
        self._done += flags
        self._finished += flags.count(_FINISHED)
        self._restored = self._restored.beyond(self._position)
        self._advance()
        return first

    def already_finished(self, first: int, count: int) -> bytes:
        """Return a byte per record of the run, 1 where it is finished; empty when none is, which is the usual case."""
        if count <= 0:
            return b""
        self._require_delivered(first)
        self._require_delivered(first + count - 1)
        flags = bytes(self._done[self._index(first) : self._index(first + count)])
        flags = _FINISHED * (count - len(flags)) + flags  # what was trimmed is finished
        return flags if _FINISHED in flags else b""

    def finish(self, seqs: Collection[int]) -> int:
        """Mark records finished, in any order; return how many were not finished before."""
        if isinstance(seqs, range) and seqs.step == 1:
            return self.finish_run(seqs.start, len(seqs))
        done = self._done
        base = self._base
        again = 0  # counted in place of the new ones, since there are next to none
        try:
            for seq in seqs:
                index = seq - base
                if index < 0 or done[index]:  # below 0 it would count from the end of the bytearray
                    again += 1
                    if seq < 0:
                        self._require_delivered(seq)
                else:
                    done[index] = 1
        except (IndexError, LedgerError):
            self._finished = base + done.count(_FINISHED)
            self._advance()
            raise LedgerError(f"one of {len(seqs)} finished records was never delivered") from None
        newly = len(seqs) - again
        self._finished += newly
        self._advance()
        return newly

    def finish_one(self, seq: int) -> bool:
        """Mark one record finished; return False if it was already."""
        return self.finish_run(seq, 1) == 1

    def finish_run(self, first: int, count: int) -> int:
        """Mark `count` records from `first` finished, at C speed; return how many were not finished before."""
        if count <= 0:
            return 0
        self._require_delivered(first)
        self._require_delivered(first + count - 1)
        start, stop = self._index(first), self._index(first + count)
        newly = self._done.count(_UNFINISHED, start, stop)
        self._done[start:stop] = _FINISHED * (stop - start)
        self._finished += newly
        self._advance()
        return newly

    def advance_position(self, position: int) -> None:
        """Note the client's position, which passes trailing transaction markers that are never delivered.

        Only a position that follows from the records delivered here may be told: not one that counts records fetched
        but not yet delivered, for with nothing pending the position is what is committed.
        """
        if position > self._position:
            self._position = position
            if self._restored is not None:
                self._restored = self._restored.beyond(position)

    def forget_restored(self) -> None:
        """Drop the rest of the restored map, so that what it covers is handled again.

        Due when a record that the map covers arrives with a newer leader epoch: its offset was given to another record.
        """
        self._restored = None

    @property
    def committable(self) -> int:
        """Offset of the first delivered record not finished, or the position when nothing is pending."""
        return self._offsets[self._head] if self._head < len(self._done) else self._position

    @property
    def position(self) -> int:
        """Offset of the next record to be delivered, as far as is known."""
        return self._position

    @property
    def delivered(self) -> int:
        """How many records were delivered, ever; also the next sequence number."""
        return self._base + len(self._done)

    @property
    def finished(self) -> int:
        """How many delivered records are finished, ever."""
        return self._finished

    @property
    def pending(self) -> int:
        """How many delivered records are not finished."""
        return self._base + len(self._done) - self._finished

    @property
    def span(self) -> int:
        """Records from the first unfinished to the last delivered, finished ones included: the look-ahead in use."""
        return len(self._done) - self._head

    @property
    def first_unfinished_seq(self) -> int:
        """Sequence number of the first unfinished record, or of the next delivery when nothing is pending."""
        return self._base + self._head

    @property
    def restoring(self) -> bool:
        """Whether a restored offset map still speaks of records that were not delivered again yet."""
        return self._restored is not None

    @property
    def restored_until(self) -> int:
        """First offset of which the restored map says nothing; the position without a map."""
        return self._position if self._restored is None else self._restored.horizon

    def is_finished(self, seq: int) -> bool:
        """Whether the record is finished."""
        self._require_delivered(seq)
        return seq < self._base or self._done[seq - self._base] == 1

    def offset_of(self, seq: int) -> int:
        """Return the offset of a record not before `first_unfinished_seq`: earlier ones may be forgotten."""
        self._require_delivered(seq)
        if seq < self._base:
            raise LedgerError(f"sequence number {seq} was trimmed: the ledger begins at {self._base}")
        return self._offsets[seq - self._base]

    def finished_beyond(self) -> FinishedBeyond:
        """Return what the next commit's offset map must hold, from the committable offset on.

        The part of a restored map that was not delivered again is carried along. Without it, a second restart before
        those records are read again would handle them twice.
        """
        stop = max(self._done.rfind(_FINISHED, self._head) + 1, self._head)
        if self._restored is not None:
            stop = len(self._done)  # what is unfinished before the carried part must be told from a gap
        return FinishedBeyond(
            base=self.committable,
            offsets=self._offsets[self._head : stop],
            flags=bytes(self._done[self._head : stop]),
            position=self._position,
            carried=self._restored,
        )

    def memory_bytes(self) -> int:
        """Estimate the memory the ledger holds."""
        runs = 0 if self._restored is None else len(self._restored.starts)
        return len(self._offsets) * self._offsets.itemsize + len(self._done) + _RUN_BYTES * runs

    def _index(self, seq: int) -> int:
        return max(seq - self._base, 0)

    def _require_delivered(self, seq: int) -> None:
        if not 0 <= seq < self.delivered:
            raise LedgerError(f"sequence number {seq} was never delivered: {self.delivered} records were")

    def _advance(self) -> None:
        """Move the head over what is finished, and give back the memory of a long finished front."""
        head = self._head
        if head < len(self._done) and self._done[head]:
            head = self._done.find(_UNFINISHED, head)
            if head < 0:
                head = len(self._done)
            self._head = head
        # Half the buffer at least, so that moving the rest down costs a constant per record in the long run.
        if head >= _TRIM_RECORDS_MIN and head * 2 >= len(self._done):
            del self._offsets[:head]
            del self._done[:head]
            self._base += head
            self._head = 0
