"""Producing records and waiting for every acknowledgement: what `produce` and `dead-letters replay` share.

Invariant: so many are under way at most, so that a pipe of any length fits into memory; every wait hears Ctrl-C.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from headrace._client.producer import KafkaProducer
from headrace.errors import ProduceFailed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from headrace._client.settings import ConnectionSettings

UNDER_WAY_MAX = 5000
CLOSE_S = 5.0
_SLICE_S = 0.2


class Sending:
    """A producer that counts. One thread sends; the producer's thread counts the answers."""

    def __init__(self, connection: ConnectionSettings) -> None:
        self._producer = KafkaProducer(connection)
        self._answered = threading.Condition()
        self._under_way = 0
        self._acknowledged = 0
        self._failed = 0
        self._first_failure: ProduceFailed | None = None

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        partition: int | None,
    ) -> None:
        """Send one record, when there is room for it."""
        self._wait_below(UNDER_WAY_MAX)
        with self._answered:
            self._under_way += 1
        self._producer.produce(topic, value, key, headers, partition, self._done)

    def flush(self) -> None:
        """Wait until all are answered; raises the first failure. Librdkafka bounds each by delivery.timeout.ms."""
        self._wait_below(1)
        if self._first_failure is not None:
            raise self._first_failure

    @property
    def acknowledged(self) -> int:
        """Records that the broker has."""
        return self._acknowledged

    @property
    def failed(self) -> int:
        """Records that it has not, as far as is known."""
        return self._failed

    def _wait_below(self, limit: int) -> None:
        with self._answered:
            # In slices, so that an interrupt is heard on every platform.
            while self._under_way >= limit:
                self._answered.wait(_SLICE_S)

    def _done(self, error: Exception | None) -> None:
        with self._answered:
            self._under_way -= 1
            if error is None:
                self._acknowledged += 1
            else:
                self._failed += 1
                if self._first_failure is None and isinstance(error, ProduceFailed):
                    self._first_failure = error
            self._answered.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._producer.close(CLOSE_S)
