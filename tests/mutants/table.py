"""The table of seeds-to-detection in docs/guarantees.md, between its markers: made from `killers.toml`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.mutants.catalogue import ROOT, mutants

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.mutants.catalogue import Killer

PAGE: Final = ROOT / "docs" / "guarantees.md"
BEGIN: Final = "<!-- mutants: written by scripts/mutants -->"
END: Final = "<!-- end of mutants -->"


def table(found: Mapping[int, Killer]) -> str:
    """The table's text."""
    lines = [
        "| no. | mutant | caught by | seeds needed: median | worst |",
        "|---:|---|---|---:|---:|",
    ]
    for mutant in mutants():
        killer = found.get(mutant.number)
        if killer is None:
            lines.append(f"| {mutant.number} | {mutant.name} | **survives** | | |")
        elif killer.test:
            name = killer.test.rpartition("::")[2]
            lines.append(f"| {mutant.number} | {mutant.name} | stress test `{name}` | 1 run | 1 run |")
        else:
            cells = (mutant.number, mutant.name, killer.promise, killer.usual, max(killer.needed))
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def written() -> str:
    """What stands in the page now."""
    text = PAGE.read_text(encoding="utf-8")
    return text.partition(BEGIN)[2].partition(END)[0].strip()


def write_table(found: Mapping[int, Killer]) -> None:
    """Write it into the page, if that is there."""
    if not PAGE.exists():
        return
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} lacks the markers {BEGIN} and {END}")
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(found)}\n\n{END}{after}", encoding="utf-8")
