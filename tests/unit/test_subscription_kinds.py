"""Values of the wrong type are refused when they are written, with what was expected."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from headrace import App, Batching, Budgets, Commit, RetryLater, RetryPolicy, Timeouts
from headrace.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("retry", 3),
        ("retry", {"attempts_max": 3}),
        ("batch", 500),
        ("batch", True),
        ("dead_letter", 5),
        ("dead_letter", "no such name!"),
        ("key_decoder", "json"),
        ("filter", 3),
    ],
)
def test_a_subscription_refuses_values_of_another_kind(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        App("localhost:9092", "group").subscribe("orders", **{key: value})
    assert (refused.value.key, refused.value.value) == (key, value)


@pytest.mark.parametrize(
    ("key", "value"), [("budgets", {}), ("commit", 0), ("timeouts", 30), ("instance_id", 3)]
)
def test_an_app_refuses_values_of_another_kind(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        App("localhost:9092", "group", **{key: value})
    assert refused.value.key == key


@pytest.mark.parametrize("librdkafka", ["sasl.password=hunter2", [("a", 1)], {1: "x"}])
def test_librdkafka_takes_settings_by_name_and_shows_none(librdkafka: Any) -> None:
    with pytest.raises(ConfigError, match="librdkafka's settings") as refused:
        App("localhost:9092", "group", librdkafka=librdkafka)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("fatal", [ValueError, "ValueError", ("ValueError",), (ValueError(),)])
def test_fatal_takes_types_of_errors(fatal: Any) -> None:
    with pytest.raises(ConfigError, match=r"a tuple of exception types, such as \(ValueError, KeyError\)"):
        RetryPolicy(fatal=fatal)


def test_subscribe_without_parentheses_says_what_is_missing() -> None:
    subscribe: Any = App("localhost:9092", "group").subscribe

    def handle(record: object) -> None: ...

    with pytest.raises(ConfigError, match=r'as in @app.subscribe\("orders"\)'):
        subscribe(handle)  # what a bare @app.subscribe does


@pytest.mark.parametrize(
    ("make", "key", "meant"),
    [
        (partial(App, "b:1", "g"), "grup_protocol", "group_protocol"),
        (App("b:1", "g").subscribe, "concurency", "concurrency"),
        (RetryPolicy, "atempts_max", "attempts_max"),
        (Commit, "every", "every_s"),
        (Batching, "record_max", "records_max"),
        (Budgets, "queued_records", "queued_records_max"),
        (Timeouts, "stop_ms", "stop_s"),
    ],
)
def test_an_unknown_setting_is_answered_with_the_one_that_was_meant(make: Any, key: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean {meant!r}") as refused:
        make(**{key: "hunter2"})
    assert refused.value.key == key
    assert "hunter2" not in str(refused.value)


def test_a_setting_that_resembles_none_is_refused_all_the_same() -> None:
    with pytest.raises(ConfigError, match=r"expected a setting of Timeouts$"):
        Timeouts(unheard_of=1)  # type: ignore[call-arg] # what users who run no type checker write


@pytest.mark.parametrize(
    "call", ["on_assigned", "on_revoked", "on_lost", "lifespan", "worker_resource", "listen"]
)
def test_what_is_called_must_be_a_function(call: str) -> None:
    with pytest.raises(ConfigError, match=f"{call} = 3: expected a function"):
        getattr(App("b:1", "g"), call)(3)


def test_a_pattern_is_a_string() -> None:
    with pytest.raises(ConfigError, match="a regular expression, as a string"):
        App("b:1", "g").subscribe(pattern=5)  # type: ignore[arg-type] # see above


def test_retry_later_takes_seconds() -> None:
    with pytest.raises(ValueError, match="expected 0 to 86400 seconds"):
        RetryLater("5")  # type: ignore[arg-type] # see above
