"""Pages of metrics of several processes made one: each sample with the number of its process as a label.

Decides how pages are joined. Knows the text format of Prometheus only, and no metric. Invariant: a metric's samples stand
together under one heading, as the format asks; a value is passed on as it was written.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.cli.processes.supervisor import Member

_SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(\{)?(.*)")


def joined(pages: Mapping[int, str]) -> str:
    """One page, from those of processes by their numbers."""
    headings: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for number, page in pages.items():
        name = ""
        for line in page.splitlines():
            if line.startswith(("# HELP ", "# TYPE ")):
                name = line.split(" ", 3)[2]
                heading = headings.setdefault(name, [])
                # The first process that has it describes it.
                if not any(line[:7] == other[:7] for other in heading):
                    heading.append(line)
            elif line and not line.startswith("#"):
                samples.setdefault(name, []).append(_labelled(line, number))
    lines = [line for name, found in samples.items() for line in headings.get(name, []) + found]
    return "".join(f"{line}\n" for line in lines)


def _labelled(line: str, number: int) -> str:
    found = _SAMPLE.fullmatch(line)
    if found is None:
        return line
    name, brace, rest = found.groups()
    label = f'process="{number}"'
    if not brace:
        return f"{name}{{{label}}}{rest}"
    return f"{name}{{{label}}}{rest[1:]}" if rest.startswith("}") else f"{name}{{{label},{rest}"


def own_metrics(members: Sequence[Member]) -> str:
    """What the supervisor itself knows of its processes."""
    rows = (
        ("headrace_process_ready", "gauge", "1 while the process is up and ready.", "ready"),
        ("headrace_process_restarts_total", "counter", "Starts of the process after its first.", "restarts"),
        (
            "headrace_process_memory_bytes",
            "gauge",
            "Resident memory of the process and its workers.",
            "memory_bytes",
        ),
    )
    lines: list[str] = []
    for name, kind, meaning, field in rows:
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
        for member in members:
            lines.append(f'{name}{{process="{member.view.number}"}} {int(getattr(member.view, field))}')
    return "".join(f"{line}\n" for line in lines)
