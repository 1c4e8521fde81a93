"""The place of one worker process, and the phases that it goes through.

Decides which phase follows which. Refuses to know why: `policy` does. Invariant: a pair that is not in `TRANSITIONS` is
refused, and what was known of a process is forgotten when another takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from headrace.cli.exits import Exit


class Phase(Enum):
    """Of one process."""

    WAITING = "waiting"
    STARTING = "starting"
    UP = "up"
    STOPPING = "stopping"
    ABORTING = "aborting"
    KILLED = "killed"
    OVER = "over"


class Trigger(Enum):
    """What moves a process from one phase to another."""

    DUE = "due"
    READY = "ready"
    ASKED = "asked"
    SILENT = "silent"
    OVERDUE = "overdue"
    ENDED = "ended"
    FINAL = "final"


TRANSITIONS: dict[Phase, dict[Trigger, Phase]] = {
    Phase.WAITING: {Trigger.DUE: Phase.STARTING, Trigger.FINAL: Phase.OVER},
    Phase.STARTING: {
        Trigger.READY: Phase.UP,
        Trigger.ASKED: Phase.STOPPING,
        Trigger.SILENT: Phase.ABORTING,
        Trigger.ENDED: Phase.WAITING,
        Trigger.FINAL: Phase.OVER,
    },
    Phase.UP: {
        Trigger.ASKED: Phase.STOPPING,
        Trigger.SILENT: Phase.ABORTING,
        Trigger.ENDED: Phase.WAITING,
        Trigger.FINAL: Phase.OVER,
    },
    Phase.STOPPING: {
        Trigger.OVERDUE: Phase.ABORTING,
        Trigger.ENDED: Phase.WAITING,
        Trigger.FINAL: Phase.OVER,
    },
    Phase.ABORTING: {Trigger.OVERDUE: Phase.KILLED, Trigger.ENDED: Phase.WAITING, Trigger.FINAL: Phase.OVER},
    Phase.KILLED: {Trigger.ENDED: Phase.WAITING, Trigger.FINAL: Phase.OVER},
    Phase.OVER: {},
}
ALIVE = frozenset({Phase.STARTING, Phase.UP, Phase.STOPPING, Phase.ABORTING, Phase.KILLED})

Why = Literal["", "stop", "roll", "memory", "unlive"]


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One process as others see it. restarts: starts after the first. memory_bytes: 0 if not known."""

    number: int
    phase: str
    live: bool
    ready: bool
    restarts: int
    failures: int
    memory_bytes: int
    reasons: str


class Slot:
    """The place of one process; another takes it when one is gone."""

    __slots__ = (
        "codes", "deadline", "failed_code", "failures", "has_reported", "live", "memory_bytes", "number", "phase", "ready", "reasons",
        "reported_at", "started_at", "starts", "stop_s", "unfit", "unlive_since", "up_since", "was_steady", "why",
    )  # fmt: skip

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.phase = Phase.WAITING
        self.deadline: float | None = now
        self.why: Why = ""
        self.failures = 0
        self.starts = 0
        self.codes: list[int] = []
        self.failed_code = 0
        self.was_steady = False
        self.unfit: Exit | None = None
        self.stop_s = 30.0
        self.memory_bytes = 0
        self.started_at = now
        self.begin(now)

    def begin(self, now: float) -> None:
        """What was known of the one before it is forgotten."""
        self.started_at = self.reported_at = now
        self.live, self.ready, self.reasons = True, False, ""
        self.unlive_since: float | None = None
        self.up_since: float | None = None
        self.has_reported = False
        self.memory_bytes = 0

    def move(self, trigger: Trigger, deadline: float | None = None) -> None:
        """Take a row of the table."""
        self.phase = TRANSITIONS[self.phase][trigger]
        self.deadline = deadline

    def outcome(self, code: int) -> int:
        """How it counts at the end. One that is not up then, and never was for long, counts with its last failure."""
        up = self.phase is not Phase.WAITING and self.up_since is not None
        return code or (0 if up or self.was_steady else self.failed_code)

    def view(self) -> ProcessView:
        """A copy."""
        alive = self.phase in ALIVE
        return ProcessView(
            self.number,
            self.phase.value,
            self.live and alive,
            self.ready and self.phase is Phase.UP,
            max(0, self.starts - 1),
            self.failures,
            self.memory_bytes if alive else 0,
            self.reasons,
        )
