"""What all contenders' processes share: the job they are given, the clocks around it, and the one line they answer with.

Decides when measuring begins and ends, and what is read then: the wall, the CPU of this process, its threads and its
children, and memory. Refuses to know any Kafka client, and imports the standard library alone: it runs in every peer's
environment. Invariant: whoever counts only adds to a number; all clocks are read by one watching thread, the same for all.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_S = 0.005
FIRST_RECORD_S = 60.0
WARM_S = 2.0
CAUGHT_UP_MS = 100.0
CATCH_UP_S = 10.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
HOT_KEY = b"key-%012d" % 0


@dataclass(frozen=True, slots=True)
class Job:
    """What a contender has to do; the fields of a cell that a program can play, and where the records are.

    mode: "rate" counts records between `warm` and `records`, or for `seconds`; "latency" notes how old each record was
    when its handler began; "journal" appends a line for each record to the file `journal`; "idle" handles nothing.
    """

    servers: str
    topic: str
    group: str
    handler: str
    work_ms: float
    order: str
    concurrency: int
    workers: int
    records: int
    warm: int
    seconds: float
    failing: float
    mode: str
    journal: str
    options: dict[str, Any]


def given_job() -> Job:
    """The one argument of the program."""
    return Job(**json.loads(sys.argv[1]))


def burn(work_ms: float) -> None:
    """So much processor time of this thread: time it does not get does not count."""
    end = time.thread_time() + work_ms / 1000
    while time.thread_time() < end:
        pass


def burn_1_ms(_record: object) -> None:
    """The handler of the CPU-bound cells; at module level, so that worker processes find it."""
    burn(1.0)


def burn_1_ms_journaled(record: Any) -> Any:
    """The same, for peers whose handler returns what it was given."""
    burn(1.0)
    return record


@dataclass(slots=True)
class Tally:
    """Records handled. One thread adds with `count += 1`; where several do, each calls `add`."""

    count: int = 0
    lock: Any = None

    def __post_init__(self) -> None:
        self.lock = threading.Lock()

    def add(self, records: int = 1) -> None:
        """From any thread."""
        with self.lock:
            self.count += records


@dataclass(frozen=True, slots=True)
class Reading:
    """The clocks at one moment, and what had been counted then."""

    count: int
    wall_s: float
    cpu_s: float


def read(count: int) -> Reading:
    """Now."""
    return Reading(count, time.perf_counter(), cpu_s())


def descendants(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except OSError:  # ended meanwhile
            continue
        for child in children:
            found += descendants(int(child))
    return found


def cpu_s() -> float:
    """Processor time of this process, all its threads and all that it started."""
    total = time.process_time()
    for pid in descendants(os.getpid())[1:]:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return total


def peak_mb() -> float:
    """The largest resident memory so far, added up over the processes."""
    total = 0
    for pid in descendants(os.getpid()):
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return total / 1024


def answer(result: dict[str, Any], code: int = 0) -> NoReturn:
    """Say it and end at once: how long a peer takes to close is another question."""
    os.write(1, b"\nresult " + json.dumps(result).encode() + b"\n")
    for pid in descendants(os.getpid())[1:]:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
    os._exit(code)


def watch(job: Job, count: Callable[[], int]) -> None:
    """Begin to watch a count in a thread of its own; the process ends when enough was counted."""

    def look() -> None:
        if job.mode == "rate":
            answer(measured(job, count))
        if job.mode == "idle":
            answer(idle(job))

    threading.Thread(target=look, daemon=True, name="meter").start()


def after_change(count: Callable[[], int], since: int, limit_s: float) -> int:
    """The count once it is another one. A count that is published now and then is true just when it changes."""
    give_up_at = time.monotonic() + limit_s
    while (now := count()) == since:
        if time.monotonic() > give_up_at:
            answer({"error": f"no record in {limit_s:g} s after {since:,}"}, 3)
        time.sleep(LOOK_S)
    return now


def measured(job: Job, count: Callable[[], int]) -> dict[str, Any]:
    """Rate and CPU between the warm-up and the end."""
    seen = after_change(count, 0, FIRST_RECORD_S)
    warm_until = time.monotonic() + WARM_S
    while seen < job.warm and (time.monotonic() < warm_until or job.options.get("warm_all")):
        seen = after_change(count, seen, FIRST_RECORD_S)
    began = read(seen)
    until = began.wall_s + job.seconds
    while seen < job.records and time.perf_counter() < until:
        seen = after_change(count, seen, FIRST_RECORD_S)
    ended = read(seen)
    counted, wall_s = ended.count - began.count, ended.wall_s - began.wall_s
    if not counted:
        return {"error": f"all {seen:,} records were handled before the clocks began: give more"}
    return {
        "records": counted,
        "handled": ended.count,
        "seconds": wall_s,
        "per_s": counted / wall_s,
        "cpu_us": (ended.cpu_s - began.cpu_s) / counted * 1e6,
        "peak_mb": peak_mb(),
    }


def idle(job: Job) -> dict[str, Any]:
    """The share of one core that a joined consumer takes while nothing comes."""
    time.sleep(8.0)  # joining is not idling
    began = read(0)
    time.sleep(job.seconds)
    ended = read(0)
    return {
        "idle_share": (ended.cpu_s - began.cpu_s) / (ended.wall_s - began.wall_s),
        "peak_mb": peak_mb(),
    }


class Eyes:
    """What handlers call in the modes that look at each record: `see(partition, offset, key, timestamp_ms)`."""

    def __init__(self, job: Job) -> None:
        self._job = job
        # One lock: some peers call handlers on several threads.
        self._lock = threading.Lock()
        self._ages_ms: list[float] = []
        self._first_at = 0.0
        self._since: float | None = None
        self._file: IO[str] | None = None
        if job.mode == "journal":
            self._file = Path(job.journal).open("a", buffering=1)  # noqa: SIM115 - open as long as the process

    def see(self, partition: int, offset: int, key: bytes | None, timestamp_ms: float) -> None:
        """A handler has begun with this record."""
        now = time.time()
        with self._lock:
            if self._file is not None:
                self._file.write(f"{now:.6f} {partition} {offset}\n")
                return
            self._age(now, now * 1000 - timestamp_ms, key)

    def _age(self, now: float, age_ms: float, key: bytes | None) -> None:
        if not self._first_at:
            self._first_at = now
        if self._since is None:
            # Records wait for the group to be joined: measuring begins when those are worked off.
            caught_up = key != HOT_KEY and age_ms < CAUGHT_UP_MS and now > self._first_at + 1
            if caught_up or now > self._first_at + CATCH_UP_S:
                self._since = now
            return
        if key != HOT_KEY:
            self._ages_ms.append(age_ms)
        if now > self._since + self._job.seconds and self._ages_ms:
            found = sorted(self._ages_ms)
            answer(
                {
                    "records": len(found),
                    "p50_ms": found[len(found) // 2],
                    "p99_ms": found[int(len(found) * 0.99)],
                    "max_ms": found[-1],
                    "peak_mb": peak_mb(),
                }
            )
