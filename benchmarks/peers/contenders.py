"""Who takes part: each with its program, its environment, and what it does differently from the job. One table.

Decides how a contender is called; refuses to know cells but for what a program can play. Invariant: what differs from
"at least once, each record acknowledged" is said beside each, and printed with the results.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.peers.cells import Cell
    from benchmarks.peers.environments import Environments

MEMBERS = Path(__file__).parent / "members"
TUNED = {"fetch.queue.backoff.ms": 10}


@dataclass(frozen=True, slots=True)
class Contender:
    """A program of `members`, or the C or Java one.

    environment: "own" is this interpreter; a name is a lock file `requirements/bench-NAME.lock`; "c" and "java:RELEASE" are
    compiled. options: go to the program as they are; for Java the order and whether concurrency is the cell's.
    """

    name: str
    title: str
    environment: str
    program: str
    differs: str
    options: dict[str, Any] = field(default_factory=dict)


CONTENDERS = (
    Contender("raw", "raw loop, tuned", "own", "raw.py", "commits nothing, one record at a time: not safe", {"librdkafka": TUNED}),
    Contender("raw-default", "raw loop, default", "own", "raw.py", "the same with librdkafka's defaults"),
    Contender("librdkafka-c", "librdkafka in C", "c", "raw.c", "the raw loop without Python: commits nothing"),
    Contender("headrace", "Headrace", "own", "headrace_app.py", "as asked; commits every second and what is finished only"),
    Contender("headrace-one-core", "Headrace, kept on one core", "own", "headrace_app.py", "as asked; the system may run all its threads on one core only", {"cores": 1}),
    Contender("faststream-confluent", "FastStream 0.7.8 (confluent)", "faststream", "faststream_app.py", "one record at a time, a commit for each", {"client": "confluent"}),
    Contender("faststream-aiokafka", "FastStream 0.7.8 (aiokafka)", "faststream", "faststream_app.py", "a consumer for each of eight partitions, each one record at a time with a commit for each", {"client": "aiokafka"}),
    Contender("arroyo", "Arroyo 2.48.0", "arroyo", "arroyo_app.py", "acknowledges in the order of the log; commits every second; threads where work waits, at most 1,000"),
    Contender("quix", "Quix Streams 3.28.1", "quix", "quix_app.py", "one record at a time; commits every 5 s"),
    Contender("faust", "Faust (faust-streaming 0.15.3)", "faust", "faust_app.py", "one record at a time; commits every 2.8 s"),
    Contender("kafka-python", "kafka-python 3.0, loop", "own", "kafka_python_loop.py", "one record at a time; a commit for each poll of up to 500"),
    Contender("aiokafka", "aiokafka 0.14, loop", "own", "aiokafka_loop.py", "a commit for each batch; waiting handlers of a batch run together, without order"),
    Contender("bare-processes", "bare processes", "own", "bare_processes.py", "no Kafka: what the cores allow"),
    Contender("pc-key", "Parallel Consumer 0.5.3.3, KEY", "java:confluent", "java", "Java; defaults: 16 threads, commits every 5 s", {"order": "KEY"}),
    Contender("pc-key-tuned", "Parallel Consumer 0.5.3.3, KEY, tuned", "java:confluent", "java", "Java; as many threads as the cell allows, at most 1,000", {"order": "KEY", "tuned": True}),
    Contender("pc-unordered", "Parallel Consumer 0.5.3.3, UNORDERED", "java:confluent", "java", "Java; defaults; no order", {"order": "UNORDERED"}),
    Contender("pc-unordered-tuned", "Parallel Consumer 0.5.3.3, UNORDERED, tuned", "java:confluent", "java", "Java; threads as above; no order", {"order": "UNORDERED", "tuned": True}),
    Contender("pc-fork-key-tuned", "Parallel Consumer 0.6.0.0 (fork), KEY, tuned", "java:fork", "java", "Java; threads as above", {"order": "KEY", "tuned": True}),
    Contender("pc-fork-unordered-tuned", "Parallel Consumer 0.6.0.0 (fork), UNORDERED, tuned", "java:fork", "java", "Java; threads as above; no order", {"order": "UNORDERED", "tuned": True}),
)  # fmt: skip

IDLE_THREADS = 100
"""Threads of a tuned Parallel Consumer where the cell names none: its users' usual number, faster than 4 and 16 here."""
THREADS_MAX = 1000


def contender_named(name: str) -> Contender:
    """Raises `SystemExit` that lists what there is."""
    for contender in CONTENDERS:
        if contender.name == name:
            return contender
    raise SystemExit(f"no contender {name!r}; there are: {', '.join(each.name for each in CONTENDERS)}")


@dataclass(frozen=True, slots=True)
class Task:
    """One run: a cell, the records it is on, and what else the program is told."""

    servers: str
    topic: str
    group: str
    records: int
    cell: Cell
    mode: str = ""
    journal: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def warm(self) -> int:
        """Records before the clocks begin."""
        return self.records // 10


def command(contender: Contender, task: Task, environments: Environments) -> list[str]:
    """How to start it. Raises `Unavailable` where it cannot be had."""
    cell = task.cell
    mode = task.mode or cell.mode
    if contender.environment == "c":
        program = environments.compiled_c(MEMBERS / contender.program)
        return [
            str(program),
            task.servers,
            task.topic,
            task.group,
            str(task.records),
            str(task.warm),
            str(cell.seconds),
        ]
    if contender.environment.startswith("java:"):
        java = environments.java(contender.environment.removeprefix("java:"))
        threads = (
            min(cell.workers or cell.concurrency or IDLE_THREADS, THREADS_MAX)
            if contender.options.get("tuned")
            else 0
        )
        every = round(1 / cell.failing) if cell.failing else 0
        arguments: list[object] = [task.servers, task.topic, task.group, contender.options["order"], threads]
        arguments += [round(cell.work_ms), task.records, task.warm, cell.seconds, mode, every]
        return [*java, *map(str, arguments)]
    job = {
        "servers": task.servers,
        "topic": task.topic,
        "group": task.group,
        "handler": cell.handler,
        "work_ms": cell.work_ms,
        "order": cell.order,
        "concurrency": cell.concurrency,
        "workers": cell.workers,
        "records": task.records,
        "warm": task.warm,
        "seconds": cell.seconds,
        "failing": cell.failing,
        "mode": mode,
        "journal": task.journal,
        "options": {**contender.options, **task.options},
    }
    return [
        str(environments.python(contender.environment)),
        str(MEMBERS / contender.program),
        json.dumps(job),
    ]
