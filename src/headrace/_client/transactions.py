"""A producer whose records appear by transactions, each with a note of how far its source is: for copies.

Decides how librdkafka is told, and what a refusal means; refuses to know where records come from. Invariant: a note is
written by the transaction of the records that it speaks of, or not at all. Used by one thread.

The note is the metadata of an offset that the transaction commits for a group of the copy's own, in partition 0 of the
target: a consumer of that group would find it there, and none is ever started.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from headrace._client.admin import Observer
from headrace._client.failures import produce_row
from headrace._client.logs import ClientLog
from headrace._client.lookups import error_of
from headrace._client.settings import Scrubber, consumer_config, producer_config, refusal
from headrace.errors import BrokerUnreachable, ClientFailed, NotAuthorized, ProduceFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace._client.settings import ConnectionSettings

SLICE_S: Final = 1.0
"""The longest single call, where the client allows calls to go on: Ctrl-C is heard between two."""

EVENTS_MAX: Final = 100
_AGAIN_S: Final = 0.1
_UNSTABLE: Final = "UNSTABLE_OFFSET_COMMIT"
_GRANTS: Final = {
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": "transactional id {} (Write)",
    "GROUP_AUTHORIZATION_FAILED": "group {} (Read)",
    "TOPIC_AUTHORIZATION_FAILED": "the target topics (Write, and Read for the note)",
}
"""What a transaction needs, by what the broker says of who lacks it."""


@final
class TransactionWriter:
    """Writes to one cluster. Its settings' group id is its transactional id, too: it fences its own forerunner."""

    def __init__(self, settings: ConnectionSettings, timeout_s: float) -> None:
        self._settings, self._timeout_s = settings, timeout_s
        transactional = {
            # Whoever reads committed records waits so long for a copy that was killed.
            "transaction.timeout.ms": int(max(60.0, 2 * timeout_s + 30.0) * 1000),
            "partitioner": "murmur2_random",  # where Java's producer would put a key
        }
        chosen = {key: settings.librdkafka.get(key, value) for key, value in transactional.items()}
        config = producer_config(settings) | chosen
        config["transactional.id"] = settings.group_id
        if "delivery.timeout.ms" not in settings.librdkafka:
            config.pop("delivery.timeout.ms", None)  # the transaction's timeout is the limit of each delivery
        config.pop("error_cb", None)
        self._scrub = Scrubber(config)
        logger = ClientLog(time.monotonic, self._scrub)
        own: Any = {"error_cb": self._on_error, "on_delivery": self._delivered, "logger": logger}
        group: Any = consumer_config(settings)
        group.pop("error_cb", None)
        try:
            self._producer = Producer(config | own)
            self._group = Consumer(group | {"error_cb": self._on_error, "logger": logger})
        except (KafkaException, TypeError, ValueError) as error:
            raise refusal(error, config) from None  # the cause's text may hold a secret
        self._last_error = ("no answer", "")
        self._failure: ProduceFailed | None = None
        self._open = False

    def begin(self) -> None:
        """Take the transactional id, which ends what a forerunner left open. Raises `BrokerUnreachable`, `ClientFailed`."""
        self._patiently(self._producer.init_transactions)

    def partitions(self, topics: Sequence[str], timeout_s: float) -> dict[str, int]:
        """How many partitions each of these topics has. Raises what observers do."""
        return dict(Counter(topic for topic, _ in Observer(self._settings).partitions(topics, timeout_s)))

    def note(self, topic: str) -> str | None:
        """What the last transaction noted; None if there was none. Raises as `begin`, and `NotAuthorized`."""
        asked = TopicPartition(topic, 0)
        found: list[TopicPartition] = []

        def ask(left_s: float) -> None:
            try:
                answered = self._group.committed([asked], timeout=left_s)[0]
            except KafkaException as exception:
                refused = self._group_refusal()
                raise (exception if refused is None else KafkaException(refused)) from None
            if answered.error is not None:
                raise KafkaException(answered.error)
            found.append(answered)

        self._patiently(ask)
        text = found[-1].metadata if found[-1].offset >= 0 else None
        return text.rstrip("\0") if text else None

    def _group_refusal(self) -> KafkaError | None:
        """Why the group's offsets cannot be had: asking for them just runs out of time, and only a poll says."""
        for _ in range(EVENTS_MAX):
            event = self._group.poll(0)
            if event is None:
                break
            error = event.error()
            if error is not None and error.name() in _GRANTS:
                return error
        return None

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        partition: int | None,
        timestamp_ms: int | None,
    ) -> None:
        """One record of the transaction, which begins with its first. Raises `ProduceFailed` for one before it, perhaps."""
        self._begin_transaction()
        if self._failure is not None:
            raise self._failure
        said: Any = {"headers": [*headers]} if headers else {}
        while True:
            try:
                self._producer.produce(
                    topic,
                    value=value,
                    key=key,
                    partition=-1 if partition is None else partition,
                    timestamp=timestamp_ms or 0,
                    **said,
                )
            except BufferError:
                self._producer.poll(_AGAIN_S)
            except KafkaException as exception:
                raise self._refusal() or self._failed(topic, error_of(exception)) from None
            else:
                self._producer.poll(0)
                return

    def commit(self, topic: str, count: int, note: str) -> None:
        """End the transaction well: its records and the note appear together. Raises `ProduceFailed`, `ClientFailed`."""
        self._begin_transaction()
        offset = TopicPartition(topic, 0, count, note)
        try:
            self._patiently(
                lambda left_s: self._producer.send_offsets_to_transaction(
                    [offset], self._group.consumer_group_metadata(), left_s
                )
            )
            self._patiently(self._producer.commit_transaction)
        except ClientFailed as failed:
            raise self._refusal() or failed from None
        self._open = False

    def abort(self) -> None:
        """End the transaction badly, if one is open: none of its records appears. Raises nothing; the broker does it in time."""
        if self._open:
            self._open = False
            with suppress(KafkaException):
                self._producer.purge()
                self._producer.abort_transaction(self._timeout_s)

    def close(self) -> None:
        """Free the clients."""
        self._group.close()

    def _begin_transaction(self) -> None:
        if not self._open:
            self._producer.begin_transaction()
            self._open = True

    def _patiently(self, call: Callable[[float], None]) -> None:
        """Call it in slices, and again while that may help, for `timeout_s` in all."""
        give_up_at = time.monotonic() + self._timeout_s
        while True:
            left_s = give_up_at - time.monotonic()
            try:
                call(max(0.05, min(SLICE_S, left_s)))
            except KafkaException as exception:
                error = error_of(exception)
                if left_s > 0 and (error.retriable() or error.name() in {"_TIMED_OUT", _UNSTABLE}):
                    time.sleep(min(_AGAIN_S, max(0.0, left_s)))
                    continue
                raise self._refused(error) from None
            return

    def _refused(self, error: KafkaError) -> Exception:
        code, text = error.name(), self._scrub(error.str())
        if code in _GRANTS:
            return NotAuthorized(_GRANTS[code].format(self._settings.group_id), text)
        if code in {"_TIMED_OUT", "_TRANSPORT", "_ALL_BROKERS_DOWN"}:
            said = ": ".join(filter(None, self._last_error))
            return BrokerUnreachable(self._settings.bootstrap_servers, self._timeout_s, said)
        return ClientFailed(code, text)

    def _failed(self, topic: str, error: KafkaError) -> ProduceFailed:
        permanent = produce_row(error.name()).kind == "permanent"
        return ProduceFailed(topic, error.name(), self._scrub(error.str()), permanent=permanent)

    def _delivered(self, error: KafkaError | None, message: Any) -> None:
        if error is not None and self._failure is None:
            self._failure = self._failed(message.topic(), error)

    def _refusal(self) -> ProduceFailed | None:
        """The record that a failed transaction failed for, if there is one.

        The transaction fails, and every call that belongs to it, before the record's own report can be had.
        """
        give_up_at = time.monotonic() + SLICE_S
        while self._failure is None and len(self._producer) > 0 and time.monotonic() < give_up_at:
            self._producer.poll(_AGAIN_S)
        return self._failure

    def _on_error(self, error: KafkaError) -> None:
        if error.name() != "_ALL_BROKERS_DOWN":  # which says nothing of why
            self._last_error = (error.name(), self._scrub(error.str()))
