"""Values of the wrong type are refused when they are written, with what was expected."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import App
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
