"""The rules of the house that a program can check, checked on the source itself.

Decides which rules hold where, and names the replacement when one is broken. Refuses to judge style: ruff does. Each
check is a function from one parsed file to complaints, so that a rule is tested once on a bad example and once on all
of the project.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Complaints = Iterator[tuple[int, str]]
    Rule = Callable[["Source"], Complaints]

ROOT = Path(__file__).parents[2]
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 450
SPELLS_WHAT_IS_REFUSED = {"LICENSE", "tests/unit/test_tidy.py"}
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "base"}

# The core computes from what it is given. These read no clock, no environment, no randomness and no device.
CORE_MAY_IMPORT = {
    "__future__", "abc", "array", "base64", "binascii", "bisect", "collections", "dataclasses", "enum", "functools",
    "heapq", "itertools", "math", "operator", "re", "struct", "types", "typing", "zlib",
    "headrace._core", "headrace.config", "headrace.errors", "headrace.outcomes", "headrace.ports", "headrace.records",
    "headrace.subscriptions",
}  # fmt: skip
CORE_MAY_NOT_CALL = {"open", "print", "input", "exec", "eval", "breakpoint", "__import__"}

# What makes a container or something that others can change: held by a module, it is state that no one owns.
# A ContextVar is not among them: its values belong to contexts, and Python asks to make it at module level.
MUTABLE_CALLS = {
    "list", "dict", "set", "bytearray", "array", "defaultdict", "deque", "Counter", "OrderedDict", "ChainMap", "count",
    "Queue", "SimpleQueue", "LifoQueue", "Lock", "RLock", "Condition", "Event", "Semaphore", "local",
    "WeakKeyDictionary", "WeakValueDictionary", "WeakSet",
}  # fmt: skip
MUTATING_METHODS = {
    "append", "extend", "insert", "pop", "popleft", "appendleft", "remove", "clear", "update", "setdefault", "add",
    "discard", "popitem", "sort", "reverse",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """One file of the project, parsed."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @property
    def is_core(self) -> bool:
        return self.path.startswith("src/headrace/_core/")


# ---- The rules: each yields (line, complaint)


def functions_are_short(source: Source) -> Complaints:
    """A function is read in one look; more is two functions."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield (
                    node.lineno,
                    f"{node.name} has {lines} lines, more than {FUNCTION_LINES_MAX}: take a part out",
                )


def files_are_short(source: Source) -> Complaints:
    """A file has one subject; more is two files."""
    lines = source.text.count("\n")
    if lines > FILE_LINES_MAX:
        yield lines, f"{lines} lines, more than {FILE_LINES_MAX}: split it by subject"


def names_are_no_drawers(source: Source) -> Complaints:
    """A drawer takes in anything; a name with a subject does not."""
    for part in Path(source.path).with_suffix("").parts:
        if part.strip("_") in DRAWERS:
            yield (
                1,
                f"{part!r} names no subject: put each function where it is used, or in a module named for it",
            )


def modules_open_with_a_docstring(source: Source) -> Complaints:
    """What it decides, what it refuses to know, its invariant."""
    if not ast.get_docstring(source.tree):
        yield 1, "no docstring: say what this module decides, what it refuses to know, and its invariant"


def nothing_is_global(source: Source) -> Complaints:
    """State has an owner; a module is none."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Global):
            yield node.lineno, "`global`: give the state to an object that owns it"


def modules_hold_no_state(source: Source) -> Complaints:
    """A name of a module is bound once and never changed.

    Refused: a lower-case name bound to a container, queue, lock or the like; any name bound to a queue, lock or the
    like; and any change, from within the module, of a container that the module holds. A table in capitals may stand.
    """
    tree = source.tree
    held: set[str] = set()
    for statement in tree.body:
        for name, value in bindings(statement):
            kind = mutable_kind(value)
            if kind is None or name.startswith("__"):
                continue
            held.add(name)
            if not name.isupper() and not name.lstrip("_").isupper():
                yield (
                    statement.lineno,
                    f"{name} is module-level state ({kind}): give it an owner, or freeze it",
                )
            elif kind in MUTABLE_CALLS - {"list", "dict", "set"}:
                yield statement.lineno, f"{name} is module-level state ({kind}): give it an owner"
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and (changed := changed_name(node)) in held:
            yield node.lineno, f"{changed} is changed here, but belongs to the module: give it an owner"


def core_imports_only_pure_modules(source: Source) -> Complaints:
    """The core runs in production, in tests and in the simulator alike, because it reads nothing but its arguments."""
    if source.is_core:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for module in imported_modules(node):
                    if not any(module == pure or module.startswith(pure + ".") for pure in CORE_MAY_IMPORT):
                        yield node.lineno, f"the core imports {module}: take what it gives as an argument"


def core_calls_nothing_outside(source: Source) -> Complaints:
    """Built-in functions can reach outside, too."""
    if source.is_core:
        for node in ast.walk(source.tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in CORE_MAY_NOT_CALL
            ):
                yield node.lineno, f"the core calls {node.func.id}(): return an effect instead"


def reminders_have_an_owner(source: Source) -> Complaints:
    """A reminder without an issue is one nobody will read again."""
    for number, line in enumerate(source.text.splitlines(), start=1):
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b(?!\(#\d+\))", line):
            yield number, "a reminder without an issue: write TODO(#number), or do it"


def paths_are_nobodys_own(source: Source) -> Complaints:
    """What is committed runs elsewhere."""
    for number, line in enumerate(source.text.splitlines(), start=1):
        if re.search(r"(?<![\w.~-])/(home|Users|root|mnt|media|work)/\w", line):
            yield number, "a path of one machine: make it relative to the project, or an argument"


SRC_RULES = (
    functions_are_short,
    files_are_short,
    names_are_no_drawers,
    modules_open_with_a_docstring,
    nothing_is_global,
    modules_hold_no_state,
    core_imports_only_pure_modules,
    core_calls_nothing_outside,
)
TEXT_RULES = (reminders_have_an_owner, paths_are_nobodys_own)
OTHER_PYTHON_RULES = (
    functions_are_short,
    names_are_no_drawers,
    modules_open_with_a_docstring,
    nothing_is_global,
)


# ---- The rules hold


@pytest.mark.parametrize("rule", SRC_RULES, ids=lambda rule: rule.__name__)
def test_source_keeps_the_rule(rule: Rule) -> None:
    """Every module of the package."""
    complaints = broken(rule, python_files("src"))
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("rule", OTHER_PYTHON_RULES, ids=lambda rule: rule.__name__)
def test_tests_and_scripts_keep_the_rule(rule: Rule) -> None:
    """What serves the package is read as often as the package."""
    complaints = broken(rule, python_files("tests", "scripts", "benchmarks", "examples"))
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("rule", TEXT_RULES, ids=lambda rule: rule.__name__)
def test_every_committed_text_keeps_the_rule(rule: Rule) -> None:
    """Scripts, documents and settings too."""
    complaints = broken(rule, committed_texts())
    assert not complaints, "\n".join(complaints)


def test_folders_of_tests_are_packages() -> None:
    """Two test files may then have one name, and the type checkers can tell them apart."""
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert sorted(str(folder) for folder in folders if not (folder / "__init__.py").exists()) == []


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
def test_public_names_are_frozen(module: str) -> None:
    """What users can import changes only together with its list, on purpose."""
    __import__(module)
    exported = getattr(sys.modules[module], "__all__", None)
    if exported is None:
        pytest.skip(f"{module} exports nothing yet")
    assert sorted(f"{module}.{name}" for name in exported) == sorted(
        line
        for line in (ROOT / "tests/unit/public_names.txt").read_text().splitlines()
        if line.rpartition(".")[0] == module
    )
    assert [name for name in exported if not hasattr(sys.modules[module], name)] == []


# ---- The rules see


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        (functions_are_short, "def f():\n" + "    pass\n" * FUNCTION_LINES_MAX),
        (files_are_short, "\n" * (FILE_LINES_MAX + 1)),
        (modules_open_with_a_docstring, "import ast\n"),
        (nothing_is_global, "def f():\n    global x\n"),
        (modules_hold_no_state, "seen = []\n"),
        (modules_hold_no_state, "cache: dict[str, int] = {}\n"),
        (modules_hold_no_state, "LOCK = threading.Lock()\n"),
        (modules_hold_no_state, "TABLE = {}\ndef f():\n    TABLE[1] = 2\n"),
        (modules_hold_no_state, "TABLE = {}\ndef f():\n    TABLE.update(a=1)\n"),
        (core_imports_only_pure_modules, "import time\n"),
        (core_imports_only_pure_modules, "from headrace import runtime\n"),
        (core_imports_only_pure_modules, "def f():\n    import os.path\n"),
        (core_calls_nothing_outside, "print(1)\n"),
        (reminders_have_an_owner, "# TODO: later\n"),
        (paths_are_nobodys_own, "LOG = '/home/me/x.log'\n"),
    ],
)  # fmt: skip
def test_rule_sees_a_bad_example(rule: Rule, bad: str) -> None:
    """A rule that finds nothing anywhere would pass for ever."""
    assert list(rule(Source("src/headrace/_core/bad.py", bad)))


@pytest.mark.parametrize(
    ("rule", "good"),
    [
        (modules_hold_no_state, "TABLE = {1: 2}\nNAMES = frozenset({1})\nlog = logging.getLogger(__name__)\n"),
        (modules_hold_no_state, "def f():\n    seen = []\n    seen.append(1)\n"),
        (core_imports_only_pure_modules, "from collections import deque\nfrom headrace.records import Record\n"),
        (reminders_have_an_owner, "# TODO(#12): later\n"),
        (paths_are_nobodys_own, "open('docs/mnt/x')  # or /tmp/x\n"),
    ],
)  # fmt: skip
def test_rule_lets_a_good_example_pass(rule: Rule, good: str) -> None:
    """A rule that cries at all would be switched off."""
    assert list(rule(Source("src/headrace/_core/good.py", good))) == []


def test_a_drawer_is_seen_by_its_name() -> None:
    """Also behind an underscore, and as a folder."""
    assert list(names_are_no_drawers(Source("src/headrace/_utils.py", "")))
    assert list(names_are_no_drawers(Source("src/headrace/helpers/retry.py", "")))


# ---- Reading the source


def broken(rule: Rule, sources: Iterator[Source]) -> list[str]:
    """All complaints of a rule, in the form editors can jump to."""
    return [f"{source.path}:{line}: {complaint}" for source in sources for line, complaint in rule(source)]


def python_files(*folders: str) -> Iterator[Source]:
    """Every Python file, committed or about to be."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))


def committed_texts() -> Iterator[Source]:
    """Every text file that git knows; nothing where there is no git, as in an unpacked release."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True)
    for name in listing.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file() and name not in SPELLS_WHAT_IS_REFUSED:
            try:
                yield Source(name, path.read_text(encoding="utf-8"))
            except UnicodeDecodeError:
                continue


def imported_modules(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Absolute names of what an import statement brings in; `from package import x` may name a module x."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif node.level:
        yield "headrace._core"  # relative imports are refused by ruff where they leave the package
    elif node.module == "headrace":
        yield from (f"headrace.{alias.name}" for alias in node.names)
    else:
        yield node.module or ""


def bindings(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """Names that a statement of a module binds, with their values."""
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id, statement.value
    elif isinstance(statement, ast.AnnAssign) and statement.value and isinstance(statement.target, ast.Name):
        yield statement.target.id, statement.value


def mutable_kind(value: ast.expr) -> str | None:
    """What kind of changeable thing an expression makes, if it does so in plain sight."""
    match value:
        case ast.List() | ast.ListComp():
            return "list"
        case ast.Dict() | ast.DictComp():
            return "dict"
        case ast.Set() | ast.SetComp():
            return "set"
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in MUTABLE_CALLS:
            return name
        case _:
            return None


def changed_name(node: ast.AST) -> str | None:
    """The name whose value this node changes in place: x[...] = ..., del x[...], x.append(...)."""
    match node:
        case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
            return name
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if method in MUTATING_METHODS:
            return name
        case _:
            return None
