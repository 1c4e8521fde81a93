"""Where the time of a record goes: a sampling profile of Headrace's process, by function, in microseconds per record.

Decides how samples become microseconds: each function has its share of the CPU time of Headrace's threads. Leaves sampling to
py-spy, from an environment of its own; refuses to profile peers. Invariant: only samples that hold the interpreter's lock
count, and imports and the benchmark's own threads do not; librdkafka's threads are told beside.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import uuid
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers.cells import Shape, cell_named
from benchmarks.peers.contenders import Task, command, contender_named
from benchmarks.peers.environments import Unavailable
from benchmarks.peers.measuring import RUN_S, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.peers.measuring import Bench

CELLS = ("def-0", "async-0", "batch-0", "await-10")
SAMPLES_PER_S = 500
SHOWN = 24
THREADS_SHOWN = 8
THREADS = "headrace-"


def profile(bench: Bench, names: Sequence[str]) -> list[dict[str, Any]]:
    """An entry for each cell: functions and threads with their microseconds per record."""
    return [one_profile(bench, name) for name in names or CELLS]


def one_profile(bench: Bench, name: str) -> dict[str, Any]:
    """Runs the cell under the sampler."""
    cell = replace(cell_named(name), shape=Shape(), seconds=20)
    topic, records = bench.topic(cell.shape)
    sampler = bench.environments.python("profile").parent / "py-spy"
    with tempfile.TemporaryDirectory(prefix="headrace-profile-") as folder:
        stacks, threads = Path(folder) / "stacks", Path(folder) / "threads"
        options = {"py_spy_file": str(threads)}
        task = Task(bench.servers, topic, f"profile-{uuid.uuid4().hex[:8]}", records, cell, options=options)
        sampled = [
            "record",
            "--gil",
            "--threads",
            "-r",
            str(SAMPLES_PER_S),
            "-f",
            "raw",
            "-o",
            str(stacks),
            "--",
        ]
        try:
            done = subprocess.run(
                [str(sampler), *sampled, *command(contender_named("headrace"), task, bench.environments)],
                check=False,
                capture_output=True,
                text=True,
                timeout=RUN_S,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{name}: no profile in {RUN_S} s") from None
        answers = [line for line in done.stdout.splitlines() if line.startswith("result ")]
        if not (stacks.exists() and answers):
            raise Unavailable(f"py-spy: {(done.stderr.strip().splitlines() or ['no output'])[-1][:200]}")
        answer = json.loads(answers[-1].removeprefix("result "))
        if "error" in answer:
            raise Unavailable(f"{name}: {answer['error']}")
        handled = answer["handled"]
        by_function = self_times(stacks.read_text())
        used: dict[str, float] = {}
        for line in threads.read_text().splitlines():
            thread, _, seconds = line.rpartition(" ")
            used[thread] = used.get(thread, 0.0) + float(seconds)
    say(f"profile {name}: {sum(by_function.values())} samples")
    ours = {thread: seconds / handled * 1e6 for thread, seconds in used.items() if thread.startswith(THREADS)}
    # A process that waits for a processor is sampled, too, so samples give shares; CPU time gives microseconds.
    scale = sum(ours.values()) / sum(by_function.values())
    return {
        "cell": name,
        "records": handled,
        "total_us": sum(ours.values()),
        "functions": [(place, count * scale) for place, count in by_function.most_common(SHOWN)],
        "threads": [
            (thread, seconds / handled * 1e6)
            for thread, seconds in sorted(used.items(), key=lambda each: -each[1])
            if thread.startswith((THREADS, "rdk:"))
        ][:THREADS_SHOWN],
    }


def self_times(stacks: str) -> Counter[str]:
    """Samples of Headrace's threads by the innermost function: `name (file)`, lines left out."""
    found: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames, _, count = line.rpartition(" ")
        thread, _, calls = frames.partition(";")
        if thread.rpartition(": ")[2].startswith(THREADS):
            function, _, place = calls.rpartition(";")[2].partition(" (")
            found[f"{function} ({place.partition(':')[0].rstrip(')').rpartition('/')[2]})"] += int(count)
    return found
