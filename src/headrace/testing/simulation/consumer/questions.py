"""A consumer's questions to the broker: committed offsets, and offsets by rule or time.

Decides when to ask again; refuses to know who asks. Invariant: every question is bounded, and one that is not answered in
time is None, never a guess.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from headrace._client.failures import request_row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace._client.faults import Faults
    from headrace.ports import Committed
    from headrace.ports import TopicPartition as Place
    from headrace.testing.simulation.consumer.link import CoordinatorLink
    from headrace.testing.simulation.kernel import Process
    from headrace.testing.simulation.model.coordinator import Coordinator
    from headrace.testing.simulation.model.leader import Leader
    from headrace.testing.simulation.model.network import Network

    Reply = Callable[[str, Any], None]


@final
class Questions:
    """One consumer's; asked by its thread, which waits. A refusal is added to the faults of the next poll."""

    def __init__(
        self,
        network: Network,
        leader: Leader,
        coordinator: Coordinator,
        link: CoordinatorLink,
        process: Process,
        member: str,
        faults: Faults,
    ) -> None:
        self._network = network
        self._kernel = network.kernel
        self._leader = leader
        self._coordinator = coordinator
        self._link = link
        self._process = process
        self._member = member
        self._faults = faults

    def committed(self, partitions: Sequence[Place], timeout_s: float) -> list[Committed] | None:
        """See `ports.Client.committed`."""
        places = list(partitions)

        def ask(done: Reply) -> bool:
            if not self._link.up:
                return False
            self._link.send("OffsetFetch", lambda reply: reply("", self._coordinator.committed(places)), done)
            return True

        found: list[Committed] | None = self._question(ask, timeout_s)
        return found

    def resolve(self, wanted: Mapping[Place, str | int], timeout_s: float) -> dict[Place, int] | None:
        """See `ports.Client.resolve`."""
        asked = dict(wanted)

        def ask(done: Reply) -> bool:
            def answered() -> None:
                found = self._leader.resolve(asked)
                done("" if found is not None else "UNKNOWN_TOPIC_OR_PART", found)

            network = self._network
            if network.down or self._process in network.silenced or network.strikes("request_lost"):
                return False
            self._kernel.later(2 * self._network.way_s(), "ListOffsets", answered, self._process)
            return True

        found: dict[Place, int] | None = self._question(ask, timeout_s)
        return found

    def _question(self, ask: Callable[[Reply], bool], timeout_s: float) -> Any:
        """Ask until there is an answer, or no time left; a refusal is a fault of the next poll."""
        deadline = self._kernel.now + timeout_s
        if self._network.strikes("lookup_unanswered", self._member):
            self._kernel.wait(deadline)
            return None
        while True:
            answer = _Answer()
            if ask(answer.hear):
                self._kernel.wait(deadline, answer.is_here)
            if answer.heard is not None:
                code, payload = answer.heard
                if not code:
                    return payload
                kind = request_row(code).kind
                if kind != "retry":
                    self._faults.note(kind, code, "in the model")
                    return None
            if self._kernel.now >= deadline:
                return None
            self._kernel.wait(min(deadline, self._kernel.now + self._network.settings.retry_backoff_s))


@final
class _Answer:
    """What a question was answered, once it was."""

    __slots__ = ("heard",)

    def __init__(self) -> None:
        self.heard: tuple[str, Any] | None = None

    def hear(self, code: str, payload: Any) -> None:
        """The answer has come."""
        self.heard = (code, payload)

    def is_here(self) -> bool:
        """Whether it has."""
        return self.heard is not None
