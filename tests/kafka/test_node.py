"""`scripts/kafka`, which every test here stands on: a start that does not end well leaves no node behind."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests import kafka_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WAIT_S = 30.0


def test_a_start_that_is_killed_leaves_no_node(kafka: str, tmp_path: Path) -> None:
    """The node is launched and not yet ready when its start dies, which no trap of the shell's can see."""
    assert kafka  # so that the jars are here
    start = subprocess.Popen(
        [str(kafka_server.SCRIPT), "start", "--dir", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    _wait(lambda: bool(_nodes(tmp_path)) or start.poll() is not None)
    start.send_signal(signal.SIGKILL)
    code = start.wait(WAIT_S)
    if code == kafka_server.EXIT_UNAVAILABLE:
        pytest.skip("a Kafka from elsewhere; none can be started here")
    assert code == -signal.SIGKILL
    assert not (tmp_path / "serves").exists()
    _wait(lambda: not _nodes(tmp_path))


def _nodes(folder: Path) -> list[str]:
    """Processes of the node in this folder."""
    listed = subprocess.run(
        ["ps", "-ww", "-A", "-o", "args="], check=True, capture_output=True, text=True
    ).stdout
    return [line for line in listed.splitlines() if "kafka.Kafka" in line and str(folder) in line]


def _wait(until: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + WAIT_S
    while not until():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
