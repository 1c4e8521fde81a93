"""What a running app's watcher asks of the broker: ends of partitions, and what its group committed.

On clients of its own; refuses to join the group, to fetch records and to commit. Invariant: a broker that does not answer
costs the question, never the process: librdkafka aborts it when the answer to an admin request for a group's offsets
comes after its time (its issue 4605), so that question is put by a consumer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from headrace._client.admin import Observer
from headrace._client.logs import ClientLog
from headrace._client.lookups import error_of
from headrace._client.settings import Scrubber, admin_config, refusal
from headrace._client.tokens import TokenSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace._client.settings import ConnectionSettings
    from headrace.errors import HeadraceError
    from headrace.ports import TopicPartition as Place


@final
class Watcher:
    """Read-only questions of one group. Connects when it is made. Used by one thread."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._observer = Observer(settings)
        config: Any = admin_config(settings) | {"group.id": settings.group_id, "enable.auto.commit": False}
        for key in ("error_cb", "stats_cb", "statistics.interval.ms"):
            config.pop(key, None)  # the app's own consumer hears of the same brokers
        scrub = Scrubber(config)
        try:
            self._consumer: Any = TokenSource.made(
                lambda: Consumer(config | {"logger": ClientLog(time.monotonic, scrub)})
            )
        except (KafkaException, TypeError, ValueError) as error:
            raise refusal(error, config) from None  # the cause's text may hold a secret

    def each_offset(
        self, places: Sequence[Place], end: Literal["earliest", "latest", "stable"], timeout_s: float
    ) -> dict[Place, int | HeadraceError]:
        """One end of each partition, or why it cannot be had."""
        return self._observer.each_offset(places, end, timeout_s)

    def each_committed(
        self, places: Sequence[Place], timeout_s: float
    ) -> dict[Place, int | HeadraceError | None]:
        """What the group committed for each partition, None for nothing, or why that cannot be had."""
        if not places:
            return {}
        self._consumer.poll(0)  # serves tokens that are to be renewed; it has no partitions to fetch from
        try:
            answer: list[TopicPartition] = self._consumer.committed(
                [TopicPartition(*place) for place in places], timeout=timeout_s
            )
        except KafkaException as exception:
            raise self._observer.refusal(error_of(exception), timeout_s) from None
        return {(place.topic, place.partition): self._of(place, timeout_s) for place in answer}

    def close(self) -> None:
        """Drop the connections."""
        self._consumer.close()

    def _of(self, place: TopicPartition, timeout_s: float) -> int | HeadraceError | None:
        if place.error is not None:
            return self._observer.refusal(place.error, timeout_s)
        return place.offset if place.offset >= 0 else None
