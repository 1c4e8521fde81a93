"""`headrace demo` on its embedded broker: promises kept, and promises broken on purpose."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time

import pytest

from headrace.cli.exits import Exit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def demo(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the demo as a user does, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "headrace", "demo", *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )


def counts(out: str) -> dict[str, int]:
    """The table of the verdict."""
    rows = re.findall(r"^([a-z-]+(?: [a-z]+)*) {2,}([\d,]+) {2}\w", out, re.MULTILINE)
    return {name: int(count.replace(",", "")) for name, count in rows}


def test_the_demo_keeps_its_promises_through_a_rebalance() -> None:
    """Plain by itself, since its output is no terminal; the second member has had work."""
    ended = demo("--seconds", "5", "--plain")
    assert ended.returncode == Exit.OK, ended.stdout + ended.stderr
    found = counts(ended.stdout)
    assert found["produced"] == 2000
    assert found["handled"] + found["dead-lettered"] == 2000
    assert found["dead-lettered"] > 0
    assert [found[name] for name in ("lost", "out of order", "uncommitted", "damaged")] == [0, 0, 0, 0]
    assert "duplicates" in found
    assert "two members share the partitions" in ended.stdout
    assert ended.stderr == ""


@pytest.mark.parametrize(("sabotage", "broken"), [("loss", "lost"), ("order", "out of order")])
def test_a_broken_promise_is_found_out(sabotage: str, broken: str) -> None:
    """Members configured to skip failures, or to give up order, make exit code 1 and say which promise broke."""
    ended = demo("--seconds", "2", "--sabotage", sabotage)
    assert ended.returncode == Exit.FAILED, ended.stdout + ended.stderr
    found = counts(ended.stdout)
    assert found[broken] > 0
    assert "A PROMISE WAS BROKEN" in ended.stdout


def test_ctrl_c_ends_the_demo_quietly() -> None:
    """Its members and its broker end with it: nothing holds its output open."""
    arguments = [sys.executable, "-m", "headrace", "demo", "--seconds", "30"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "joins" in process.stdout.readline()
        time.sleep(0.5)  # in the midst of something, whatever it is
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED
    assert err == ""
