"""`headrace lag --watch` in a process of its own, until Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from headrace.cli import execute
from headrace.cli.exits import Exit
from headrace.testing import MockBroker

if TYPE_CHECKING:
    import pytest

WAIT_S = 30.0


def test_watching_shows_each_look_until_ctrl_c() -> None:
    with MockBroker(topics={"orders": 2}) as broker:
        broker.produce("orders", [(b"k", b"v")] * 5, partition=1)
        command = [sys.executable, "-m", "headrace", "lag", "nobody", "-t", "orders", "--watch", "--json"]
        command += ["--every", "0.2", "-b", broker.bootstrap_servers]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            first = [json.loads(process.stdout.readline()) for _ in range(2)]
            assert [(row["partition"], row["committed"], row["lag"]) for row in first] == [
                (0, None, 0),
                (1, None, 5),
            ]
            broker.produce("orders", [(b"k", b"v")] * 3, partition=0)
            while json.loads(process.stdout.readline())["lag"] != 3:
                pass  # the test's own time limit ends it
            process.send_signal(signal.SIGINT)
            assert process.wait(WAIT_S) == 130


def test_a_limit_is_for_one_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["lag", "g", "--watch", "--fail-above", "3"]) is Exit.USAGE
    assert "--fail-above is for one look" in capsys.readouterr().err
