"""What the policy of worker processes is told, what it asks for, and its limits. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headrace.cli.exits import Exit

READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, how often, how much.

    silent_s: without a report for so long a process is ended with evidence; before its first, so long as `first_s`, since
    a machine that starts many things at once may take that for imports. unlive_s: reported not live for so long, it is
    replaced. ready_s: a process that a roll has replaced must be ready within this. stop_margin_s: on top of the app's own
    `Timeouts.stop_s`. evidence_s: to write its stacks. hard_s: after a second signal. steady_s: up for so long, its
    earlier failures are forgotten. memory_bytes: a process that holds more is replaced; None: no limit.
    """

    silent_s: float = 30.0
    first_s: float = 120.0
    unlive_s: float = 15.0
    ready_s: float = READY_S
    stop_margin_s: float = 10.0
    evidence_s: float = 5.0
    hard_s: float = 10.0
    backoff_initial_s: float = 1.0
    backoff_max_s: float = 60.0
    steady_s: float = 60.0
    memory_bytes: int | None = None


# ---- Events


@dataclass(frozen=True, slots=True)
class Reported:
    """A process said how it is. stop_s: how long its app may take to stop. reasons: of its health, for people."""

    process: int
    live: bool
    ready: bool
    stop_s: float = 30.0
    reasons: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """A process and its workers hold so much memory."""

    process: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A process is gone. code: its exit code; negative: the signal that ended it."""

    process: int
    code: int


@dataclass(frozen=True, slots=True)
class RollAsked:
    """Replace all, one at a time."""


@dataclass(frozen=True, slots=True)
class StopAsked:
    """End all. Asked a second time: hard; a third time: at once."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = Reported | Measured | Ended | RollAsked | StopAsked | Tick


# ---- Effects


@dataclass(frozen=True, slots=True)
class Start:
    """Start this process."""

    process: int


@dataclass(frozen=True, slots=True)
class Send:
    """Ask it to drain (asked again: to stop hard), have it write its stacks and die, or kill it."""

    process: int
    what: Literal["drain", "abort", "kill"]


@dataclass(frozen=True, slots=True)
class Tell:
    """A line for the log. process: whom it is about; None: all of them."""

    level: Literal["info", "warning", "error"]
    text: str
    process: int | None = None


@dataclass(frozen=True, slots=True)
class End:
    """All is over; the command ends with this code."""

    code: Exit


Effect = Start | Send | Tell | End
