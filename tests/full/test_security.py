"""A real broker's ways to tell who a client is, and its refusals: what Headrace's security settings are tested on.

Uses the raw client only, so that a failure here is never Headrace's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

if TYPE_CHECKING:
    from tests.kafka_server import SecureAddresses

    Settings = dict[str, str | int | float | bool]

WAIT_S = 15.0


def test_scram_user_is_let_in(secure_kafka: SecureAddresses, unique_name: str) -> None:
    create_topic(scram(secure_kafka, "headrace"), unique_name)


def test_oauth_token_is_let_in(secure_kafka: SecureAddresses, unique_name: str) -> None:
    token: Settings = {
        "enable.sasl.oauthbearer.unsecure.jwt": True,
        "sasl.oauthbearer.config": "principal=headrace",
    }
    create_topic(sasl_ssl(secure_kafka) | {"sasl.mechanism": "OAUTHBEARER"} | token, unique_name)


def test_client_certificate_is_let_in(secure_kafka: SecureAddresses, unique_name: str) -> None:
    create_topic(ssl(secure_kafka, "client"), unique_name)


@pytest.mark.parametrize("way", ["scram", "certificate"])
def test_stranger_is_known_and_refused(secure_kafka: SecureAddresses, unique_name: str, way: str) -> None:
    settings = scram(secure_kafka, "stranger") if way == "scram" else ssl(secure_kafka, "stranger")
    with pytest.raises(KafkaException) as refused:
        create_topic(settings, unique_name)
    assert refused.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_wrong_password_is_told_as_such(secure_kafka: SecureAddresses) -> None:
    told: list[int] = []

    def tell(error: KafkaError) -> None:
        told.append(error.code())

    settings: dict[str, Any] = {"error_cb": tell}
    admin = AdminClient(settings | scram(secure_kafka, "headrace") | {"sasl.password": "wrong"})
    for _ in range(50):
        admin.poll(0.2)
        if told:
            break
    assert KafkaError._AUTHENTICATION in told


def create_topic(settings: Settings, name: str) -> None:
    """Ask for the topic; raises what the broker answers."""
    admin = AdminClient(settings)  # named, as it must outlive the wait: its end fails what it was asked
    admin.create_topics([NewTopic(name, 1, 1)], request_timeout=WAIT_S)[name].result(WAIT_S)


def scram(kafka: SecureAddresses, user: str) -> Settings:
    """Settings of a user that scripts/kafka --security makes."""
    return sasl_ssl(kafka) | {
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": f"{user}-secret",
    }


def sasl_ssl(kafka: SecureAddresses) -> Settings:
    """Settings that all SASL mechanisms share."""
    return {
        "bootstrap.servers": kafka.sasl_ssl,
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(kafka.certificates / "ca.pem"),
    }


def ssl(kafka: SecureAddresses, client: str) -> Settings:
    """Settings of a client that shows a certificate."""
    return {
        "bootstrap.servers": kafka.ssl,
        "security.protocol": "SSL",
        "ssl.ca.location": str(kafka.certificates / "ca.pem"),
        "ssl.certificate.location": str(kafka.certificates / f"{client}.pem"),
        "ssl.key.location": str(kafka.certificates / f"{client}.key"),
    }
