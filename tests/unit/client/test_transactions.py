"""Why a transaction failed: the record that was refused is named, however late its own report comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from headrace._client import transactions
from headrace._client.settings import ConnectionSettings
from headrace._client.transactions import TransactionWriter
from headrace.errors import ClientFailed, ProduceFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLLS = 3
"""So many polls until the client hands out a record's report."""


class Refused:
    """A record that the broker did not take."""

    def topic(self) -> str:
        return "orders"


class LateProducer:
    """librdkafka's order of events: the transaction fails first, then calls fail, then the record's report comes."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.on_delivery: Callable[[KafkaError | None, Any], None] = config["on_delivery"]
        self.unreported = 0
        self.polls = 0
        self.failed = False

    def __len__(self) -> int:
        return self.unreported

    def begin_transaction(self) -> None:
        pass

    def produce(self, _topic: str, **_said: object) -> None:
        self._check()
        self.unreported += 1

    def poll(self, _timeout_s: float) -> int:
        if not self.failed or not self.unreported:
            return 0
        self.polls += 1
        if self.polls == POLLS:
            self.unreported -= 1
            self.on_delivery(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), Refused())
        return 0

    def send_offsets_to_transaction(self, *_: object) -> None:
        self._check()

    def _check(self) -> None:
        if self.failed:
            raise KafkaException(KafkaError(KafkaError._STATE))


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Iterator[TransactionWriter]:
    monkeypatch.setattr(transactions, "Producer", LateProducer)
    made = TransactionWriter(ConnectionSettings("127.0.0.1:1", "copies"), timeout_s=1.0)
    yield made
    made.close()


def fail(writer: TransactionWriter) -> None:
    cast("LateProducer", writer._producer).failed = True


def send(writer: TransactionWriter) -> None:
    writer.send("orders", b"value", None, (), None, None)


def commit(writer: TransactionWriter) -> None:
    writer.commit("orders", 1, "note")


@pytest.mark.parametrize("call", [send, commit])
def test_the_refused_record_is_named_though_its_report_comes_after_the_failure(
    writer: TransactionWriter, call: Callable[[TransactionWriter], None]
) -> None:
    send(writer)
    fail(writer)
    with pytest.raises(ProduceFailed, match="MSG_SIZE_TOO_LARGE"):
        call(writer)


def test_a_transaction_that_fails_for_no_record_says_what_the_client_said(writer: TransactionWriter) -> None:
    fail(writer)
    with pytest.raises(ClientFailed, match="_STATE"):
        commit(writer)
