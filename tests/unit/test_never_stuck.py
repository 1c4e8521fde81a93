"""The page that says who watches what, and the page of reasons, held to the code."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections import Counter
from pathlib import Path

from headrace._core import health, notices
from headrace.cli.exits import Exit

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "headrace"
PAGE = ROOT / "docs" / "never-stuck.md"
STARTERS = {
    "Thread",
    "Timer",
    "Task",
    "create_task",
    "ensure_future",
    "run_coroutine_threadsafe",
    "Process",
    "ThreadPoolExecutor",
    "start_new_thread",
}
"""What starts something that runs by itself. Annotations and `isinstance` are no calls."""


def sites() -> Counter[str]:
    """Where the runtime starts something; commands, plug-ins of other clients and what is for tests have loops of their own."""
    found: Counter[str] = Counter()
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(("cli/", "testing/", "assign/")):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = (
                    node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                )
                found[name] += called in STARTERS
    return +found


def rows() -> list[list[str]]:
    """The table of threads and tasks, cell by cell."""
    text = (
        PAGE.read_text(encoding="utf-8")
        .split("## Every loop, thread and task")[1]
        .split("Within the owner")[0]
    )
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and re.search(r"`\w+/\w+\.py`", line)
    ]


def test_everything_that_runs_by_itself_has_its_row() -> None:
    listed = Counter(re.findall(r"`([\w/]+\.py)`", row[1])[0] for row in rows())
    assert listed == sites()


def test_the_scan_sees_what_is_started() -> None:
    """A scan that finds nothing would hold nothing."""
    assert {"_runtime/assembly.py", "_execute/pumping.py", "_execute/process_link.py"} <= sites().keys()


def test_every_thread_is_named_and_its_name_is_in_the_table() -> None:
    """`threading.Thread(..., name=...)`: a stack of a thread without a name tells nobody anything."""
    page = PAGE.read_text(encoding="utf-8")
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] in ("cli", "testing"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "threading.Thread"):
                continue
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            assert isinstance(given.get("daemon"), ast.Constant), f"{path.name}: not a daemon"
            name = given["name"]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                assert f"`{name.value}" in page or path.name == "process_worker.py", name.value


def test_what_health_says_meanwhile_are_reasons_that_exist() -> None:
    named = {reason.name for reason in health.REASONS}
    for row in rows():
        assert len(row) == 6, row
        words = set(re.findall(r"`(\w+)`", row[5]))
        assert words <= named | {"starting", "stopping"}, row


def test_every_reason_is_in_the_reference() -> None:
    """With severity, whether it leaves the app ready, and its fields."""
    page = (ROOT / "docs" / "reference" / "health.md").read_text(encoding="utf-8")
    for reason in health.REASONS:
        row = re.search(rf"^\| `{reason.name}` \| (\w+) \| (\w+) \| ([^|]*) \|", page, re.MULTILINE)
        assert row, f"{reason.name} has no row"
        assert row[1] == reason.severity
        assert row[2] == ("no" if reason.unready else "yes")
        fields = {field.name for field in dataclasses.fields(reason)}
        assert set(re.findall(r"`(\w+)`", row[3])) == fields, reason.name


def test_every_member_of_health_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "health.md").read_text(encoding="utf-8")
    members = {field.name for field in dataclasses.fields(health.Health)} | {"live", "ready"}
    assert members <= set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))


def test_the_page_names_notices_and_codes_that_exist() -> None:
    page = PAGE.read_text(encoding="utf-8")
    told = {notices.PartitionStalled.name, notices.StallEnded.name, notices.OwnerBlocked.name}
    assert told <= set(re.findall(r"`(\w+)`", page))
    codes = page.split("## Exit codes")[1].split("##")[0]
    assert {str(int(code)) for code in Exit} <= set(re.findall(r"\d+", codes))
