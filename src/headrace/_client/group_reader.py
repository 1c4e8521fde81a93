"""What a group committed, asked by a consumer that never joins it.

Refuses to join, to fetch and to commit. Invariant: a broker that does not answer costs the question, never the process:
librdkafka aborts it when the answer to an admin request for a group's offsets comes after its time (its issue 4605), so
nothing here is an admin request.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from headrace._client.failures import request_row
from headrace._client.logs import ClientLog
from headrace._client.lookups import error_of
from headrace._client.settings import Scrubber, admin_config, refusal
from headrace._client.tokens import TokenSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import KafkaError

    from headrace._client.settings import ConnectionSettings
    from headrace.errors import HeadraceError
    from headrace.ports import TopicPartition as Place

EVENTS_MAX = 100
"""Reports of errors that are taken at once: the same one comes again and again."""


@final
class GroupReader:
    """Reads what one group committed. Connects when it is made. Used by one thread at a time.

    refuse: what an error of the client, within so many seconds, means to a caller.
    """

    def __init__(
        self, settings: ConnectionSettings, refuse: Callable[[KafkaError, float], HeadraceError]
    ) -> None:
        self._refuse = refuse
        config: Any = admin_config(settings) | {"group.id": settings.group_id, "enable.auto.commit": False}
        for key in ("error_cb", "stats_cb", "statistics.interval.ms"):
            config.pop(key, None)  # the app's own consumer hears of the same brokers
        scrub = Scrubber(config)
        # The last refusal of the group; written and read on the thread that asks, since polls call back there.
        self._refused: KafkaError | None = None
        try:
            self._consumer: Any = TokenSource.made(
                lambda: Consumer(
                    config | {"error_cb": self._on_error, "logger": ClientLog(time.monotonic, scrub)}
                )
            )
        except (KafkaException, TypeError, ValueError) as error:
            raise refusal(error, config) from None  # the cause's text may hold a secret

    def each_committed(
        self, places: Sequence[Place], timeout_s: float
    ) -> dict[Place, int | HeadraceError | None]:
        """What the group committed for each partition, None for nothing, or why that cannot be had."""
        if not places:
            return {}
        self._refused = None
        self._listen()
        try:
            answer: list[TopicPartition] = self._consumer.committed(
                [TopicPartition(*place) for place in places], timeout=timeout_s
            )
        except KafkaException as exception:
            # A group that we may not find is a time-out here; why, only a poll says.
            self._listen()
            raise self._refuse(self._refused or error_of(exception), timeout_s) from None
        return {(place.topic, place.partition): self._of(place, timeout_s) for place in answer}

    def topic_error(self, topic: str, timeout_s: float) -> KafkaError | None:
        """What metadata say is wrong with a topic. Raises `KafkaException` where no broker answers."""
        found: KafkaError | None = self._consumer.list_topics(topic, timeout=timeout_s).topics[topic].error
        return found

    def close(self) -> None:
        """Drop the connections."""
        self._consumer.close()

    def _listen(self) -> None:
        """Serve callbacks, renewed tokens among them, and hear of errors; there are no partitions to fetch from."""
        for _ in range(EVENTS_MAX):
            event = self._consumer.poll(0)
            if event is None:
                return
            self._on_error(event.error())

    def _on_error(self, error: KafkaError | None) -> None:
        if error is not None and request_row(error.name()).kind == "not_authorized":
            self._refused = error

    def _of(self, place: TopicPartition, timeout_s: float) -> int | HeadraceError | None:
        if place.error is not None:
            return self._refuse(place.error, timeout_s)
        return place.offset if place.offset >= 0 else None
