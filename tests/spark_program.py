"""A Spark session that does what it is told on stdin, a line of JSON at a time: run by spark_environment.py.

Runs in Spark's own environment. Refuses to know what is right. Argument: the session's settings, as JSON.
"""

# Checked where there is no pyspark.
# mypy: disable-error-code="misc, no-any-unimported, import-not-found"
# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportMissingTypeStubs=false

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark import TaskContext
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from headrace.spark import KafkaSource
from headrace.spark.rows import RowBatcher, ddl
from headrace.spark.source import KafkaReader
from headrace.spark.tasks import pool_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PUSHDOWN = "spark.sql.python.filterPushdown.enabled"


class ProbedReader(KafkaReader):
    """Writes down, after each task, who read it and what its worker's pool has counted. May fail on the first attempt."""

    folder = ""
    fails = False

    def read(self, partition: Any) -> Iterator[Any]:
        """As the real one."""
        attempt = TaskContext.get().attemptNumber()
        for number, batch in enumerate(super().read(partition)):
            yield batch
            if self.fails and attempt == 0 and number == 0:
                raise ValueError("fails on purpose")
        counters = pool_of(self._options).counters()
        told = {
            name: getattr(counters, name) for name in ("created", "reused", "invalidated", "seeks", "active")
        }
        line = json.dumps(told | {"pid": os.getpid(), "attempt": attempt})
        with Path(self.folder, f"{os.getpid()}.jsonl").open("a") as file:
            file.write(line + "\n")


class ProbedSource(KafkaSource):
    """The source, with two options more."""

    @classmethod
    def name(cls) -> str:
        """Its own."""
        return "probed"

    def __init__(self, options: dict[str, str]) -> None:
        given = dict(options)
        self.folder, self.fails = given.pop("folder", ""), given.pop("fails", "") == "true"
        super().__init__(given)

    def reader(self, schema: Any) -> ProbedReader:
        """The probed one."""
        real = super().reader(schema)
        made = ProbedReader(real._options, headers=real._headers)
        made.folder, made.fails = self.folder, self.fails
        return made


class Operations:
    """What may be called."""

    def __init__(self, spark: Any) -> None:
        self._spark = spark

    def rows(self, where: str = "", format: str = "headrace", **options: str) -> list[list[Any]]:  # noqa: A002 - Spark's name
        """Every row, every column, in order."""
        found = self._frame(format, options, where).collect()
        return sorted(([_plain(value) for value in row] for row in found), key=lambda row: row[2:5])

    def totals(self, where: str = "", format: str = "headrace", **options: str) -> list[Any]:  # noqa: A002 - the same
        """Rows, and a sum over all columns but headers: equal for equal rows, in whatever order."""
        frame = self._frame(format, options, where)
        columns = "key, value, topic, partition, offset, timestamp, timestampType"
        row = frame.selectExpr(f"CAST(xxhash64({columns}) AS DECIMAL(38, 0)) AS h").selectExpr(
            "count(*)", "sum(h)"
        )
        return [str(value) for value in row.collect()[0]]

    def at_once(self, jobs: int, **options: str) -> list[list[Any]]:
        """Totals of so many jobs that run at the same time in this application, each on a thread."""
        found: list[list[Any]] = [[] for _ in range(jobs)]

        def run(number: int) -> None:
            found[number] = self.totals(**options)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    def joined(self, **options: str) -> int:
        """Rows of a topic joined with itself: both sides are read at the same time."""
        one, other = self._frame("headrace", options, ""), self._frame("headrace", options, "")
        return int(one.join(other, ["topic", "partition", "offset"]).count())

    def tasks(self, **options: str) -> int:
        """How many tasks a read has."""
        return int(self._frame("headrace", options, "").rdd.getNumPartitions())

    def plan(self, where: str, **options: str) -> str:
        """The physical plan."""
        frame = self._frame("headrace", options, where)
        return str(frame._jdf.queryExecution().executedPlan().toString())

    def push(self, enabled: bool) -> None:
        """Whether filters are pushed from now on."""
        self._spark.conf.set(PUSHDOWN, str(enabled).lower())

    def probed(self, folder: str, fails: str = "false", **options: str) -> int:
        """Rows, counted with the probed source."""
        self._spark.dataSource.register(ProbedSource)
        return int(self._frame("probed", {**options, "folder": folder, "fails": fails}, "").count())

    def stream(self, checkpoint: str, **options: str) -> list[list[list[Any]]]:
        """Each micro-batch of a query to what is there now: its records' topic, partition and offset."""
        reader = self._spark.readStream.format("headrace").options(**options).load()
        batches: list[list[list[Any]]] = []

        def take(frame: Any, _number: int) -> None:
            batches.append(
                sorted(list(row) for row in frame.select("topic", "partition", "offset").collect())
            )

        query = (
            reader.writeStream.foreachBatch(take)
            .option("checkpointLocation", checkpoint)
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()
        return batches

    def schemas(self) -> list[list[bool]]:
        """Whether our Arrow schemas are those that Spark derives."""
        return [
            [
                to_arrow_schema(StructType.fromDDL(ddl(headers=headers)), timezone="UTC").equals(
                    RowBatcher("t", 0, headers=headers).schema, check_metadata=True
                )
            ]
            for headers in (False, True)
        ]

    def seconds(self, format: str = "headrace", **options: str) -> float:  # noqa: A002 - Spark's name
        """How long a read of every column into nothing takes."""
        began = time.perf_counter()
        self._frame(format, options, "").write.format("noop").mode("overwrite").save()
        return time.perf_counter() - began

    def client_loaded(self) -> bool:
        """Whether the client library is in this process, where no read is done."""
        return "confluent_kafka" in sys.modules

    def example(self, code: str) -> None:
        """Runs an example of a document."""
        exec(compile(code, "example", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own documents

    def _frame(self, format: str, options: dict[str, str], where: str) -> Any:  # noqa: A002 - Spark's name
        frame = self._spark.read.format(format).options(**options).load()
        return frame.where(where) if where else frame


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, int | str) else str(value)


def main() -> None:
    """Answer until stdin closes."""
    builder = SparkSession.builder
    for name, value in json.loads(sys.argv[1]).items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    operations = Operations(spark)
    for line in sys.stdin:
        asked = json.loads(line)
        operation: Callable[..., Any] = getattr(operations, asked["call"])
        try:
            answer = {"result": operation(**asked["with"])}
        except BaseException as error:  # noqa: BLE001 - told to who asked
            answer = {"error": f"{type(error).__name__}: {error}\n{traceback.format_exc()}"}
        print("answer " + json.dumps(answer), flush=True)  # noqa: T201 - the answer's way
    spark.stop()


if __name__ == "__main__":
    main()
