"""The producer's side of its port: every record is answered once, by its name, and nobody ever waits."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from headrace._client import producer as producer_module
from headrace._client.producer import KafkaProducer
from headrace._client.settings import ConnectionSettings
from headrace.errors import ProduceFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.testing.broker import MockBroker

WAIT_S = 10.0


class Answers:
    """Counts answers per record and keeps the failures."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.failures: list[Exception] = []
        self.threads: set[str] = set()
        self._changed = threading.Condition()

    def of(self, number: int) -> Callable[[Exception | None], None]:
        def done(failure: Exception | None) -> None:
            with self._changed:
                self.counts[number] = self.counts.get(number, 0) + 1
                self.threads.add(threading.current_thread().name)
                if failure is not None:
                    self.failures.append(failure)
                self._changed.notify_all()

        return done

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.counts) >= count, WAIT_S), self.counts


def make(bootstrap_servers: str, **librdkafka: object) -> KafkaProducer:
    user = {"reconnect.backoff.max.ms": 100} | {k.replace("_", "."): v for k, v in librdkafka.items()}
    return KafkaProducer(ConnectionSettings(bootstrap_servers, "group", user))


def test_records_are_acknowledged_in_order_whole_and_once(broker: MockBroker) -> None:
    producer, answers = make(broker.bootstrap_servers), Answers()
    before = broker.end_offsets("other")[0]
    for number in range(1000):
        headers = [("same", b"1"), ("same", None)]
        producer.produce("other", b"v%d" % number, b"k", headers, None, answers.of(number))
    answers.wait_for(1000)
    assert set(answers.counts.values()) == {1}
    assert not answers.failures
    assert answers.threads == {"headrace-producer"}
    assert broker.end_offsets("other")[0] == before + 1000
    assert producer.close(5.0) == 0


def test_many_threads_may_produce(broker: MockBroker) -> None:
    producer, answers = make(broker.bootstrap_servers), Answers()

    def work(base: int) -> None:
        for number in range(base, base + 200):
            producer.produce("other", b"v", None, (), 0, answers.of(number))

    threads = [threading.Thread(target=work, args=(base,)) for base in range(0, 1600, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert producer.close(WAIT_S) == 0
    assert len(answers.counts) == 1600
    assert set(answers.counts.values()) == {1}
    assert not answers.failures


@pytest.mark.parametrize("code", ["MSG_SIZE_TOO_LARGE", "TOPIC_AUTHORIZATION_FAILED", "INVALID_RECORD"])
def test_what_waiting_does_not_cure_is_permanent(broker: MockBroker, code: str) -> None:
    producer, answers = make(broker.bootstrap_servers), Answers()
    broker.push_errors("Produce", *[code] * 3)
    producer.produce("other", b"v", None, (), 0, answers.of(0))
    answers.wait_for(1)
    failure = answers.failures[0]
    assert isinstance(failure, ProduceFailed)
    assert failure.permanent
    assert failure.topic == "other"
    producer.close(1.0)


def test_refusals_of_the_client_itself_are_answered_too(broker: MockBroker) -> None:
    producer, answers = make(broker.bootstrap_servers), Answers()
    producer.produce("other", b"x" * 2_000_000, None, (), 0, answers.of(0))
    producer.produce("other", b"v", None, (), 77, answers.of(1))
    answers.wait_for(2)
    assert {f.code: f.permanent for f in answers.failures if isinstance(f, ProduceFailed)} == {
        "MSG_SIZE_TOO_LARGE": True,
        "_UNKNOWN_PARTITION": True,
    }
    assert producer.close(5.0) == 0


def test_what_takes_too_long_is_transient(broker: MockBroker) -> None:
    producer, answers = make(broker.bootstrap_servers, delivery_timeout_ms=1500), Answers()
    producer.produce("other", b"v", None, (), 0, answers.of(0))
    answers.wait_for(1)
    broker.broker_down()
    producer.produce("other", b"v", None, (), 0, answers.of(1))
    answers.wait_for(2)
    (failure,) = answers.failures
    assert isinstance(failure, ProduceFailed)
    assert (failure.code, failure.permanent) == ("_MSG_TIMED_OUT", False)
    broker.broker_up()
    assert producer.close(5.0) == 0


def test_nobody_waits_for_a_full_queue_and_what_is_beyond_all_bounds_is_refused(
    broker: MockBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer_module, "WAITING_MAX", 50)
    producer, answers = make(broker.bootstrap_servers, queue_buffering_max_messages=10), Answers()
    broker.broker_down()
    slowest_s = 0.0
    for number in range(100):
        started = time.monotonic()
        producer.produce("other", b"v", None, (), 0, answers.of(number))
        slowest_s = max(slowest_s, time.monotonic() - started)
    assert slowest_s < 0.1
    broker.broker_up()
    answers.wait_for(100)
    assert set(answers.counts.values()) == {1}
    refused = [f for f in answers.failures if isinstance(f, ProduceFailed)]
    assert {(f.code, f.permanent) for f in refused} == {("_QUEUE_FULL", False)}
    assert 30 <= len(refused) <= 50
    assert producer.close(5.0) == 0


def test_close_without_a_broker_is_bounded_and_answers_everything(broker: MockBroker) -> None:
    producer, answers = make(broker.bootstrap_servers), Answers()
    broker.broker_down()
    for number in range(20):
        producer.produce("other", b"v", None, (), 0, answers.of(number))
    started = time.monotonic()
    assert producer.close(0.5) == 20
    assert time.monotonic() - started < 2.0
    assert list(answers.counts.values()) == [1] * 20
    assert all(isinstance(f, ProduceFailed) and not f.permanent for f in answers.failures)
    producer.produce("other", b"v", None, (), 0, answers.of(99))
    assert answers.counts[99] == 1
    assert producer.close(0.5) == 20


def test_a_dead_idempotent_client_is_replaced(broker: MockBroker) -> None:
    producer, answers = make(broker.bootstrap_servers), Answers()
    producer.produce("other", b"v", None, (), 0, answers.of(0))
    answers.wait_for(1)
    broker.push_errors("Produce", "OUT_OF_ORDER_SEQUENCE_NUMBER")
    producer.produce("other", b"v", None, (), 0, answers.of(1))
    answers.wait_for(2)
    give_up_at = time.monotonic() + WAIT_S
    number, failed = 2, 0
    while time.monotonic() < give_up_at:
        failed = len(answers.failures)
        producer.produce("other", b"v", None, (), 0, answers.of(number))
        answers.wait_for(number + 1)
        if len(answers.failures) == failed:
            break
        number += 1
    assert len(answers.failures) == failed
    assert all(isinstance(f, ProduceFailed) and not f.permanent for f in answers.failures)
    assert producer.close(5.0) == 0


def test_a_failing_callback_hurts_no_other_record(
    broker: MockBroker, caplog: pytest.LogCaptureFixture
) -> None:
    producer, answers = make(broker.bootstrap_servers), Answers()

    def fail(_failure: Exception | None) -> None:
        raise KeyError("mine")

    producer.produce("other", b"v", None, (), 0, fail)
    producer.produce("other", b"v", None, (), 0, answers.of(1))
    answers.wait_for(1)
    assert producer.close(5.0) == 0
    assert "callback" in caplog.text


def test_nothing_is_made_until_something_is_produced() -> None:
    before = threading.active_count()
    producer = make("127.0.0.1:1")
    assert threading.active_count() == before
    assert producer.close(1.0) == 0


def test_a_producer_that_breaks_is_made_anew_and_leaves_nobody_waiting(
    broker: MockBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever its thread raises: what was open fails for the moment, once, and what comes next is delivered."""
    producer, answers = make(broker.bootstrap_servers), Answers()
    producer.produce("other", b"before", None, [], None, answers.of(0))
    answers.wait_for(1)
    serve, broken = KafkaProducer._serve, threading.Event()

    def breaks_once(client: object, timeout_s: float) -> bool:
        if not broken.is_set():
            broken.set()
            raise SystemExit(7)
        return serve(client, timeout_s)  # type: ignore[arg-type] # as it came

    broker.round_trip(0.3)
    monkeypatch.setattr(KafkaProducer, "_serve", staticmethod(breaks_once))
    producer.produce("other", b"while", None, [], None, answers.of(1))
    answers.wait_for(2)
    broker.round_trip(0.0)
    (failure,) = answers.failures
    assert isinstance(failure, ProduceFailed)
    assert not failure.permanent
    producer.produce("other", b"after", None, [], None, answers.of(2))
    answers.wait_for(3)
    assert producer.close(WAIT_S) == 0
    assert answers.counts == {0: 1, 1: 1, 2: 1}
    assert len(answers.failures) == 1
    assert "made anew" in caplog.text
