"""What the executors cost per record, with nothing around them: no client, no engine.

Three figures: a handler that does nothing as `def` and as `async def`, in lists of 500 records, and one that awaits
10 ms, a thousand at a time. Run: python benchmarks/executors.py
"""

from __future__ import annotations

import asyncio
import threading
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, cast

from headrace._execute.handler_loop import HandlerLoop
from headrace._execute.tasks import TaskExecutor
from headrace._execute.threads import ThreadExecutor
from headrace.records import Record
from headrace.subscriptions import SubscriptionSettings

if TYPE_CHECKING:
    from headrace.ports import Executor
    from headrace.records import Holder, Source

CHUNK_RECORDS = 500
NOOP_CHUNKS = 400
SLEEPERS = 10_000
SLEEP_S = 0.01
SLEEPER_CHUNK_RECORDS = 100
ROUNDS = 7


class Tenure:
    """Stands in for an epoch of a partition: all that an executor looks at."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open = True


class Arrivals:
    """Counts finished records, and says when all are in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = 0
        self.all_in = threading.Event()

    def expect(self, count: int) -> None:
        """Begin to count."""
        self._left = count
        self.all_in.clear()

    def deliver(self, event: Any) -> None:
        """Take in what an executor delivers, from any thread."""
        with self._lock:
            self._left -= len(event.succeeded)
            if self._left <= 0:
                self.all_in.set()


def make_records(count: int) -> list[Record[Any, Any]]:
    tenure = cast("Holder", Tenure())
    source = cast("Source", None)  # Handlers that do nothing do not ask for it.
    return [Record(source, tenure, offset, b"%d" % offset, offset) for offset in range(count)]


def measure(
    executor: Executor, arrivals: Arrivals, lists: list[list[Record[Any, Any]]]
) -> tuple[float, float]:
    """Seconds on the wall and on the processor for all these lists."""
    arrivals.expect(sum(map(len, lists)))
    wall, cpu = perf_counter(), process_time()
    for records in lists:
        executor.submit(records)
    assert arrivals.all_in.wait(60)
    return perf_counter() - wall, process_time() - cpu


def report(what: str, executor: Executor, arrivals: Arrivals, lists: list[list[Record[Any, Any]]]) -> None:
    count = sum(map(len, lists))
    rounds = [measure(executor, arrivals, lists) for _ in range(ROUNDS)]
    wall, cpu = (min(column) for column in zip(*rounds, strict=True))
    print(
        f"{what:<38} {wall / count * 1e9:8.0f} ns/record  {cpu / count * 1e9:8.0f} ns CPU  {count / wall:12,.0f} records/s"
    )


def nothing(_record: Record[Any, Any]) -> None:
    return


async def nothing_async(_record: Record[Any, Any]) -> None:
    return


async def sleep(_record: Record[Any, Any]) -> None:
    await asyncio.sleep(SLEEP_S)


def main() -> None:
    noop_lists = [make_records(CHUNK_RECORDS)] * NOOP_CHUNKS
    sleepers = make_records(SLEEPERS)
    sleeper_lists = [
        sleepers[at : at + SLEEPER_CHUNK_RECORDS] for at in range(0, SLEEPERS, SLEEPER_CHUNK_RECORDS)
    ]
    arrivals = Arrivals()
    threads = ThreadExecutor(
        0, SubscriptionSettings("nothing", ("numbers",), workers=1), nothing, arrivals.deliver
    )
    report("def, no-op, lists of 500", threads, arrivals, noop_lists)
    threads.close(5)

    loop = HandlerLoop()
    loop.start()
    settings = SubscriptionSettings("nothing", ("numbers",))
    tasks = TaskExecutor(0, settings, nothing_async, arrivals.deliver, loop.loop)
    report("async def, no-op, lists of 500", tasks, arrivals, noop_lists)
    tasks.close(5)

    settings = SubscriptionSettings("sleep", ("numbers",), concurrency=1000)
    tasks = TaskExecutor(0, settings, sleep, arrivals.deliver, loop.loop)
    report("async def, 10 ms, concurrency 1000", tasks, arrivals, sleeper_lists)
    tasks.close(5)
    loop.stop(5)


if __name__ == "__main__":
    main()
