"""A listener that remembers what it was told, and clients made quick for the embedded broker."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace._client.consumer import KafkaClient
from headrace._client.settings import ConnectionSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.ports import CommitResult, Committed, Fault, TopicPartition
    from headrace.testing.broker import MockBroker

WAIT_S = 10.0
PROTOCOLS = ["cooperative", "eager", "kip848"]


@dataclass
class Taken:
    """What polls gave: offsets per partition in order, and faults."""

    offsets: dict[TopicPartition, list[int]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(len(offsets) for offsets in self.offsets.values())


@dataclass
class Listener:
    """Starts what it is given at its committed offset or at 0, unless `start` says otherwise."""

    client: KafkaClient
    start: Callable[[Sequence[Committed]], dict[TopicPartition, int]] | None = None
    told: list[tuple[str, list[TopicPartition]]] = field(default_factory=list)
    read: list[Committed] = field(default_factory=list)
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    commits: list[CommitResult] = field(default_factory=list)
    taken: Taken = field(default_factory=Taken)
    during: Callable[[str], None] = lambda _call: None

    def on_assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("assign", sorted(partitions)))
        committed = self.client.committed(partitions, 5.0)
        assert committed is not None
        self.read = sorted(committed, key=lambda c: (c.topic, c.partition))
        starts = {(c.topic, c.partition): c.offset or 0 for c in committed}
        self.client.assign(starts if self.start is None else self.start(committed))
        self.during("assign")

    def on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("revoke", sorted(partitions)))
        self.positions = self.client.positions(partitions)
        self.during("revoke")

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("lost", sorted(partitions)))
        self.during("lost")

    def on_commit(self, results: Sequence[CommitResult]) -> None:
        self.commits.extend(results)
        self.during("commit")

    def calls(self) -> list[str]:
        return [call for call, _ in self.told]


def settings_for(
    bootstrap_servers: str,
    group_id: str,
    protocol: str = "cooperative",
    instance_id: str | None = None,
    **librdkafka: Any,
) -> ConnectionSettings:
    quick: dict[str, Any] = {
        "fetch.wait.max.ms": 10,
        "reconnect.backoff.ms": 10,
        "reconnect.backoff.max.ms": 100,
        "enable.metrics.push": False,
    }
    if protocol != "kip848":
        quick |= {"session.timeout.ms": 2000, "heartbeat.interval.ms": 200}
    if protocol == "eager":
        quick["partition.assignment.strategy"] = "range"
    return ConnectionSettings(
        bootstrap_servers,
        group_id,
        quick | {key.replace("_", "."): value for key, value in librdkafka.items()},
        group_protocol="consumer" if protocol == "kip848" else "classic",
        instance_id=instance_id,
    )


def joined(
    broker: MockBroker,
    group_id: str,
    protocol: str = "cooperative",
    topic: str = "orders",
    instance_id: str | None = None,
) -> tuple[KafkaClient, Listener]:
    """A client that has joined and been given something; what its first polls took is in the listener."""
    client = KafkaClient(settings_for(broker.bootstrap_servers, group_id, protocol, instance_id))
    listener = Listener(client)
    client.check([topic], WAIT_S)
    client.subscribe([topic], listener)
    poll_until(client, lambda: bool(listener.told), listener.taken)
    return client, listener


def poll_until(
    client: KafkaClient, condition: Callable[[], bool], taken: Taken | None = None, records_max: int = 500
) -> Taken:
    """Poll until the condition holds; fails after ten seconds."""
    taken = Taken() if taken is None else taken
    give_up_at = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_at, f"did not happen in {WAIT_S} s; faults: {taken.faults}"
        polled = client.poll(records_max, 0.02)
        assert polled.count == sum(len(records) for _, _, records in polled.groups)
        for topic, partition, records in polled.groups:
            taken.offsets.setdefault((topic, partition), []).extend(r.offset() or 0 for r in records)
        taken.faults.extend(polled.faults)
    return taken
