"""What users may tell librdkafka, what they may not, and what is never shown."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer

from headrace._client.admin import Observer
from headrace._client.consumer import KafkaClient
from headrace._client.keys import CONSUMER_ONLY, PRODUCER_ONLY, SHARED
from headrace._client.logs import QUIET_S, ClientLog
from headrace._client.settings import (
    ConnectionSettings,
    Scrubber,
    admin_config,
    consumer_config,
    describe,
    is_secret,
    producer_config,
)
from headrace.config import HIDDEN
from headrace.errors import ConfigError

SECRET = "correct-horse-battery"


def settings(librdkafka: dict[str, Any] | None = None, **changes: Any) -> ConnectionSettings:
    return ConnectionSettings("localhost:1", "billing", librdkafka or {}, **changes)


@pytest.mark.parametrize(
    ("key", "value", "instead"),
    [
        ("bootstrap.servers", "x:1", "bootstrap_servers"),
        ("metadata.broker.list", "x:1", "bootstrap_servers"),
        ("group.id", "g", "group_id"),
        ("group.instance.id", "i", "instance_id"),
        ("group.protocol", "consumer", "group_protocol"),
        ("auto.offset.reset", "latest", "start_if_no_offset"),
        ("enable.auto.commit", True, "guarantee"),
        ("enable.auto.commit", False, "guarantee"),
        ("auto.commit.interval.ms", 100, "every_s"),
        ("enable.auto.offset.store", True, "guarantee"),
        ("enable.partition.eof", True, "app.snapshot"),
        ("on_commit", print, "app.listen"),
        ("logger", logging.getLogger(), "headrace.librdkafka"),
        ("transactional.id", "t", "transactions"),
        ("acks", 1, "all replicas"),
        ("default.topic.config", {"auto.offset.reset": "latest"}, "top level"),
    ],
)
def test_keys_of_ours_are_refused_with_what_to_use_instead(key: str, value: object, instead: str) -> None:
    with pytest.raises(ConfigError) as refused:
        settings({key: value})
    assert refused.value.key == f"librdkafka[{key!r}]"
    assert instead in str(refused.value)


@pytest.mark.parametrize(
    "key",
    ["session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy", "group.protocol.type"],
)
def test_the_broker_decides_these_for_the_new_protocol(key: str) -> None:
    settings({key: "1"})
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        settings({key: "1"}, group_protocol="consumer")


def test_defaults_are_there_and_tunables_may_be_changed() -> None:
    config = consumer_config(settings({"queued.min.messages": 77, "linger.ms": 3}))
    assert config["fetch.queue.backoff.ms"] == 10
    assert config["queued.min.messages"] == 77
    assert config["auto.offset.reset"] == "error"
    assert config["enable.auto.commit"] is False
    assert config["partition.assignment.strategy"] == "cooperative-sticky"
    assert "linger.ms" not in config  # a producer's: librdkafka would warn
    assert "partition.assignment.strategy" not in consumer_config(settings(group_protocol="consumer"))


def test_each_connection_is_a_static_member_of_its_own() -> None:
    static = settings(instance_id="worker")
    ids = {consumer_config(static, p, c)["group.instance.id"] for p in range(2) for c in range(2)}
    assert ids == {"worker-0-0", "worker-0-1", "worker-1-0", "worker-1-1"}
    assert "group.instance.id" not in consumer_config(settings())


def test_producer_and_observer_inherit_security_but_no_consumer_settings() -> None:
    mine = settings(
        {"sasl.password": SECRET, "max.poll.interval.ms": 1000, "linger.ms": 3, "stats_cb": print}
    )
    producer, admin = producer_config(mine), admin_config(mine)
    assert producer["sasl.password"] == admin["sasl.password"] == SECRET
    assert producer["linger.ms"] == 3
    assert producer["enable.idempotence"] is True
    for config in (producer, admin):
        assert not {"max.poll.interval.ms", "stats_cb", "group.id"} & config.keys()
    assert "linger.ms" not in admin


@pytest.mark.parametrize(
    "key",
    [
        "sasl.password",
        "ssl.key.password",
        "ssl.keystore.password",
        "ssl.key.pem",
        "ssl.certificate.pem",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.oauthbearer.assertion.private.key.pem",
        "SASL.PASSWORD",
        "my.api_token",
    ],
)
def test_secrets_are_hidden_by_name(key: str) -> None:
    assert is_secret(key)
    assert describe({key: SECRET}) == {key: HIDDEN}


@pytest.mark.parametrize(
    "key",
    ["sasl.username", "sasl.mechanism", "ssl.ca.location", "sasl.oauthbearer.token.endpoint.url", "group.id"],
)
def test_what_is_no_secret_is_shown(key: str) -> None:
    assert describe({key: "shown"}) == {key: "shown"}


def test_callbacks_are_described_by_name() -> None:
    assert describe({"oauth_cb": print}) == {"oauth_cb": "print"}


@pytest.mark.parametrize(
    ("librdkafka", "key"),
    [
        ({"isolation.level": "sometimes"}, "isolation.level"),
        ({"fetch.min.bytes": "many"}, "fetch.min.bytes"),
        ({"fetch.min.bytes": -5}, "fetch.min.bytes"),
        ({"partition.assignment.strategy": "cooperative-sticky,range"}, "partition.assignment.strategy"),
        ({"session.timeout.ms": 60_000, "max.poll.interval.ms": 30_000}, "max.poll.interval.ms"),
    ],
)
def test_what_librdkafka_refuses_is_a_config_error_that_names_the_key(
    librdkafka: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        KafkaClient(settings(librdkafka))
    assert refused.value.key == f"librdkafka[{key!r}]"
    assert refused.value.value == librdkafka[key]


@pytest.mark.parametrize(
    "librdkafka",
    [
        {"sasl.password": SECRET, "no.such.key": SECRET},
        {"sasl.oauthbearer.client.secret": SECRET, "security.protocol": SECRET},
        {"ssl.key.pem": SECRET, "security.protocol": "ssl"},
        {"ssl.key.password": SECRET, "ssl.key.location": "/nowhere", "security.protocol": "ssl"},
    ],
)
def test_no_refusal_shows_a_secret(librdkafka: dict[str, Any]) -> None:
    for make in (KafkaClient, Observer):
        with pytest.raises(ConfigError) as refused:
            make(settings(librdkafka))
        shown = f"{refused.value} {refused.value!r} {refused.value.value!r}"
        assert SECRET not in shown
        assert refused.value.__cause__ is None


def test_an_unknown_key_is_named_and_its_value_hidden() -> None:
    """It may be a secret's key, misspelt."""
    with pytest.raises(ConfigError, match=r"sasl\.pasword") as refused:
        KafkaClient(settings({"sasl.pasword": SECRET}))
    assert SECRET not in f"{refused.value} {refused.value.value}"


def test_settings_do_not_show_what_users_passed() -> None:
    assert SECRET not in repr(settings({"sasl.password": SECRET}))


def test_scrubber_takes_secrets_out_of_texts_of_others() -> None:
    scrub = Scrubber({"sasl.password": SECRET, "ssl.key.password": SECRET + "-longer", "group.id": "billing"})
    assert scrub(f"bad {SECRET}-longer and {SECRET} of billing") == f"bad {HIDDEN} and {HIDDEN} of billing"


def test_log_lines_of_one_class_are_thinned_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = ClientLog(lambda: now[0], Scrubber({"sasl.password": SECRET}))
    with caplog.at_level(logging.INFO, "headrace.librdkafka"):
        for _ in range(60):
            log.log(logging.ERROR, "%s [%s] %s", "FAIL", "client-1", f"refused with {SECRET}")
        log.log(logging.ERROR, "%s [%s] %s", "SASL", "client-1", "another class")
        now[0] = QUIET_S
        log.log(logging.ERROR, "%s [%s] %s", "FAIL", "client-1", "still refused")
    assert [record.getMessage() for record in caplog.records] == [
        f"client-1 FAIL: refused with {HIDDEN}",
        "client-1 SASL: another class",
        "client-1 FAIL: still refused (59 like it since)",
    ]


def test_names_that_are_suggested_exist() -> None:
    """A key may be refused for its value, or for what is missing beside it, but not for its name."""
    refusals: list[str] = []
    for key in sorted(CONSUMER_ONLY | PRODUCER_ONLY | SHARED):
        try:
            Producer({key: "?"})
        except KafkaException as refused:
            refusals.append(str(refused))
        except (TypeError, ValueError):
            continue  # a callback that is none
    assert len(refusals) > 30
    assert [text for text in refusals if "No such configuration" in text] == []


def test_a_misspelt_key_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'security\.protocol'\?"):
        KafkaClient(settings({"securty.protocol": "SSL"}))
