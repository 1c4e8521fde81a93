"""The model of Kafka as a simulated world uses it: topics, groups, clients, and the moments at which it goes wrong.

Puts the model's parts together; decides nothing of the protocol. Invariant: after `calm` nothing fails any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headrace.errors import ProduceFailed
from headrace.testing.simulation.client import ModelClient
from headrace.testing.simulation.consumer.consumer import ModelConsumer
from headrace.testing.simulation.faults import Faults
from headrace.testing.simulation.history import FaultBegan, Sought
from headrace.testing.simulation.kernel import Process
from headrace.testing.simulation.model.classic import ClassicGroup
from headrace.testing.simulation.model.commits import Commits
from headrace.testing.simulation.model.consumer_group import ConsumerGroup
from headrace.testing.simulation.model.coordinator import Coordinator
from headrace.testing.simulation.model.leader import Leader
from headrace.testing.simulation.model.network import Network
from headrace.testing.simulation.model.settings import ModelSettings
from headrace.testing.simulation.model.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.ports import Committed, TopicPartition
    from headrace.testing.simulation.history import History
    from headrace.testing.simulation.kernel import Kernel
    from headrace.testing.simulation.model.settings import Protocol


@final
class ModelKafka:
    """One broker, which leads every partition and coordinates every group."""

    def __init__(
        self,
        kernel: Kernel,
        history: History,
        faults: Faults | None = None,
        settings: ModelSettings | None = None,
    ) -> None:
        self._kernel = kernel
        self._history = history
        self.settings = settings or ModelSettings()
        self.network = Network(kernel, history, self.settings, faults or Faults.none())
        self.topics = Topics(kernel, history)
        self._leader = Leader(self.network, self.topics)
        self._commits = Commits(self.network, self.topics)
        self._coordinators: dict[str, Coordinator] = {}
        self._consumers: list[tuple[Process, ModelConsumer]] = []
        self._made = 0
        self.topics.grown = self._leader.grown
        self.topics.reshaped = self._reshaped

    # Topics

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic."""
        self.topics.create(topic, partitions)

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None = b"",
        headers: Sequence[tuple[str, bytes | None]] = (),
        *,
        visible: bool = True,
    ) -> int:
        """Write one record, now; returns its offset. Not visible: aborted, or a marker."""
        return self.topics.append((topic, partition), key, value, headers, visible=visible).offset()

    def transaction(
        self, topic: str, partition: int, keys: Sequence[bytes | None], open_s: float, *, committed: bool
    ) -> None:
        """Write records in a transaction that ends after `open_s`; until then nobody reads beyond its start."""
        place = (topic, partition)
        self.topics.begin(place)
        for key in keys:
            self.topics.append(place, key, b"")
        self._kernel.later(open_s, "transaction ends", lambda: self.topics.finish(place, committed=committed))

    def remove_below(self, place: TopicPartition, offset: int) -> None:
        """Retention removes what is below an offset."""
        self._history.add(self._kernel.now, FaultBegan("retentions", f"{place[0]}[{place[1]}] {offset}"))
        self.topics.remove_below(place, offset)

    def compact(self, place: TopicPartition) -> None:
        """Compaction removes what a later record of the same key replaces."""
        self._history.add(self._kernel.now, FaultBegan("compactions", f"{place[0]}[{place[1]}]"))
        self.topics.compact(place)

    def add_partitions(self, topic: str, count: int) -> None:
        """Give a topic more partitions."""
        self._history.add(self._kernel.now, FaultBegan("partitions_added", f"{topic} +{count}"))
        self.topics.add_partitions(topic, count)

    def recreate(self, topic: str, partitions: int) -> None:
        """Delete a topic and make it anew: its offsets begin again at 0, and commits for it are forgotten."""
        self._history.add(self._kernel.now, FaultBegan("topics_recreated", topic))
        self.topics.delete(topic)
        self._commits.forget(topic)
        self.topics.create(topic, partitions)

    def start(self, place: TopicPartition) -> int:
        """The first offset that exists."""
        log = self.topics.log(place)
        return 0 if log is None else log.start

    def end(self, place: TopicPartition) -> int:
        """Offset of the next record to be written."""
        log = self.topics.log(place)
        return 0 if log is None else log.end

    # Producing: dead letters

    def produce(
        self,
        process: Process,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        done: Callable[[Exception | None], None],
    ) -> None:
        """Produce one record; `done` is called in the process, with None or a `ProduceFailed`."""

        def arrive() -> None:
            network = self.network
            if topic not in self.topics.sizes():
                error = ProduceFailed(topic, "UNKNOWN_TOPIC_OR_PART", "no such topic", permanent=True)
                self._kernel.later(network.way_s(), "produce fails", lambda: done(error), process)
            elif network.down or network.strikes("request_lost", "Produce"):
                # An idempotent producer tries again, in order, until it is told otherwise.
                self._kernel.later(self.settings.retry_backoff_s, "produce again", arrive, process)
            else:
                partition = self.topics.partition_of(topic, key)
                self.topics.append((topic, partition), key, value, headers)
                self._kernel.later(network.way_s(), "produced", lambda: done(None), process)

        delay_s = (
            self.network.slow_s("slow produce") if self.network.strikes("request_slow", "Produce") else 0.0
        )
        self._kernel.later(self.network.way_s() + delay_s, "produce", arrive, process)

    # Groups

    def client(
        self,
        process: Process,
        member: str,
        group: str,
        protocol: Protocol,
        instance_id: str | None = None,
    ) -> ModelClient:
        """A consumer of one member. All of a group must use one protocol."""
        coordinator = self._coordinator(group, protocol)
        eager = protocol == "eager"
        consumer = self._consumer(process, member, coordinator, instance_id, eager=eager)
        return ModelClient(
            self.network,
            self.topics,
            self._leader,
            coordinator,
            consumer,
            process,
            member,
            eager=eager,
            static=instance_id is not None,
        )

    def hostile(self, group: str, protocol: Protocol, topics: Sequence[str]) -> Process:
        """A member that joins and never polls; the group waits for it until it is given up."""
        self._made += 1
        process = Process(f"hostile{self._made}")
        self._history.add(self._kernel.now, FaultBegan("hostile_members", process.name))
        coordinator = self._coordinator(group, protocol)
        self._consumer(process, process.name, coordinator, None, eager=protocol == "eager").subscribe(topics)
        return process

    def committed(self, place: TopicPartition, group: str = "group") -> int | None:
        """What the group committed."""
        return self._commits.offset(group, place)

    def committed_with_metadata(self, place: TopicPartition, group: str = "group") -> Committed:
        """What the group committed, with its metadata."""
        return self._commits.read(group, [place])[0]

    def reset_offset(
        self, place: TopicPartition, offset: int, group: str = "group", metadata: str = ""
    ) -> None:
        """An operator resets the group's offset; another tool may leave metadata of its own."""
        self._history.add(self._kernel.now, Sought("", place, offset))
        self._commits.set(group, place, offset, metadata)

    # Trouble

    def down(self, for_s: float) -> None:
        """The broker restarts: every connection breaks, and it is back after a while with what it had stored."""
        self._history.add(self._kernel.now, FaultBegan("broker_restarts", f"{for_s:.3f}s"))
        self.network.go_down()
        self._kernel.later(for_s, "broker up", self._up)

    def move_coordinator(self) -> None:
        """Another broker takes over every group."""
        for coordinator in self._coordinators.values():
            coordinator.move()

    def refuse_next(self, api: str, code: str) -> None:
        """The next request of this kind, by whomever, is answered with this code; nothing is done."""
        for coordinator in self._coordinators.values():
            coordinator.refusals.append((api, code))

    def cut(self, process: Process) -> None:
        """Every connection of a process breaks; it makes new ones."""
        self._history.add(self._kernel.now, FaultBegan("cut", process.name))
        self.network.cut(process)

    def silence(self, process: Process) -> None:
        """Its connections are half-open: they stay, and nothing passes, until `speak`."""
        self._history.add(self._kernel.now, FaultBegan("silence", process.name))
        self.network.silenced.append(process)

    def speak(self, process: Process) -> None:
        """The silence ends, and with it the connections: a stream cannot go on behind a hole."""
        if process in self.network.silenced:
            self.network.silenced.remove(process)
            self.network.cut(process)

    def calm(self) -> None:
        """Nothing fails from now on."""
        self.network.faults = Faults.none()
        for coordinator in self._coordinators.values():
            coordinator.refusals.clear()
        for process in list(self.network.silenced):
            self.speak(process)
        self._up()

    def _up(self) -> None:
        if self.network.down:
            self.network.come_up()
            for coordinator in self._coordinators.values():
                coordinator.load()

    # Inside

    def _consumer(
        self, process: Process, member: str, coordinator: Coordinator, instance: str | None, *, eager: bool
    ) -> ModelConsumer:
        self._made += 1
        consumer = ModelConsumer(
            self.network,
            self.topics,
            self._leader,
            coordinator,
            process,
            member,
            f"c{self._made}",
            instance,
            eager=eager,
        )
        self._consumers = [each for each in self._consumers if each[0].alive and not each[1].closed]
        self._consumers.append((process, consumer))
        return consumer

    def _coordinator(self, group: str, protocol: Protocol) -> Coordinator:
        found = self._coordinators.get(group)
        if found is None:
            kind = (
                ConsumerGroup(self._kernel, self.settings, self.topics)
                if protocol == "kip848"
                else ClassicGroup(self._kernel, self.settings)
            )
            found = self._coordinators[group] = Coordinator(self.network, group, kind, self._commits)
        assert isinstance(found.group, ConsumerGroup) == (protocol == "kip848"), (
            f"{group} has another protocol"
        )
        return found

    def _reshaped(self) -> None:
        """Groups and clients learn of it; clients when they next look."""
        self._leader.reshaped()
        for coordinator in self._coordinators.values():
            if isinstance(coordinator.group, ConsumerGroup):
                coordinator.group.reshaped()
        for process, consumer in self._consumers:
            delay_s = self._kernel.choices.between("metadata", 0.0, self.settings.metadata_refresh_s)
            self._kernel.later(delay_s, "metadata", consumer.metadata_changed, process)
