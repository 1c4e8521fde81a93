"""One consumer that reads some partitions up to given ends: for bounded reads, in threads of their own.

Decides how librdkafka is told, and what stands beside the records; refuses to know ranges, losses or Arrow. Records stay
the client's messages, in lists: per record nothing is made here. Invariant: a chunk holds records only, in offset order
within each partition; what is no record (an end, an error) is a fact of its own.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from headrace._client.failures import consume_row
from headrace._client.logs import ClientLog
from headrace._client.lookups import error_of
from headrace._client.settings import Scrubber, consumer_config, refusal
from headrace.errors import ClientFailed, HeadraceError, NotAuthorized

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka import KafkaError

    from headrace._client.settings import ConnectionSettings
    from headrace.ports import TopicPartition as Place

_KIB: Final = 1024
_MIB: Final = 1024 * 1024
_RECORD_BYTES: Final = (
    512  # what a queued record of 100 bytes takes, by the growth of a process that holds many
)
_QUEUED_RECORDS: Final = (500, 100_000)
_PART_BYTES_MIN: Final = 128 * _KIB
_FETCH_BYTES: Final = (_MIB, 50 * _MIB)  # a record must fit; librdkafka's own default is the other end


@dataclass(frozen=True, slots=True)
class EndSeen:
    """The broker has nothing beyond this offset now: it is where the partition goes on."""

    place: Place
    offset: int


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """The broker does not have this offset (any more). Nothing comes from the partition until it is placed again."""

    place: Place
    offset: int | None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The broker says that the topic or partition does not exist. Nothing comes until it is placed again."""

    place: Place


Fact = EndSeen | OutOfRange | Unknown


@final
class Chunk:
    """Records that were taken at once. Columns are made when asked for, each in one pass in C."""

    __slots__ = ("messages", "offsets", "partitions", "topics")

    def __init__(self, messages: Sequence[Message], topic: str | None) -> None:
        self.messages = messages
        self.offsets: list[int] = list(map(Message.offset, messages))  # type: ignore[arg-type] # records have one
        self.partitions: list[int] = list(map(Message.partition, messages))  # type: ignore[arg-type] # the same
        self.topics: str | list[str] = topic if topic is not None else list(map(Message.topic, messages))  # type: ignore[arg-type] # the same

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def payload_bytes(self) -> int:
        """Bytes of the values."""
        return sum(map(len, self.messages))

    def last_offsets(self) -> dict[Place, int]:
        """The highest offset of each partition that is among them."""
        if isinstance(self.topics, str):
            topic = self.topics
            last = dict(zip(self.partitions, self.offsets, strict=True))
            return {(topic, partition): offset for partition, offset in last.items()}
        return dict(zip(zip(self.topics, self.partitions, strict=True), self.offsets, strict=True))

    def below(self, ends: Mapping[Place, int]) -> Chunk:
        """Those below the ends of their partitions; a partition that has no end has no records here either."""
        kept = [m for m in self.messages if m.offset() < ends.get((m.topic(), m.partition()), 0)]  # type: ignore[operator, arg-type] # records have all three
        return Chunk(kept, self.topics if isinstance(self.topics, str) else None)

    def keys(self) -> list[bytes | None]:
        """Keys."""
        return list(map(Message.key, self.messages))

    def values(self) -> list[bytes | None]:
        """Values."""
        return list(map(Message.value, self.messages))

    def headers(self) -> list[Any]:
        """Headers: None, or a list of (name, bytes or None), each."""
        return list(map(Message.headers, self.messages))

    def timestamps(self) -> list[tuple[int, int]]:
        """(kind, ms) each; kind 0 is none, 1 the producer's, 2 the broker's."""
        return list(map(Message.timestamp, self.messages))


@final
class RangeConsumer:
    """Reads partitions from offsets; joins no group, commits nothing. Used by one thread."""

    def __init__(
        self, settings: ConnectionSettings, *, isolation: str, queue_bytes: int, partitions: int = 1
    ) -> None:
        config: Any = range_config(settings, isolation, queue_bytes, partitions)
        self._bootstrap_servers = settings.bootstrap_servers
        self._scrub = Scrubber(config)
        self._topic: str | None = None
        self.last_error: tuple[str, str] | None = None
        """Code and text of what the client last complained of."""
        try:
            self._consumer = Consumer(
                config | {"error_cb": self._on_error, "logger": ClientLog(time.monotonic, self._scrub)}
            )
        except (KafkaException, TypeError, ValueError) as error:
            raise refusal(error, config) from None  # the cause's text may hold a secret

    def begin(self, offsets: Mapping[Place, int]) -> None:
        """Read these partitions, each from its offset."""
        topics = {topic for topic, _ in offsets}
        self._topic = topics.pop() if len(topics) == 1 else None
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])

    def take(self, records_max: int, wait_s: float) -> tuple[Chunk, list[Fact]]:
        """At most so many records, as many as come within `wait_s`; and what was met beside them.

        Raises `NotAuthorized`, and `ClientFailed` for what no waiting mends.
        """
        try:
            messages = self._consumer.consume(records_max, wait_s)
        except KafkaException as exception:
            error = error_of(exception)
            raise ClientFailed(error.name(), self._scrub(error.str())) from None
        facts: list[Fact] = []
        if any(map(Message.error, messages)):
            facts = [fact for m in messages if m.error() is not None and (fact := self._fact(m)) is not None]
            messages = [m for m in messages if m.error() is None]
        return Chunk(messages, self._topic), facts

    def drop(self, place: Place) -> None:
        """Read this partition no more."""
        self._consumer.incremental_unassign([TopicPartition(*place)])

    def place_again(self, place: Place, offset: int) -> None:
        """Go on with this partition at another offset, or after an error at the same."""
        self.drop(place)
        self._consumer.incremental_assign([TopicPartition(*place, offset)])

    def bounds(self, place: Place, timeout_s: float) -> tuple[int, int] | None:
        """First and next offset of a partition; None if the broker did not say so in time."""
        with suppress(KafkaException):
            found: tuple[int, int] | None = self._consumer.get_watermark_offsets(
                TopicPartition(*place), timeout=timeout_s, cached=False
            )
            return found
        return None

    def exists(self, place: Place, timeout_s: float) -> bool | None:
        """Whether the partition exists; None if no broker said so in time."""
        topic, partition = place
        with suppress(KafkaException):
            found = self._consumer.list_topics(topic, timeout=timeout_s).topics.get(topic)
            if found is None or (
                found.error is not None and consume_row(found.error.name()).kind == "topic_missing"
            ):
                return False
            return None if found.error is not None else partition in found.partitions
        return None

    def close(self) -> None:
        """Drop the connections."""
        self._consumer.close()

    def _fact(self, message: Message) -> Fact | None:
        error = message.error()
        topic, partition = message.topic(), message.partition()
        assert error is not None
        code, kind = error.name(), consume_row(error.name()).kind
        if (
            topic is None
            or partition is None
            or kind in {"log", "fenced"}
            or code == "GROUP_AUTHORIZATION_FAILED"
        ):
            # What concerns a group is not ours: the client looks for a coordinator that nobody needs.
            self.last_error = (code, self._scrub(error.str()))
            return None
        place = (topic, partition)
        match kind:
            case "ignore":
                return EndSeen(place, message.offset() or 0)
            case "offset_out_of_range":
                offset = message.offset()
                return OutOfRange(place, offset if offset is not None and offset >= 0 else None)
            case "topic_missing":
                return Unknown(place)
            case "not_authorized":
                raise NotAuthorized(f"topic {topic}", self._scrub(error.str()))
            case _:
                raise self._failed(error, place)

    def _failed(self, error: KafkaError, place: Place) -> HeadraceError:
        return ClientFailed(error.name(), f"{place[0]}[{place[1]}]: {self._scrub(error.str())}")

    def _on_error(self, error: KafkaError) -> None:
        if self.last_error is None or error.name() != "_ALL_BROKERS_DOWN":  # which says nothing of why
            self.last_error = (error.name(), self._scrub(error.str()))


def range_config(
    settings: ConnectionSettings, isolation: str, queue_bytes: int, partitions: int
) -> dict[str, Any]:
    """What librdkafka is told for a bounded read of so many partitions: the consumer's settings, and these."""
    least, most = _FETCH_BYTES
    fewest, enough = _QUEUED_RECORDS
    records = queue_bytes // (_RECORD_BYTES * max(1, partitions))
    ours = {
        # The client's limit in bytes leaves out what it adds to each record, which is most of a small one.
        "queued.min.messages": min(enough, max(fewest, records)),
        "queued.max.messages.kbytes": max(1, queue_bytes // _KIB),
        "fetch.max.bytes": min(most, max(least, queue_bytes)),
        # Counted as compressed: what a fetch unpacks to may be many times as much.
        "max.partition.fetch.bytes": min(
            least, max(_PART_BYTES_MIN, queue_bytes // (4 * max(1, partitions)))
        ),
        # The client reads ahead to the end of a partition, and there asks and waits; who begins another range waits with it.
        "fetch.wait.max.ms": 50,
        # Nobody waits for a reader whose user thinks for a while; there is no group to hold up.
        "max.poll.interval.ms": 86_400_000,
    }
    chosen = {key: settings.librdkafka.get(key, value) for key, value in ours.items()}
    if "fetch.message.max.bytes" in settings.librdkafka:
        del chosen["max.partition.fetch.bytes"]  # another name of it
    config = consumer_config(settings) | chosen | {"enable.partition.eof": True, "isolation.level": isolation}
    config.pop("error_cb", None)
    return config
