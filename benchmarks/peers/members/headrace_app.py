"""Headrace, with the settings that its documentation gives for the cell; all else is at its default.

Records count when the engine counts them as finished: handled, reported, taken into the ledger. Its snapshot is made four
times a second; the meter reads its clocks when a new one is there.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))  # worker processes import `meter`, too

from meter import Eyes, Job, burn_1_ms, given_job, watch

from headrace import App, Batch, Batching, Budgets, Record, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable


class Trouble(Exception):
    """What the failing share raises."""


def no_op(_record: Record) -> None:
    return


async def async_no_op(_record: Record) -> None:
    return


def takes_batch(_batch: Batch) -> None:
    return


def handler_for(job: Job) -> Callable[..., Any]:
    work_s = job.work_ms / 1000

    def blocks(_record: Record) -> None:
        time.sleep(work_s)

    async def awaits(_record: Record) -> None:
        await asyncio.sleep(work_s)

    every = round(1 / job.failing) if job.failing else 0

    def fails(record: Record) -> None:
        if record.offset % every == 0 and record.attempt == 1:
            raise Trouble

    if job.failing:
        return fails
    if job.handler == "cpu":
        return burn_1_ms
    if job.handler == "batch":
        return takes_batch
    if job.handler == "async":
        return awaits if work_s else async_no_op
    return blocks if work_s else no_op


def seeing_handler(job: Job) -> Callable[..., Any]:
    see, work_s = Eyes(job).see, job.work_ms / 1000

    def sees(record: Record) -> None:
        see(record.partition, record.offset, record.key, record.timestamp_ms or 0)
        if work_s:
            time.sleep(work_s)

    async def sees_async(record: Record) -> None:
        see(record.partition, record.offset, record.key, record.timestamp_ms or 0)
        await asyncio.sleep(work_s)

    return sees_async if job.handler == "async" else sees


def main() -> None:
    job = given_job()
    if "cores" in job.options:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.options["cores"]])
    budgets = Budgets(**job.options["budgets"]) if "budgets" in job.options else None
    app = App(
        job.servers,
        job.group,
        librdkafka=job.options.get("librdkafka"),
        budgets=budgets,
        **job.options.get("app", {}),
    )
    options: dict[str, Any] = {"order_by": job.order}
    if job.concurrency:
        options["concurrency"] = job.concurrency
    if job.workers:
        options["workers"] = job.workers
    if job.handler == "batch":
        options["batch"] = Batching(500)
    if job.handler == "cpu":
        options["run_in"] = "processes"
    if job.failing:
        options["retry"] = RetryPolicy(attempts_max=5, backoff_initial_s=0.01)
    handler = handler_for(job) if job.mode in ("rate", "idle") else seeing_handler(job)
    app.subscribe(job.topic, **options)(handler)
    watch(job, lambda: app.snapshot().engine.counters.finished)
    if "py_spy_file" in job.options:
        threading.Thread(target=tell_threads, args=(Path(job.options["py_spy_file"]),), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: app.request_stop())
    app.run()


def tell_threads(file: Path) -> None:
    """CPU of each thread so far, again and again: beside a profile by function it says what is not Python's."""
    while True:
        lines = []
        ours = {thread.native_id: thread.name for thread in threading.enumerate()}
        for task in Path("/proc/self/task").iterdir():
            fields = (task / "stat").read_text()
            name = ours.get(int(task.name), fields[fields.index("(") + 1 : fields.rindex(")")])
            used = fields.rpartition(")")[2].split()
            lines.append(f"{name} {(int(used[11]) + int(used[12])) / os.sysconf('SC_CLK_TCK'):.2f}")
        file.write_text("\n".join(lines))
        time.sleep(0.2)


if __name__ == "__main__":
    main()
