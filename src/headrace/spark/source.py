"""What Spark calls: the data source "headrace", its reader of batches and its reader of streams.

Decides nothing but who is called: options, planning, filters and tasks do. Needs pyspark 4.2. Invariant: no client is made
in the process that a user's program runs in, nor in one that Spark forks workers from.
"""

# pyspark is a gigabyte, and not installed where types are checked; the full tier runs this module with the real one.
# mypy: disable-error-code="misc, no-any-unimported"
# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pyspark import TaskContext
from pyspark.sql.datasource import (
    DataSource,
    DataSourceReader,
    DataSourceStreamReader,
    InputPartition,
)
from pyspark.sql.streaming.datasource import (
    ReadAllAvailable,
    ReadMaxRows,
    ReadMinRows,
    SupportsTriggerAvailableNow,
)

from headrace.errors import ConfigError
from headrace.spark.filters import Narrowing, narrowed
from headrace.spark.offsets import from_json, to_json
from headrace.spark.options import include_headers, understood
from headrace.spark.planning import Planner
from headrace.spark.rows import ddl
from headrace.spark.tasks import batches, pool_of
from headrace.spark.triggers import Triggers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from headrace.ranges.planning import OffsetRange
    from headrace.spark.offsets import JsonOffsets
    from headrace.spark.options import SourceOptions


class KafkaSource(DataSource):
    """`spark.read.format("headrace")` and `spark.readStream.format("headrace")`: Kafka without a JAR.

    Options and columns are those of Spark's own source "kafka". Where Spark does not find it by itself:
    `spark.dataSource.register(KafkaSource)`. Raises `ConfigError` for options; the rest when a query runs.
    """

    options: Mapping[str, str]

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "headrace"

    def schema(self) -> str:
        """The columns of Spark's Kafka source."""
        return ddl(headers=include_headers(self.options))

    def reader(self, schema: Any) -> KafkaReader:
        """For batches."""
        self._check(schema)
        return KafkaReader(understood(self.options, "batch"), headers=include_headers(self.options))

    def streamReader(self, schema: Any) -> KafkaStreamReader:  # noqa: N802 - Spark's name
        """For streams."""
        self._check(schema)
        return KafkaStreamReader(understood(self.options, "stream"), headers=include_headers(self.options))

    def _check(self, schema: Any) -> None:
        expected = ["key", "value", "topic", "partition", "offset", "timestamp", "timestampType"]
        expected += ["headers"] if include_headers(self.options) else []
        if schema.fieldNames() != expected:
            raise ConfigError("schema", schema.fieldNames(), "none to be given: the source has its own")


class Part(InputPartition):
    """What one task reads."""

    def __init__(self, part: OffsetRange) -> None:
        super().__init__(part)
        self.part = part


class _PushFilters:
    """`pushFilters` of one reader. Stands on the object, not on its class.

    Spark refuses a class that has it unless spark.sql.python.filterPushdown.enabled is set, which it is not by default.
    This way the source works either way, and takes filters where that is set.
    """

    __func__ = staticmethod(DataSourceReader.pushFilters)

    def __init__(self, reader: KafkaReader) -> None:
        self._reader = reader

    def __call__(self, filters: list[Any]) -> Iterable[Any]:
        self._reader.narrowing, left = narrowed(filters)
        return left


class KafkaReader(DataSourceReader):
    """A batch: planned once for each query, in a process of Spark's own."""

    def __init__(self, options: SourceOptions, *, headers: bool) -> None:
        self._options = options
        self._headers = headers
        self.narrowing = Narrowing()
        self.pushFilters = _PushFilters(self)

    def partitions(self) -> list[Part]:
        """One for each task. Asks the cluster."""
        return [Part(part) for part in _planner(self._options).batch(self.narrowing)]

    def read(self, partition: Any) -> Iterator[Any]:
        """In a task: the records of its range."""
        return _read(partition, self._options, headers=self._headers)


class KafkaStreamReader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    """A stream: one of these lives as long as the query, in a process of Spark's own, and is called by one thread."""

    def __init__(self, options: SourceOptions, *, headers: bool) -> None:
        self._options = options
        self._headers = headers
        self._made: tuple[Planner, Triggers] | None = None

    def initialOffset(self) -> JsonOffsets:  # noqa: N802 - Spark's name
        """Where a query without a checkpoint begins."""
        return to_json(self._parts[0].initial())

    def getDefaultReadLimit(self) -> Any:  # noqa: N802 - Spark's name
        """What the options say."""
        if self._options.trigger_max is not None:
            return ReadMaxRows(self._options.trigger_max)
        if self._options.trigger_min is not None:
            return ReadMinRows(self._options.trigger_min)
        return ReadAllAvailable()

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802 - Spark's name
        """From now on nothing newer is seen."""
        self._parts[1].stop_at_what_is_there()

    def latestOffset(self, start: JsonOffsets, limit: Any) -> JsonOffsets:  # noqa: N802 - Spark's name
        """How far the next micro-batch goes; `start` if there is none."""
        everything = isinstance(limit, ReadAllAvailable)
        return to_json(self._parts[1].next_end(from_json(start), all_of_it=everything))

    def reportLatestOffset(self) -> JsonOffsets | None:  # noqa: N802 - Spark's name
        """What was known last, for the query's progress."""
        known = self._parts[1].known
        return None if known is None else to_json(known)

    def partitions(self, start: JsonOffsets, end: JsonOffsets) -> Sequence[Part]:
        """One for each task of a micro-batch."""
        return [Part(part) for part in self._parts[0].trigger(from_json(start), from_json(end))]

    def read(self, partition: Any) -> Iterator[Any]:
        """In a task: the records of its range."""
        return _read(partition, self._options, headers=self._headers)

    def commit(self, end: JsonOffsets) -> None:
        """Nothing: Spark's checkpoint has the offsets, and no consumer group is told, as with Spark's own source."""

    def stop(self) -> None:
        """Let go of the connection."""
        self._made = None

    @property
    def _parts(self) -> tuple[Planner, Triggers]:
        if self._made is None:
            planner = _planner(self._options)
            self._made = planner, Triggers(self._options, planner, time.monotonic)
        return self._made


def _planner(options: SourceOptions) -> Planner:
    from headrace._client.range_lookups import RangeLookups  # noqa: PLC0415 - loads the client library

    return Planner(options, RangeLookups(options.connection))


def _read(partition: Any, options: SourceOptions, *, headers: bool) -> Iterator[Any]:
    # Spark makes a task of its own where there are no ranges at all.
    if not isinstance(partition, Part):
        return iter(())
    context = TaskContext.get()
    attempt = 0 if context is None else context.attemptNumber()
    return batches(pool_of(options), partition.part, options, headers=headers, attempt=attempt)
