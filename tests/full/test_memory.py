"""Memory in use stays flat over ten million records, while one in a hundred fails once and one key is parked for good.

One million records on a real broker, read ten times by seeking back to the start: the same app, group and process all
the while. Every round, then, also opens new tenures and drops parked records of the old ones.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headrace import App, Commit, RetryLater, RetryPolicy
from tests.footprint import resident_bytes, slope, used_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace import Record, Snapshot
    from tests.topics import Topics

PARTITIONS = 4
RECORDS = 1_000_000
ROUNDS = 10
WARM_UP_ROUNDS = 2
GROWTH_MAX = 0.10
PEAK_MAX = 1.25
"""The peak is the backlog that the budgets allow, and how the allocator lays it out."""
ROUND_S = 60.0
POISON = (0, RECORDS // PARTITIONS * 7 // 10)
"""Partition and offset of the record that is never handled; what follows it fits into the partition's look-ahead."""


def is_through(snapshot: Snapshot, rounds: int) -> bool:
    """Whether so many rounds were read, and all is handled but the poison and what waits behind it for its key."""
    if snapshot.engine.counters.fetched < rounds * RECORDS:
        return False
    return all(
        partition.delivered == partition.finished + partition.held + partition.parked
        and partition.parked == (partition.partition == POISON[0])
        for partition in snapshot.engine.partitions
    )


@pytest.mark.timeout(600)
def test_memory_is_flat_over_ten_million_records(
    kafka: str, topics: Topics, group_id: str, record_property: Callable[[str, object], None]
) -> None:
    topic = topics.create(partitions=PARTITIONS)
    filled = [sys.executable, "-m", "tests.full.fill_topic", kafka, topic, str(PARTITIONS), str(RECORDS)]
    subprocess.run(filled, check=True, timeout=120, cwd=Path(__file__).parents[2])
    app = App(kafka, group_id, commit=Commit(every_s=1.0))

    @app.subscribe(topic, workers=2, retry=RetryPolicy(attempts_max=3, backoff_initial_s=0.05))
    def handle(record: Record) -> None:
        if record.offset % 100 == 0 and record.attempt == 1:
            raise OSError
        if (record.partition, record.offset) == POISON:
            raise RetryLater(3600)

    began = time.monotonic()
    app.start()
    after_rounds: list[float] = []
    peaks: list[int] = []
    for number in range(ROUNDS):
        peak = 0
        if number:
            for partition in range(PARTITIONS):
                app.seek(topic, partition, "earliest")
        give_up_at = time.monotonic() + ROUND_S
        while not is_through(app.snapshot(), number + 1):
            assert time.monotonic() < give_up_at, app.snapshot()
            peak = max(peak, resident_bytes())
            time.sleep(0.05)
        after_rounds.append(used_bytes())
        peaks.append(peak)
    took_s = time.monotonic() - began
    counters = app.snapshot().engine.counters
    parked = sum(partition.parked for partition in app.snapshot().engine.partitions)
    app.stop()

    warm = after_rounds[WARM_UP_ROUNDS - 1]
    warm_peak = max(peaks[:WARM_UP_ROUNDS])
    growth = max(after_rounds[WARM_UP_ROUNDS:]) / warm - 1
    record_property("records", counters.finished)
    record_property("records_per_s", round(counters.finished / took_s))
    record_property("failed", counters.failed)
    record_property("warm_mib", round(warm / 2**20, 1))
    record_property("peak_mib", round(max(peaks) / 2**20, 1))
    record_property("warm_peak_mib", round(warm_peak / 2**20, 1))
    record_property("growth_percent", round(growth * 100, 2))
    record_property("slope_kib_per_million", round(slope(after_rounds[WARM_UP_ROUNDS - 1 :]) / 1024, 1))
    assert counters.finished >= ROUNDS * RECORDS * 0.9999
    assert counters.failed >= ROUNDS * RECORDS // 100
    assert parked == 1
    assert growth < GROWTH_MAX, after_rounds
    assert max(peaks) < warm_peak * PEAK_MAX, peaks
