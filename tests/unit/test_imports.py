"""What importing costs: those who only define an app, or never use our fixtures, must not pay for the client library."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "headrace",
        "headrace.assign",
        "headrace.observe",
        "headrace.pool",
        "headrace.ranges",
        "headrace.testing",
        "headrace.testing.pytest_plugin",
        "headrace.web",
    ],
)
def test_importing_loads_no_client(module: str) -> None:
    program = (
        f"import sys, {module}; found = sorted({{'confluent_kafka', 'typer', 'rich'}} & sys.modules.keys());"
        "sys.exit(f'imports {found}' if found else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_pytest_finds_our_fixtures() -> None:
    found = [entry for entry in entry_points(group="pytest11") if entry.name == "headrace"]
    assert [entry.value for entry in found] == ["headrace.testing.pytest_plugin"]
