"""The fixtures shipped to users, in a pytest run of their own, as users have it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

LOADING = """
import sys
import headrace

before = set(sys.modules)
import headrace.testing.pytest_plugin

heavy = {"confluent_kafka", "headrace.testing._mock_api", "headrace.testing._broker_clients"}
sys.exit(", ".join(heavy & (set(sys.modules) - before)))
"""

USERS_TESTS = """
import pytest

used = []

def test_mock_broker(mock_broker):
    used.append(mock_broker)
    mock_broker.create_topic("orders", 2)
    assert mock_broker.end_offsets("orders") == {0: 0, 1: 0}

def test_mock_broker_is_a_new_one_each_time(mock_broker):
    with pytest.raises(Exception, match="no topic 'orders'"):
        mock_broker.end_offsets("orders")

def test_mock_broker_factory(mock_broker_factory):
    used.extend([mock_broker_factory(brokers=3), mock_broker_factory(topics={"orders": 1})])
    assert used[1].broker_ids == (1, 2, 3)
    assert used[2].end_offsets("orders") == {0: 0}

def test_all_are_closed():
    assert [repr(broker) for broker in used] == ["<MockBroker closed>"] * 3
"""


@pytest.mark.slow
def test_the_fixtures_give_brokers_that_close_with_their_test(tmp_path: Path) -> None:
    (tmp_path / "test_users.py").write_text(USERS_TESTS)
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "-p", "headrace.testing.pytest_plugin"]

    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_users.py"],
        cwd=tmp_path,
        env=os.environ
        | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # loaded by name here, by its entry point else
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "4 passed" in run.stdout, run.stdout + run.stderr


@pytest.mark.slow
def test_loading_the_plugin_adds_no_client_library_to_what_headrace_loads() -> None:
    run = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, timeout=30, check=False)
    assert run.stderr.strip() == b""
