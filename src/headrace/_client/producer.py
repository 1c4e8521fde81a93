"""The process's one idempotent producer: dead letters and what handlers produce. `ports.Producer` over confluent-kafka.

Decides how a record reaches librdkafka without ever making the caller wait, and what a failed delivery means; refuses
to decide whether it is tried again. Invariant: each record's `done` is called exactly once.

Threads: anybody calls `produce` and `close`; one daemon thread makes the client, polls it and calls every `done`.
`_wake`'s lock guards all fields, and is held for microseconds only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from confluent_kafka import KafkaError, KafkaException, Producer

from headrace._client.failures import produce_row
from headrace._client.logs import ClientLog
from headrace._client.lookups import error_of
from headrace._client.settings import Scrubber, producer_config, refusal
from headrace._client.tokens import TokenSource
from headrace.errors import ConfigError, ProduceFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace._client.settings import ConnectionSettings

WAITING_MAX = 10_000
"""Records kept here while librdkafka's own queue (100,000) is full. More than that are refused as transient failures."""

_POLL_S = 0.1  # a delivery ends the poll at once; only retries of a full queue wait so long
_PURGE_S = 1.0  # librdkafka reports what it drops within its next turn
_AGAIN_S = 0.25  # pause before a producer that broke is made anew, doubling
_AGAIN_MAX_S = 30.0
_FATAL = frozenset({"_FATAL", "_FENCED"})

_logger = logging.getLogger("headrace.producer")


class _Tokenless(Exception):
    """No client could be made for want of a token; the next try may find one."""


@dataclass(slots=True)
class _Outgoing:
    """One record on its way."""

    topic: str
    value: bytes | None
    key: bytes | None
    headers: list[tuple[str, str | bytes | None]]  # as confluent-kafka's hints want it
    partition: int
    done: Callable[[Exception | None], None]


@final
class KafkaProducer:
    """Makes nothing until the first record; then one client and one thread, until `close`."""

    def __init__(self, settings: ConnectionSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = producer_config(settings)
        self._config.pop("error_cb", None)  # the consumer's: it hears of the same brokers
        self._scrub = Scrubber(self._config)
        self._tokens = TokenSource(self._config)
        self._clock = clock
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._client: Producer | None = None
        self._waiting: deque[_Outgoing] = deque()
        self._refused: deque[tuple[_Outgoing, ProduceFailed]] = deque()
        # Accepted by librdkafka and not answered, by identity.
        self._open: dict[int, _Outgoing] = {}
        self._close_at: float | None = None
        self._unacknowledged = 0

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        partition: int | None,
        done: Callable[[Exception | None], None],
    ) -> None:
        """Produce one record. `done` is called once, on the producer's thread, with None or a `ProduceFailed`.

        After `close` there is no such thread: then `done` is called at once, on the caller's.
        """
        record = _Outgoing(topic, value, key, [*headers], -1 if partition is None else partition, done)
        with self._wake:
            closed = self._close_at is not None
            if not closed:
                self._accept(record)
                self._wake.notify()
        if closed:
            self._answer(record, self._failure(topic, "_DESTROY", "the producer was closed"))

    def close(self, timeout_s: float) -> int:
        """Flush and end; returns how many records were still unacknowledged. Their `done` hears of a transient failure."""
        with self._wake:
            if self._close_at is None:
                self._close_at = time.monotonic() + timeout_s
            thread = self._thread
            self._wake.notify()
        if thread is None:
            return 0
        thread.join(timeout_s + 2 * _PURGE_S)
        with self._wake:
            return self._unacknowledged

    # Any thread, under the lock

    def _accept(self, record: _Outgoing) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="headrace-producer", daemon=True)
            self._thread.start()
        # Never past a record that waits, so that one caller's records stay in order.
        if self._client is None or self._waiting or not self._hand_over(self._client, record):
            if len(self._waiting) < WAITING_MAX:
                self._waiting.append(record)
            else:
                self._refuse(record, "_QUEUE_FULL", "more was produced than the brokers take")

    def _hand_over(self, client: Producer, record: _Outgoing) -> bool:
        """Give one record to librdkafka; False if its queue is full. A refusal is answered by the thread."""

        def delivered(error: KafkaError | None, _message: Any) -> None:
            with self._wake:
                if self._open.pop(id(record), None) is None:
                    return  # Answered when its client was given up.
            self._answer(record, None if error is None else self._failure_of(record.topic, error))

        try:
            client.produce(
                record.topic,
                value=record.value,
                key=record.key,
                partition=record.partition,
                on_delivery=delivered,
                headers=record.headers,
            )
        except BufferError:
            return False
        except KafkaException as exception:
            error = error_of(exception)
            self._refuse(record, error.name(), error.str())
        except (TypeError, ValueError) as unusable:
            self._refuse(record, "_INVALID_ARG", str(unusable))
        else:
            self._open[id(record)] = record
        return True

    def _refuse(self, record: _Outgoing, code: str, detail: str) -> None:
        self._refused.append((record, self._failure(record.topic, code, detail)))

    # The producer's thread

    def _run(self) -> None:
        """Serve until `close`. Whatever breaks, the records that are open hear of it, and a new client is made."""
        pause_s = _AGAIN_S
        while True:
            began = self._clock()
            try:
                self._serve_all()
            except BaseException as error:
                _logger.exception("the producer broke; its records fail for the moment, and it is made anew")
                pause_s = _AGAIN_S if self._clock() - began > _AGAIN_MAX_S else min(2 * pause_s, _AGAIN_MAX_S)
                if self._recover(error, pause_s):
                    return
            else:
                return

    def _recover(self, error: BaseException, pause_s: float) -> bool:
        """Answer all that is open or waits, then pause; True if the producer is closed meanwhile."""
        with self._wake:
            self._client = None
            for record in [*self._open.values(), *self._waiting]:
                self._refuse(record, "_FAIL", f"the producer broke: {type(error).__name__}")
            self._open.clear()
            self._waiting.clear()
            refused = self._take_refused()
        for record, failure in refused:
            self._answer(record, failure)
        with self._wake:
            return self._wake.wait_for(lambda: self._close_at is not None, pause_s)

    def _serve_all(self) -> None:
        try:
            client = self._connect_with_token()
        except ConfigError as error:
            self._fail_for_ever(error)
            return
        while client is not None:
            with self._wake:
                while not (self._waiting or self._refused or self._open or self._close_at is not None):
                    self._wake.wait()
                if self._close_at is not None:
                    break
                self._move_waiting(client)
                refused = self._take_refused()
            dead = self._serve(client, _POLL_S if not refused else 0.0)
            for record, failure in refused:
                self._answer(record, failure)
                dead = dead or failure.code in _FATAL
            if dead:
                self._purge(client)
                client = self._connect_with_token()
        if client is not None:
            self._flush(client)

    def _connect_with_token(self) -> Producer | None:
        """Try until there is a token: meanwhile records fail for the moment. None if it is closed first.

        Each try takes the ten seconds that confluent-kafka waits for a token.
        """
        while True:
            try:
                return self._connect()
            except _Tokenless as failed:
                with self._wake:
                    while self._waiting:
                        self._refuse(self._waiting.popleft(), "_AUTHENTICATION", str(failed))
                    refused = self._take_refused()
                    closing = self._close_at is not None
                for record, failure in refused:
                    self._answer(record, failure)
                if closing:
                    return None

    def _connect(self) -> Producer:
        try:
            client = self._tokens.made(
                lambda: Producer(
                    self._config | {"logger": ClientLog(self._clock, self._scrub), "error_cb": _ignore_error}
                )
            )
        except (KafkaException, TypeError, ValueError, SystemError) as error:
            if (tokenless := self._tokens.failure(error)) is not None:
                raise _Tokenless(tokenless) from None
            raise refusal(error, self._config) from None  # the cause's text may hold a secret
        with self._wake:
            self._client = client
            self._move_waiting(client)
        return client

    def _move_waiting(self, client: Producer) -> None:
        while self._waiting and self._hand_over(client, self._waiting[0]):
            self._waiting.popleft()

    def _take_refused(self) -> list[tuple[_Outgoing, ProduceFailed]]:
        refused = list(self._refused)
        self._refused.clear()
        return refused

    @staticmethod
    def _serve(client: Producer, timeout_s: float) -> bool:
        """Serve deliveries; True if the client is dead, which confluent-kafka raises out of the poll."""
        try:
            client.poll(timeout_s)
        except KafkaException as exception:
            return error_of(exception).fatal()
        return False

    def _purge(self, client: Producer) -> None:
        """Give up all that is open; each record is answered with a transient failure."""
        with self._wake:
            self._client = None
        client.purge()
        give_up_at = time.monotonic() + _PURGE_S
        while len(client) and time.monotonic() < give_up_at:
            self._serve(client, 0.05)

    def _flush(self, client: Producer) -> None:
        assert self._close_at is not None
        while time.monotonic() < self._close_at:
            with self._wake:
                self._move_waiting(client)
                finished = not self._waiting and not self._open
            if finished or self._serve(client, min(_POLL_S, max(0.0, self._close_at - time.monotonic()))):
                break
        with self._wake:
            self._unacknowledged = len(self._open) + len(self._waiting)
            while self._waiting:
                self._refuse(
                    self._waiting.popleft(), "_PURGE_QUEUE", "the producer was closed before it was sent"
                )
        self._purge(client)
        with self._wake:
            refused = self._take_refused()
        for record, failure in refused:
            self._answer(record, failure)

    def _fail_for_ever(self, error: ConfigError) -> None:
        """No client can be made with this configuration: every record fails until `close`."""
        while True:
            with self._wake:
                while not (self._waiting or self._refused or self._close_at is not None):
                    self._wake.wait()
                while self._waiting:
                    self._refuse(self._waiting.popleft(), "_INVALID_ARG", str(error))
                refused = self._take_refused()
                closing = self._close_at is not None
            for record, failure in refused:
                self._answer(record, failure)
            if closing:
                return

    def _failure_of(self, topic: str, error: KafkaError) -> ProduceFailed:
        return self._failure(topic, error.name(), error.str())

    def _failure(self, topic: str, code: str, detail: str) -> ProduceFailed:
        permanent = produce_row(code).kind == "permanent"
        return ProduceFailed(topic, code, self._scrub(detail), permanent=permanent)

    def _answer(self, record: _Outgoing, failure: ProduceFailed | None) -> None:
        try:
            record.done(failure)
        except BaseException:
            # Raised here it would end the one thread that everybody's records depend on.
            _logger.exception("the callback of a record produced to %s failed", record.topic)


def _ignore_error(_error: KafkaError) -> None:
    """Deliveries tell what matters; the consumers report the same brokers."""
