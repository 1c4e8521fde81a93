"""`headrace run --processes`: real processes on the embedded broker, seen from outside.

Each test is one supervisor in a process of its own. Waits are for what the log or the server says, and long: how fast a
process starts is the machine's business.
"""

from __future__ import annotations

import json
import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from headrace.testing import MockBroker
from tests.embedded.test_serve import asked
from tests.supervised import alive, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RUN = ("-m", "headrace", "run", "billing:app")
APP = """
import ctypes, os, sys, threading, time
from pathlib import Path
from headrace import App, Timeouts
app = App({servers!r}, {group!r}, instance_id={instance!r}, timeouts=Timeouts(stop_s=5))
HERE = Path({here!r})

@app.subscribe("orders")
def charge(record):
    print("charging", file=sys.stderr)
    threading.Event().wait()

def sprung(trap):
    try:
        (HERE / trap).unlink()
    except OSError:
        return False
    return True

def trapped():
    hoard = []
    while True:
        time.sleep(0.05)
        if sprung("die"):
            os._exit(7)
        if sprung("hang"):
            ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock
        if sprung("eat"):
            hoard.append(b"x" * 300_000_000)

threading.Thread(target=trapped, daemon=True).start()
"""
DRIVER = """
import sys
from headrace.cli.processes.exchange import Limits
from headrace.cli.processes.supervise import supervise
if __name__ == "__main__":
    limits = Limits(silent_s=float(sys.argv[2]), backoff_initial_s=0.1, memory_bytes=300 * 2**20)
    sys.exit(supervise("billing:app", int(sys.argv[1]), limits, "info"))
"""


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    with MockBroker(topics={"orders": 2}) as broker:
        yield broker


def write_app(directory: Path, servers: str, instance: str | None = None, more: str = "") -> None:
    text = APP.format(
        servers=servers, group=f"billing-{directory.name}", instance=instance, here=str(directory)
    )
    (directory / "billing.py").write_text(text + more)


def driver(directory: Path, processes: int, silent_s: float = 60.0) -> tuple[str, ...]:
    """A supervisor with short limits. On a machine that is busy a process may be silent for long: patience, but for who hangs."""
    (directory / "driver.py").write_text(DRIVER)
    return ("driver.py", str(processes), str(silent_s))


def test_two_processes_share_one_page_and_end_with_one_signal(tmp_path: Path, broker: MockBroker) -> None:
    write_app(tmp_path, broker.bootstrap_servers, instance="till")
    options = ("--serve", "0", "--health-files", "health", "--memory-limit", "2G")
    with running(tmp_path, *RUN, "--processes", "2", *options) as fleet:
        port = int(fleet.says(r"serving http://127\.0\.0\.1:(\d+)/")[0])
        assert asked(port, "/health/live")[0] == 200
        fleet.says(r"process \d is ready", times=2)
        until(lambda: asked(port, "/health/ready")[0] == 200, "readiness", lambda: fleet.said)
        page = asked(port, "/metrics")[1]
        for number in (0, 1):
            assert f'headrace_process_ready{{process="{number}"}} 1\n' in page
            assert f'headrace_process_restarts_total{{process="{number}"}} 0\n' in page
            assert re.search(rf'^headrace_ready{{process="{number}",group=.*}} 1\.0$', page, re.MULTILINE)
        assert len(re.findall(r"^# TYPE headrace_ready ", page, re.MULTILINE)) == 1
        found = json.loads(asked(port, "/snapshot.json")[1])["processes"]
        assert [one["process"]["number"] for one in found] == [0, 1]
        assert all(one["app"]["health"]["live"] for one in found)
        assert asked(port, "/process/1/health/live")[0] == 200
        assert asked(port, "/process/2/health/live")[0] == asked(port, "/process/1/actions")[0] == 404
        states = [json.loads(asked(port, f"/process/{number}/dashboard.json")[1]) for number in (0, 1)]
        assert all(state["health"]["live"] for state in states)
        assert "<title>" in asked(port, "/")[1]
        names = [json.loads(asked(port, f"/dashboard.json?app={number}")[1])["name"] for number in (0, 1)]
        assert [name[-2:] for name in names] == [" 0", " 1"]
        assert asked(port, "/dashboard.json?app=2")[0] == 404
        until(lambda: '"verdict"' in asked(port, "/dashboard.json")[1], "the feed", lambda: fleet.said)
        assert (tmp_path / "health" / "live").exists()
        # To the group, as a terminal does; each process must hear of it once, and so drain.
        os.killpg(fleet.process.pid, signal.SIGINT)
        assert fleet.ends() == 0
        assert not (tmp_path / "health" / "live").exists()
        for number in (0, 1):
            assert len(re.findall(rf"\[{number}\] .*state=draining reason=asked", fleet.said)) == 1
        assert all(re.match(r"\[[01*]\] ", line) for line in fleet.said.splitlines())


def test_one_that_dies_hangs_or_eats_is_replaced_and_leaves_its_stacks(
    tmp_path: Path, broker: MockBroker
) -> None:
    write_app(tmp_path, broker.bootstrap_servers)
    with running(tmp_path, *driver(tmp_path, 1, silent_s=12.0)) as fleet:
        fleet.says("process 0 is ready")
        (tmp_path / "die").touch()
        fleet.says(r"process 0 ended with code 7: starting it again in 0\.1 s")
        fleet.says("process 0 is ready", times=2)
        (tmp_path / "hang").touch()
        fleet.says(r"process 0 has reported nothing for \d+ s: ending it")
        fleet.says("process 0 left its stacks")
        assert re.search(r'billing\.py", line \d+ in trapped', fleet.said)
        fleet.says("process 0 ended with signal 6")
        fleet.says("process 0 is ready", times=3)
        (tmp_path / "eat").touch()
        fleet.says(r"process 0 holds [34]\d\d MiB of memory, and may hold 300 MiB")
        fleet.says("process 0 is ready", times=4)
        fleet.process.send_signal(signal.SIGTERM)
        assert fleet.ends() == 0


def test_a_hangup_brings_new_code_to_one_after_the_other_and_stops_at_what_does_not_start(
    tmp_path: Path, broker: MockBroker
) -> None:
    write_app(tmp_path, broker.bootstrap_servers)
    with running(tmp_path, *driver(tmp_path, 2)) as fleet:
        fleet.says(r"process \d is ready", times=2)
        write_app(tmp_path, broker.bootstrap_servers, more="print('version 2', file=sys.stderr)\n")
        fleet.process.send_signal(signal.SIGHUP)
        fleet.says("rolling restart done")
        order = re.findall(r"process (\d) is (replaced|ready)", fleet.said)[2:]
        assert order == [("0", "replaced"), ("0", "ready"), ("1", "replaced"), ("1", "ready")]
        assert re.findall(r"\[(\d)\] version 2", fleet.said) == ["0", "1"]
        write_app(tmp_path, broker.bootstrap_servers, more="raise OSError('no till')\n")
        fleet.process.send_signal(signal.SIGHUP)
        fleet.says(r"rolling restart stopped: process 0 ended before it was ready\. Not replaced: 1")
        assert len(re.findall("process 1 is replaced", fleet.said)) == 1
        write_app(tmp_path, broker.bootstrap_servers)  # mended: it comes back by itself
        fleet.says("process 0 is ready", times=3)
        fleet.process.send_signal(signal.SIGTERM)
        assert fleet.ends() == 0


def test_what_no_process_can_begin_with_ends_the_command_at_once(tmp_path: Path, broker: MockBroker) -> None:
    write_app(tmp_path, broker.bootstrap_servers, more="raise OSError('no till')\n")
    with running(tmp_path, *RUN, "--processes", "2") as fleet:
        assert fleet.ends() == 2
        assert fleet.said.count("no till") <= 4
        assert "none of the processes could begin: ending with code 2" in fleet.said


def test_a_second_signal_is_passed_on_and_stops_hard(tmp_path: Path, broker: MockBroker) -> None:
    write_app(tmp_path, broker.bootstrap_servers)
    broker.produce("orders", [(b"k", b"x")], 0)
    with running(tmp_path, *RUN, "--processes", "2") as fleet:
        fleet.says(r"\[\d\] charging")
        fleet.says(r"process \d is ready", times=2)
        fleet.process.send_signal(signal.SIGTERM)
        fleet.says(r"state=draining reason=asked")
        fleet.process.send_signal(signal.SIGTERM)
        assert fleet.ends() == 3
        assert "ending harder" in fleet.said


def test_processes_end_with_a_supervisor_that_is_killed(tmp_path: Path, broker: MockBroker) -> None:
    write_app(tmp_path, broker.bootstrap_servers)
    with running(tmp_path, *RUN, "--processes", "2") as fleet:
        fleet.says(r"process \d is ready", times=2)
        fleet.process.kill()
        fleet.says("the supervisor is gone: ending", times=2)
        until(lambda: not alive(fleet), "the end of all", lambda: fleet.said)
