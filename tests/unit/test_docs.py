"""The documentation, held to the code: examples run, nothing public is missing from the reference, links lead somewhere.

Conventions. A block marked `python` is executed here (making an app does no I/O); `python run` is executed to its end in
a process of its own; `python no-run` is only compiled, for what needs more than Headrace; `python file=NAME` is a file of
the tutorial, which is played as it is told. Refuses to judge style.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
import typer

import headrace
from headrace import errors
from headrace._client import settings as client_settings
from headrace._core import connection_notices, notices, scaling, snapshot
from headrace._core.commits import MAP_CHARS_MAX
from headrace._core.durations import DurationsSnapshot
from headrace._core.offset_map import Replay
from headrace._core.states import AppState
from headrace._runtime import dead_letters
from headrace._runtime.connections_told import ConnectionSnapshot, ScalingSnapshot
from headrace._runtime.hot_keys import HotKey, HotKeys
from headrace._runtime.rebalances import RebalanceSnapshot
from headrace._runtime.settings import AppSettings
from headrace._runtime.snapshots import OwnerSnapshot, Snapshot
from headrace.cli import command_line
from headrace.cli.exits import EXIT_MEANINGS
from headrace.config import Batching, Budgets, Commit, Connections, RetryPolicy, Timeouts
from headrace.subscriptions import SubscriptionSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / name for name in ("README.md", "DESIGN.md", "CHANGELOG.md", "CONTRIBUTING.md")]
    + list((ROOT / "docs").rglob("*.md"))
)
REFERENCE = ROOT / "docs" / "reference"
RUN_TIMEOUT_S = 40
SETTINGS: dict[str, type] = {
    "App": AppSettings,
    "subscribe": SubscriptionSettings,
    "Commit": Commit,
    "RetryPolicy": RetryPolicy,
    "Batching": Batching,
    "Budgets": Budgets,
    "Timeouts": Timeouts,
    "Connections": Connections,
}
SNAPSHOTS = (
    Snapshot,
    OwnerSnapshot,
    HotKeys,
    HotKey,
    RebalanceSnapshot,
    ConnectionSnapshot,
    ScalingSnapshot,
    snapshot.EngineSnapshot,
    snapshot.PartitionSnapshot,
    snapshot.CountersSnapshot,
    snapshot.SubscriptionSnapshot,
    DurationsSnapshot,
    snapshot.FailureSnapshot,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page. `mark` is what stands behind the language."""

    page: str
    line: int
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """All fenced blocks."""
    fenced = re.compile(r"^```(\w+)[ \t]*([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    text = page.read_text(encoding="utf-8")
    for found in fenced.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page.relative_to(ROOT).as_posix(), line, found[1], found[2].strip(), found[3])


PYTHON = [block for page in PAGES for block in blocks(page) if block.language == "python"]


def marked(*marks: str) -> list[Any]:
    """Python blocks with one of these marks, as parameters."""
    return [pytest.param(block, id=str(block)) for block in PYTHON if block.mark.split("=")[0] in marks]


def text_of(name: str) -> str:
    """A page of the reference."""
    return (REFERENCE / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands under a heading of level two."""
    found = re.search(rf"^## `?{re.escape(heading)}`?$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {heading!r}"
    return found[1]


def named(text: str) -> set[str]:
    """Everything in backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))


# ---- Examples


def test_every_mark_is_known() -> None:
    """A misspelt mark would switch a test off."""
    assert [str(b) for b in PYTHON if b.mark.split("=")[0] not in ("", "run", "no-run", "file")] == []


@pytest.mark.parametrize("block", marked("", "no-run", "file", "run"))
def test_an_example_compiles(block: Block) -> None:
    """All of them."""
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", marked(""))
def test_an_example_works_as_far_as_it_goes_without_kafka(block: Block) -> None:
    """Imports exist, settings are accepted, handlers are registered."""
    code = compile(block.text, str(block), "exec", dont_inherit=True)
    exec(code, {"__name__": "example"})  # noqa: S102 - our own pages


@pytest.mark.slow
@pytest.mark.parametrize("block", marked("run"))
def test_an_example_runs_to_its_end(block: Block, tmp_path: Path) -> None:
    """In a process of its own, warnings as errors."""
    script = tmp_path / "example.py"
    script.write_text(block.text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    """Its files, its commands, its numbers."""
    tutorial = ROOT / "docs" / "tutorial.md"
    for block in blocks(tutorial):
        if block.mark.startswith("file="):
            (tmp_path / block.mark.removeprefix("file=")).write_text(block.text, encoding="utf-8")
    told = [line for b in blocks(tutorial) if b.language == "sh" for line in b.text.splitlines()]
    with Terminal(tmp_path, told, "python broker.py") as broker:
        address = broker.lines(1)[0].strip()
        outside = os.environ | {"BOOTSTRAP": address}
        assert "concurrency = 256" in play(tmp_path, told, "headrace run billing:app --dry-run", outside)
        found = play(tmp_path, told, "headrace doctor billing:app", outside)
        assert "topic orders.dead: 1 partition," in found
        with Terminal(tmp_path, told, "headrace run billing:app", outside) as app:
            charged = app.lines(19)
            app.log_says("record_dead_lettered")
            assert app.interrupt() == 0
        assert all(line.startswith("charged customer-") for line in charged)
        for customer in range(5):
            mine = [int(line.split()[-1]) for line in charged if f"customer-{customer} " in line]
            assert mine == [n for n in range(20) if n % 5 == customer and n != 13]
        with Terminal(tmp_path, told, "headrace run billing:app", outside) as again:
            again.log_says("partition_assigned", times=4)
            assert again.interrupt() == 0
            assert again.rest() == ""
        lag = play(tmp_path, told, 'headrace lag billing --topic orders -b "$BOOTSTRAP"', outside)
        assert lag.splitlines()[-1] == "total 0"
        play(tmp_path, told, "python test_billing.py", outside)
        listed = play(tmp_path, told, 'headrace dead-letters list orders.dead -b "$BOOTSTRAP"', outside)
        assert "ValueError: card declined" in listed
        assert listed.splitlines()[-1] == "1 dead letter in orders.dead"
        look = 'headrace tail orders.dead --from-beginning --exit -b "$BOOTSTRAP"'
        letters = play(tmp_path, told, look, outside)
        assert "order 13" in letters
        assert dead_letters.ERROR_TYPE in letters


def command_of(told: list[str], line: str, outside: dict[str, str]) -> list[str]:
    """A line of the tutorial as arguments; it must stand there."""
    assert line in told, f"the tutorial no longer says {line!r}"
    words = [outside["BOOTSTRAP"] if word == '"$BOOTSTRAP"' else word for word in line.split()]
    if words[0] == "headrace":
        return [sys.executable, "-c", "from headrace.cli import main; main()", *words[1:]]
    assert words[0] == "python"
    return [sys.executable, *words[1:]]


def play(folder: Path, told: list[str], line: str, outside: dict[str, str]) -> str:
    """Run a command of the tutorial to its end."""
    command = command_of(told, line, outside)
    done = subprocess.run(
        command, cwd=folder, env=outside, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Terminal:
    """A command that runs until it is told to end. Output goes to files, so that no pipe fills up."""

    def __init__(
        self, folder: Path, told: list[str], line: str, outside: dict[str, str] | None = None
    ) -> None:
        outside = dict(os.environ) if outside is None else outside
        self._taken = 0
        stem = re.sub(r"\W+", "-", line) + str(time.monotonic_ns())
        self._out, self._log = folder / f"{stem}.out", folder / f"{stem}.log"
        with self._out.open("w") as out, self._log.open("w") as log:
            self._process = subprocess.Popen(
                command_of(told, line, outside),
                cwd=folder,
                env=outside,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=log,
            )

    def lines(self, count: int) -> list[str]:
        """The next lines of its output."""
        self._wait(lambda: len(self._out.read_text().splitlines()) >= self._taken + count)
        found = self._out.read_text().splitlines()[self._taken :][:count]
        self._taken += count
        return found

    def log_says(self, text: str, times: int = 1) -> None:
        """Wait until its log has this text."""
        self._wait(lambda: self._log.read_text().count(text) >= times)

    def rest(self) -> str:
        """What it printed and nobody took."""
        return "\n".join(self._out.read_text().splitlines()[self._taken :])

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(RUN_TIMEOUT_S)

    def _wait(self, condition: Any) -> None:
        give_up_at = time.monotonic() + RUN_TIMEOUT_S / 2
        while not condition():
            assert time.monotonic() < give_up_at, self._out.read_text() + self._log.read_text()
            assert self._process.poll() is None, self._out.read_text() + self._log.read_text()
            time.sleep(0.02)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


# ---- The reference is whole


@pytest.mark.parametrize(
    "module",
    [
        "headrace",
        "headrace.assign",
        "headrace.observe",
        "headrace.pool",
        "headrace.ranges",
        "headrace.testing",
        "headrace.web",
    ],
)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    """And the page of names is where to look first."""
    words = {word for page in REFERENCE.glob("*.md") for word in named(page.read_text(encoding="utf-8"))}
    words |= {re.split(r"[(.]", word)[0] for word in words}
    public = importlib.import_module(module).__all__
    assert [name for name in public if name not in words] == []


@pytest.mark.parametrize("heading", SETTINGS)
def test_every_setting_is_in_the_reference_with_its_default(heading: str) -> None:
    """One row each: name, default, meaning."""
    rows = dict(
        re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section(text_of("settings.md"), heading), re.MULTILINE)
    )
    expected = {field.name: shown_default(field) for field in dataclasses.fields(SETTINGS[heading])}
    assert rows == expected


def shown_default(field: dataclasses.Field[Any]) -> str:
    """A default as the table writes it."""
    if field.name == "name":
        return "derived"
    if field.default is not dataclasses.MISSING:
        default = field.default
    elif field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    else:
        return "required"
    if dataclasses.is_dataclass(default):
        return f"`{type(default).__name__}()`"
    return f'`"{default}"`' if isinstance(default, str) else f"`{default!r}`"


def test_arguments_and_settings_agree() -> None:
    """`subscribe` and `App` take what their settings hold, with the same defaults."""
    for call, settings, extra in (
        (headrace.App.subscribe, SubscriptionSettings, {"name"}),
        (headrace.App.__init__, AppSettings, set[str]()),
    ):
        arguments = set(inspect.signature(call).parameters) - {"self"}
        assert arguments == {field.name for field in dataclasses.fields(settings)} - extra


def test_every_error_is_in_the_reference() -> None:
    """With its attributes."""
    page = text_of("errors.md")
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, errors.HeadraceError):
            row = re.search(rf"^\| `{name}` \|(.*)$", page, re.MULTILINE)
            assert row, f"{name} has no row"
            assert attributes_of(error) <= named(row[1]), name


def attributes_of(error: type) -> set[str]:
    """What `__init__` sets."""
    if "__init__" not in vars(error):
        return set()
    source = inspect.cleandoc("\n" + inspect.getsource(error))
    return set(re.findall(r"self\.([a-z]\w*) =", source))


def test_every_notice_is_in_the_reference() -> None:
    """With its level and fields."""
    page = text_of("notices.md")
    levels = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR"}
    for notice in (vars(notices) | vars(connection_notices)).values():
        if not (isinstance(notice, type) and issubclass(notice, notices.Notice)) or notice is notices.Notice:
            continue
        row = re.search(rf"^\| `{notice.name}` \| (\w+) \| ([^|]*) \|", page, re.MULTILINE)
        assert row, f"{notice.name} has no row"
        assert row[1] == levels[notice.level], notice.name
        assert named(row[2]) == {field.name for field in dataclasses.fields(notice)}, notice.name


def test_every_reason_for_a_number_of_connections_is_on_its_page_in_order() -> None:
    """With what follows from it and its words."""
    page = (ROOT / "docs" / "howto" / "connections.md").read_text(encoding="utf-8")
    change = {1: "one more", 0: "stays", -1: "one fewer"}
    rules: list[tuple[scaling.Why, int]] = [(rule.why, rule.change) for rule in scaling.RULES]
    rules.append(("fetch_bound", 1))
    expected = [(why, change[way], scaling.MEANINGS[why]) for why, way in rules]
    assert re.findall(r"^\| `(\w+)` \| ([a-z ]+) \| ([^|]+) \|$", page, re.MULTILINE) == expected


def test_every_command_option_and_exit_code_is_in_the_reference() -> None:
    """Commands of commands, too."""
    page = text_of("cli.md")
    words = {word for code in named(page) for word in code.split()}
    line: Any = typer.main.get_command(command_line())
    missing: list[str] = []
    for path, command in commands(line, "headrace"):
        if f"`{path}" not in page:
            missing.append(path)
        for option in command.params:
            missing += [
                f"{path} {name}" for name in option.opts if name.startswith("-") and name not in words
            ]
    assert missing == []
    codes = dict(re.findall(r"^\| (\d+) \| (.*?)\.? .*\|$", page, re.MULTILINE))
    assert set(codes) == {str(code.value) for code in EXIT_MEANINGS}


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All commands below this one."""
    for name, below in getattr(command, "commands", {}).items():
        yield f"{path} {name}", below
        yield from commands(below, f"{path} {name}")


@pytest.mark.parametrize("kind", SNAPSHOTS, ids=lambda kind: kind.__name__)
def test_every_field_of_a_snapshot_is_in_the_reference(kind: type) -> None:
    """In the section of its class, and no other."""
    rows = re.findall(r"^\| (`[^|]+) \|", section(text_of("snapshots.md"), kind.__name__), re.MULTILINE)
    fields = [field.name for field in dataclasses.fields(kind)]
    assert sorted(name for row in rows for name in named(row)) == sorted(fields)


def test_every_state_is_in_the_reference() -> None:
    """Those of the app: the others have their page, drawn from the tables."""
    assert {state.value for state in AppState} <= named(text_of("snapshots.md"))


def test_every_setting_of_librdkafka_that_is_ours_is_in_the_reference() -> None:
    """Those that are refused, and those with another default."""
    words = named(text_of("librdkafka.md"))
    owned = client_settings._OWNED.keys() | client_settings._CLASSIC_ONLY.keys()
    defaults = (
        client_settings._CONSUMER_DEFAULTS.keys()
        | client_settings._CLASSIC_DEFAULTS.keys()
        | client_settings._PRODUCER_DEFAULTS.keys()
    )
    assert sorted((owned | defaults) - words) == []


def test_formats_are_in_the_reference() -> None:
    """Headers of dead letters; reasons to refuse an offset map, and its limit."""
    headers = {value for value in vars(dead_letters).values() if isinstance(value, str)}
    ours = {value for value in headers if re.fullmatch(dead_letters.PREFIX + "[a-z-]+", value)}
    assert sorted(ours - named(text_of("dead-letter-headers.md"))) == []
    page = text_of("offset-map.md")
    assert {reason.value for reason in Replay} <= named(page)
    assert f"{MAP_CHARS_MAX} characters" in page


# ---- Nothing points nowhere


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """To files of the project, and to headings in them."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_every_page_is_in_the_index() -> None:
    """A page that nothing links to is not read."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert sorted(page for page in pages - {"README.md"} if f"]({page})" not in index) == []


def test_every_test_that_a_guarantee_names_exists() -> None:
    """A claim is as good as its test."""
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    claimed = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert claimed
    for path, test in claimed:
        assert re.search(
            rf"^(async )?def {test}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE
        ), test


def test_the_file_map_is_whole() -> None:
    """Every module of the package has its line in DESIGN.md, and no line is of a module that is gone."""
    design = (ROOT / "DESIGN.md").read_text(encoding="utf-8")
    package = ROOT / "src" / "headrace"
    listed = set(re.findall(r"^\| `([\w/]+\.py)` \|", section(design, "File map"), re.MULTILINE))
    there = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    command = ["git", "ls-files", "*.py"]
    known = subprocess.run(command, cwd=package, capture_output=True, check=False, text=True)
    # A module in the making needs no line yet; where there is no git, as in an unpacked release, all are made.
    made = set(known.stdout.split()) & there or there
    assert sorted(made - listed) == [], "write a line for each under `File map` in DESIGN.md"
    assert sorted(listed - there) == [], "gone: take their lines out of DESIGN.md"


def test_what_the_design_names_exists() -> None:
    """Methods and fields, as in `Commits.farewell`."""
    members: dict[str, set[str]] = {}
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                members.setdefault(node.name, set()).update(member_names(node))
    named_there = re.findall(r"`([A-Z]\w+)\.(\w+)", (ROOT / "DESIGN.md").read_text(encoding="utf-8"))
    wrong = [f"{owner}.{name}" for owner, name in named_there if name not in members.get(owner, {name})]
    assert wrong == []


def member_names(owner: ast.ClassDef) -> Iterator[str]:
    """Methods, annotated fields, and attributes that are set."""
    for node in ast.walk(owner):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case _:
                pass
