"""What a running app's watcher asks of the broker: ends of partitions, and what its group committed.

On clients of its own; refuses to join the group, to fetch records and to commit. Invariant: a broker that does not answer
costs the question, never the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

from confluent_kafka import KafkaException

from headrace._client.admin import Observer
from headrace._client.group_reader import GroupReader
from headrace.errors import BrokerUnreachable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace._client.settings import ConnectionSettings
    from headrace.errors import HeadraceError
    from headrace.ports import TopicPartition as Place

TOPICS_ASKED_MAX = 10
"""Topics of which it is asked, one by one, why nothing is known of any: the first ones tell."""


@final
class Watcher:
    """Read-only questions of one group. Connects when it is made. Used by one thread."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._observer = Observer(settings)
        self._group = GroupReader(settings, self._observer.refusal)

    def each_offset(
        self, places: Sequence[Place], end: Literal["earliest", "latest", "stable"], timeout_s: float
    ) -> dict[Place, int | HeadraceError]:
        """One end of each partition, or why it cannot be had."""
        found = self._observer.each_offset(places, end, timeout_s)
        if not found or not all(isinstance(answer, BrokerUnreachable) for answer in found.values()):
            return found
        # "No leaders found" is said of topics that we may not see, too: metadata tell them from a broker that is away.
        refused = self._refused_topics(sorted({topic for topic, _ in places}), timeout_s)
        return {place: refused.get(place[0], answer) for place, answer in found.items()}

    def each_committed(
        self, places: Sequence[Place], timeout_s: float
    ) -> dict[Place, int | HeadraceError | None]:
        """What the group committed for each partition, None for nothing, or why that cannot be had."""
        return self._group.each_committed(places, timeout_s)

    def close(self) -> None:
        """Drop the connections."""
        self._group.close()

    def _refused_topics(self, topics: Sequence[str], timeout_s: float) -> dict[str, HeadraceError]:
        refused: dict[str, HeadraceError] = {}
        for topic in topics[:TOPICS_ASKED_MAX]:
            try:
                error = self._group.topic_error(topic, timeout_s)
            except KafkaException:
                break  # it is a broker that is away
            if error is not None:
                refused[topic] = self._observer.refusal(error, timeout_s)
        return refused
