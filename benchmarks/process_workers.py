"""What a worker process costs: microseconds per record for a no-op, and the share of the ideal for 1 ms of processor time.

    python benchmarks/process_workers.py

Read the ratios: another load on the machine moves the absolute numbers. "in handler" is the share of the workers' time
that they spent in the handler; what is missing to 100% is ours. "alone" is the same handler in as many bare processes,
just before and just after.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from typing import TYPE_CHECKING, Any

from headrace._execute.processes import ProcessExecutor
from headrace.records import Record
from headrace.subscriptions import SubscriptionSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._core.events import Finished

WORKERS = 2


def nothing(record: Record[Any, Any]) -> None:
    """The no-op."""


def burn(record: object) -> None:
    """1 ms of this process's own processor time: time it does not get does not count."""
    del record
    end = time.thread_time() + 0.001
    while time.thread_time() < end:
        pass


class Source:
    """A message with a 100-byte value."""

    def offset(self) -> int | None:
        """Where it stands."""
        return 0

    def key(self) -> bytes:
        """Its key."""
        return b"key"

    def value(self) -> bytes:
        """Its value."""
        return b"v" * 100

    def headers(self) -> None:
        """It has none."""

    def timestamp(self) -> tuple[int, int]:
        """When it was created."""
        return (1, 1_700_000_000_000)

    def leader_epoch(self) -> int | None:
        """Not known."""
        return None

    def __len__(self) -> int:
        return 100


class Tenure:
    """An open one."""

    topic, partition, epoch, open = "orders", 0, 1, True

    def acknowledge(self, record: Record[Any, Any]) -> bool:
        """Not in this benchmark."""
        raise NotImplementedError


def through_headrace(
    handler: Callable[[Any], None], list_size: int, count: int
) -> tuple[float, float, float]:
    """Seconds on the wall, processor seconds of this process, seconds in handlers, for `count` records with two lists per worker outstanding."""
    done = threading.Semaphore(0)
    left = count
    busy_s = 0.0

    def deliver(finished: Finished) -> None:
        nonlocal left, busy_s
        busy_s += finished.busy_s
        ended = len(finished.succeeded)
        left -= ended
        done.release(ended or 1)

    settings = SubscriptionSettings(name="bench", topics=("orders",), run_in="processes", workers=WORKERS)
    executor = ProcessExecutor(0, settings, handler, deliver, lambda error: print("broken:", error))
    tenure, source = Tenure(), Source()
    lists = [
        [Record[Any, Any](source, tenure, offset, b"key", offset) for offset in range(list_size)]
        for _ in range(count // list_size)
    ]
    left = warm = WORKERS * 4
    for _ in range(warm):
        executor.submit([Record[Any, Any](source, tenure, 0, None, 0)])
    while left:
        done.acquire()
    left = count // list_size * list_size
    busy_s = 0.0
    started, cpu = time.perf_counter(), time.process_time()
    outstanding = 0
    for claim_list in lists:
        while outstanding - (count - left) >= list_size * WORKERS * 2:
            done.acquire()
        executor.submit(claim_list)
        outstanding += list_size
    while left:
        done.acquire()
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    executor.close(5)
    return wall_s, cpu_s, busy_s


def _burn_many(count: int, barrier: Any, spent: Any) -> None:
    barrier.wait()
    started = time.perf_counter()
    for _ in range(count):
        burn(None)
    spent.put(time.perf_counter() - started)


def handler_alone(count: int) -> float:
    """Records per second of bare processes that only run the handler."""
    context = multiprocessing.get_context("spawn")
    barrier, spent = context.Barrier(WORKERS), context.Queue()
    processes = [context.Process(target=_burn_many, args=(count, barrier, spent)) for _ in range(WORKERS)]
    for process in processes:
        process.start()
    rate = sum(count / float(spent.get()) for _ in processes)
    for process in processes:
        process.join()
    return rate


def main() -> None:
    print(f"no-op, {WORKERS} workers: microseconds per record")
    print(f"{'list size':>10} {'wall':>8} {'parent cpu':>11}")
    for list_size in (1, 10, 100, 500):
        count = min(4_000 * list_size, 200_000)
        wall_s, cpu_s, _ = through_headrace(nothing, list_size, count)
        print(f"{list_size:>10} {wall_s / count * 1e6:>8.2f} {cpu_s / count * 1e6:>11.2f}")
    print(f"\n1 ms of processor time, {WORKERS} workers: records per second")
    print(f"{'list size':>10} {'headrace':>9} {'alone':>7} {'in handler':>11}")
    for list_size in (1, 4, 20):
        before = handler_alone(1_000)
        wall_s, _, busy_s = through_headrace(burn, list_size, 4_000)
        alone = (before + handler_alone(1_000)) / 2
        print(f"{list_size:>10} {4_000 / wall_s:>9.0f} {alone:>7.0f} {busy_s / wall_s / WORKERS:>11.1%}")


if __name__ == "__main__":
    main()
