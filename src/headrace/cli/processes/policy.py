"""What becomes of worker processes: when each is started, asked to end, ended by force, or left alone.

A pure function of what is told: `step(event, now) -> effects`. Refuses to know processes, signals, pipes and clocks.
Invariant: a process is in one phase of `slots.TRANSITIONS`, and whatever may last too long has a deadline.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from headrace.cli.exits import Exit
from headrace.cli.processes.exchange import (
    Effect,
    End,
    Ended,
    Event,
    Limits,
    Measured,
    Reported,
    RollAsked,
    Send,
    Start,
    StopAsked,
    Tell,
    Tick,
)
from headrace.cli.processes.slots import ALIVE, Phase, ProcessView, Slot, Trigger, Why

TERMINATED = -15
"""By SIGTERM, for which it had no handler."""
UNFIT = frozenset({Exit.USAGE, Exit.FENCED})
"""Codes of a process that will not begin, however often it is started."""


class Policy:
    """Decides for all processes. One thread."""

    def __init__(self, count: int, limits: Limits, now: float) -> None:
        self._limits = limits
        self._slots = [Slot(number, now) for number in range(count)]
        self._was_ready = False
        self._stops = 0
        self._final: Exit | None = None
        self._ended = False
        self._queue: deque[int] = deque()
        self._rolling: int | None = None
        self._roll_deadline: float | None = None
        self._effects: list[Effect] = []

    def step(self, event: Event, now: float) -> list[Effect]:
        """Take in what happened; what is to be done, in order."""
        self._effects = []
        match event:
            case Reported():
                self._reported(self._slots[event.process], event, now)
            case Measured():
                self._measured(self._slots[event.process], event.memory_bytes, now)
            case Ended():
                self._gone(self._slots[event.process], event.code, now)
            case RollAsked():
                self._roll_asked(now)
            case StopAsked():
                self._stop_asked(now)
            case Tick():
                pass
        for slot in self._slots:
            if isinstance(event, Tick):
                # Only then has everything been read that was said: whoever was stopped himself must not call others silent.
                self._judge(slot, now)
            self._look(slot, now)
        self._advance_roll(now)
        if not self._ended and all(slot.phase is Phase.OVER for slot in self._slots):
            self._ended = True
            self._effects.append(End(self._code()))
        return self._effects

    def next_deadline(self) -> float | None:
        """When to step again at the latest."""
        found = [slot.deadline for slot in self._slots if slot.deadline is not None]
        for slot in self._slots:
            if slot.phase in (Phase.STARTING, Phase.UP):
                found.append(slot.reported_at + self._patience_s(slot))
                if slot.unlive_since is not None:
                    found.append(slot.unlive_since + self._limits.unlive_s)
        if self._roll_deadline is not None:
            found.append(self._roll_deadline)
        return min(found, default=None)

    def views(self) -> tuple[ProcessView, ...]:
        """All processes, by number."""
        return tuple(slot.view() for slot in self._slots)

    @property
    def stopping(self) -> bool:
        """Whether all are ending."""
        return self._stops > 0

    @property
    def rolling(self) -> bool:
        """Whether a rolling restart is under way."""
        return self._rolling is not None or bool(self._queue)

    # What was told

    def _reported(self, slot: Slot, report: Reported, now: float) -> None:
        slot.has_reported = True
        slot.reported_at, slot.stop_s, slot.reasons = now, report.stop_s, report.reasons
        slot.live, slot.ready = report.live, report.ready
        if report.live:
            slot.unlive_since = None
        elif slot.unlive_since is None:
            slot.unlive_since = now
        if report.ready and slot.phase is Phase.STARTING:
            slot.move(Trigger.READY)
            slot.up_since, slot.unfit, self._was_ready = now, None, True
            self._tell("info", f"is ready, {now - slot.started_at:.1f} s after its start", slot)

    def _measured(self, slot: Slot, memory_bytes: int, now: float) -> None:
        slot.memory_bytes = memory_bytes
        limit = self._limits.memory_bytes
        if limit is not None and memory_bytes > limit and slot.phase in (Phase.STARTING, Phase.UP):
            held, may = f"{memory_bytes / 2**20:,.0f} MiB", f"{limit / 2**20:,.0f} MiB"
            self._tell("warning", f"holds {held} of memory, and may hold {may}: replacing it", slot)
            self._drain(slot, "memory", now)

    def _gone(self, slot: Slot, code: int, now: float) -> None:
        if slot.phase not in ALIVE:
            return
        steady = slot.up_since is not None and now - slot.up_since >= self._limits.steady_s
        before, why = slot.phase, slot.why
        if steady:
            slot.failures, slot.was_steady = 0, True
        if why and code == TERMINATED and slot.up_since is None:
            code = 0  # It was asked before it listened for signals, and had begun nothing.
        if self.stopping:
            by_force = before in (Phase.ABORTING, Phase.KILLED) or self._stops > 2
            slot.codes.append(Exit.FORCED if code and by_force else slot.outcome(code))
            slot.move(Trigger.FINAL)
        elif why == "roll" or (why == "memory" and steady):
            if code:
                self._tell("warning", f"ended with {_named(code)} when asked to make room", slot)
            slot.move(Trigger.ENDED, now)
        elif code == 0 and not why:
            self._tell("info", "ended by itself, with code 0: it stays ended", slot)
            slot.codes.append(0)
            slot.move(Trigger.FINAL)
        else:
            self._failed(slot, code, now)
        slot.why, slot.ready = "", False

    def _failed(self, slot: Slot, code: int, now: float) -> None:
        slot.failures, slot.failed_code = slot.failures + 1, code
        if code in UNFIT and not self._was_ready:
            slot.unfit = Exit(code)
        fits = [one for one in self._slots if one.unfit is None]
        if not fits:
            self._tell("error", f"none of the processes could begin: ending with code {code}")
            slot.codes.append(code)
            slot.move(Trigger.FINAL)
            self._final = Exit(code)
            self._stop_asked(now)
            return
        limits = self._limits
        # Spread by number: what failed together need not come back together.
        wait_s = min(limits.backoff_max_s, limits.backoff_initial_s * 2.0 ** min(slot.failures - 1, 30))
        wait_s *= 1 + slot.number / (10 * len(self._slots))
        self._tell("error", f"ended with {_named(code)}: starting it again in {wait_s:.1f} s", slot)
        slot.move(Trigger.ENDED, now + wait_s)

    def _stop_asked(self, now: float) -> None:
        self._stops += 1
        self._queue.clear()
        self._rolling = self._roll_deadline = None
        for slot in self._slots:
            if slot.phase is Phase.WAITING:
                slot.codes.append(slot.outcome(0))
                slot.move(Trigger.FINAL)
            elif slot.phase in (Phase.STARTING, Phase.UP):
                self._drain(slot, "stop", now)
            elif slot.phase is Phase.KILLED:
                slot.deadline = now + self._limits.evidence_s
            elif slot.phase in ALIVE and self._stops > 2:
                self._effects.append(Send(slot.number, "kill"))
            elif slot.phase is Phase.STOPPING and self._stops == 2:
                slot.deadline = now + self._limits.hard_s
                self._effects.append(Send(slot.number, "drain"))

    # What time brings

    def _judge(self, slot: Slot, now: float) -> None:
        limits = self._limits
        if slot.phase in (Phase.STARTING, Phase.UP):
            silent_s = now - slot.reported_at
            if silent_s >= self._patience_s(slot):
                self._tell("error", f"has reported nothing for {silent_s:.0f} s: ending it", slot)
                self._abort(slot, Trigger.SILENT, now)
            elif slot.unlive_since is not None and now - slot.unlive_since >= limits.unlive_s:
                self._tell(
                    "error",
                    f"is not live for {now - slot.unlive_since:.0f} s ({slot.reasons}): replacing it",
                    slot,
                )
                self._drain(slot, "unlive", now)

    def _look(self, slot: Slot, now: float) -> None:
        limits = self._limits
        if slot.deadline is None or now < slot.deadline:
            return
        match slot.phase:
            case Phase.WAITING:
                slot.move(Trigger.DUE)
                slot.starts += 1
                slot.begin(now)
                self._effects.append(Start(slot.number))
            case Phase.STOPPING:
                self._tell("error", "did not end when asked to: ending it", slot)
                self._abort(slot, Trigger.OVERDUE, now)
            case Phase.ABORTING:
                slot.move(Trigger.OVERDUE, now + limits.evidence_s)
                self._effects.append(Send(slot.number, "kill"))
            case Phase.KILLED if self.stopping:
                # Held by the kernel. Whoever ends the supervisor should not wait for ever for it.
                self._tell("error", "is killed and does not go: leaving it behind", slot)
                slot.codes.append(Exit.FORCED)
                slot.move(Trigger.FINAL)
            case _:
                slot.deadline = None

    def _patience_s(self, slot: Slot) -> float:
        return self._limits.silent_s if slot.has_reported else self._limits.first_s

    def _drain(self, slot: Slot, why: Why, now: float) -> None:
        slot.move(Trigger.ASKED, now + slot.stop_s + self._limits.stop_margin_s)
        slot.why = why
        self._effects.append(Send(slot.number, "drain"))

    def _abort(self, slot: Slot, trigger: Trigger, now: float) -> None:
        slot.move(trigger, now + self._limits.evidence_s)
        self._effects.append(Send(slot.number, "abort"))

    # One at a time

    def _roll_asked(self, now: float) -> None:
        if self.stopping:
            return
        again = " again, from the first" if self.rolling else ""
        self._tell("info", f"rolling restart{again}: one process after the other")
        # Whoever is being replaced may have begun before what is new was there, so it has another turn.
        self._queue = deque(range(len(self._slots)))
        self._roll_deadline = now + self._limits.ready_s

    def _advance_roll(self, now: float) -> None:
        if not self.rolling or self.stopping:
            return
        if self._rolling is not None:
            self._watch_replaced(self._slots[self._rolling], now)
        while self._rolling is None and self._queue:
            slot = self._slots[self._queue[0]]
            others = [one for one in self._slots if one is not slot and one.phase is not Phase.OVER]
            if slot.phase is Phase.OVER:
                self._queue.popleft()
            elif all(one.phase is Phase.UP and one.ready for one in others) and slot.phase in (
                Phase.WAITING,
                Phase.STARTING,
                Phase.UP,
            ):
                self._replace(slot, now)
            else:
                if self._roll_deadline is not None and now >= self._roll_deadline:
                    self._give_up_rolling(f"the others are not all ready for {self._limits.ready_s:.0f} s")
                return

    def _replace(self, slot: Slot, now: float) -> None:
        self._rolling = self._queue.popleft()
        self._roll_deadline = None
        self._tell("info", "is replaced", slot)
        if slot.phase is Phase.WAITING:
            slot.move(Trigger.DUE)
            slot.starts += 1
            slot.begin(now)
            self._effects.append(Start(slot.number))
        else:
            self._drain(slot, "roll", now)

    def _watch_replaced(self, slot: Slot, now: float) -> None:
        if slot.why == "roll":
            self._roll_deadline = None  # The old one is still going, and has a deadline of its own.
            return
        if slot.phase is Phase.UP and slot.ready:
            self._rolling, self._roll_deadline = None, now + self._limits.ready_s
            if not self._queue:
                self._roll_deadline = None
                self._tell("info", "rolling restart done")
        elif slot.phase not in (Phase.STARTING, Phase.UP):
            self._give_up_rolling(f"process {slot.number} ended before it was ready")
        elif now - slot.started_at >= self._limits.ready_s:
            self._give_up_rolling(f"process {slot.number} is not ready after {self._limits.ready_s:.0f} s")
        else:
            self._roll_deadline = slot.started_at + self._limits.ready_s

    def _give_up_rolling(self, reason: str) -> None:
        left = ", ".join(str(number) for number in self._queue) or "none"
        self._tell(
            "error", f"rolling restart stopped: {reason}. Not replaced: {left}. Mend it, and send SIGHUP"
        )
        self._queue.clear()
        self._rolling = self._roll_deadline = None

    # The end

    def _code(self) -> Exit:
        if self._final is not None:
            return self._final
        codes = [code for slot in self._slots for code in slot.codes]
        if Exit.FORCED in codes:
            return Exit.FORCED
        worst = max((code if code > 0 else Exit.FAILED for code in codes if code), default=Exit.OK)
        return Exit(worst) if worst in set(Exit) else Exit.FAILED

    def _tell(self, level: Literal["info", "warning", "error"], text: str, about: Slot | None = None) -> None:
        self._effects.append(Tell(level, text, None if about is None else about.number))


def _named(code: int) -> str:
    return f"code {code}" if code >= 0 else f"signal {-code}"
