"""Which partitions an app holds, on which connection, since when, and how often it has held them: frozen values.

Decides how one such value follows from the one before it. Refuses to know who reads it. Invariants: a value never
changes once made; a partition is in one place at most; an epoch that is over takes away nothing that a later one, or
another connection, has got meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace._core.effects import HoldingsChanged
    from headrace.ports import TopicPartition

T = TypeVar("T")

GENERATIONS_MAX = 100_000
"""Partitions whose count is kept: beyond it, topics of which nothing is held are forgotten, the longest unassigned first."""

Reason = Literal["assigned", "revoked", "lost", "sought", "closed"]


@dataclass(frozen=True, slots=True)
class Holding:
    """One partition of ours.

    connection: the number of the connection that reads it. epoch: as its records say. since: when that epoch began, on the
    monotonic clock. generation: how often this app was assigned it, this time included; a seek does not count.
    """

    connection: int
    epoch: int
    since: float
    generation: int


@dataclass(frozen=True, slots=True)
class Assignments:
    """What an app holds at one moment, over all its connections. Never changes; any thread may read it, at any rate.

    sequence: rises with each change. topics: topic -> partition -> `Holding`, both read-only and in no order. generations:
    topic -> partition -> how often it was assigned, also of partitions that are not held any more.
    """

    sequence: int = 0
    topics: Mapping[str, Mapping[int, Holding]] = field(default_factory=lambda: MappingProxyType({}))
    generations: Mapping[str, Mapping[int, int]] = field(default_factory=lambda: MappingProxyType({}))

    def holding(self, topic: str, partition: int) -> Holding | None:
        """This partition, or None if it is not ours."""
        of_topic = self.topics.get(topic)
        return None if of_topic is None else of_topic.get(partition)

    def generation(self, topic: str, partition: int) -> int:
        """How often it was assigned to this app since its start; 0 if never."""
        of_topic = self.generations.get(topic)
        return 0 if of_topic is None else of_topic.get(partition, 0)

    def partitions(self, connection: int | None = None) -> tuple[TopicPartition, ...]:
        """What one connection holds, or (None) what all hold, sorted."""
        return tuple(
            sorted(
                (topic, partition)
                for topic, held in self.topics.items()
                for partition, holding in held.items()
                if connection is None or holding.connection == connection
            )
        )


@dataclass(frozen=True, slots=True)
class AssignmentsChange:
    """One change, as listeners get it: what a connection gained and gave up, why, and what is held after it.

    reason: "assigned", "revoked", "lost", "sought" (one epoch ended and another began), or "closed": the connection ended
    while it still held them. opened and closed: (topic, partition) pairs; after a seek a partition is in both.
    """

    connection: int
    reason: Reason
    opened: tuple[TopicPartition, ...]
    closed: tuple[TopicPartition, ...]
    assignments: Assignments


def changed(before: Assignments, connection: int, effect: HoldingsChanged) -> Assignments:
    """What is held after the engine of this connection changed its holdings. Work is in proportion to the topics touched."""
    topics = dict(before.topics)
    generations = dict(before.generations)
    held: dict[str, dict[int, Holding]] = {}
    counts: dict[str, dict[int, int]] = {}
    for topic, partition, epoch in effect.closed:
        here = _copied(topic, held, topics)
        now = here.get(partition)
        if now is not None and (now.connection, now.epoch) == (connection, epoch):
            del here[partition]
    for topic, partition, epoch in effect.opened:
        here, counted = _copied(topic, held, topics), _copied(topic, counts, generations)
        counted[partition] = counted.get(partition, 0) + (effect.reason != "sought")
        here[partition] = Holding(connection, epoch, effect.at, counted[partition])
    for topic, here in held.items():
        if here:
            topics[topic] = MappingProxyType(here)
        else:
            topics.pop(topic, None)
    for topic, counted in counts.items():
        generations.pop(topic, None)  # So that the order is that of the last assignment.
        generations[topic] = MappingProxyType(counted)
    _forget(generations, topics)
    return Assignments(before.sequence + 1, MappingProxyType(topics), MappingProxyType(generations))


def without(before: Assignments, connection: int) -> Assignments:
    """What is held after this connection ended, whatever it still held."""
    topics: dict[str, Mapping[int, Holding]] = {}
    for topic, held in before.topics.items():
        kept = {partition: holding for partition, holding in held.items() if holding.connection != connection}
        if kept:
            topics[topic] = MappingProxyType(kept)
    return Assignments(before.sequence + 1, MappingProxyType(topics), before.generations)


def _copied(
    topic: str, copies: dict[str, dict[int, T]], source: Mapping[str, Mapping[int, T]]
) -> dict[int, T]:
    """The topic's own copy: made once a change."""
    if topic not in copies:
        copies[topic] = dict(source.get(topic, {}))
    return copies[topic]


def _forget(generations: dict[str, Mapping[int, int]], held: Mapping[str, object]) -> None:
    total = sum(map(len, generations.values()))
    if total <= GENERATIONS_MAX:
        return
    for topic in [topic for topic in generations if topic not in held]:
        total -= len(generations.pop(topic))
        if total <= GENERATIONS_MAX:
            return
