"""Spark's `kafka.*` options, which are the Java client's settings, as librdkafka's.

Decides which are the same, which have another name, which mean nothing here and which cannot be had. Refuses to know what
librdkafka makes of them. Invariant: a setting that guards something (a store of keys, a login) is translated or refused,
never left out.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final

from headrace._client.settings import checked_librdkafka
from headrace.config import HIDDEN
from headrace.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG: Final = logging.getLogger("headrace.spark")

RENAMED: Final = {
    "fetch.max.wait.ms": "fetch.wait.max.ms",
    "receive.buffer.bytes": "socket.receive.buffer.bytes",
    "send.buffer.bytes": "socket.send.buffer.bytes",
}

WITHOUT_MEANING: Final = frozenset(
    {
        "max.poll.records",
        "request.timeout.ms",
        "default.api.timeout.ms",
        "auto.include.jmx.reporter",
        "metric.reporters",
        "metrics.num.samples",
        "metrics.recording.level",
        "metrics.sample.window.ms",
    }
)
"""How the Java client cuts and measures its work. librdkafka has no such setting, and no need of one."""

REFUSED: Final = {
    "auto.offset.reset": "it to be absent; use startingOffsets",
    "key.deserializer": "it to be absent; keys are bytes: cast the column",
    "value.deserializer": "it to be absent; values are bytes: cast the column",
    "enable.auto.commit": "it to be absent; nothing is committed",
    "interceptor.classes": "it to be absent; there is no JVM to load them",
    "sasl.login.callback.handler.class": "it to be absent; there is no JVM to load it",
    "sasl.client.callback.handler.class": "it to be absent; there is no JVM to load it",
    "sasl.login.class": "it to be absent; there is no JVM to load it",
}

_STORE: Final = (
    "kafka.ssl.{kind}store.type = PEM, or librdkafka's own {instead}; a JKS store is read by Java alone"
)
_LOGIN_MODULE: Final = re.compile(r"\s*org\.apache\.kafka\.common\.security\.(plain|scram)\.\w+\s+required\b")
_LOGIN_FIELD: Final = re.compile(r'(username|password)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|\'([^\']*)\'|([^\s;]+))')


def librdkafka_of(given: Mapping[str, str]) -> dict[str, Any]:
    """librdkafka's settings for the Java client's, without "kafka." before their names. Raises `ConfigError`."""
    settings: dict[str, Any] = {}
    for name, value in given.items():
        if name in REFUSED:
            raise ConfigError(f"kafka.{name}", HIDDEN, REFUSED[name])
        if name in WITHOUT_MEANING:
            _LOG.warning("kafka.%s has no meaning for this client, and is left out", name)
        elif name == "sasl.jaas.config":
            settings |= _login(value)
        elif name.startswith(("ssl.truststore.", "ssl.keystore.")):
            continue
        else:
            settings[RENAMED.get(name, name)] = value
    settings |= _truststore(given) | _keystore(given)
    # Kafka's own default, and so Spark's: what two sources of one name read should not differ.
    settings.setdefault("isolation.level", "read_uncommitted")
    if settings["isolation.level"] not in {"read_committed", "read_uncommitted"}:
        level = settings["isolation.level"]
        raise ConfigError("kafka.isolation.level", level, "read_committed or read_uncommitted")
    return checked_librdkafka(settings)


def _login(value: str) -> dict[str, str]:
    found = {
        name: re.sub(r"\\(.)", r"\1", quoted) if quoted else single or bare
        for name, quoted, single, bare in _LOGIN_FIELD.findall(value)
    }
    if not _LOGIN_MODULE.match(value) or found.keys() != {"username", "password"}:
        raise ConfigError(
            "kafka.sasl.jaas.config",
            HIDDEN,
            "PlainLoginModule or ScramLoginModule with username and password; "
            "for other logins use librdkafka's own settings, such as kafka.sasl.oauthbearer.config",
        )
    return {"sasl.username": found["username"], "sasl.password": found["password"]}


def _truststore(given: Mapping[str, str]) -> dict[str, str]:
    there = {name for name in given if name.startswith("ssl.truststore.")}
    if not there:
        return {}
    if given.get("ssl.truststore.type", "JKS").upper() != "PEM":
        expected = _STORE.format(kind="trust", instead="kafka.ssl.ca.location")
        raise ConfigError("kafka.ssl.truststore.type", given.get("ssl.truststore.type", "JKS"), expected)
    named = {"ssl.truststore.location": "ssl.ca.location", "ssl.truststore.certificates": "ssl.ca.pem"}
    return {ours: given[theirs] for theirs, ours in named.items() if theirs in given}


def _keystore(given: Mapping[str, str]) -> dict[str, str]:
    there = {name for name in given if name.startswith("ssl.keystore.")}
    if not there:
        return {}
    match given.get("ssl.keystore.type", "JKS").upper():
        case "PKCS12":
            return {name: given[name] for name in there if name != "ssl.keystore.type"}
        case "PEM":
            named = {
                "ssl.keystore.certificate.chain": ("ssl.certificate.pem",),
                "ssl.keystore.key": ("ssl.key.pem",),
                # One file holds both.
                "ssl.keystore.location": ("ssl.certificate.location", "ssl.key.location"),
            }
            return {
                ours: given[theirs]
                for theirs, all_ours in named.items()
                if theirs in given
                for ours in all_ours
            }
        case other:
            expected = _STORE.format(
                kind="key", instead="kafka.ssl.certificate.location and kafka.ssl.key.location"
            )
            raise ConfigError("kafka.ssl.keystore.type", other, f"PKCS12, {expected}")
