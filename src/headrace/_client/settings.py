"""What librdkafka is told: Headrace's defaults, the user's settings, and the keys that are nobody's but ours.

Decides which keys a user may set, and which client (consumer, producer, admin) gets which; refuses to know what the
clients do with them. Invariant: a secret given here is in no text made here.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from headrace._client.keys import CONSUMER_ONLY, PRODUCER_ONLY, SHARED
from headrace.config import HIDDEN, meant, require_choice
from headrace.errors import ConfigError

GroupProtocol = Literal["classic", "consumer"]
Role = Literal["consumer", "producer", "admin"]

_CONSUMER_DEFAULTS: dict[str, Any] = {
    # Ours, since start_if_no_offset is per subscription: see DESIGN.md on assigning.
    "auto.offset.reset": "error",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # librdkafka's 1000 stalls a fast consumer four fifths of the time: it refills its queue only once a second.
    "fetch.queue.backoff.ms": 10,
    # Kafka's 500 ms let a request that waits for idle partitions hold back one that was paused and goes on: a topic
    # of one key then came at a seventh of its rate. A tenth of a second costs eight requests a second more.
    "fetch.wait.max.ms": 100,
    # Bounds memory; more gains nothing once the backoff is short.
    "queued.min.messages": 10_000,
    # The client's own limit, 64 MiB, is per connection too; half of it still holds a second of a fast topic.
    "queued.max.messages.kbytes": 32_768,
}
_CLASSIC_DEFAULTS: dict[str, Any] = {
    # Partitions that stay keep flowing through a rebalance; eager strategies stop them all.
    "partition.assignment.strategy": "cooperative-sticky",
}
_PRODUCER_SETTINGS: dict[str, Any] = {
    # A dead letter must be stored before its record counts as finished, and a retry must not store it twice.
    "enable.idempotence": True,
    "acks": "all",
}
_PRODUCER_DEFAULTS: dict[str, Any] = {
    # The client's 5 minutes would hold a lane that long before its first retry.
    "delivery.timeout.ms": 30_000,
}

# Whose a refused key is. The value says what to use instead.
_OWNED: dict[str, str] = {
    "bootstrap.servers": "bootstrap_servers=",
    "metadata.broker.list": "bootstrap_servers=",
    "group.id": "group_id=",
    "group.instance.id": "instance_id=",
    "group.protocol": "group_protocol=",
    "auto.offset.reset": "start_if_no_offset= and on_out_of_range= of the subscription",
    "enable.auto.commit": "guarantee= of the subscription, and commit=Commit(...)",
    "auto.commit.enable": "guarantee= of the subscription, and commit=Commit(...)",
    "auto.commit.interval.ms": "commit=Commit(every_s=...)",
    "enable.auto.offset.store": "guarantee= of the subscription",
    "offset.store.method": "guarantee= of the subscription",
    "enable.partition.eof": "app.snapshot(), which tells how far each partition is",
    "allow.auto.create.topics": "an existing topic: Headrace never creates topics",
    "enable.idempotence": "nothing: the producer is always idempotent",
    "acks": "nothing: the producer always waits for all replicas",
    "request.required.acks": "nothing: the producer always waits for all replicas",
    "transactional.id": "nothing: Headrace does not use transactions",
    "delivery.report.only.error": "nothing: every delivery is awaited",
    "dr_cb": "app.produce(...), which returns the outcome",
    "dr_msg_cb": "app.produce(...), which returns the outcome",
    "on_delivery": "app.produce(...), which returns the outcome",
    "on_commit": "app.snapshot() or app.listen(...), which tell what was committed",
    "offset_commit_cb": "app.snapshot() or app.listen(...), which tell what was committed",
    "rebalance_cb": "the hooks on_assigned, on_revoked and on_lost",
    "consume_cb": "@app.subscribe",
    "logger": "logging.getLogger('headrace.librdkafka')",
    "log_cb": "logging.getLogger('headrace.librdkafka')",
    "log.queue": "logging.getLogger('headrace.librdkafka')",
    "default.topic.config": "the same keys at the top level",
    "default_topic_conf": "the same keys at the top level",
}
# A broker decides these for KIP-848 groups; the client would refuse them with a less helpful text.
_CLASSIC_ONLY: dict[str, str] = {
    "session.timeout.ms": "the group's config consumer.session.timeout.ms at the broker",
    "heartbeat.interval.ms": "the group's config consumer.heartbeat.interval.ms at the broker",
    "partition.assignment.strategy": "group.remote.assignor",
    "group.protocol.type": "nothing: it has no meaning there",
}
_SECRET = re.compile(
    r"password|secret|token|passphrase|credential|assertion|\.pem$|\.key$|sasl\.jaas|"
    r"sasl\.oauthbearer\.config",
    re.IGNORECASE,
)
# Names that the expression above catches and that hold no secret.
_NOT_SECRET = re.compile(r"\.(url|method|location|file|algorithm|subject|ms|seconds|scope)$|token\.endpoint")

_PROCESS: ContextVar[int] = ContextVar("headrace_process", default=0)


@contextmanager
def numbered(process: int) -> Generator[None]:
    """Connections described within the block are those of this process, one of several that a command runs."""
    token = _PROCESS.set(process)
    try:
        yield
    finally:
        _PROCESS.reset(token)


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """What one app tells its Kafka clients.

    librdkafka: the user's own settings, callbacks (`oauth_cb`, `error_cb`, `stats_cb`) included.
    instance_id: makes members static; each process and connection gets an id of its own from it.
    process: which of several processes of one command this is; those made within `numbered` know it.
    """

    bootstrap_servers: str
    group_id: str
    librdkafka: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    group_protocol: GroupProtocol = "classic"
    instance_id: str | None = None
    process: int = field(default_factory=_PROCESS.get)

    def __post_init__(self) -> None:
        for key, value in (
            ("bootstrap_servers", self.bootstrap_servers),
            ("group_id", self.group_id),
        ):
            if not value or not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance] # users' input
                raise ConfigError(key, value, "a non-empty string")
        require_choice("group_protocol", self.group_protocol, ("classic", "consumer"))
        for key, value in self.librdkafka.items():
            shown = HIDDEN if is_secret(key) else value
            instead = _OWNED.get(key)
            if instead is None and self.group_protocol == "consumer":
                instead = _CLASSIC_ONLY.get(key)
            if instead is not None:
                raise ConfigError(f"librdkafka[{key!r}]", shown, f"it to be absent; use {instead}")

    @property
    def cooperative(self) -> bool:
        """Whether partitions move one by one (incremental calls) rather than all at once."""
        if self.group_protocol == "consumer":
            return True
        default = _CLASSIC_DEFAULTS["partition.assignment.strategy"]
        strategy = self.librdkafka.get("partition.assignment.strategy", default)
        return "cooperative" in str(strategy)

    def milliseconds(self, key: str, default: int) -> float:
        """A user's setting in seconds, or the default given in milliseconds."""
        try:
            return float(self.librdkafka.get(key, default)) / 1000
        except (TypeError, ValueError):
            return default / 1000  # the client refuses the value itself, and says so better


def checked_librdkafka(given: object) -> dict[str, Any]:
    """A user's settings, copied; raises `ConfigError` if they are not settings by name. Shows no value: it may be secret."""
    if not isinstance(given, Mapping):
        raise ConfigError("librdkafka", HIDDEN, "a dictionary of librdkafka's settings by name")
    settings = cast("Mapping[object, Any]", given)
    for key in settings:
        if not isinstance(key, str):
            raise ConfigError(
                "librdkafka", key, "the names of librdkafka's settings as keys, which are strings"
            )
    return dict(cast("Mapping[str, Any]", given))


def consumer_config(settings: ConnectionSettings, process: int = 0, connection: int = 0) -> dict[str, Any]:
    """The whole configuration of one consumer, without callbacks of ours."""
    process = process or settings.process
    config = {**_CONSUMER_DEFAULTS}
    if settings.group_protocol == "classic":
        config |= _CLASSIC_DEFAULTS
    config |= _of_user(settings, PRODUCER_ONLY)
    config["bootstrap.servers"] = settings.bootstrap_servers
    config["group.id"] = settings.group_id
    config["group.protocol"] = settings.group_protocol
    if connection and "client.id" in config:
        # Siblings of one app are told apart, and processes counted by those that have no number.
        config["client.id"] = f"{config['client.id']}-{connection}"
    config.setdefault("client.id", f"headrace-{process}-{connection}")
    if settings.instance_id is not None:
        # A shared id would fence the siblings.
        config["group.instance.id"] = f"{settings.instance_id}-{process}-{connection}"
    return config


def producer_config(settings: ConnectionSettings) -> dict[str, Any]:
    """The configuration of the process's producer: the same brokers and security."""
    config = {
        **_PRODUCER_DEFAULTS,
        **_of_user(settings, CONSUMER_ONLY),
        **_PRODUCER_SETTINGS,
    }
    if {"message.timeout.ms", "delivery.timeout.ms"} <= settings.librdkafka.keys():
        raise ConfigError(
            "librdkafka['message.timeout.ms']",
            settings.librdkafka["message.timeout.ms"],
            "it to be absent beside delivery.timeout.ms, of which it is another name",
        )
    if "message.timeout.ms" in config:
        del config["delivery.timeout.ms"]
    config["bootstrap.servers"] = settings.bootstrap_servers
    config.setdefault("client.id", "headrace-producer")
    return config


def admin_config(settings: ConnectionSettings) -> dict[str, Any]:
    """The configuration of an observer: the same brokers and security, and nothing else."""
    config = _of_user(settings, CONSUMER_ONLY | PRODUCER_ONLY)
    config["bootstrap.servers"] = settings.bootstrap_servers
    # Its own: a broker's quotas and logs must tell the one that asks from the one that consumes.
    config["client.id"] = f"{config.get('client.id', 'headrace')}-observer"
    return config


def _of_user(settings: ConnectionSettings, left_out: frozenset[str]) -> dict[str, Any]:
    return {k: v for k, v in settings.librdkafka.items() if k not in left_out}


def is_secret(key: str) -> bool:
    """Whether a setting's value must not be shown. When in doubt it must not."""
    return bool(_SECRET.search(key)) and not _NOT_SECRET.search(key)


def describe(config: Mapping[str, Any]) -> dict[str, str]:
    """A configuration as it may be shown: secrets hidden, callbacks by name, in order of keys."""
    shown: dict[str, str] = {}
    for key in sorted(config):
        value = config[key]
        if is_secret(key):
            shown[key] = HIDDEN
        elif callable(value):
            shown[key] = getattr(value, "__qualname__", type(value).__name__)
        else:
            shown[key] = str(value)
    return shown


class Scrubber:
    """Takes the secrets of one configuration out of texts that others made: librdkafka's errors and log lines."""

    __slots__ = ("_secrets",)

    def __init__(self, config: Mapping[str, Any]) -> None:
        # Longest first, so that no secret is broken up by another one that it contains.
        values = {str(v) for k, v in config.items() if v and is_secret(k)}
        self._secrets = sorted(values, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text


_NAMED = (
    re.compile(r'No such configuration property: "(?P<key>[^"]+)"'),
    re.compile(r'configuration property "(?P<key>[^"]+)"', re.IGNORECASE),
    re.compile(r"[`'](?P<key>[a-z]+(?:\.[a-z]+)+)[`']"),
    re.compile(r"(?P<key>[a-z]+(?:\.[a-z]+)+)"),
)


def refusal(error: Exception, config: Mapping[str, Any]) -> ConfigError:
    """librdkafka's refusal of a configuration, as an error that names the key and hides what is secret."""
    cause: Any = error.args[0] if error.args else error
    text: str = cause.str() if hasattr(cause, "code") else str(cause)
    match = next((m for m in (p.search(text) for p in _NAMED) if m), None)
    if match is None:
        return ConfigError("librdkafka", describe(config), f"what the client accepts: {_clean(text, config)}")
    key = match["key"]
    if "No such" in text:
        text += meant(key, CONSUMER_ONLY | PRODUCER_ONLY | SHARED)
    value = config.get(key)
    if is_secret(key) or "No such" in text:
        value = HIDDEN  # an unknown key may be a secret's, misspelt
    elif isinstance(value, str):
        value = Scrubber(config)(value)
    return ConfigError(f"librdkafka[{key!r}]", value, f"what the client accepts: {_clean(text, config)}")


def _clean(text: str, config: Mapping[str, Any]) -> str:
    return Scrubber(config)(text).strip().rstrip(".")
