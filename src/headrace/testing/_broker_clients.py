"""What a test does to a broker as a Kafka client: produce, read committed offsets, read where partitions start and end.

Each call opens a client of its own and drops it (3 to 60 ms): nothing lives on between calls that could reconnect,
refresh or hold a socket while a fault is played. Invariant: every wait is bounded by `CALL_TIMEOUT_S`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition, admin

from headrace.testing._cluster import MockBrokerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import KafkaError, Message

    from headrace.testing._cluster import NewRecord

CALL_TIMEOUT_S: Final = 10.0
"""Long enough for a busy machine; a broker that is down must fail a test, not hang it."""

_QUEUE_FULL_WAIT_S: Final = 0.1


@final
class BrokerClients:
    """Short-lived clients of the broker at one address. Holds nothing open."""

    __slots__ = ("_settings",)

    def __init__(self, bootstrap_servers: str) -> None:
        # Telemetry off: its requests would only clutter those a test tracks.
        self._settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap_servers,
            "log_level": 0,
            "enable.metrics.push": False,
        }

    def produce(
        self, topic: str, records: Iterable[NewRecord], partition: int | None
    ) -> list[tuple[int, int]]:
        """Produce all, wait for all; (partition, offset) of each, in the order given."""
        producer = Producer(self._producer_settings())
        _partitions("produce", producer, topic)
        batch = _Batch()
        for record in records:
            _enqueue(producer, topic, record, partition, batch.expect())
        producer.flush(CALL_TIMEOUT_S + _QUEUE_FULL_WAIT_S)  # a little more than a record may take to fail
        producer.purge()
        return batch.places(topic)

    def committed(self, group: str, topic: str) -> dict[int, tuple[int, str]]:
        """(offset, metadata) of each partition for which the group has committed."""
        client = self._admin()
        wanted = [TopicPartition(topic, partition) for partition in _partitions("committed", client, topic)]
        request = [ConsumerGroupTopicPartitions(group, wanted)]
        try:
            futures = client.list_consumer_group_offsets(request, request_timeout=CALL_TIMEOUT_S)
            answer = futures[group].result(CALL_TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            raise MockBrokerError("committed", f"group {group}: {error}") from error
        found: dict[int, tuple[int, str]] = {}
        for place in answer.topic_partitions:
            if place.error is not None:
                raise MockBrokerError(
                    "committed", f"group {group}, {topic}[{place.partition}]: {place.error.str()}"
                )
            if place.offset >= 0:
                found[place.partition] = (place.offset, place.metadata or "")
        return found

    def start_offsets(self, topic: str) -> dict[int, int]:
        """The offset of the oldest record kept, per partition."""
        return self._offsets("start_offsets", topic, "earliest")

    def end_offsets(self, topic: str) -> dict[int, int]:
        """The offset the next record will get, per partition."""
        return self._offsets("end_offsets", topic, "latest")

    def _offsets(self, call: str, topic: str, which: str) -> dict[int, int]:
        untyped: Any = admin  # hides OffsetSpec from type checkers
        spec = getattr(untyped.OffsetSpec, which)()
        # The same client throughout: one that must first look for the leaders now and then waits a second.
        client = self._admin()
        wanted = {TopicPartition(topic, partition): spec for partition in _partitions(call, client, topic)}
        try:
            futures = client.list_offsets(wanted, request_timeout=CALL_TIMEOUT_S)
            return {
                place.partition: future.result(CALL_TIMEOUT_S).offset for place, future in futures.items()
            }
        except (KafkaException, TimeoutError) as error:
            raise MockBrokerError(call, f"{topic}: {error}") from error

    # confluent-kafka types its admin client in part only: futures of what, it does not say.
    def _admin(self) -> Any:
        return admin.AdminClient(self._settings)

    def _producer_settings(self) -> dict[str, Any]:
        return (
            self._settings
            | {
                "linger.ms": 5,  # a fetch serves one batch per partition: large batches keep reading fast
                "batch.size": 131072,
                "max.in.flight.requests.per.connection": 1,  # keeps the order even when an injected error is retried
                "message.timeout.ms": int(CALL_TIMEOUT_S * 1000),
                "partitioner": "murmur2_random",  # places keys as the Java clients do
            }
        )


@final
class _Batch:
    """Where the records of one `produce` went. Delivery reports write; they run inside the producer's own calls."""

    __slots__ = ("_failure", "_places")

    def __init__(self) -> None:
        self._places: list[tuple[int, int] | None] = []
        self._failure: str | None = None

    def expect(self) -> Callable[[KafkaError | None, Message], None]:
        """Make room for one more record; what is returned takes its delivery report."""
        index = len(self._places)
        self._places.append(None)

        def report(error: KafkaError | None, message: Message) -> None:
            partition, offset = message.partition(), message.offset()
            if error is None and partition is not None and offset is not None:
                self._places[index] = (partition, offset)
            elif error is not None and self._failure is None:
                self._failure = f"record {index}: {error.str()} ({error.name()})"

        return report

    def places(self, topic: str) -> list[tuple[int, int]]:
        """All of them; raises unless each record was acknowledged."""
        placed = [place for place in self._places if place is not None]
        missing = len(self._places) - len(placed)
        if missing:
            reason = self._failure or f"no answer within {CALL_TIMEOUT_S:g} s"
            problem = f"{missing} of {len(self._places)} records for {topic} not acknowledged; {reason}"
            raise MockBrokerError("produce", problem)
        return placed


def _partitions(call: str, client: Any, topic: str) -> list[int]:
    # All topics are asked for: naming one would make the mock create it, with four partitions, at a slip of the pen.
    try:
        topics = client.list_topics(timeout=CALL_TIMEOUT_S).topics
    except KafkaException as error:
        raise MockBrokerError(call, f"no broker answered: {error}") from error
    if topic not in topics:
        known = ", ".join(topics) or "none"
        raise MockBrokerError(call, f"no topic {topic!r}; create it first (there are: {known})")
    return sorted(topics[topic].partitions)


def _enqueue(
    producer: Producer,
    topic: str,
    record: NewRecord,
    partition: int | None,
    report: Callable[[KafkaError | None, Message], None],
) -> None:
    options: dict[str, Any] = {"key": record[0], "value": record[1], "on_delivery": report}
    if len(record) == 3:
        options["headers"] = list(record[2])
    if partition is not None:
        options["partition"] = partition
    deadline = time.monotonic() + CALL_TIMEOUT_S
    while True:
        try:
            producer.produce(topic, **options)
        except BufferError:
            if time.monotonic() > deadline:
                raise MockBrokerError(
                    "produce", f"{topic}: the queue stayed full for {CALL_TIMEOUT_S:g} s"
                ) from None
            producer.poll(_QUEUE_FULL_WAIT_S)
        except KafkaException as error:
            raise MockBrokerError("produce", f"{topic}: {error}") from error
        else:
            producer.poll(0)
            return
