"""What a bounded read gives to its user: an iterator that ends, of Arrow batches or of records.

Decides what is counted, and when threads start and stop; refuses to know how records are fetched. Invariant: it ends
with everything in its ranges handed over, or with an error; however it ends, its threads do.
"""

from __future__ import annotations

import json
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, final

from headrace.ranges.arrow import arrow
from headrace.ranges.buffer import Buffer, Closed
from headrace.ranges.progress import PartitionProgress, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from headrace.ports import TopicPartition as Place
    from headrace.ranges.bounds import Loss
    from headrace.ranges.fetching import Part
    from headrace.ranges.planning import OffsetRange
    from headrace.ranges.records import StoredRecord

T = TypeVar("T")

SLICE_S: Final = 0.2
"""The longest single wait: Ctrl-C is heard between two."""

PROGRESS_S: Final = 0.5
CLOSE_S: Final = 5.0

LOSSES_KEY: Final = b"headrace.losses"
"""Where the schema of a table says what was lost."""


class Reading(Generic[T]):
    """A bounded read under way. Used by one thread; its threads start with the first record asked for.

    Iterate over it to its end, or leave it early by `close()` or `with`. Errors: those of `headrace.read`.
    """

    def __init__(
        self,
        ranges: Sequence[OffsetRange],
        losses: Sequence[Loss],
        buffer: Buffer[Part[T]],
        threads: Sequence[Callable[[], None]],
        on_progress: Callable[[Progress], None] | None,
        verify: Callable[[], None],
    ) -> None:
        self.ranges = tuple(ranges)
        """What is read, as plain offsets."""
        self._losses = list(losses)
        self._buffer = buffer
        self._waiting = [
            threading.Thread(target=run, name=f"headrace-read-{i}", daemon=True)
            for i, run in enumerate(threads)
        ]
        self._running: list[threading.Thread] = []
        self._on_progress = on_progress
        self._verify = verify
        self._sizes: dict[Place, int] = {}
        self._lost: dict[Place, int] = {}
        for one in self.ranges:
            self._sizes[one.place] = self._sizes.get(one.place, 0) + one.size
        for loss in losses:
            self._sizes[loss.topic, loss.partition] += loss.offsets
            self._count_loss(loss)
        self._done = dict.fromkeys(self._sizes, 0) | self._lost
        self._records = 0
        self._bytes = 0
        self._began_at = time.monotonic()
        self._told_at = self._began_at
        self._ended_at: float | None = None
        self._finished = False
        # The threads know the buffer and not this object: one that is dropped half read stops them.
        self._stop = weakref.finalize(self, buffer.close)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What was lost so far; complete at the end. Empty with `on_data_loss="error"`."""
        return tuple(self._losses)

    def progress(self) -> Progress:
        """How far it is."""
        partitions = tuple(
            PartitionProgress(*place, size, self._done[place], self._lost.get(place, 0))
            for place, size in self._sizes.items()
        )
        elapsed_s = (self._ended_at or time.monotonic()) - self._began_at
        return Progress(partitions, self._records, self._bytes, elapsed_s, self.losses, self._finished)

    def close(self) -> None:
        """Stop reading; what was not handed over is dropped. May be called more than once."""
        self._stop()
        give_up_at = time.monotonic() + CLOSE_S
        for thread in self._running:
            thread.join(max(0.0, give_up_at - time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _contents(self) -> Iterator[T]:
        """What the parts hold, to the end."""
        if not self._running:
            self._running, self._waiting = self._waiting, []
            for thread in self._running:
                thread.start()
        try:
            while True:
                part = self._buffer.take(SLICE_S)
                if part is not None:
                    self._count(part)
                self._tell()
                if part is not None and part.content is not None:
                    yield part.content
        except Closed:
            if not self._buffer.closed:
                assert self._done == self._sizes, "all threads ended well, and not all was read"
                self._verify()
                self._finished = True
            self._ended_at = self._ended_at or time.monotonic()
            self._tell(at_once=True)
        finally:
            self.close()

    def _count(self, part: Part[T]) -> None:
        self._records += part.records
        self._bytes += part.bytes
        for place, offsets in part.passed.items():
            self._done[place] += offsets
        for loss in part.losses:
            self._count_loss(loss)
            self._losses.append(loss)

    def _count_loss(self, loss: Loss) -> None:
        place = loss.topic, loss.partition
        self._lost[place] = self._lost.get(place, 0) + loss.offsets

    def _tell(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if self._on_progress is not None and (at_once or now - self._told_at >= PROGRESS_S):
            self._told_at = now
            self._on_progress(self.progress())


@final
class Batches(Reading[Any]):
    """A bounded read as Arrow: iterate for `pyarrow.RecordBatch`es, or give it to what takes an Arrow stream.

    It has `__arrow_c_stream__`, so that Polars, DuckDB, pandas and pyarrow read it without a copy of what it holds.
    """

    def __init__(self, schema: Any, *reading: Any) -> None:
        super().__init__(*reading)
        self.schema = schema
        """A `pyarrow.Schema`."""
        self._iterator = self._contents()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._iterator)

    def to_reader(self) -> Any:
        """The rest of it as a `pyarrow.RecordBatchReader`."""
        return arrow("a RecordBatchReader").RecordBatchReader.from_batches(self.schema, self)

    def to_table(self) -> Any:
        """The rest of it as a `pyarrow.Table`, all in memory. Its schema's metadata say what was lost, if anything was."""
        table = arrow("a Table").Table.from_batches(list(self), self.schema)
        if not self._losses:
            return table
        lost = [[loss.topic, loss.partition, loss.start, loss.end] for loss in self._losses]
        return table.replace_schema_metadata({LOSSES_KEY: json.dumps(lost).encode()})

    def to_pandas(self) -> Any:
        """The rest of it as a `pandas.DataFrame`; needs pandas."""
        return self.to_table().to_pandas()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.to_reader().__arrow_c_stream__(requested_schema)


@final
class Records(Reading["list[StoredRecord]"]):
    """A bounded read as Python values: iterate for `StoredRecord`s."""

    def __init__(self, *reading: Any) -> None:
        super().__init__(*reading)
        self._iterator = (record for some in self._contents() for record in some)

    def __iter__(self) -> Iterator[StoredRecord]:
        return self

    def __next__(self) -> StoredRecord:
        return next(self._iterator)
