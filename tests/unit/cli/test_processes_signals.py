"""What SIGHUP means to `headrace run --processes`: a real supervisor, whose one process is still importing, without a broker."""

from __future__ import annotations

import os
import pty
import signal
from typing import TYPE_CHECKING

import pytest

from tests.supervised import running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
IGNORING = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
RUN = ("-m", "headrace", "run", "billing:app", "--processes", "1")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """With an app whose import takes longer than any test."""
    (tmp_path / "billing.py").write_text("import threading\nthreading.Event().wait(600)\n")
    return tmp_path


def test_a_terminal_that_is_closed_ends_all_wherever_the_log_goes(here: Path) -> None:
    """stdin, stdout and stderr are elsewhere, as with `nohup`, `| tee` or `2>log`: the terminal is known by its name alone."""
    keyboard, terminal = pty.openpty()
    try:
        with running(here, "-c", ON_A_TERMINAL, str(terminal), *RUN, pass_fds=(terminal,)) as fleet:
            os.close(terminal)
            fleet.says("process 0 started")
            fleet.process.send_signal(signal.SIGHUP)
            fleet.says("rolling restart: one process")  # somebody asked for it: the terminal is there
            fleet.says("process 0 started again")
            os.close(keyboard)
            keyboard = -1
            fleet.says("SIGHUP: ending")
            assert fleet.ends() == 0
            assert fleet.said.count("rolling restart: one process") == 1
    finally:
        if keyboard != -1:
            os.close(keyboard)


def test_without_a_terminal_a_hangup_is_a_roll(here: Path) -> None:
    with running(here, *RUN) as fleet:
        fleet.says("process 0 started")
        fleet.process.send_signal(signal.SIGHUP)
        fleet.says("rolling restart: one process")
        fleet.process.send_signal(signal.SIGTERM)
        assert fleet.ends() == 0


def test_under_nohup_a_hangup_means_nothing(here: Path) -> None:
    with running(here, "-c", IGNORING, *RUN) as fleet:
        fleet.says("SIGHUP is ignored here")
        fleet.says("process 0 started")
        fleet.process.send_signal(signal.SIGHUP)
        fleet.process.send_signal(signal.SIGTERM)
        assert fleet.ends() == 0
        assert "rolling restart: one" not in fleet.said
