"""At 100 records a second handlers start soon after the append, and an idle app costs next to nothing.

Runs benchmarks/latency_idle.py and reads what it prints. The promises are p99 < 15 ms and idle < 2% of a core; what is
held here is twice that, for machines that do other work as well.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
P99_MS_MAX = 2 * 15.0
IDLE_PERCENT_MAX = 2 * 2.0


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_latency_and_idle_cost_are_bounded(
    kafka: str, protocol: str, record_property: Callable[[str, object], None]
) -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/latency_idle.py"), kafka, protocol],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    p99_ms = {
        kind: float(ms) for kind, ms in re.findall(r"(\w+): 100 records/s.* p99 ([\d.]+) ms", ran.stdout)
    }
    idle_percent = float(re.findall(r"idle: ([\d.]+)%", ran.stdout)[0])
    for kind, ms in p99_ms.items():
        record_property(f"p99_ms_{kind}", ms)
    record_property("idle_percent", idle_percent)
    assert p99_ms.keys() == {"threads", "asyncio"}
    assert max(p99_ms.values()) < P99_MS_MAX
    assert idle_percent < IDLE_PERCENT_MAX
