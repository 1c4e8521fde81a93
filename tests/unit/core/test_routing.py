"""A topic belongs to one subscription, and no dead letter goes round."""

from __future__ import annotations

import pytest

from headrace._core.routing import Routing
from headrace.errors import ConfigError
from tests.unit.core.makers import make_settings


def test_names_and_patterns_lead_to_their_subscription() -> None:
    routing = Routing([
        make_settings(topics=("a", "b")),
        make_settings(topics=(), pattern=r"orders\..*"),
    ])  # fmt: skip
    assert [routing.subscription_of(topic) for topic in ("a", "b", "orders.eu", "orders", "c")] == [
        0,
        0,
        1,
        None,
        None,
    ]


def test_a_pattern_matches_the_whole_name() -> None:
    routing = Routing([make_settings(topics=(), pattern="order")])
    assert [routing.subscription_of(topic) for topic in ("order", "orders", "my-order")] == [0, None, None]


def test_a_topic_of_two_subscriptions_is_refused_at_start() -> None:
    with pytest.raises(ConfigError, match="has it already"):
        Routing([make_settings(topics=("a",), name="one"), make_settings(topics=("a",))])
    with pytest.raises(ConfigError, match="not to match"):
        Routing([make_settings(topics=("orders",)), make_settings(topics=(), pattern="or.*")])


def test_a_topic_of_two_patterns_is_refused_when_it_is_seen() -> None:
    routing = Routing([make_settings(topics=(), pattern="a.*"), make_settings(topics=(), pattern=".*b")])
    assert routing.subscription_of("ax") == 0
    for _ in range(2):
        with pytest.raises(ConfigError, match="several do"):
            routing.subscription_of("ab")


def test_dead_letters_never_match_a_pattern() -> None:
    everything = make_settings(topics=(), pattern="orders.*", dead_letter="orders.dead")
    assert Routing([everything]).subscription_of("orders.dead") is None
    # Nor do they when two patterns would claim them.
    assert (
        Routing([everything, make_settings(topics=(), pattern=".*dead")]).subscription_of("orders.dead")
        is None
    )


def test_a_subscription_may_read_the_dead_letters_by_name() -> None:
    """Found in this core: the pattern beside it was refused, though it never takes that topic."""
    everything = make_settings(topics=(), pattern="orders.*", dead_letter="orders.dead")
    routing = Routing([everything, make_settings(topics=("orders.dead",))])
    assert routing.subscription_of("orders.dead") == 1
    assert routing.subscription_of("orders.eu") == 0
