"""Which tests are in which tier follows from where they are and what they use, and `-m` goes by it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chosen", "place"),
    [("not full", "tests/full/test_leaks.py"), ("not kafka", "tests/kafka/test_starts.py")],
)
def test_a_tier_that_is_left_out_is_left_out(chosen: str, place: str) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        chosen,
        place,
    ]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, told.stdout
    assert "deselected" in told.stdout
