"""The benchmark of watching still runs: what it measures is not judged here, where others use the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "watched.py"


@pytest.mark.slow
@pytest.mark.parametrize("case", ["reporters", "keys"])
def test_one_run_of_it_tells_what_watching_took(case: str) -> None:
    words = [sys.executable, str(SCRIPT), "--one", case, "--watched", "--seconds", "0.5"]
    told = json.loads(subprocess.run(words, check=True, capture_output=True, text=True, timeout=50).stdout)
    assert told["per_s"] > 0
    assert told["keys_ns"] > 0
    assert (told["reports"] > 0) is (case == "reporters")
