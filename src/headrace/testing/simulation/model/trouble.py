"""The counted faults of a run: restarts, moves, topics that change, hostile members and guests, at drawn moments.

Decides when; `ModelKafka` does it. Invariant: nothing of it happens after `calm`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, final

from headrace.testing.simulation.history import FaultBegan
from headrace.testing.simulation.kernel import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.ports import CommitResult, TopicPartition
    from headrace.testing.simulation.kernel import Kernel
    from headrace.testing.simulation.model.kafka import ModelKafka
    from headrace.testing.simulation.model.settings import Protocol

_GUEST_POLL_S = 1.0
_GUEST_STAYS_S = 20.0


@final
class Trouble:
    """One run's. The faults are those of the network at the time of `plan`."""

    def __init__(
        self,
        kernel: Kernel,
        kafka: ModelKafka,
        group: str,
        protocol: Protocol,
        topics: Sequence[str],
    ) -> None:
        self._kernel = kernel
        self._kafka = kafka
        self._group = group
        self._protocol: Protocol = protocol
        self._topics = tuple(topics)
        self._over = False
        self._guests = 0

    def plan(self, within_s: float) -> None:
        """Draw the moments; all lie within so many seconds from now."""
        faults = self._kafka.network.faults
        todo: list[tuple[str, int, Callable[[], None]]] = [
            ("broker restart", faults.broker_restarts, self._restart),
            ("coordinator move", faults.coordinator_moves, self._kafka.move_coordinator),
            ("partitions added", faults.partitions_added, self._add_partition),
            ("topic recreated", faults.topics_recreated, self._recreate),
            ("retention", faults.retentions, self._remove),
            ("compaction", faults.compactions, self._compact),
            ("hostile member", faults.hostile_members, self._hostile),
            ("guest", faults.rebalances, self._guest),
        ]
        for label, times, action in todo:
            for _ in range(times):
                at_s = self._kernel.choices.between(label, 0.0, within_s)
                self._kernel.later(at_s, label, partial(self._do, action))

    def calm(self) -> None:
        """Nothing of it happens any more; guests go by themselves."""
        self._over = True

    def rebalance_at(self, *moments_s: float) -> None:
        """Let the group be assigned anew so many seconds from now, calm or not."""
        for at_s in moments_s:
            self._kernel.later(at_s, "guest", self._guest)

    # Inside

    def _do(self, action: Callable[[], None]) -> None:
        if not self._over:
            action()

    def _topic(self) -> str:
        return self._topics[self._kernel.choices.index("topic", len(self._topics))]

    def _place(self) -> TopicPartition:
        topic = self._topic()
        return topic, self._kernel.choices.index("partition", self._kafka.topics.sizes()[topic])

    def _restart(self) -> None:
        most_s = self._kafka.network.faults.broker_down_s
        self._kafka.down(self._kernel.choices.between("down", 0.0, most_s))

    def _add_partition(self) -> None:
        self._kafka.add_partitions(self._topic(), 1)

    def _recreate(self) -> None:
        topic = self._topic()
        self._kafka.recreate(topic, self._kafka.topics.sizes()[topic])

    def _remove(self) -> None:
        place = self._place()
        start, end = self._kafka.start(place), self._kafka.end(place)
        self._kafka.remove_below(place, start + self._kernel.choices.index("retention", end - start + 1))

    def _compact(self) -> None:
        self._kafka.compact(self._place())

    def _hostile(self) -> None:
        self._kafka.hostile(self._group, self._protocol, self._topics)

    def _guest(self) -> None:
        """A member that joins, is given partitions, reads nothing, and leaves."""
        self._guests += 1
        process = Process(f"guest{self._guests}")
        stays_s = self._kernel.choices.between("guest stays", 0.0, _GUEST_STAYS_S)
        self._kafka.network.history.add(self._kernel.now, FaultBegan("rebalances", process.name))

        def live() -> None:
            client = self._kafka.client(process, process.name, self._group, self._protocol)
            client.subscribe(self._topics, _Idle())
            until = self._kernel.now + stays_s
            while self._kernel.now < until:
                client.poll(1, min(_GUEST_POLL_S, until - self._kernel.now))
            client.close(_GUEST_STAYS_S)

        self._kernel.spawn(process, process.name, live)


@final
class _Idle:
    """Takes what it is given and starts nothing."""

    def on_assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Start nothing."""

    def on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        """Nothing is to be drained."""

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Nothing is lost."""

    def on_commit(self, results: Sequence[CommitResult]) -> None:
        """Nothing was committed."""
