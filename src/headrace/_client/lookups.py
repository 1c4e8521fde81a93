"""Questions to the broker asked through a consumer: committed offsets, offsets by rule or time, topics at start.

Decides what an answer means; refuses to know who asked. Invariant: every question is bounded, and one that is not
answered in time is None, never a guess: a start offset that is wrong loses records.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from headrace._client.failures import request_row
from headrace.errors import BrokerUnreachable, ClientFailed, NotAuthorized, TopicMissing
from headrace.ports import Committed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.ports import TopicPartition as Place

SLICE_S = 1.0
"""The longest single wait while a start waits for a broker: between two, error reports are read."""

_AGAIN_S = 0.1  # some refusals come back at once

_LOGICAL = {"earliest": OFFSET_BEGINNING, "latest": OFFSET_END}


class Unanswered(Exception):
    """The broker did not answer this question, or answered with an error; `code` says which."""

    def __init__(
        self, code: str, detail: str, topic: str | None = None, partition: int | None = None
    ) -> None:
        self.code = code
        self.detail = detail
        self.topic = topic
        self.partition = partition
        super().__init__(code)


def error_of(exception: KafkaException) -> KafkaError:
    """The client's error inside its exception."""
    cause: Any = exception.args[0] if exception.args else None
    return cause if isinstance(cause, KafkaError) else KafkaError(KafkaError._FAIL, str(exception))  # noqa: SLF001 - Kafka's own name


def committed(consumer: Consumer, partitions: Sequence[Place], timeout_s: float) -> list[Committed]:
    """What the group committed. Raises `Unanswered`."""
    asked = [TopicPartition(topic, partition) for topic, partition in partitions]
    try:
        answered = consumer.committed(asked, timeout=timeout_s)
    except KafkaException as exception:
        error = error_of(exception)
        raise Unanswered(error.name(), error.str()) from exception
    found: list[Committed] = []
    for place in answered:
        _refuse_error(place)
        present = place.offset >= 0
        epoch: int | None = place.leader_epoch
        found.append(
            Committed(
                place.topic,
                place.partition,
                place.offset if present else None,
                (place.metadata or "") if present else "",
                epoch if present else None,
            )
        )
    return found


def resolve(consumer: Consumer, wanted: Mapping[Place, str | int], timeout_s: float) -> dict[Place, int]:
    """Offsets for "earliest", "latest" or a time in ms, in one request per leader. Raises `Unanswered`."""
    deadline = time.monotonic() + timeout_s
    # The lookup by time takes the logical offsets for what they are (measured on the embedded and the real broker).
    asked = {place: _LOGICAL[rule] if isinstance(rule, str) else rule for place, rule in wanted.items()}
    offsets = _look_up(consumer, asked, timeout_s)
    # No record at or after that time: the client says "end", and the end is what to start from.
    at_end = {place: OFFSET_END for place, offset in offsets.items() if offset < 0}
    if at_end:
        offsets |= _look_up(consumer, at_end, max(0.001, deadline - time.monotonic()))
    unknown = next((place for place, offset in offsets.items() if offset < 0), None)
    if unknown is not None:
        raise Unanswered("_NO_OFFSET", "the broker named no offset", *unknown)
    return offsets


def _look_up(consumer: Consumer, asked: Mapping[Place, int], timeout_s: float) -> dict[Place, int]:
    if not asked:
        return {}
    places = [TopicPartition(topic, partition, offset) for (topic, partition), offset in asked.items()]
    try:
        answered = consumer.offsets_for_times(places, timeout=timeout_s)
    except KafkaException as exception:
        error = error_of(exception)
        raise Unanswered(error.name(), error.str()) from exception
    for place in answered:
        _refuse_error(place)
    return {(place.topic, place.partition): place.offset for place in answered}


def _refuse_error(place: TopicPartition) -> None:
    error: KafkaError | None = place.error
    if error is not None:
        raise Unanswered(error.name(), error.str(), place.topic, place.partition)


def check_topics(
    list_topics: Callable[[str | None, float], Any],
    topics: Sequence[str],
    bootstrap_servers: str,
    timeout_s: float | None,
    last_error: Callable[[], tuple[str, str] | None],
) -> None:
    """Wait for a broker and see that the topics exist.

    list_topics: asks for the metadata of one topic (None: of all), waiting at most so many seconds.
    last_error: serves the client's error reports and returns the last of them, code and text.
    """
    deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    while True:
        wait_s = max(0.01, min(SLICE_S, deadline - time.monotonic()))
        try:
            if _all_usable(lambda topic: list_topics(topic, wait_s), topics):  # noqa: B023 - called before the next turn
                return
            unusable = ("LEADER_NOT_AVAILABLE", "a topic has no leader")
        except KafkaException as exception:
            error = error_of(exception)
            unusable = last_error() or (error.name(), error.str())
            if request_row(unusable[0]).kind == "not_authorized":
                raise NotAuthorized(f"the cluster at {bootstrap_servers}", unusable[1]) from exception
        if time.monotonic() >= deadline:
            raise BrokerUnreachable(bootstrap_servers, timeout_s or 0.0, ": ".join(unusable))
        time.sleep(min(_AGAIN_S, max(0.0, deadline - time.monotonic())))


def _all_usable(list_topics: Callable[[str | None], Any], topics: Sequence[str]) -> bool:
    found = list_topics(None).topics
    missing: list[str] = []
    for topic in topics:
        if topic.startswith("^"):
            continue  # a pattern may match nothing yet
        # The list of all topics leaves out those we may not see; asked by name, the broker says that it refuses.
        answer = found.get(topic) or list_topics(topic).topics[topic]
        error: KafkaError | None = answer.error
        if error is None:
            continue
        kind = request_row(error.name()).kind
        if kind == "not_authorized":
            raise NotAuthorized(f"topic {topic}", error.str())
        if kind == "fatal":
            raise ClientFailed(error.name(), f"topic {topic}: {error.str()}")
        if kind == "retry":
            return False
        missing.append(topic)
    if missing:
        raise TopicMissing(missing)
    return True
