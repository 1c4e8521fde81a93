"""Connections between clients and the broker: requests go in order, one at a time, and sometimes go lost.

Decides how long a way takes and what is lost; refuses to know what is said. Invariant: every request is answered once,
by the broker or with `_TRANSPORT`, unless its process died; and on one connection nothing overtakes anything.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from headrace.testing.simulation.history import FaultBegan

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.testing.simulation.faults import Faults
    from headrace.testing.simulation.history import History
    from headrace.testing.simulation.kernel import Kernel, Process
    from headrace.testing.simulation.model.settings import ModelSettings

TRANSPORT: Final = "_TRANSPORT"
_HEARTBEATS: Final = frozenset({"Heartbeat", "ConsumerGroupHeartbeat"})


@final
class Network:
    """What all connections share: whether the broker can be reached, and which faults there are."""

    __slots__ = ("connections", "down", "faults", "history", "kernel", "settings", "silenced")

    def __init__(self, kernel: Kernel, history: History, settings: ModelSettings, faults: Faults) -> None:
        self.kernel = kernel
        self.history = history
        self.settings = settings
        self.faults = faults
        self.down = False
        self.connections: list[Connection] = []
        # Half-open: what these processes send, and what is sent to them, vanishes.
        self.silenced: list[Process] = []

    def way_s(self) -> float:
        """How long one way takes when nothing fails."""
        most = self.settings.latency_s
        return self.kernel.choices.between("latency", most / 10, most)

    def strikes(self, fault: str, detail: str = "") -> bool:
        """Whether this fault happens now; if so, the history has it."""
        probability: float = getattr(self.faults, fault)
        if not probability or not self.kernel.choices.chance(fault, probability):
            return False
        self.history.add(self.kernel.now, FaultBegan(fault, detail))
        return True

    def slow_s(self, label: str) -> float:
        """How long something slow takes."""
        return self.kernel.choices.between(label, 0.0, self.faults.slow_s)

    def go_down(self) -> None:
        """Every connection breaks, and none can be made."""
        self.down = True
        for connection in self.connections:
            connection.cut()

    def cut(self, process: Process) -> None:
        """Every connection of one process breaks; it may make new ones."""
        for connection in self.connections:
            if connection.process is process:
                connection.cut()

    def come_up(self) -> None:
        """Connections can be made again."""
        self.down = False


@final
class _Exchange:
    """One request and what becomes of it."""

    __slots__ = ("api", "arrive", "done")

    def __init__(
        self,
        api: str,
        arrive: Callable[[Callable[[str, Any], None]], None],
        done: Callable[[str, Any], None],
    ) -> None:
        self.api = api
        self.arrive = arrive
        self.done = done


@final
class Connection:
    """One connection of a client's process. Kafka reads the next request only when it has answered the one before."""

    __slots__ = ("_arrived", "_back", "_era", "_network", "_open", "_out", "_served", "process")

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self.process = process
        self._era = 0
        # On their way to the broker, oldest first; of these so many have arrived and wait for their turn.
        self._out: deque[_Exchange] = deque()
        self._arrived = 0
        self._served: _Exchange | None = None
        self._back: deque[tuple[_Exchange, str, Any]] = deque()
        # Not answered yet, as the client sees it.
        self._open: list[_Exchange] = []
        network.connections.append(self)

    def send(
        self,
        api: str,
        arrive: Callable[[Callable[[str, Any], None]], None],
        done: Callable[[str, Any], None],
        delay_s: float = 0.0,
    ) -> None:
        """Send one request. arrive: what the broker does, given a way to answer; done: what the client does then."""
        network = self._network
        if network.down:
            network.kernel.later(network.way_s(), f"{api} fails", lambda: done(TRANSPORT, None), self.process)
            return
        exchange = _Exchange(api, arrive, done)
        self._open.append(exchange)
        if self.process in network.silenced:
            return
        if network.strikes("request_lost", api) or (
            api in _HEARTBEATS and network.strikes("heartbeat_lost", api)
        ):
            network.kernel.later(network.way_s(), "cut", self._cutter())
            return
        if network.strikes("request_slow", api):
            delay_s += network.slow_s("slow request")
        self._out.append(exchange)
        era = self._era
        network.kernel.later(network.way_s() + delay_s, api, lambda: self._arrive(era))

    def cut(self) -> None:
        """The connection breaks: what was not answered fails; what the broker has read, it does."""
        self._era += 1
        failed, self._open = self._open, []
        self._out.clear()
        self._back.clear()
        self._arrived = 0
        self._served = None
        for exchange in failed:
            self._network.kernel.later(
                0.0, f"{exchange.api} fails", partial(exchange.done, TRANSPORT, None), self.process
            )

    def close(self) -> None:
        """The client is gone: no request of it will be answered."""
        self._era += 1
        self._open.clear()
        self._out.clear()
        self._back.clear()
        if self in self._network.connections:
            self._network.connections.remove(self)

    def _cutter(self) -> Callable[[], None]:
        era = self._era
        return lambda: self.cut() if era == self._era else None

    def _arrive(self, era: int) -> None:
        if era == self._era:
            self._arrived += 1
            self._serve()

    def _serve(self) -> None:
        while self._arrived and self._served is None:
            self._arrived -= 1
            exchange = self._served = self._out.popleft()
            exchange.arrive(partial(self._reply, self._era, exchange))

    def _reply(self, era: int, exchange: _Exchange, code: str, payload: Any) -> None:
        if era != self._era:
            return
        assert self._served is exchange, f"{exchange.api} was answered twice"
        self._served = None
        network = self._network
        if self.process in network.silenced:
            return
        if network.strikes("reply_lost", exchange.api) or (
            exchange.api == "OffsetCommit" and network.strikes("commit_reply_lost")
        ):
            network.kernel.later(network.way_s(), "cut", self._cutter())
        else:
            self._back.append((exchange, code, payload))
            network.kernel.later(
                network.way_s(), f"{exchange.api} reply", lambda: self._receive(era), self.process
            )
        if self._arrived:
            # Not at once: who answers may be in the midst of answering others.
            network.kernel.later(0.0, "next request", lambda: self._next(era))

    def _next(self, era: int) -> None:
        if era == self._era:
            self._serve()

    def _receive(self, era: int) -> None:
        if era == self._era and self._back:
            exchange, code, payload = self._back.popleft()
            self._open.remove(exchange)
            exchange.done(code, payload)
