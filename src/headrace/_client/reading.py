"""Reading partitions without a consumer group: for the command line, and for checks that must not trust a runtime.

Decides how partitions are read from given offsets, up to given ends or for ever; commits only when asked to, for one
reader that keeps its place. Refuses to know what is done with the records. Invariant: a bounded read raises rather than
return less than there was.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from headrace._client.failures import consume_row, request_row
from headrace._client.logs import ClientLog
from headrace._client.lookups import error_of
from headrace._client.settings import Scrubber, consumer_config, refusal
from headrace.errors import BrokerUnreachable, ClientFailed, NotAuthorized, TopicMissing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from confluent_kafka import KafkaError

    from headrace._client.settings import ConnectionSettings
    from headrace.ports import TopicPartition as Place

SLICE_S = 0.2
"""The longest single wait: an interrupt is heard between two."""

FETCH_MAX = 500
"""Records taken at once: a terminal cannot show more before the next wait."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One record as the broker has it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


@final
class Reader:
    """Reads partitions from offsets. One thread. Joins no group."""

    def __init__(self, settings: ConnectionSettings) -> None:
        config: Any = consumer_config(settings)
        config |= {"enable.partition.eof": True}
        config.pop("error_cb", None)
        self._bootstrap_servers = settings.bootstrap_servers
        self._scrub = Scrubber(config)
        self._last_error: tuple[str, str] | None = None
        self._at: dict[Place, int] = {}
        try:
            self._consumer = Consumer(
                config | {"error_cb": self._on_error, "logger": ClientLog(time.monotonic, self._scrub)}
            )
        except (KafkaException, TypeError, ValueError) as error:
            raise refusal(error, config) from None  # the cause's text may hold a secret

    def begin(self, offsets: Mapping[Place, int]) -> None:
        """Read these partitions, each from its offset."""
        self._at = dict(offsets)
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])

    @property
    def positions(self) -> dict[Place, int]:
        """Where each partition goes on: beyond its last record, or its end."""
        return dict(self._at)

    def follow(self) -> Iterator[list[Stored]]:
        """Records as they come, for ever; an empty list after a while without any."""
        while True:
            yield self._fetch(SLICE_S)

    def read_to(self, ends: Mapping[Place, int], timeout_s: float) -> Iterator[list[Stored]]:
        """Records below these ends. Raises `BrokerUnreachable` after `timeout_s` without progress."""
        progress_at = time.monotonic()
        while any(self._at[place] < end for place, end in ends.items()):
            before = dict(self._at)
            records = self._fetch(min(SLICE_S, timeout_s))
            wanted = [r for r in records if r.offset < ends.get((r.topic, r.partition), 0)]
            if wanted:
                yield wanted
            if self._at != before:
                progress_at = time.monotonic()
            elif time.monotonic() - progress_at > timeout_s:
                raise BrokerUnreachable(
                    self._bootstrap_servers, timeout_s, ": ".join(self._last_error or ("no answer",))
                )

    def committed(self, places: list[Place], timeout_s: float) -> dict[Place, int]:
        """What this reader's group committed; partitions without are left out."""
        try:
            found = self._consumer.committed([TopicPartition(*place) for place in places], timeout=timeout_s)
        except KafkaException as exception:
            self._raise(error_of(exception), timeout_s)
            raise
        for place in found:
            if place.error is not None:
                self._raise(place.error, timeout_s)
        return {(place.topic, place.partition): place.offset for place in found if place.offset >= 0}

    def commit(self, offsets: Mapping[Place, int]) -> None:
        """Keep the place for the next reader of this group; returns when the broker has it."""
        try:
            places = [TopicPartition(*place, offset) for place, offset in offsets.items()]
            answered: Any = self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as exception:
            self._raise(error_of(exception), 0.0)
            raise
        for place in answered or ():
            if place.error is not None:
                self._raise(place.error, 0.0)

    def close(self) -> None:
        """Drop the connection."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _fetch(self, timeout_s: float) -> list[Stored]:
        # `consume(n)` waits for all n: take one, then what is there.
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        records: list[Stored] = []
        for message in (first, *self._consumer.consume(FETCH_MAX - 1, 0)):
            error: KafkaError | None = message.error()
            if error is None:
                records.append(_stored(message))
                self._at[records[-1].topic, records[-1].partition] = records[-1].offset + 1
            elif error.name() == "_PARTITION_EOF":
                # Beyond the last record: transaction markers and compacted offsets lie before an end, too.
                self._at[_place(message)] = max(self._at[_place(message)], message.offset() or 0)
            else:
                self._meet(error, message)
        return records

    def _meet(self, error: KafkaError, message: Any) -> None:
        kind = consume_row(error.name()).kind
        detail = self._scrub(error.str())
        if kind == "topic_missing":
            raise TopicMissing([message.topic()])
        if error.name() == "GROUP_AUTHORIZATION_FAILED":
            return  # the client looks for a coordinator that this reader may not need
        if kind == "not_authorized":
            raise NotAuthorized(f"topic {message.topic()}", detail)
        if kind not in {"ignore", "log"}:
            raise ClientFailed(error.name(), f"{message.topic()}[{message.partition()}]: {detail}")

    def _raise(self, error: KafkaError, timeout_s: float) -> None:
        kind, detail = request_row(error.name()).kind, self._scrub(error.str())
        if kind == "not_authorized":
            raise NotAuthorized(f"the cluster at {self._bootstrap_servers}", detail)
        if kind == "retry":
            raise BrokerUnreachable(self._bootstrap_servers, timeout_s, f"{error.name()}: {detail}")
        raise ClientFailed(error.name(), detail)

    def _on_error(self, error: KafkaError) -> None:
        if self._last_error is None or error.name() != "_ALL_BROKERS_DOWN":  # which says nothing of why
            self._last_error = (error.name(), self._scrub(error.str()))


def _place(message: Any) -> Place:
    return message.topic(), message.partition()


def _stored(message: Any) -> Stored:
    kind, timestamp_ms = message.timestamp()
    return Stored(
        message.topic(),
        message.partition(),
        message.offset(),
        timestamp_ms if kind else None,
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
    )
