"""Arroyo: `RunTask` for work that takes no time, threads where it waits, processes where it computes; then `CommitOffsets`.

Commits once a second, as its documentation advises. Results go on in the order of the log, so a slow record holds those
behind it. The consumer is given `fetch.queue.backoff.ms=10`, as the tuned loop is.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from arroyo import Topic
from arroyo.backends.kafka import KafkaConsumer
from arroyo.backends.kafka.configuration import build_kafka_consumer_configuration
from arroyo.commit import ONCE_PER_SECOND
from arroyo.processing import StreamProcessor
from arroyo.processing.strategies import (
    CommitOffsets,
    ProcessingStrategyFactory,
    RunTask,
    RunTaskInThreads,
    RunTaskWithMultiprocessing,
)
from arroyo.processing.strategies.run_task_with_multiprocessing import MultiprocessingPool
from meter import Eyes, Tally, burn_1_ms_journaled, given_job, watch


class Factory(ProcessingStrategyFactory):
    """Makes the chain of strategies anew at each assignment, as Arroyo asks."""

    def __init__(self, job: Any, tally: Tally, eyes: Eyes | None) -> None:
        self._job, self._tally, self._eyes = job, tally, eyes
        self._work_s = job.work_ms / 1000
        self._pool = MultiprocessingPool(job.workers) if job.handler == "cpu" else None

    def _count(self, message: Any) -> Any:
        self._tally.count += 1
        return message

    def _see(self, message: Any) -> Any:
        (partition, next_offset) = next(iter(message.committable.items()))
        age = message.timestamp.timestamp() * 1000
        assert self._eyes is not None
        self._eyes.see(partition.index, next_offset - 1, message.payload.key, age)
        if self._work_s:
            time.sleep(self._work_s)
        return message

    def _wait(self, message: Any) -> Any:
        time.sleep(self._work_s)
        self._tally.add()
        return message

    def create_with_partitions(self, commit: Any, _partitions: Any) -> Any:
        end: Any = CommitOffsets(commit)
        if self._pool is not None:
            counted: Any = RunTask(self._count, end)
            return RunTaskWithMultiprocessing(
                burn_1_ms_journaled, counted, max_batch_size=100, max_batch_time=0.1, pool=self._pool
            )
        task = self._see if self._eyes is not None else self._count if not self._work_s else self._wait
        if self._work_s:
            threads = self._job.workers or min(self._job.concurrency, 1000)
            return RunTaskInThreads(task, threads, threads * 4, end)
        return RunTask(task, end)


def main() -> None:
    job = given_job()
    logging.disable(logging.WARNING)
    configuration = build_kafka_consumer_configuration(
        {"fetch.queue.backoff.ms": 10},
        job.group,
        auto_offset_reset="earliest",
        bootstrap_servers=[job.servers],
    )
    tally = Tally()
    eyes = Eyes(job) if job.mode in ("latency", "journal") else None
    factory = Factory(job, tally, eyes)
    processor = StreamProcessor(KafkaConsumer(configuration), Topic(job.topic), factory, ONCE_PER_SECOND)
    watch(job, lambda: tally.count)
    processor.run()


if __name__ == "__main__":
    main()
