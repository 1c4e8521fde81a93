"""What watches an app on a cluster with TLS, SASL and ACLs: let in as the app is, and told apart from a stranger."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from headrace._client.settings import ConnectionSettings
from headrace._client.watching import Watcher
from headrace.observe.metrics import Unknown
from headrace.observe.offsets import Question
from tests.full.test_security import create_topic, scram

if TYPE_CHECKING:
    from tests.kafka_server import SecureAddresses

pytestmark = pytest.mark.full


def watcher(kafka: SecureAddresses, user: str, group: str) -> Watcher:
    settings = dict(scram(kafka, user))
    address = str(settings.pop("bootstrap.servers"))
    return Watcher(ConnectionSettings(address, group, settings))


def test_the_apps_own_user_reads_all_and_a_stranger_gets_reasons(
    secure_kafka: SecureAddresses, unique_name: str
) -> None:
    create_topic(scram(secure_kafka, "headrace"), unique_name)
    place = (unique_name, 0)
    ours = watcher(secure_kafka, "headrace", unique_name)
    give_up_at = time.monotonic() + 30
    while True:  # a fresh broker first has to make the topic of offsets
        found = Question(request_s=10.0).ask(ours, [place])[place]
        if not isinstance(found.committed, Unknown) or time.monotonic() > give_up_at:
            break
        time.sleep(0.2)
    assert (found.start, found.end, found.stable, found.committed) == (0, 0, 0, None)
    ours.close()
    stranger = watcher(secure_kafka, "stranger", unique_name)
    refused = Question(request_s=10.0).ask(stranger, [place])[place]
    stranger.close()
    for value in (refused.start, refused.end, refused.stable, refused.committed):
        assert isinstance(value, Unknown)
        assert value.reason
        assert "secret" not in value.reason
    assert isinstance(refused.committed, Unknown)
    assert "NotAuthorized" in refused.committed.reason
