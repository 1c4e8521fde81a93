"""How much memory a process and its own workers hold, from `/proc`.

Decides what is counted: resident pages of all processes of one process group, each page as often as it is mapped. Knows no
limit. Invariant: a process that ends meanwhile counts as nothing.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.cli.exits import Unusable

if TYPE_CHECKING:
    from collections.abc import Collection

PROC = Path("/proc")
UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def parse_size(text: str) -> int:
    """Bytes, from such as `800M` or `1.5G`. Raises `Unusable`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    size = int(float(found[1]) * UNITS[found[2]]) if found else 0
    if size < 2**20:
        raise Unusable(f"--memory-limit {text}: expected a size of 1M or more, such as 800M or 1.5G")
    return size


def measurable() -> bool:
    """Whether this system tells."""
    return (PROC / "self" / "stat").exists()


def group_memory(groups: Collection[int]) -> dict[int, int]:
    """Bytes that each of these process groups holds."""
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    held = dict.fromkeys(groups, 0)
    for entry in PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            # The name of the program is in brackets, and may hold any character.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        group, pages = int(fields[2]), int(fields[21])
        if group in held:
            held[group] += pages * page_bytes
    return held
