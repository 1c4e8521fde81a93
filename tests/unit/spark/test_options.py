"""Options: what each means, which are refused and why, and that the reference has every one."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import ConfigError, ExtraMissing
from headrace.spark.client_options import REFUSED, RENAMED, WITHOUT_MEANING, librdkafka_of
from headrace.spark.options import EARLIEST, LATEST, OPTIONS, At, Selection, include_headers, understood
from tests.unit.spark.given import SERVERS, options

if TYPE_CHECKING:
    from headrace.spark.options import Mode

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("mode", "given", "start", "end"),
    [
        ("batch", {}, EARLIEST, LATEST),
        ("stream", {}, LATEST, LATEST),
        ("stream", {"startingOffsets": "Earliest"}, EARLIEST, LATEST),
        ("batch", {"startingOffsets": '{"a": {"0": 3, "1": -2}}'}, {("a", 0): 3, ("a", 1): -2}, LATEST),
        ("batch", {"endingOffsets": '{"a": {"0": -1}}'}, EARLIEST, {("a", 0): -1}),
        ("batch", {"startingTimestamp": "7", "startingOffsets": "latest"}, At(7), LATEST),
        ("batch", {"startingTimestamp": "7", "startingOffsetsByTimestamp": "bad"}, At(7), LATEST),
        ("batch", {"startingOffsetsByTimestamp": '{"a": {"0": 5}}'}, {("a", 0): At(5)}, LATEST),
        ("batch", {"endingOffsetsByTimestamp": '{"a": {"0": 5}}'}, EARLIEST, {("a", 0): At(5)}),
        ("batch", {"endingTimestamp": "9"}, EARLIEST, At(9)),
    ],
)
def test_where_it_starts_and_ends(mode: Mode, given: dict[str, str], start: object, end: object) -> None:
    found = options(mode, **given)
    assert (found.start, found.end) == (start, end)


def test_defaults_are_those_of_spark() -> None:
    found = options()
    assert found.fail_on_data_loss
    assert found.timeout_s == 120.0
    assert (found.parts_min, found.records_max, found.trigger_max, found.trigger_min) == (None,) * 4
    assert (found.trigger_delay_s, found.cache_capacity, found.cache_timeout_s) == (900.0, 64, 300.0)
    assert not found.committed_only
    assert found.connection.group_id == "headrace-spark"


def test_names_are_known_in_any_case() -> None:
    """Spark hands them on as written, or in small letters."""
    given = {"KAFKA.bootstrap.servers": "h:1", "SUBSCRIBE": "a, b ,a", "failondataloss": "FALSE"}
    found = understood(given, "batch")
    assert found.selection == Selection(topics=("a", "b"))
    assert (found.connection.bootstrap_servers, found.fail_on_data_loss) == ("h:1", False)
    assert include_headers({"includeheaders": "true"})


@pytest.mark.parametrize(
    ("mode", "given", "about"),
    [
        ("batch", {"startingOffsets": "latest"}, "startingOffsets"),
        ("batch", {"startingOffsets": '{"a": {"0": -1}}'}, "startingOffsets"),
        ("batch", {"endingOffsets": "earliest"}, "endingOffsets"),
        ("batch", {"endingOffsets": '{"a": {"0": -2}}'}, "endingOffsets"),
        ("stream", {"endingOffsets": "latest"}, "endingOffsets"),
        ("stream", {"endingTimestamp": "3"}, "endingTimestamp"),
        ("batch", {"startingOffsets": '{"a": {"0": -3}}'}, "startingOffsets"),
        ("batch", {"startingOffsets": "sometime"}, "startingOffsets"),
        ("batch", {"startingOffsets": '{"a": [0]}'}, "startingOffsets"),
        ("batch", {"startingOffsets": '{"a": {"0": true}}'}, "startingOffsets"),
        ("batch", {"startingOffsets": "{}"}, "startingOffsets"),
        ("batch", {"startingOffsetsByTimestamp": '{"a": {"0": -1}}'}, "startingOffsetsByTimestamp"),
        ("batch", {"startingTimestamp": "-1"}, "startingTimestamp"),
        ("batch", {"startingTimestamp": "now"}, "startingTimestamp"),
        ("batch", {"startingOffsetsByTimestampStrategy": "guess"}, "startingOffsetsByTimestampStrategy"),
        ("batch", {"minPartitions": "0"}, "minPartitions"),
        ("batch", {"minPartitions": "1.0"}, "minPartitions"),
        ("batch", {"maxRecordsPerPartition": "-1"}, "maxRecordsPerPartition"),
        ("stream", {"maxOffsetsPerTrigger": "a"}, "maxOffsetsPerTrigger"),
        ("stream", {"maxTriggerDelay": "soon"}, "maxTriggerDelay"),
        ("batch", {"failOnDataLoss": "maybe"}, "failOnDataLoss"),
        ("batch", {"assign": "[0]"}, "assign"),
        ("batch", {"assign": '{"a": ["0"]}'}, "assign"),
        ("batch", {"subscribe": " , "}, "subscribe"),
        ("batch", {"subscribePattern": "("}, "subscribePattern"),
        ("batch", {"subscribe": "a", "subscribePattern": "a.*"}, "options"),
        ("batch", {"startingOfsets": "earliest"}, "option"),
        ("batch", {"kafka.isolation.level": "serializable"}, "kafka.isolation.level"),
        ("batch", {"kafka.bootstrap.servers": ""}, "kafka.bootstrap.servers"),
    ],
)
def test_what_makes_no_sense_is_refused(mode: Mode, given: dict[str, str], about: str) -> None:
    with pytest.raises(ConfigError) as raised:
        options(mode, **given)
    assert raised.value.key == about


def test_a_mistyped_name_is_told_its_likeness() -> None:
    with pytest.raises(ConfigError, match="startingOffsets"):
        include_headers({"startingOfsets": "earliest"})


@pytest.mark.parametrize(
    ("mode", "name", "value"),
    [
        ("batch", "maxOffsetsPerTrigger", "3"),
        ("batch", "fetchOffset.numRetries", "3"),
        ("stream", "fetchOffset.retryIntervalMs", "3"),
    ],
)
def test_what_does_nothing_is_told(
    mode: Mode, name: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "headrace.spark"):
        options(mode, **{name: value})
    assert name in caplog.text


@pytest.mark.parametrize(("text", "seconds"), [("15m", 900.0), ("90s", 90.0), ("500ms", 0.5), ("2000", 2.0)])
def test_spans(text: str, seconds: float) -> None:
    assert options("stream", maxTriggerDelay=text).trigger_delay_s == seconds


# ---- The Java client's settings


PLAIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="p\\"w;";'
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required username='u' password=pw;"
STORE = {"ssl.truststore.type": "PEM", "ssl.truststore.location": "ca"}
KEYS = {"ssl.keystore.type": "PEM", "ssl.keystore.location": "both", "ssl.key.password": "s"}
P12 = {"ssl.keystore.type": "PKCS12", "ssl.keystore.location": "p12", "ssl.keystore.password": "s"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"security.protocol": "SASL_SSL"}, {"security.protocol": "SASL_SSL"}),
        ({"fetch.max.wait.ms": "5"}, {"fetch.wait.max.ms": "5"}),
        ({"max.poll.records": "5"}, {}),
        ({"sasl.jaas.config": PLAIN}, {"sasl.username": "u", "sasl.password": 'p"w;'}),
        ({"sasl.jaas.config": SCRAM}, {"sasl.username": "u", "sasl.password": "pw"}),
        (STORE, {"ssl.ca.location": "ca"}),
        (
            KEYS,
            {"ssl.certificate.location": "both", "ssl.key.location": "both", "ssl.key.password": "s"},
        ),
        (P12, {"ssl.keystore.location": "p12", "ssl.keystore.password": "s"}),
    ],
)
def test_settings_of_the_java_client(given: dict[str, str], expected: dict[str, Any]) -> None:
    assert librdkafka_of(given) == expected | {"isolation.level": "read_uncommitted"}


@pytest.mark.parametrize(
    "given",
    [
        {"sasl.jaas.config": "com.sun.security.auth.module.Krb5LoginModule required keyTab=secret;"},
        {"sasl.jaas.config": PLAIN.replace("password", "passwort")},
        {"ssl.truststore.location": "secret.jks"},
        {"ssl.keystore.location": "secret.jks"},
        *({name: "secret"} for name in REFUSED),
    ],
)
def test_what_only_java_can_do_is_refused_without_its_value(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="kafka") as raised:
        librdkafka_of(given)
    assert "secret" not in str(raised.value)


def test_what_is_headraces_own_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"group\.instance\.id"):
        understood(SERVERS | {"subscribe": "a", "kafka.group.instance.id": "x"}, "batch")


def test_a_group_is_named_by_its_id_or_its_prefix() -> None:
    assert options(groupIdPrefix="team").connection.group_id == "team"
    assert options(**{"kafka.group.id": "g"}).connection.group_id == "g"


# ---- Around it


def test_every_option_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "spark.md").read_text(encoding="utf-8")
    names = [*OPTIONS, *(f"kafka.{name}" for name in (*REFUSED, *RENAMED, *WITHOUT_MEANING))]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_without_pyspark_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import headrace.spark

    monkeypatch.setitem(sys.modules, "pyspark", None)
    monkeypatch.delitem(sys.modules, "headrace.spark.source", raising=False)
    with pytest.raises(ExtraMissing, match=r"headrace\[spark\]"):
        _ = headrace.spark.KafkaSource
    with pytest.raises(AttributeError):
        _ = headrace.spark.Nothing
