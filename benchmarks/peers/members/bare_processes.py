"""What the cores give without any Kafka: the CPU-bound handler in as many processes, and nothing else."""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from meter import burn_1_ms, given_job, watch


def work(counts: Any, number: int) -> None:
    while True:
        burn_1_ms(None)
        counts[number] += 1


def main() -> None:
    job = given_job()
    counts = multiprocessing.Array("q", job.workers, lock=False)
    for number in range(job.workers):
        multiprocessing.Process(target=work, args=(counts, number), daemon=True).start()
    watch(job, lambda: sum(counts))
    time.sleep(3600)


if __name__ == "__main__":
    main()
