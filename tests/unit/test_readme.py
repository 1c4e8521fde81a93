"""The table in tests/README.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent.parent
NAMED = re.compile(r"`([a-z0-9_/]+\.py)::([a-z0-9_]+)`")


def test_every_test_that_the_table_names_exists() -> None:
    named = NAMED.findall((TESTS / "README.md").read_text())
    assert len(named) > 80, "the table is not read right"
    functions: dict[str, set[str]] = {}
    for path in {path for path, _ in named}:
        assert (TESTS / path).is_file(), path
        tree = ast.parse((TESTS / path).read_text())
        functions[path] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    missing = [f"{path}::{name}" for path, name in named if name not in functions[path]]
    assert not missing


def test_every_numbered_scenario_of_assignment_is_in_the_table() -> None:
    """Of those that sticky assignors are held to: none may be forgotten when tests are moved."""
    text = (TESTS / "README.md").read_text(encoding="utf-8")
    found: list[tuple[str, int]] = []
    for numbers in re.findall(r"^\| ([KSFN]\d+[-, KSFN0-9]*) \|", text, re.MULTILINE):
        for letter, first, last in re.findall(r"([KSFN])(\d+)(?:-[KSFN](\d+))?", numbers):
            found += [(letter, number) for number in range(int(first), int(last or first) + 1)]
    expected = {"K": 60, "S": 17, "F": 10, "N": 9}
    assert sorted(found) == sorted(
        (letter, n) for letter, most in expected.items() for n in range(1, most + 1)
    )
