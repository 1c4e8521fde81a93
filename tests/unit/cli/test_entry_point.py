"""The `headrace` command from its first moment, when nothing is imported yet."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-c", "import headrace_command; headrace_command.main()", "version"]
SLOW_IMPORT = "import time\nprint('importing', flush=True)\ntime.sleep(30)\n"


def started_slowly(folder: Path, command: list[str]) -> subprocess.Popen[str]:
    """The command in the midst of its imports."""
    (folder / "typer.py").write_text(SLOW_IMPORT)
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    return process


@pytest.mark.slow
def test_an_interrupt_while_the_command_is_imported_says_nothing(tmp_path: Path) -> None:
    with started_slowly(tmp_path, COMMAND) as process:
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 130


@pytest.mark.slow
def test_an_interrupt_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As a shell without job control has it for what it runs in the background."""
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *COMMAND]
    with started_slowly(tmp_path, ignoring) as process:
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.kill()


def test_the_installed_command_begins_there() -> None:
    (entry,) = (entry for entry in entry_points(group="console_scripts") if entry.name == "headrace")
    assert entry.value == "headrace_command:main"


def test_python_runs_the_package_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "version"], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.startswith("headrace ")
