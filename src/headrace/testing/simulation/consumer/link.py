"""A client's way to its group's coordinator: where it is, and asking again when it moved or cannot be reached.

Decides when the coordinator counts as known; refuses to know what is asked of it. Invariant: `up` is True only between
an answer that named the coordinator and the first sign that it is not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from headrace.testing.simulation.model.network import TRANSPORT, Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.testing.simulation.kernel import Process
    from headrace.testing.simulation.model.coordinator import Coordinator
    from headrace.testing.simulation.model.network import Network

    Reply = Callable[[str, Any], None]

ELSEWHERE: Final[frozenset[str]] = frozenset({"NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE", TRANSPORT})
"""Answers after which librdkafka asks where the coordinator is."""


@final
class CoordinatorLink:
    """One client's. `on_up` is called whenever the coordinator is known again."""

    __slots__ = (
        "_asking",
        "_closed",
        "_connection",
        "_coordinator",
        "_known",
        "_network",
        "_process",
        "on_up",
        "up",
    )

    def __init__(self, network: Network, coordinator: Coordinator, process: Process) -> None:
        self._network = network
        self._coordinator = coordinator
        self._process = process
        self._connection = Connection(network, process)
        self._known = -1
        self._asking = False
        self._closed = False
        self.up = False
        self.on_up: list[Callable[[], None]] = []

    def ask(self) -> None:
        """Find the coordinator; again and again until it is found."""
        if self._asking or self._closed:
            return
        self.up = False
        self._asking = True
        network = self._network
        network.kernel.later(2 * network.way_s(), "find coordinator", self._answered, self._process)

    def send(self, api: str, call: Callable[[Reply], None], done: Reply, beating: str = "") -> None:
        """Ask the coordinator something; `call` is made there, if it is there. beating: whose heartbeat this is."""
        known = self._known

        def answered(code: str, payload: Any) -> None:
            if code in ELSEWHERE:
                self.up = False
                self.ask()
            if not self._closed:
                done(code, payload)

        self._connection.send(
            api, lambda reply: self._coordinator.serve(known, api, beating, call, reply), answered
        )

    def close(self) -> None:
        """The client is gone."""
        self._closed = True
        self._connection.close()

    def _answered(self) -> None:
        self._asking = False
        if self._closed:
            return
        network = self._network
        if (
            network.down
            or self._process in network.silenced
            or network.strikes("request_lost", "FindCoordinator")
        ):
            self._asking = True
            network.kernel.later(
                network.settings.coordinator_query_s, "find coordinator", self._answered, self._process
            )
            return
        self._known = self._coordinator.moves
        self.up = True
        for call in list(self.on_up):
            call()
