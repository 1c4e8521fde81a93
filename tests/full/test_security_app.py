"""An App on a broker with SASL, TLS and ACLs: it works, it keeps working while tokens run out, and its refusals are typed.

Every test looks for the secrets it used in all that was logged, raised or shown. Raw clients are in test_security.py.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from headrace import App, BrokerUnreachable, Commit, FatalError, NotAuthorized, Timeouts
from headrace.cli.run import print_settings
from tests.full.test_security import sasl_ssl, scram
from tests.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from headrace import Record
    from tests.kafka_server import SecureAddresses

CONNECT_S = 8.0
BOUND_S = 25.0
"""Every refusal comes within this: the connect budget, a look at the reason, and closing."""
TOKEN_LIFE_S = 15.0
"""A new token is asked for after four fifths of it: the callback must be done within the rest."""
TOKEN_DELAY_S = 2.0
RUN_S = 30.0
"""Two new tokens, and three times as long as the broker lets a connection live without proving itself again (10 s)."""


@pytest.fixture
def topic(secure_kafka: SecureAddresses, unique_name: str) -> Generator[str]:
    """A topic with ten records, made and filled on the plain listener."""
    topics = Topics(secure_kafka.plaintext, prefix=unique_name)
    topics.create(suffix=".dead")
    name = topics.create(partitions=2)
    produce(secure_kafka, name, 10)
    yield name
    topics.delete_all()


class Watched:
    """Everything that was logged, shown or raised, in search of secrets."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self._texts: list[str] = []

    def show(self, app: App) -> None:
        """What an app shows of itself."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            print_settings(app)
        self._texts += [out.getvalue(), repr(app), repr(app.settings), str(app.settings), repr(vars(app))]
        self._texts += [str(notice) for notice in app.notices()]

    def raised(self, error: BaseException) -> None:
        """What an error says, with its causes and facts."""
        self._texts += ["".join(traceback.format_exception(error)), repr(error), repr(vars(error))]

    def assert_free_of(self, *secrets: str) -> None:
        texts = [*self._texts, *(record.getMessage() for record in self._caplog.records)]
        assert len(self._caplog.records) > 0
        found = [text for text in texts for secret in secrets if secret in text]
        assert not found


@pytest.fixture
def watched(caplog: pytest.LogCaptureFixture) -> Watched:
    caplog.set_level(logging.DEBUG)
    return Watched(caplog)


def test_scram_user_handles_commits_and_writes_dead_letters(
    secure_kafka: SecureAddresses, topic: str, group_id: str, watched: Watched
) -> None:
    app = app_with(scram(secure_kafka, "headrace") | {"debug": "security,broker,conf"}, group_id)
    seen = Seen(10)

    @app.subscribe(topic, dead_letter=dead_letters_of(topic))
    def handle(record: Record) -> None:
        seen.note(record)
        if record.value == b"3":
            msg = "a record of no use"
            raise ValueError(msg)

    app.start()
    assert seen.all.wait(BOUND_S)
    until(lambda: app.snapshot().engine.counters.finished == 10)
    app.stop()
    watched.show(app)
    assert app.snapshot().engine.counters.dead_lettered == 1
    assert committed(secure_kafka, group_id, topic) == 10
    watched.assert_free_of("headrace-secret")


def test_tokens_are_renewed_by_a_slow_callback_while_records_flow(
    secure_kafka: SecureAddresses,
    topic: str,
    group_id: str,
    watched: Watched,
    record_property: Callable[[str, object], None],
) -> None:
    tokens = Tokens("headrace")
    settings = sasl_ssl(secure_kafka) | {"sasl.mechanism": "OAUTHBEARER", "debug": "security"}
    app = app_with(settings, group_id, oauth_cb=tokens)
    seen = Seen(10)

    @app.subscribe(topic, dead_letter=dead_letters_of(topic))
    async def handle(record: Record) -> None:
        seen.note(record)
        await app.produce(dead_letters_of(topic), record.value)

    app.start()
    ends_at = time.monotonic() + RUN_S
    sent = 10
    while time.monotonic() < ends_at:
        produce(secure_kafka, topic, 1)
        sent += 1
        time.sleep(0.1)
    until(lambda: app.snapshot().engine.counters.finished == sent)
    app.stop()
    watched.show(app)
    record_property("tokens_given", len(tokens.given))
    record_property("records", sent)
    counters = app.snapshot().engine.counters
    assert counters.failed == 0
    assert counters.lost == 0
    assert committed(secure_kafka, group_id, topic) == sent
    assert len(tokens.given) >= 3
    watched.assert_free_of(*tokens.given)


def test_stranger_is_refused_the_topic(
    secure_kafka: SecureAddresses, topic: str, group_id: str, watched: Watched
) -> None:
    error = refusal_of(app_with(scram(secure_kafka, "stranger"), group_id), topic, watched)
    assert isinstance(error, NotAuthorized)
    assert topic in str(error)
    watched.assert_free_of("stranger-secret")


def test_stranger_who_may_read_is_refused_the_group(
    secure_kafka: SecureAddresses, topic: str, group_id: str, watched: Watched
) -> None:
    allow(secure_kafka, "stranger", topic)
    error = refusal_of(app_with(scram(secure_kafka, "stranger"), group_id), topic, watched)
    assert isinstance(error, NotAuthorized)
    assert "GROUP_AUTHORIZATION_FAILED" in str(error)
    watched.assert_free_of("stranger-secret")


def test_wrong_password_is_told_as_such(
    secure_kafka: SecureAddresses, topic: str, group_id: str, watched: Watched
) -> None:
    settings = scram(secure_kafka, "headrace") | {
        "sasl.password": "not-the-password",
        "debug": "security,conf",
    }
    error = refusal_of(app_with(settings, group_id), topic, watched)
    assert isinstance(error, NotAuthorized | BrokerUnreachable)
    assert "uthentication failed" in str(error)
    watched.assert_free_of("not-the-password")


def test_token_callback_that_fails_is_told_as_such(
    secure_kafka: SecureAddresses, topic: str, group_id: str, watched: Watched
) -> None:
    def fail(_config: object) -> tuple[str, float]:
        msg = "the token service is away"
        raise RuntimeError(msg)

    settings = sasl_ssl(secure_kafka) | {"sasl.mechanism": "OAUTHBEARER"}
    error = refusal_of(app_with(settings, group_id, oauth_cb=fail), topic, watched)
    assert isinstance(error, NotAuthorized)
    assert "oauth_cb raised RuntimeError: the token service is away" in str(error)


def test_wrong_certificate_authority_is_named(
    secure_kafka: SecureAddresses, topic: str, group_id: str, watched: Watched, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    settings = scram(secure_kafka, "headrace") | {"ssl.ca.location": str(other)}
    error = refusal_of(app_with(settings, group_id), topic, watched)
    assert isinstance(error, BrokerUnreachable)
    assert "certificate verify failed" in str(error)
    watched.assert_free_of("headrace-secret")


class Tokens:
    """An `oauth_cb` that takes its time and gives tokens that do not last."""

    def __init__(self, principal: str) -> None:
        self._principal = principal
        self.given: list[str] = []

    def __call__(self, _config: object) -> tuple[str, float]:
        time.sleep(TOKEN_DELAY_S)
        now = time.time()
        claims = {"sub": self._principal, "iat": now, "exp": now + TOKEN_LIFE_S}
        token = f"{_encoded({'alg': 'none'})}.{_encoded(claims)}."
        self.given.append(token)
        return token, now + TOKEN_LIFE_S


class Seen:
    """Waits for so many records."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._places: set[tuple[int, int]] = set()
        self._lock = threading.Lock()
        self.all = threading.Event()

    def note(self, record: Record) -> None:
        with self._lock:
            self._places.add((record.partition, record.offset))
            if len(self._places) == self._count:
                self.all.set()


def app_with(settings: dict[str, Any], group_id: str, **callbacks: Any) -> App:
    client = {key: value for key, value in settings.items() if key != "bootstrap.servers"}
    return App(
        str(settings["bootstrap.servers"]),
        group_id,
        librdkafka=client | callbacks,
        commit=Commit(every_s=0.2),
        timeouts=Timeouts(connect_s=CONNECT_S),
    )


def refusal_of(app: App, topic: str, watched: Watched) -> FatalError:
    """The error that ends an app which is refused, at start or soon after, within the bound."""
    app.subscribe(topic)(_ignore)
    began = time.monotonic()
    with pytest.raises(FatalError) as refused:
        live(app)
    assert time.monotonic() - began < BOUND_S
    watched.show(app)
    watched.raised(refused.value)
    return refused.value


def live(app: App) -> None:
    """Start it and wait until it is over; raises what ended it."""
    try:
        app.start()
        until(lambda: app.state.value in ("failed", "stopped"))
    finally:
        app.stop()


def _ignore(record: Record) -> None:
    """A handler that has nothing to do."""


def produce(kafka: SecureAddresses, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": kafka.plaintext, "linger.ms": 0})
    for number in range(count):
        producer.produce(topic, str(number).encode(), key=str(number).encode())
    assert producer.flush(BOUND_S) == 0


def committed(kafka: SecureAddresses, group_id: str, topic: str) -> int:
    """Sum of the group's committed offsets, asked on the plain listener."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": kafka.plaintext, "group.id": group_id})
    try:
        places = consumer.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], timeout=BOUND_S)
        return sum(max(0, place.offset) for place in places)
    finally:
        consumer.close()


def allow(kafka: SecureAddresses, user: str, topic: str) -> None:
    """Let a user read a topic, and nothing more."""
    admin = AdminClient({"bootstrap.servers": kafka.plaintext})
    binding = AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        AclOperation.READ,
        AclPermissionType.ALLOW,
    )
    for made in admin.create_acls([binding]).values():
        made.result(BOUND_S)


def dead_letters_of(topic: str) -> str:
    return topic.rpartition("-")[0] + ".dead"


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def _encoded(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
