"""What the operating system says of this process and others: the witness that nothing leaks and nothing outlives."""

from __future__ import annotations

import importlib
from typing import Any

psutil: Any = importlib.import_module("psutil")  # it has no types of its own


def open_resources() -> tuple[int, int]:
    """Threads and file descriptors of this process."""
    process = psutil.Process()
    return process.num_threads(), process.num_fds()


def children() -> set[int]:
    """Process ids of the children of this process."""
    return {child.pid for child in psutil.Process().children()}


def is_running(pid: int) -> bool:
    """Whether the process still does anything; one that nobody has reaped yet does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
