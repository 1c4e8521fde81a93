"""One partition's log: records at their offsets, with the gaps that Kafka leaves.

Decides what a reader at an offset is given; refuses to know groups and time. Invariant: offsets only grow; what is
above `stable` (an open transaction) or invisible (aborted, a marker) is never given to a reader.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, final


@final
class ModelRecord:
    """`records.Source`: one record of a log, with the calls of confluent-kafka's `Message`."""

    __slots__ = ("_headers", "_key", "_offset", "_value", "timestamp_ms", "visible")

    def __init__(
        self,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[tuple[str, bytes | None], ...],
        timestamp_ms: int,
        *,
        visible: bool,
    ) -> None:
        self._offset = offset
        self._key = key
        self._value = value
        self._headers = headers
        self.timestamp_ms = timestamp_ms
        self.visible = visible

    def offset(self) -> int:
        """Offset of the record."""
        return self._offset

    def key(self) -> Any:
        """The key's bytes, or None."""
        return self._key

    def value(self) -> Any:
        """The value's bytes, or None."""
        return self._value

    def headers(self) -> Any:
        """A list of (name, bytes or None), or None."""
        return list(self._headers) or None

    def timestamp(self) -> tuple[int, int]:
        """(2, milliseconds): the time of the append."""
        return (2, self.timestamp_ms)

    def leader_epoch(self) -> int | None:
        """Epoch of the partition's leader."""
        return 0

    def __len__(self) -> int:
        return len(self._value or b"")


@final
class Log:
    """The records of one partition that still exist."""

    __slots__ = ("_offsets", "_records", "_transaction", "end", "start")

    def __init__(self) -> None:
        self._records: list[ModelRecord] = []
        self._offsets: list[int] = []
        self._transaction: int | None = None
        self.start = 0
        self.end = 0
        """Offset of the next record to be written."""

    @property
    def stable(self) -> int:
        """Readers see what is below this offset: the end, or where an open transaction began."""
        return self.end if self._transaction is None else self._transaction

    def append(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[tuple[str, bytes | None], ...],
        timestamp_ms: int,
        *,
        visible: bool,
    ) -> ModelRecord:
        """Write one record at the end."""
        record = ModelRecord(self.end, key, value, headers, timestamp_ms, visible=visible)
        self._records.append(record)
        self._offsets.append(self.end)
        self.end += 1
        return record

    def begin(self) -> None:
        """A transaction opens here: what follows is not given out until it ends."""
        if self._transaction is None:
            self._transaction = self.end

    def finish(self, timestamp_ms: int, *, committed: bool) -> list[ModelRecord]:
        """The transaction ends with a marker; returns its records, now visible or not for ever."""
        began = self._transaction
        self._transaction = None
        if began is None:
            return []
        records = self._records[bisect_left(self._offsets, began) :]
        for record in records:
            record.visible = committed
        self.append(None, None, (), timestamp_ms, visible=False)
        return records

    def read(self, offset: int, records_max: int) -> tuple[list[ModelRecord], int]:
        """Visible records from `offset` on, and where to go on: past what is invisible or gone."""
        found: list[ModelRecord] = []
        index = bisect_left(self._offsets, offset)
        stable = self.stable
        while index < len(self._records) and len(found) < records_max:
            record = self._records[index]
            if self._offsets[index] >= stable:
                break
            if record.visible:
                found.append(record)
            index += 1
        at = self._offsets[index] if index < len(self._offsets) else self.end
        return found, max(offset, min(at, stable))

    def has(self, offset: int) -> bool:
        """Whether a reader may stand here."""
        return self.start <= offset <= self.end

    def remove_below(self, offset: int) -> None:
        """Retention: records below are gone."""
        self.start = max(self.start, min(offset, self.end))
        index = bisect_left(self._offsets, self.start)
        del self._records[:index], self._offsets[:index]

    def compact(self) -> list[int]:
        """Drop records that a later one of the same key replaces, and what is invisible; returns the offsets dropped."""
        newest = {record.key(): record.offset() for record in self._records if record.visible}
        last = self.end - 1  # the newest record stays, as in Kafka's active segment
        kept = [
            record
            for record in self._records
            if record.offset() >= min(last, self.stable)
            or (record.visible and (record.key() is None or newest[record.key()] == record.offset()))
        ]
        dropped = sorted(set(self._offsets) - {record.offset() for record in kept})
        self._records = kept
        self._offsets = [record.offset() for record in kept]
        return dropped

    def offset_at(self, timestamp_ms: int) -> int:
        """Offset of the first record at or after a moment, else the end."""
        for record in self._records:
            if record.timestamp_ms >= timestamp_ms:
                return record.offset()
        return self.end
