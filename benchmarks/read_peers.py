"""What else reads a range of Kafka into tables from Python: Ray Data and Daft. Run by benchmarks/read.py, with an interpreter of its own.

    python benchmarks/read_peers.py NAME SERVERS TOPIC

Prints one line of JSON: rows, seconds, CPU seconds of this process and all below it, and the most memory of them together.
Starting Ray is not counted. `-tuned` is the same with what Headrace tells librdkafka; and Daft, which waits out its timeout for
the last records of each partition, 10 seconds by itself, is given one second.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

TUNED = {"fetch.queue.backoff.ms": 10, "queued.min.messages": 100_000, "queued.max.messages.kbytes": 65_536}


class Usage:
    """CPU and memory of this process and all below it. Processes that ended in between count as far as they were seen."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._cpu: dict[int, float] = {}
        self._look()
        self._before = dict(self._cpu)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        here = psutil.Process()
        held = 0
        for process in (here, *here.children(recursive=True)):
            try:
                spent, memory = process.cpu_times(), process.memory_full_info()
            except psutil.Error:
                continue
            self._cpu[process.pid] = spent.user + spent.system
            held += memory.uss
        self.peak_mb = max(self.peak_mb, held / 1024 / 1024)

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self._look()

    def end(self) -> float:
        """CPU seconds since the beginning."""
        self._over.set()
        self._thread.join()
        self._look()
        return sum(spent - self._before.get(pid, 0.0) for pid, spent in self._cpu.items())


def start_ray() -> None:
    # Its 60 s are too few for a machine that is busy.
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")

    import ray

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.range(8).materialize()  # workers are started by the first work


def read_ray(servers: str, topic: str, settings: dict[str, Any]) -> int:
    import ray

    found = ray.data.read_kafka(topic, bootstrap_servers=servers, consumer_config=settings)
    return sum(
        batch.num_rows
        for batch in found.iter_batches(batch_format="pyarrow", batch_size=None, prefetch_batches=2)
    )


def start_daft() -> None:
    import daft

    daft.from_pydict({"n": [1]}).collect()


def read_daft(servers: str, topic: str, settings: dict[str, Any]) -> int:
    import daft

    timeout_ms = 1000 if settings else 10_000
    frame = daft.read_kafka(servers, topic, kafka_client_config=settings, timeout_ms=timeout_ms)
    return sum(batch.num_rows for batch in frame.to_arrow_iter())


STARTS: dict[str, Callable[[], None]] = {"ray": start_ray, "daft": start_daft}
READS: dict[str, Callable[[str, str, dict[str, Any]], int]] = {"ray": read_ray, "daft": read_daft}


def main(name: str, servers: str, topic: str) -> None:
    peer, _, tuned = name.partition("-")
    STARTS[peer]()
    usage, began = Usage(), time.perf_counter()
    rows = READS[peer](servers, topic, TUNED if tuned else {})
    wall_s = time.perf_counter() - began
    print(json.dumps({"rows": rows, "wall_s": wall_s, "cpu_s": usage.end(), "peak_mb": usage.peak_mb}))


if __name__ == "__main__":
    main(*sys.argv[1:4])
