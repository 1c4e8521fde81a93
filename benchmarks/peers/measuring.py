"""Runs contenders on cells, in processes of their own, and gathers what they answer.

Decides the order of runs: rounds are interleaved, so that what else happens on the machine meets all. Refuses to judge.
Invariant: every run that was begun has an entry, with its numbers or with why there are none.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from benchmarks.peers import topics
from benchmarks.peers.contenders import Task, command, contender_named
from benchmarks.peers.environments import ROOT, Environments, Unavailable

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from benchmarks.peers.cells import Cell, Shape
    from benchmarks.peers.contenders import Contender

RUN_S = 150
NUMBERS = ("per_s", "cpu_us", "p50_ms", "p99_ms", "idle_share", "peak_mb")


@dataclass(slots=True)
class Found:
    """All runs of one contender on one cell."""

    cell: str
    contender: str
    runs: list[dict[str, Any]] = field(default_factory=list)
    trouble: str = ""

    def middle(self, number: str) -> float | None:
        """The median over the runs that have it."""
        values = [run[number] for run in self.runs if number in run]
        return statistics.median(values) if values else None

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        summary = {number: self.middle(number) for number in NUMBERS if self.middle(number) is not None}
        return {"cell": self.cell, "contender": self.contender, "median": summary, "runs": self.runs} | (
            {"trouble": self.trouble} if self.trouble else {}
        )


class Bench:
    """A broker, topics filled so far, and environments. For one thread."""

    def __init__(self, servers: str, scale: float = 1.0) -> None:
        self.servers = servers
        self.environments = Environments()
        self._scale = scale
        self._filled: set[str] = set()
        self.began = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")

    def topic(self, shape: Shape) -> tuple[str, int]:
        """A filled one, and how many records it has."""
        scaled = shape if self._scale == 1 else scaled_shape(shape, self._scale)
        if scaled.name not in self._filled:
            say(f"  filling {scaled.name}")
            topics.fill(self.servers, scaled)
            self._filled.add(scaled.name)
        return scaled.name, scaled.records

    def run(self, contender: Contender, cell: Cell, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """Its answer. Raises `Unavailable`."""
        group = f"bench-{uuid.uuid4().hex[:12]}"
        if cell.mode == "rate":
            topic, records = self.topic(cell.shape)
            task = Task(self.servers, topic, group, records, cell, options=options or {})
            return child(command(contender, task, self.environments))
        topic = f"bench-{cell.name}-{uuid.uuid4().hex[:8]}"
        topics.create(self.servers, topic, cell.shape.partitions)
        task = Task(self.servers, topic, group, 0, cell, options=options or {})
        started = command(contender, task, self.environments)
        pace = (
            topics.Pace(self.servers, topic, cell.rate_per_s, cell.shape) if cell.mode == "latency" else None
        )
        try:
            return child(started)
        finally:
            if pace is not None:
                pace.close()
            topics.delete(self.servers, [topic])


def scaled_shape(shape: Shape, scale: float) -> Shape:
    """The same with fewer records, or more."""
    return replace(shape, records=max(1000, int(shape.records * scale)))


def child(arguments: Sequence[str]) -> dict[str, Any]:
    """What a program answered; an entry with "error" if it did not. Nothing of it is left running."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tempfile.gettempdir(),
        process_group=0,
    ) as process:
        try:
            output, complaints = process.communicate(timeout=RUN_S)
        except subprocess.TimeoutExpired:
            return {"error": f"no answer in {RUN_S} s"}
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    lines = [line for line in output.splitlines() if line.startswith("result ")]
    if lines:
        return dict(json.loads(lines[-1].removeprefix("result ")))
    told = (complaints or output).strip().splitlines() or ["no output"]
    return {"error": f"exit code {process.returncode}: {told[-1][:200]}"}


def measure(bench: Bench, cells: Sequence[Cell], rounds: int, only: Sequence[str]) -> list[Found]:
    """Every contender of every cell, round after round."""
    found: list[Found] = []
    for cell in cells:
        names = [name for name in cell.contenders if not only or name in only]
        entries = {name: Found(cell.name, name) for name in names}
        for number in range(rounds):
            for name in names if number % 2 == 0 else reversed(names):
                one_run(bench, cell, entries[name], number)
        found += entries.values()
    return found


def one_run(bench: Bench, cell: Cell, entry: Found, number: int) -> None:
    """Adds the run, or why there is none; a contender that cannot run is not asked again."""
    if entry.trouble:
        return
    began = time.monotonic()
    load = os.getloadavg()[0]
    try:
        run = bench.run(contender_named(entry.contender), cell)
    except Unavailable as missing:
        entry.trouble = str(missing)
        say(f"{cell.name:16} {entry.contender:24} not run: {missing}")
        return
    if "error" in run:
        entry.trouble = run["error"]
    else:
        entry.runs.append({**run, "load": load, "round": f"{bench.began}, {number + 1}"})
    numbers = "  ".join(
        f"{key} {value:,.2f}" for key, value in run.items() if isinstance(value, float) and key in NUMBERS
    )
    say(
        f"{cell.name:16} {entry.contender:24} {number + 1}: {numbers or run}  ({time.monotonic() - began:.0f} s)"
    )


def say(text: str) -> None:
    """Progress goes to stderr: stdout is for results."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def broker(given: str | None) -> Generator[str]:
    """The address of a Kafka: the one given, or one started in a process and a folder of its own, and stopped."""
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        kafka = str(ROOT / "scripts" / "kafka")
        place = ["--dir", folder]
        told = subprocess.run(
            [kafka, "start", *place, "--owner", str(os.getpid())],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        try:
            yield next(
                line.partition("=")[2] for line in told.splitlines() if line.startswith("HEADRACE_KAFKA=")
            )
        finally:
            subprocess.run([kafka, "stop", *place], check=False, stdout=subprocess.DEVNULL)


def repository_state() -> str:
    """The commit that was measured, and whether files differ from it."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], check=False, capture_output=True, text=True
    )
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "src"], check=False, capture_output=True, text=True
    )
    return commit.stdout.strip() + (" with changes in src" if changed.stdout.strip() else "")


def where(path: Path) -> str:
    """A path for readers: relative to the project."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
