"""The loop that carries out what `policy` decides: starts processes, hears them, signals them, and listens for signals.

Decides nothing about processes. Never imports the user's module, and never makes a client: so it has nothing to lose, and a
process that it starts has the code as it is then. Invariant: one thread does all of it; others read `Fleet`, whole values.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headrace.cli.processes import exchange
from headrace.cli.processes.child import Child
from headrace.cli.processes.memory import group_memory, measurable
from headrace.cli.processes.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from types import FrameType

    from headrace.cli.exits import Exit
    from headrace.cli.processes.slots import ProcessView

log = logging.getLogger("headrace.processes")

LOOK_S: Final = 0.2
"""How often it is looked which processes have ended: a pipe may stay open in a program that one of them started."""
MEASURE_S: Final = 2.0
STALE_S: Final = 10.0
"""Without a turn of the loop for so long, the supervisor itself is not well."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Member:
    """One process as others see it. url: of its own site, empty while there is none."""

    view: ProcessView
    pid: int
    url: str


@dataclass(frozen=True, slots=True)
class State:
    """All of it at one moment of the monotonic clock."""

    at: float
    members: tuple[Member, ...]
    rolling: bool
    stopping: bool


class Fleet:
    """What the supervisor publishes; its thread writes, whole, and any thread reads."""

    def __init__(self, count: int) -> None:
        now = time.monotonic()
        views = Policy(count, exchange.Limits(), now).views()
        self.state = State(now, tuple(Member(view, 0, "") for view in views), rolling=False, stopping=False)


class Supervisor:
    """Runs processes until all are over. Main thread only, for signals."""

    def __init__(
        self,
        fleet: Fleet,
        count: int,
        limits: exchange.Limits,
        arguments: Sequence[str],
        labels: Sequence[str],
    ) -> None:
        self._fleet = fleet
        self._policy = Policy(count, limits, time.monotonic())
        self._arguments = tuple(arguments)
        self._labels = tuple(labels)
        self._children: dict[int, Child] = {}
        self._starts = [0] * count
        self._urls = [""] * count
        self._selector = selectors.DefaultSelector()
        self._signals: list[int] = []
        self._measured_at = float("-inf")
        self._code: Exit | None = None
        self._had_terminal = _has_terminal()

    def run(self) -> Exit:
        """Returns when all processes have ended; the code says how."""
        try:
            with self._heard():
                while self._code is None:
                    self._turn()
                return self._code
        finally:
            for child in self._children.values():  # only after an error of ours: nobody may be left behind
                child.send("kill")
            self._selector.close()

    def _turn(self) -> None:
        signals, self._signals = self._signals, []
        for number in signals:
            self._signalled(number)
        for child in list(self._children.values()):
            self._listen(child)
        self._measure()
        self._step(exchange.Tick())
        self._publish()
        if self._code is None and not self._signals:
            self._wait()

    def _wait(self) -> None:
        deadline = self._policy.next_deadline()
        wait_s = LOOK_S if deadline is None else min(LOOK_S, max(0.0, deadline - time.monotonic()))
        for key, _ in self._selector.select(wait_s):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.recv(4096)

    def _step(self, event: exchange.Event) -> None:
        for effect in self._policy.step(event, time.monotonic()):
            match effect:
                case exchange.Start(process=number):
                    self._start(number)
                case exchange.Send(process=number, what=what):
                    if number in self._children:
                        self._children[number].send(what)
                case exchange.Tell():
                    self._tell(effect)
                case exchange.End(code=code):
                    self._code = code

    def _start(self, number: int) -> None:
        try:
            child = Child(number, self._labels[number], self._arguments)
        except OSError as error:  # no memory, or too many processes: that may pass
            log.error("process %d cannot be started: %s", number, error)  # noqa: TRY400 - the reason is all there is
            self._step(exchange.Ended(number, 1))
            return
        self._children[number] = child
        self._urls[number] = ""
        self._starts[number] += 1
        self._selector.register(child.pipe, selectors.EVENT_READ)
        again = " again" if self._starts[number] > 1 else ""
        log.info("process %d started%s, pid %d", number, again, child.pid)

    def _listen(self, child: Child) -> None:
        ended = child.ended()  # asked first: what is in the pipe now is then all there will be
        last = child.read()
        if last is not None:
            self._urls[child.number] = last.url
            self._step(
                exchange.Reported(
                    child.number, last.live, last.ready, last.stop_s, last.reasons or last.verdict
                )
            )
        if ended is not None:
            self._selector.unregister(child.pipe)
            child.close()
            if child.evidence:
                log.error("process %d left its stacks:\n%s", child.number, "\n".join(child.evidence))
            del self._children[child.number]
            self._urls[child.number] = ""
            self._step(exchange.Ended(child.number, ended))

    def _measure(self) -> None:
        now = time.monotonic()
        if now - self._measured_at < MEASURE_S or not self._children or not measurable():
            return
        self._measured_at = now
        numbers = {child.pid: child.number for child in self._children.values()}
        for pid, memory_bytes in group_memory(numbers).items():
            self._step(exchange.Measured(numbers[pid], memory_bytes))

    def _signalled(self, number: int) -> None:
        name = signal.Signals(number).name
        if number == signal.SIGHUP and (_has_terminal() or not self._had_terminal):
            log.info("%s", name)
            self._step(exchange.RollAsked())
            return
        # A terminal that is closed hangs up too. Then there is nobody to restart for.
        log.info("%s: %s", name, "ending harder" if self._policy.stopping else "ending")
        self._step(exchange.StopAsked())

    def _publish(self) -> None:
        members = tuple(
            Member(
                view,
                self._children[view.number].pid if view.number in self._children else 0,
                self._urls[view.number],
            )
            for view in self._policy.views()
        )
        self._fleet.state = State(
            time.monotonic(), members, rolling=self._policy.rolling, stopping=self._policy.stopping
        )

    def _tell(self, told: exchange.Tell) -> None:
        about = "" if told.process is None else f"process {told.process} "
        log.log(logging.getLevelNamesMapping()[told.level.upper()], "%s%s", about, told.text)

    @contextmanager
    def _heard(self) -> Generator[None]:
        """Within the block signals are noted, and end the wait; afterwards they do what they did."""
        here, there = socket.socketpair()
        here.setblocking(False)
        there.setblocking(False)
        self._selector.register(here, selectors.EVENT_READ)

        def on_signal(number: int, _frame: FrameType | None) -> None:
            self._signals.append(number)

        heard = list(SIGNALS)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            # As under nohup: whoever started it so wants a closed terminal to mean nothing.
            heard.remove(signal.SIGHUP)
            log.info("SIGHUP is ignored here, as under nohup: there will be no rolling restart")
        before = {number: signal.signal(number, on_signal) for number in heard}
        wakeup = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.unregister(here)
            here.close()
            there.close()


def _has_terminal() -> bool:
    """Whether there is one that could hang up, wherever stdin, stdout and stderr lead."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
