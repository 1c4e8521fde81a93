"""The mutants, as data: patches in this directory, and what is known of how they are caught.

Refuses to run anything. Invariant: a mutant is one patch whose file name is its number and its name; `killers.toml` has
one entry for each, written by `scripts/mutants`.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
KILLERS: Final = HERE / "killers.toml"

STRESS_TESTS: Final = {
    26: "tests/unit/execute/test_tasks.py::test_a_context_variable_set_by_one_handler_is_not_seen_by_the_next",
}
"""Mutants that only real threads and event loops can show: the test that catches them."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug to inject. what: whose bug it is, as its patch says."""

    number: int
    name: str
    patch: Path
    what: str


@dataclass(frozen=True, slots=True)
class Killer:
    """How a mutant is caught: by a seed that breaks `promise`, or by a test. needed: seeds tried from several starts on."""

    number: int
    name: str
    promise: str = ""
    seed: int = -1
    needed: tuple[int, ...] = ()
    test: str = ""

    @property
    def usual(self) -> int:
        """Median of the seeds needed."""
        return int(median(self.needed))


def mutants() -> list[Mutant]:
    """All of them, by number."""
    found: list[Mutant] = []
    for patch in sorted(HERE.glob("*.patch")):
        number, _, name = patch.stem.partition("-")
        header = patch.read_text(encoding="utf-8").split("\n--- a/", 1)[0].split("\n", 1)[1]
        found.append(Mutant(int(number), name, patch, " ".join(header.split())))
    return found


def killers() -> dict[int, Killer]:
    """What is known of each."""
    if not KILLERS.exists():
        return {}
    read: dict[str, Any] = tomllib.loads(KILLERS.read_text(encoding="utf-8"))
    return {
        each["number"]: Killer(
            each["number"],
            each["name"],
            each.get("promise", ""),
            each.get("seed", -1),
            tuple(each.get("needed", ())),
            each.get("test", ""),
        )
        for each in read.get("mutant", [])
    }


def write_killers(found: dict[int, Killer]) -> None:
    """Write them all, by number."""
    lines = [
        "# Written by scripts/mutants: how each mutant is caught. CI plays the seeds, and runs the tests."
    ]
    for _, killer in sorted(found.items()):
        lines += ["", "[[mutant]]", f"number = {killer.number}", f"name = {json.dumps(killer.name)}"]
        if killer.test:
            lines.append(f"test = {json.dumps(killer.test)}")
        else:
            lines += [
                f"promise = {json.dumps(killer.promise)}",
                f"seed = {killer.seed}",
                f"needed = {list(killer.needed)}",
            ]
    KILLERS.write_text("\n".join(lines) + "\n", encoding="utf-8")
