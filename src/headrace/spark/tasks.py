"""One task of Spark's: a range of one partition, through a consumer that its worker process keeps.

Decides how much is taken at once, and what becomes of offsets that are gone; refuses to know Spark. Invariant: a task ends
with its position at the end of its range, or with an error; silence is no end.
"""

from __future__ import annotations

import functools
import logging
import time
from typing import TYPE_CHECKING, Any, Final, cast, final

from headrace.errors import OffsetsMissing, ReadStalled, RecordsLost
from headrace.pool import ConsumerPool, PoolSettings
from headrace.ranges.collecting import collector
from headrace.spark.planning import LOSS_ADVICE
from headrace.spark.rows import RowBatcher

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from headrace.pool import Lease
    from headrace.ranges.planning import OffsetRange
    from headrace.spark.options import SourceOptions

RECORDS_FIRST: Final = 1000
RECORDS_MAX: Final = 10_000
BATCH_BYTES: Final = 8 * 1024 * 1024
"""Of Arrow, by and large: a batch of large records has fewer of them. Spark's own limit is 2 GiB."""

GATHER_S: Final = 0.05
"""How long more records are waited for once there is one: many small batches cost more than few."""

WAIT_S: Final = 0.5

_LOG: Final = logging.getLogger("headrace.spark")


def pool_of(options: SourceOptions) -> ConsumerPool:
    """This process's pool for these options. Spark keeps its workers from task to task, and so this keeps consumers."""
    connection = options.connection
    return _pool(
        connection.bootstrap_servers,
        connection.group_id,
        tuple(sorted(connection.librdkafka.items())),
        options.cache_capacity,
        options.cache_timeout_s,
    )


# The cache is the process's own, and holds nothing before the first task: what Spark forks has no consumers yet.
@functools.cache
def _pool(
    servers: str, group_id: str, librdkafka: tuple[tuple[str, Any], ...], capacity: int, timeout_s: float
) -> ConsumerPool:
    settings = PoolSettings(
        consumers_soft_max=capacity,
        consumers_hard_max=min(1000, 2 * capacity),
        idle_timeout_s=timeout_s,
    )
    return ConsumerPool(servers, group_id=group_id, librdkafka=dict(librdkafka), settings=settings)


def batches(
    pool: ConsumerPool, part: OffsetRange, options: SourceOptions, *, headers: bool, attempt: int
) -> Generator[Any]:
    """The records of a range as `pyarrow.RecordBatch`es.

    attempt: Spark's number of this try; from 1 on it gets a consumer that nobody used before. Raises `RecordsLost`,
    `OffsetsMissing`, `ReadStalled`, and what a lease raises.
    """
    if not part.size:
        return
    batcher = RowBatcher(part.topic, part.partition, headers=headers)
    with pool.lease(part.topic, part.partition, position=part.start, attempt=attempt) as lease:
        reader = _PartReader(lease, part, options)
        while not reader.finished:
            with collector().at_rest():
                batch = _next_batch(reader, batcher, part.topic)
            if batch is not None:
                yield batch
    if reader.lost:
        _LOG.warning("%s: %d offsets are lost", part, reader.lost)


@final
class _PartReader:
    """One range under way."""

    def __init__(self, lease: Lease, part: OffsetRange, options: SourceOptions) -> None:
        self._lease = lease
        self._part = part
        self._options = options
        self._take = RECORDS_FIRST
        self._reached = part.start
        # Waited in vain. What Spark takes to use a batch is no part of it.
        self._quiet_s = 0.0
        self.finished = False
        self.lost = 0

    def size_of_next(self, records: int, size: int) -> None:
        """So large was the batch of the last list."""
        self._take = max(1, min(RECORDS_MAX, BATCH_BYTES * records // max(1, size)))

    def take(self) -> list[Any]:
        """The records that come next, in order; none if nothing came for a while. Raises `ReadStalled`."""
        timeout_s, began_at = self._options.timeout_s, time.monotonic()
        messages = self._gather(max(0.0, min(WAIT_S, timeout_s - self._quiet_s)))
        if self.finished:
            return messages
        position = self._lease.position
        assert position is not None, "a lease that was asked for at an offset stands somewhere"
        if messages or position > self._reached:
            self._reached, self._quiet_s = position, 0.0
            self.finished = position >= self._part.end
            return messages
        self._quiet_s += time.monotonic() - began_at
        if self._quiet_s >= timeout_s:
            unfinished = f"{self._part.topic}[{self._part.partition}] at {self._reached} of {self._part.end}"
            raise ReadStalled([unfinished], timeout_s, self._lease.trouble)
        return messages

    def _gather(self, wait_s: float) -> list[Any]:
        messages: list[Any] = []
        size = 0
        give_up_at = time.monotonic() + wait_s
        while len(messages) < self._take and size < BATCH_BYTES and not self.finished:
            left_s = give_up_at - time.monotonic()
            some = self._some(self._take - len(messages), max(0.0, left_s))
            if some and not messages:
                give_up_at = time.monotonic() + GATHER_S
            messages += some
            size += sum(map(len, some))
            if left_s <= 0 or self.finished or (self._lease.position or 0) >= self._part.end:
                break
        return messages

    def _some(self, records_max: int, wait_s: float) -> Sequence[Any]:
        end = self._part.end
        try:
            return cast("Sequence[Any]", self._lease.consume(records_max, wait_s, end=end))
        except RecordsLost as error:
            self._lose(error, error.start, error.end)
            self._lease.seek(error.end)
        except OffsetsMissing as error:
            # Shorter than it was: nothing of the rest will come.
            self._lose(error, error.offset, end)
            self.finished = True
        return ()

    def _lose(self, error: RecordsLost | OffsetsMissing, start: int, end: int) -> None:
        if self._options.fail_on_data_loss:
            error.add_note(LOSS_ADVICE)
            raise error
        self.lost += max(0, end - start)


def _next_batch(reader: _PartReader, batcher: RowBatcher, topic: str) -> Any:
    from headrace._client.range_consumer import Chunk  # noqa: PLC0415 - loads the client library

    messages = reader.take()
    if not messages:
        return None
    batch = batcher.batch(Chunk(messages, topic))
    reader.size_of_next(len(messages), batch.nbytes)
    return batch
