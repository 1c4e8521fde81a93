"""What the numbers were measured on: the processor, memory, versions, and what else ran.

Decides what is worth telling of a machine; refuses to tell its name, its paths or its user.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import confluent_kafka
from benchmarks.peers.measuring import repository_state


def describe() -> dict[str, str]:
    """Facts by name, as they are now."""
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "headrace": f"{version('headrace')}, commit {repository_state()}",
        "processor": f"{processor()}, {os.cpu_count()} cores, shared with the broker and the producer",
        "memory": memory(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": f"{platform.python_version()}, {how_built()}",
        "clients": f"confluent-kafka {version('confluent-kafka')}, librdkafka {confluent_kafka.libversion()[0]}",
        "java": java(),
        "load": f"{os.getloadavg()[0]:.1f} over the last minute when it began",
    }


def how_built() -> str:
    """Whether the interpreter was compiled with what makes it a tenth to a third faster, as far as it tells."""
    if sys.base_prefix == "/usr":
        return "as the system brings it"
    words = str(sysconfig.get_config_var("CONFIG_ARGS"))
    names = [
        name for flag, name in (("--enable-optimizations", "PGO"), ("--with-lto", "LTO")) if flag in words
    ]
    return f"built with {' and '.join(names)}" if names else "built without PGO and LTO"


def processor() -> str:
    """Its model, where the system says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def memory() -> str:
    """All of it."""
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


def java() -> str:
    """The first line of what `java -version` says."""
    try:
        done = subprocess.run(["java", "-version"], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return "none"
    return done.stderr.splitlines()[0].replace('"', "")
