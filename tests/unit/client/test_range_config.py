"""What librdkafka is told for a bounded read: a budget in bytes, and nothing that a user said otherwise."""

from __future__ import annotations

import pytest

from headrace._client.range_consumer import range_config
from headrace._client.settings import ConnectionSettings

MIB = 1024 * 1024


def test_the_queue_is_bounded_in_bytes_and_in_records() -> None:
    """Small records take more memory than their bytes, so both bounds follow the budget."""
    config = range_config(ConnectionSettings("localhost:1", "g"), "read_committed", 64 * MIB, 8)
    assert config["queued.max.messages.kbytes"] == 65_536
    assert config["queued.min.messages"] == 16_384
    assert config["fetch.max.bytes"] == 50 * MIB
    assert config["max.partition.fetch.bytes"] == MIB
    assert (config["isolation.level"], config["enable.partition.eof"]) == ("read_committed", True)
    assert (config["enable.auto.commit"], config["auto.offset.reset"]) == (False, "error")
    small = range_config(ConnectionSettings("localhost:1", "g"), "read_uncommitted", MIB // 2, 64)
    assert small["queued.max.messages.kbytes"] == 512
    assert small["queued.min.messages"] == 500
    assert small["fetch.max.bytes"] == MIB
    assert small["max.partition.fetch.bytes"] == 128 * 1024


@pytest.mark.parametrize("name", ["max.partition.fetch.bytes", "fetch.message.max.bytes"])
def test_what_a_user_says_is_kept_under_either_of_its_names(name: str) -> None:
    settings = ConnectionSettings("localhost:1", "g", {name: 7_000_000, "queued.min.messages": 5})
    config = range_config(settings, "read_committed", 64 * MIB, 8)
    names = {"max.partition.fetch.bytes", "fetch.message.max.bytes"}
    assert {key: config[key] for key in config.keys() & names} == {name: 7_000_000}
    assert config["queued.min.messages"] == 5


def test_callbacks_of_the_user_stay_but_for_the_one_that_is_ours() -> None:
    settings = ConnectionSettings("localhost:1", "g", {"error_cb": print, "oauth_cb": len})
    config = range_config(settings, "read_committed", MIB, 1)
    assert "error_cb" not in config
    assert config["oauth_cb"] is len
