"""Options as the tests of this folder give them, and a cluster that answers a planner.

Refuses to know what is right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.errors import TopicMissing
from headrace.spark.options import understood

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.ports import TopicPartition as Place
    from headrace.spark.options import Mode, SourceOptions

SERVERS = {"kafka.bootstrap.servers": "localhost:9092"}


def options(mode: Mode = "batch", /, **given: str) -> SourceOptions:
    """Of topic "a", unless something else is chosen."""
    chosen = {"assign", "subscribePattern", "subscribe"} & given.keys()
    return understood(SERVERS | ({} if chosen else {"subscribe": "a"}) | given, mode)


@dataclass
class Cluster:
    """Partitions with first and next offset; a record's timestamp is its offset in seconds."""

    bounds: dict[Place, tuple[int, int]] = field(
        default_factory=lambda: {("a", 0): (0, 100), ("a", 1): (20, 50), ("b", 0): (0, 4)}
    )
    stable: dict[Place, int] = field(default_factory=dict[tuple[str, int], int])
    asked: list[Place] = field(default_factory=list[tuple[str, int]])

    def topics(self, timeout_s: float) -> Mapping[str, int]:
        return dict.fromkeys([*(topic for topic, _ in self.bounds), "__consumer_offsets"], 1)

    def partitions(self, topics: Sequence[str], timeout_s: float) -> list[Place]:
        missing = set(topics) - {topic for topic, _ in self.bounds}
        if missing:
            raise TopicMissing(sorted(missing))
        return [place for place in self.bounds if place[0] in topics]

    def topic_ids(self, topics: Sequence[str], timeout_s: float) -> Mapping[str, str]:
        return {}

    def starts(self, places: Sequence[Place], timeout_s: float) -> dict[Place, int]:
        self.asked += places
        return {place: self.bounds[place][0] for place in places}

    def ends(self, places: Sequence[Place], timeout_s: float, *, committed_only: bool) -> dict[Place, int]:
        stable = self.stable if committed_only else {}
        return {place: stable.get(place, self.bounds[place][1]) for place in places}

    def offsets_at(
        self, moments: Mapping[Place, int], timeout_s: float, *, committed_only: bool
    ) -> dict[Place, int | None]:
        found: dict[Place, int | None] = {}
        for place, ms in moments.items():
            first, following = self.bounds[place]
            at = max(first, -(-ms // 1000))
            found[place] = at if at < following else None
        return found

    def committed_of(self, group_id: str, places: Sequence[Place], timeout_s: float) -> dict[Place, int]:
        raise NotImplementedError
