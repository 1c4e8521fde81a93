"""What watching takes from an app that works as fast as it can: pairs of runs with and without, interleaved.

    .venv/bin/python benchmarks/watched.py

Needs no broker: a client in memory gives a no-op `def` handler records of all partitions in turn, without end. Each run is a
process of its own. `bare` makes no snapshots and has no reporters; `watched` makes both. In the case of keys both make
snapshots, and `bare` samples no keys. Prints records/s of each pair and their ratio, and, from the threads' own clocks, which
share of the time reporters had the processor and snapshots and sampling took: a ratio of two runs on a busy machine is off by
more than is looked for here. The shares are of one CPU: a process that gets less than one loses more of its own. Bars: 1,000
partitions with one reporter of everything at 10 s take less than 2%; 8 partitions with 50 reporters at 10 s leave 95% of the
throughput; sampling keys takes less than 2%.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from headrace import App, Commit, Timeouts
from headrace._runtime import snapshots
from headrace._runtime.hot_keys import HotKeys, KeySampler
from headrace._runtime.surroundings import Surroundings
from headrace.elsewhere import started_elsewhere
from headrace.observe import JsonLines, Reporting
from headrace.observe.reporting import Reporters, Source
from headrace.observe.settings import checked_reporters
from headrace.observe.views import PartitionOffsets, View
from headrace.testing.memory_client import MemoryClient
from headrace.testing.memory_kafka import MemoryKafka, MemoryProducer, RawRecord, StoredRecord

if TYPE_CHECKING:
    from headrace.ports import Client, Polled

PERIOD_S = 10.0
RUN_S = 19.5
"""Two reports, when it starts and a period later: as many as two periods have. A third would be counted for no time."""
RUN_RECORDS = 125
"""Of one partition in one poll."""
KEYS = 101
CASES = {"partitions": (1000, 1, 0.98), "reporters": (8, 50, 0.95), "keys": (8, 0, 0.98)}
"""Partitions, reporters, and how much of the throughput must be left."""


class Endless:
    """A client whose partitions never run dry."""

    def __init__(self, partitions: int) -> None:
        self._kafka = MemoryKafka({"orders": partitions})
        self._inner = MemoryClient(self._kafka)
        self._partitions = partitions
        self._next = 0
        self._offsets = [0] * partitions
        self._paused: set[int] = set()
        self._raws = [RawRecord("orders", b"%d" % key, b"x" * 100) for key in range(KEYS)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def pause(self, places: Any) -> None:
        """Note it."""
        self._paused.update(partition for _, partition in places)
        self._inner.pause(places)

    def resume(self, places: Any) -> None:
        """Note it."""
        self._paused.difference_update(partition for _, partition in places)
        self._inner.resume(places)

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        """Some of the next partitions."""
        del timeout_s
        polled = self._inner.poll(records_max, 0.0)
        for _ in range(self._partitions):
            if polled.count + RUN_RECORDS > records_max or not self._inner.positions([("orders", 0)]):
                break
            partition = self._next
            self._next = (partition + 1) % self._partitions
            if partition in self._paused:
                continue
            first = self._offsets[partition]
            self._offsets[partition] = first + RUN_RECORDS
            run = [StoredRecord(self._raws[n % KEYS], n) for n in range(first, first + RUN_RECORDS)]
            polled.groups.append(("orders", partition, cast("Any", run)))
            polled.count += RUN_RECORDS
        return polled


def run(case: str, *, watched: bool, seconds: float) -> dict[str, float]:
    """One run; what it did."""
    partitions, reporters, _ = CASES[case]
    spent_s, sampled_s = [0.0], [0.0]
    if watched:
        note_sampling(sampled_s)
        note_publishing(spent_s)
    elif case == "keys":
        KeySampler.polled = lambda *_: None  # type: ignore[method-assign]
        KeySampler.told = lambda *_: HotKeys()  # type: ignore[method-assign]
    else:
        snapshots.PUBLISH_S = 1e9
    handled = [0]

    def handle(_record: object) -> None:
        handled[0] += 1

    commit = Commit()
    app = App("memory", "group", timeouts=Timeouts())
    app.subscribe("orders")(handle)
    kafka = MemoryKafka({"orders": partitions})
    surroundings = Surroundings(
        lambda _number: cast("Client", Endless(partitions)), lambda: MemoryProducer(kafka), poll_idle_s=0.02
    )
    offsets = PartitionOffsets(0, 2_000_000_000, 2_000_000_000, 1, 2_000_000_000)
    with (
        tempfile.TemporaryDirectory() as folder,
        started_elsewhere(app, surroundings, commit, lambda _: None) as made,
    ):
        made.wait_started()

        def view() -> View:
            return View(made.snapshot(), made.health(), time.monotonic(), lambda _t, _p: offsets, lambda: 1.0)

        chosen = [
            Reporting(JsonLines(Path(folder) / f"{number}.jsonl"), PERIOD_S, name=str(number))
            for number in range(reporters if watched else 0)
        ]
        time.sleep(2.0)
        before, began_at, used_s = handled[0], time.monotonic(), time.process_time()
        spent_before_s, sampled_before_s = spent_s[0], sampled_s[0]
        watching = Reporters(checked_reporters(chosen), Source("group", view))
        watching.start()
        time.sleep(seconds)
        reported_s = sum(
            time.clock_gettime(time.pthread_getcpuclockid(thread.ident or 0))
            for thread in threading.enumerate()
            if thread.name.startswith("headrace-reporter-")
        )
        took_s = time.monotonic() - began_at
        found = {
            "per_s": (handled[0] - before) / took_s,
            "cpu_us": (time.process_time() - used_s) / max(1, handled[0] - before) * 1e6,
            "reports": reported_s / took_s,
            "snapshots": (spent_s[0] - spent_before_s) / took_s,
            "keys": (sampled_s[0] - sampled_before_s) / took_s,
            "keys_ns": (sampled_s[0] - sampled_before_s) / max(1, handled[0] - before) * 1e9,
        }
        watching.request_stop()
        watching.join(5.0)
    return found


def note_publishing(spent_s: list[float]) -> None:
    """Add up what the owner thread works on snapshots."""
    honest = snapshots.Publisher.publish

    def publish(self: snapshots.Publisher, state: Any, *, force: bool = False) -> None:
        began_s = time.thread_time()
        honest(self, state, force=force)
        spent_s[0] += time.thread_time() - began_s

    snapshots.Publisher.publish = publish  # type: ignore[method-assign]


def note_sampling(sampled_s: list[float]) -> None:
    """Add up what the owner thread works on keys; what it takes to tell them is part of a snapshot, too."""

    def noted(honest: Any) -> Any:
        def call(self: KeySampler, *given: Any) -> Any:
            began_s = time.thread_time()
            found = honest(self, *given)
            sampled_s[0] += time.thread_time() - began_s
            return found

        return call

    KeySampler.polled = noted(KeySampler.polled)  # type: ignore[method-assign]
    KeySampler.told = noted(KeySampler.told)  # type: ignore[method-assign]


def apart(case: str, *, watched: bool, seconds: float) -> dict[str, float]:
    """One run in a process of its own."""
    words = [sys.executable, __file__, "--one", case, "--seconds", str(seconds)]
    words += ["--watched"] if watched else []
    told = subprocess.run(words, check=True, capture_output=True, text=True)
    return cast("dict[str, float]", json.loads(told.stdout))


def compare(case: str, pairs: int, seconds: float) -> bool:
    """Print the pairs of a case; whether the bar is met by what the threads' clocks say."""
    partitions, reporters, bar = CASES[case]
    print(f"{case}: {partitions:,} partitions, {reporters} reporters every {PERIOD_S:g} s")
    ratios: list[float] = []
    taken: list[float] = []
    for number in range(pairs):
        order = (False, True) if number % 2 == 0 else (True, False)
        found = {watched: apart(case, watched=watched, seconds=seconds) for watched in order}
        bare, seen = found[False], found[True]
        ratios.append(seen["per_s"] / bare["per_s"])
        taken.append(seen["keys"] if case == "keys" else seen["reports"] + seen["snapshots"])
        print(
            f"  bare {bare['per_s']:9,.0f}/s {bare['cpu_us']:.2f} us   watched {seen['per_s']:9,.0f}/s"
            f" {seen['cpu_us']:.2f} us   ratio {ratios[-1]:.3f}"
            f"   reports {seen['reports']:.2%}, snapshots {seen['snapshots']:.2%},"
            f" keys {seen['keys']:.2%} of the time ({seen['keys_ns']:.0f} ns a record)"
        )
    met = 1 - statistics.median(taken) >= bar
    print(
        f"  median ratio {statistics.median(ratios):.3f}; watching had {statistics.median(taken):.2%} of the time;"
        f" bar {1 - bar:.0%}: {'met' if met else 'missed'}"
    )
    return met


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=RUN_S)
    parser.add_argument("--case", choices=sorted(CASES), action="append")
    parser.add_argument("--one", choices=sorted(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--watched", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        found = run(arguments.one, watched=arguments.watched, seconds=arguments.seconds)
        print(json.dumps(found))
        return 0
    judged = map(
        partial(compare, pairs=arguments.pairs, seconds=arguments.seconds), arguments.case or sorted(CASES)
    )
    return 0 if all(list(judged)) else 1


if __name__ == "__main__":
    sys.exit(main())
