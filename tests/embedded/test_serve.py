"""`headrace run --serve` and `--health-files` on the embedded broker: a process, asked from outside while it lives."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from headrace.cli import execute
from headrace.cli.exits import Exit
from headrace.testing import MockBroker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WAIT_S = 20.0
MODULE = """
from headrace import App
app = App({servers!r}, "billing")
@app.subscribe("orders")
def charge(record):
    pass
"""


def until(condition: Callable[[], object], what: str) -> None:
    give_up_at = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_at, f"{what} did not happen"
        time.sleep(0.02)


def asked(port: int, path: str) -> tuple[int, str]:
    """One answer: its status and its text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.slow
def test_a_process_is_probed_while_it_runs(tmp_path: Path) -> None:
    with MockBroker(topics={"orders": 2}) as broker:
        (tmp_path / "billing.py").write_text(MODULE.format(servers=broker.bootstrap_servers))
        for partition in range(2):
            broker.produce("orders", [(b"k", b"x")] * 5, partition)
        log = tmp_path / "log"
        command = [sys.executable, "-m", "headrace", "run", "billing:app"]
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [*command, "--serve", "0", "--health-files", "health"],
                cwd=tmp_path,
                stderr=stderr,
                env=os.environ | {"PYTHONPATH": str(tmp_path)},
            )
        try:
            until(lambda: "serving http://127.0.0.1:" in log.read_text(), "the server")
            found = re.search(r"serving http://127\.0\.0\.1:(\d+)/", log.read_text())
            assert found
            port = int(found[1])
            until(lambda: asked(port, "/health/ready")[0] == 200, "readiness")
            assert (tmp_path / "health" / "live").exists()
            lag = 'headrace_topic_lag_records{group="billing",topic="orders"} 0.0'
            until(lambda: lag in asked(port, "/metrics")[1], "a lag of 0, which the broker told")
            offsets = json.loads(asked(port, "/snapshot.json")[1])["offsets"]
            assert [(one["partition"], one["end"], one["committed"]) for one in offsets] == [
                (0, 5, 5),
                (1, 5, 5),
            ]
            process.send_signal(signal.SIGINT)
            assert process.wait(WAIT_S) == 0
            assert list((tmp_path / "health").iterdir()) == []
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("address", ["here", "8080:", "1.2.3.4:http", "127.0.0.1:99999", "256.1.1.1:80"])
def test_an_address_that_cannot_be_served_is_one_line(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "served_nowhere.py").write_text(MODULE.format(servers="127.0.0.1:1"))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert execute(["run", "served_nowhere:app", "--serve", address]) is Exit.USAGE
    assert re.fullmatch(r"error: .*(--serve|port).*\n", capsys.readouterr().err)


@pytest.mark.slow
def test_the_dashboard_of_several_apps_as_a_command(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as stdout:
        process = subprocess.Popen(
            [sys.executable, "-m", "headrace", "dashboard", "--app", "127.0.0.1:1", "--port", "0"],
            stdout=stdout,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    try:
        until(lambda: "dashboard at http://127.0.0.1:" in log.read_text(), "the page")
        found = re.search(r":(\d+)/", log.read_text())
        assert found
        assert asked(int(found[1]), "/")[0] == 200
        until(lambda: "refused" in asked(int(found[1]), "/dashboard.json")[1], "the app that is away")
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == Exit.INTERRUPTED
    finally:
        process.kill()
        process.wait()


def test_an_app_without_an_address_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["dashboard", "--app", "ftp://here", "--port", "0"]) is Exit.USAGE
    assert "an address such as" in capsys.readouterr().err
