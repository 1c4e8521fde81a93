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
