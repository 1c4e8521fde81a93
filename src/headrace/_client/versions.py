"""Which versions of the client are installed, and what a broker says that it speaks.

Kafka's protocol has no broker version, only versions per request: they say "at least". Decides what these imply;
refuses to judge. Invariant: a question is bounded, and leaves nothing connected.
"""

from __future__ import annotations

import importlib.metadata
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import confluent_kafka
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headrace._client.settings import admin_config, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace._client.settings import ConnectionSettings

CONSUMER_GROUP_HEARTBEAT: Final = 68
FETCH: Final = 1

_EVIDENCE: Final = (
    # (request, at least this version of it, Kafka release that brought it), newest first.
    (FETCH, 18, "4.1"),
    (CONSUMER_GROUP_HEARTBEAT, 1, "4.0"),
    (FETCH, 17, "3.9"),
    (FETCH, 16, "3.7"),
    (FETCH, 15, "3.5"),
    (FETCH, 13, "3.1"),
    (FETCH, 12, "2.7"),
    (FETCH, 11, "2.3"),
)
_LINE = re.compile(r"ApiKey \S+ \((?P<key>\d+)\) Versions (?P<low>\d+)\.\.(?P<high>\d+)")


@dataclass(frozen=True, slots=True)
class ClientVersions:
    """What runs in this process."""

    headrace: str
    confluent_kafka: str
    librdkafka: str


@dataclass(frozen=True, slots=True)
class BrokerSpeech:
    """Request versions that a broker supports: key of the request -> (lowest, highest)."""

    requests: Mapping[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])

    @property
    def release_at_least(self) -> str | None:
        """The newest Kafka release whose requests it knows; None if it said nothing or is older than 2.3."""
        for key, version, release in _EVIDENCE:
            if self.requests.get(key, (0, -1))[1] >= version:
                return release
        return None

    @property
    def new_groups(self) -> bool:
        """Whether `group_protocol="consumer"` (KIP-848) works: version 0 of its heartbeat was a preview."""
        return self.requests.get(CONSUMER_GROUP_HEARTBEAT, (0, -1))[1] >= 1


def client_versions() -> ClientVersions:
    """The versions installed here."""
    librdkafka: Any = confluent_kafka.libversion()
    return ClientVersions(
        importlib.metadata.version("headrace"), str(confluent_kafka.__version__), str(librdkafka[0])
    )


def broker_speech(settings: ConnectionSettings, timeout_s: float) -> BrokerSpeech:
    """Ask a broker what it speaks. Empty if it does not answer in time: other checks say why."""
    # librdkafka asks each broker it connects to, and tells no one but its debug log.
    listener = _Listener()
    config: Any = admin_config(settings) | {"debug": "feature", "logger": listener}
    config.pop("error_cb", None)
    try:
        client: Any = AdminClient(config)
    except (KafkaException, TypeError, ValueError) as error:
        raise refusal(error, config) from None
    try:
        client.list_topics(timeout=timeout_s)
    except KafkaException:
        return BrokerSpeech()
    client.poll(0.05)  # hands over the log lines that are queued
    return BrokerSpeech(listener.requests())


class _Listener:
    """Picks the request versions out of the log. Called on the client's threads, read on the asker's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[int, tuple[int, int]] = {}

    def log(self, _level: int, _form: str, _facility: str, _client: str, text: str) -> None:
        """One line of librdkafka's log."""
        found = _LINE.search(text)
        if found:
            with self._lock:
                self._requests[int(found["key"])] = (int(found["low"]), int(found["high"]))

    def requests(self) -> dict[int, tuple[int, int]]:
        """What was heard."""
        with self._lock:
            return dict(self._requests)
