"""Virtual time, and whose turn it is: the scheduler under a simulation.

Threads of the simulated processes are greenlets; everything that takes time is a timer. At each step one of all that
could happen now happens: a timer that is due, or a thread that waits no longer; `Choices` picks. Only when nothing can
happen now does time move on, to the next moment at which something can.

Refuses to know Kafka and Headrace. Invariants: one thing happens at a time; a frozen process does nothing, and what was
due meanwhile happens after its thaw; of a killed process nothing ever happens again.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, final

from greenlet import getcurrent, greenlet

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.testing.simulation.choices import Choices


class Killed(BaseException):
    """Thrown into the threads of a killed process; whatever they do then reaches nobody."""


@final
class Process:
    """One simulated process: its threads and timers live, freeze and die together."""

    __slots__ = ("alive", "frozen_until", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen_until = 0.0


@final
class Timer:
    """Something that happens at a moment, unless it is cancelled."""

    __slots__ = ("action", "at", "label", "process")

    def __init__(
        self, at: float, label: str, action: Callable[[], None] | None, process: Process | None
    ) -> None:
        self.at = at
        self.label = label
        self.action = action
        self.process = process

    def cancel(self) -> None:
        """It does not happen."""
        self.action = None


@final
class Thread:
    """One thread of a process: runs until it waits."""

    __slots__ = ("fiber", "name", "process", "ready", "until")

    def __init__(self, process: Process, name: str, fiber: greenlet) -> None:
        self.process = process
        self.name = name
        self.fiber = fiber
        # What it waits for: a moment, or a condition that is looked at before each step.
        self.until = 0.0
        self.ready: Callable[[], bool] | None = None


@final
class Kernel:
    """The one scheduler of a simulation."""

    def __init__(self, choices: Choices) -> None:
        self.now = 0.0
        self.steps = 0
        self.choices = choices
        self._future: list[tuple[float, int, Timer]] = []
        self._due: list[Timer] = []
        self._threads: list[Thread] = []
        self._numbers = count()
        self._main = getcurrent()
        self._running: Thread | None = None
        self._preemption = 0.0

    def clock(self) -> float:
        """The virtual time, as a clock."""
        return self.now

    def preempt_with(self, probability: float) -> None:
        """How often `preempt` gives way."""
        self._preemption = probability

    # Making things happen

    def spawn(self, process: Process, name: str, body: Callable[[], None]) -> Thread:
        """Begin a thread; it runs at some later step."""

        def run() -> None:
            try:
                body()
            except Killed:
                pass
            finally:
                self._threads.remove(thread)

        thread = Thread(process, name, greenlet(run, self._main))
        self._threads.append(thread)
        return thread

    def later(
        self, delay_s: float, label: str, action: Callable[[], None], process: Process | None = None
    ) -> Timer:
        """Do `action` after a delay: of a process if one is given (it freezes and dies with it), else of the world."""
        timer = Timer(self.now + max(0.0, delay_s), label, action, process)
        if delay_s <= 0:
            self._due.append(timer)
        else:
            heapq.heappush(self._future, (timer.at, next(self._numbers), timer))
        return timer

    def wait(self, until: float, ready: Callable[[], bool] | None = None) -> None:
        """Called by a thread: let others go on until a moment, or until `ready` says so; gives way at least once."""
        thread = self._current()
        if not thread.process.alive:
            raise Killed
        if self._nothing_else(thread, until, ready):
            self.steps += 1
            self.now = until
            return
        thread.until = until
        thread.ready = ready
        self._main.switch()
        if not thread.process.alive:
            raise Killed

    def preempt(self) -> None:
        """Called by a thread at a place where a real one could lose the processor: now and then, give way."""
        if self._preemption and self.choices.chance("preempt", self._preemption):
            self.wait(self.now)

    def guard(self) -> None:
        """Called by a thread before it reaches outside its process: a killed one must not."""
        thread = self._running
        assert thread is not None, "only a simulated thread may call this"
        if not thread.process.alive:
            raise Killed

    def kill(self, process: Process) -> None:
        """kill -9. Its threads are unwound at once; what they do meanwhile must reach nobody (see `guard`)."""
        process.alive = False
        for thread in [each for each in self._threads if each.process is process]:
            if thread.fiber is not getcurrent():
                # It switches back here when it ends, for its parent is the main one; a loop that catches it ends later.
                running, self._running = self._running, thread
                while thread in self._threads:
                    thread.fiber.throw(Killed) if thread.fiber else self._threads.remove(thread)
                self._running = running

    def freeze(self, process: Process, frozen_s: float) -> None:
        """Nothing of it happens for so long."""
        process.frozen_until = max(process.frozen_until, self.now + frozen_s)
        self.later(process.frozen_until - self.now, "thaw", lambda: None)

    # Running

    def step(self) -> bool:
        """Let one thing happen; False if nothing can happen any more, ever."""
        self.steps += 1
        while True:
            timers = self._timers_now()
            threads = self._threads_now()
            options = len(timers) + len(threads)
            if options:
                break
            if not self._advance():
                return False
        chosen = self.choices.index("step", options) if options > 1 else 0
        if chosen < len(timers):
            timer = timers[chosen]
            self._due.remove(timer)
            if timer.action is not None:
                timer.action()
        else:
            self._running = thread = threads[chosen - len(timers)]
            thread.ready = None
            thread.fiber.switch()
            self._running = None
        return True

    def end(self) -> None:
        """Unwind every thread that is left."""
        for process in dict.fromkeys(thread.process for thread in self._threads):
            self.kill(process)

    # Inside

    def _current(self) -> Thread:
        thread = self._running
        assert thread is not None, "only a simulated thread may call this"
        return thread

    def _timers_now(self) -> list[Timer]:
        """What is due and may happen; what never will is forgotten."""
        now, future, due = self.now, self._future, self._due
        while future and future[0][0] <= now:
            due.append(heapq.heappop(future)[2])
        if not due:
            return due
        alive = [
            timer
            for timer in due
            if timer.action is not None and (timer.process is None or timer.process.alive)
        ]
        self._due = alive
        return [timer for timer in alive if timer.process is None or timer.process.frozen_until <= now]

    def _threads_now(self) -> list[Thread]:
        """Threads that wait no longer."""
        now = self.now
        return [
            thread
            for thread in self._threads
            if thread.process.frozen_until <= now
            and (thread.until <= now or (thread.ready is not None and thread.ready()))
        ]

    def _nothing_else(self, thread: Thread, until: float, ready: Callable[[], bool] | None) -> bool:
        """Whether nothing can happen before this thread goes on at `until`: then it goes on without a switch."""
        if self._due or until <= self.now or (self._future and self._future[0][0] <= until):
            return False
        if thread.process.frozen_until > self.now or (ready is not None and ready()):
            return False
        for other in self._threads:
            if other is thread:
                continue
            if max(other.until, other.process.frozen_until) <= until:
                return False
            if other.ready is not None and other.ready():
                return False
        return until != float("inf")

    def _advance(self) -> bool:
        """Move time to the next moment at which something can happen."""
        moments = [
            max(thread.until, thread.process.frozen_until)
            for thread in self._threads
            if thread.until != float("inf") or thread.ready is None
        ]
        moments += [timer.process.frozen_until for timer in self._due if timer.process is not None]
        while self._future and self._future[0][2].action is None:
            heapq.heappop(self._future)
        if self._future:
            moments.append(self._future[0][0])
        moments = [moment for moment in moments if self.now < moment < float("inf")]
        if not moments:
            return False
        self.now = min(moments)
        return True
