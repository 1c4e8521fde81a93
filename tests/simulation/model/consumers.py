"""Small consumers on the model: they take what comes, commit where they stand, and remember what they were told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.ports import CommitRequest
from headrace.testing.simulation.choices import Seeded
from headrace.testing.simulation.faults import Faults
from headrace.testing.simulation.history import History
from headrace.testing.simulation.kernel import Kernel, Process
from headrace.testing.simulation.model.kafka import ModelKafka

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.ports import Client, CommitResult, Fault, TopicPartition
    from headrace.testing.simulation.model.settings import ModelSettings, Protocol

GROUP = "group"
TOPIC = "orders"


@dataclass
class Consumer:
    """One member. `during` is called inside its callbacks, after it has answered them."""

    world: World
    name: str
    client: Client
    told: list[tuple[str, list[TopicPartition]]] = field(default_factory=list)
    seen: dict[TopicPartition, list[int]] = field(default_factory=dict)
    commits: list[CommitResult] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    unread: set[TopicPartition] = field(default_factory=set)
    during: Callable[[str], None] = lambda _call: None
    commits_on_revoke: bool = True
    closed: bool | None = None

    def on_assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("assign", sorted(partitions)))
        self.begin(partitions)
        self.during("assign")

    def begin(self, partitions: Sequence[TopicPartition]) -> None:
        found = self.client.committed(partitions, 2.0) if partitions else []
        if found is None:
            self.unread.update(partitions)
            return
        self.unread.difference_update(partitions)
        if found:
            self.client.assign({(each.topic, each.partition): each.offset or 0 for each in found})

    def on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("revoke", sorted(partitions)))
        self.unread.difference_update(partitions)
        if self.commits_on_revoke:
            self.commit(partitions)
        self.during("revoke")

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("lost", sorted(partitions)))
        self.unread.difference_update(partitions)
        self.during("lost")

    def on_commit(self, results: Sequence[CommitResult]) -> None:
        self.commits.extend(results)

    def commit(self, partitions: Sequence[TopicPartition]) -> None:
        positions = self.client.positions(partitions)
        if positions:
            self.client.commit([CommitRequest(*place, offset) for place, offset in positions.items()])

    def poll(self, timeout_s: float = 0.5) -> int:
        polled = self.client.poll(10, timeout_s)
        for topic, partition, records in polled.groups:
            self.seen.setdefault((topic, partition), []).extend(each.offset() or 0 for each in records)
        self.faults.extend(polled.faults)
        if self.unread:
            self.begin(sorted(self.unread))
        for fault in polled.faults:
            if (
                fault.kind == "offset_out_of_range"
                and fault.topic is not None
                and fault.partition is not None
            ):
                place = (fault.topic, fault.partition)
                start = self.client.earliest(place, 2.0)
                self.client.reassign(place, start or 0)
        return polled.count

    def calls(self) -> list[str]:
        return [call for call, _ in self.told]


class World:
    """A kernel, a broker with one topic, and consumers on it."""

    def __init__(
        self,
        protocol: Protocol = "cooperative",
        *,
        seed: int = 0,
        partitions: int = 4,
        records: int = 40,
        faults: Faults | None = None,
        settings: ModelSettings | None = None,
        preemption: float = 0.0,
    ) -> None:
        self.protocol: Protocol = protocol
        self.kernel = Kernel(Seeded(seed))
        self.kernel.preempt_with(preemption)
        self.history = History()
        self.kafka = ModelKafka(self.kernel, self.history, faults or Faults.none(), settings)
        self.kafka.create(TOPIC, partitions)
        self.places = [(TOPIC, number) for number in range(partitions)]
        self.consumers: dict[str, Consumer] = {}
        for number in range(records):
            self.kafka.append(TOPIC, number % partitions, b"key")

    def make(self, name: str, instance_id: str | None = None) -> Consumer:
        """A consumer that does nothing yet, in a process of its own."""
        process = Process(name)
        client = self.kafka.client(process, name, GROUP, self.protocol, instance_id)
        consumer = self.consumers[name] = Consumer(self, name, client)
        return consumer

    def do(self, name: str, body: Callable[[], None], until: float = float("inf")) -> None:
        """Run this in a consumer's process, with everything else beside it, until it is done."""
        done: list[bool] = []

        def run() -> None:
            body()
            done.append(True)

        self.kernel.spawn(Process(name), name, run)
        while not done and self.kernel.now < until:
            assert self.kernel.step(), f"nothing happens any more at {self.kernel.now}"

    def live(
        self,
        name: str,
        *,
        starts: float = 0.0,
        stops: float = float("inf"),
        commit_every: int = 3,
        instance_id: str | None = None,
    ) -> Process:
        """A consumer that polls and commits from one moment to another."""
        process = Process(name)

        def body() -> None:
            self.kernel.wait(starts)
            client = self.kafka.client(process, name, GROUP, self.protocol, instance_id)
            consumer = self.consumers[name] = Consumer(self, name, client)
            client.subscribe([TOPIC], consumer)
            polls = 0
            while self.kernel.now < stops:
                consumer.poll(min(0.5, stops - self.kernel.now))
                polls += 1
                if polls % commit_every == 0:
                    consumer.commit(self.places)
            consumer.closed = client.close(10.0)

        self.kernel.spawn(process, name, body)
        return process

    def run(self, until: float, steps_max: int = 300_000) -> None:
        """Let the world go on to a moment."""
        self.kernel.later(until - self.kernel.now, "until", lambda: None)
        while self.kernel.now < until and self.kernel.step():
            assert self.kernel.steps < steps_max, f"no end of it at {self.kernel.now}"

    def told(self, name: str) -> list[tuple[str, list[TopicPartition]]]:
        """What a consumer's callbacks said."""
        return self.consumers[name].told

    def committed(self) -> list[int | None]:
        """Of all partitions."""
        return [self.kafka.committed(place, GROUP) for place in self.places]
