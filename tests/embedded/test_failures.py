"""`headrace failures` on its embedded broker: each naive form is seen to fail, Headrace holds, and neither is taken for granted.

The mutants put the failure of an act, or its nearest kin, into Headrace: the verdict must turn. The cures take it out of
the naive form: an act that shows nothing must say so. Both play one half; the other's outcome is given.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from headrace import App, EngineSnapshot
from headrace._client.partition_consumer import PartitionConsumer
from headrace._core import engine as core_engine
from headrace._core import snapshot as core_snapshot
from headrace._core.commits import Commits
from headrace._runtime import snapshots
from headrace.assign import placement, problem, sticky
from headrace.assign.membership import Membership
from headrace.cli import execute
from headrace.cli.exits import Exit
from headrace.cli.failures import ActName
from headrace.cli.gallery import faststream, karafka, sarama, spark, stage, storm
from headrace.cli.gallery.acts import ACTS
from headrace.cli.gallery.turns import in_turns
from headrace.cli.gallery.verdict import Cell
from headrace.pool.book import Book, Found, State
from headrace.pool.events import EndReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from headrace._core.board import Board
    from headrace.assign import Claim
    from headrace.assign.problem import Problem

    Patch = Callable[[pytest.MonkeyPatch], None]

T = TypeVar("T")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
ACT_S = 40.0
"""The five take 45 s in all on two cores; together they have 90."""

NAIVE_FAILED = {
    "storm": [r"longest read +✗ [1-9]\.\d s", r"reads that raised +✗ \d+ of \d+, guarded"],
    "karafka": [r"reading raised +✗ RuntimeError: dictionary changed size"],
    "spark": [
        r"wrong ranges, one consumer +✗ [1-9]\d* of \d+ +✓ 0 of 72",
        r"of these, of full length +✗ [1-9]\d* +✓ 0",
        r"tasks were told +nothing +✓ nothing",
        r"wrong, key with thread id +0 of 72",
        r"consumers of the partition +✗ 24 after 24 threads +✓ [1-4] after 24 threads",
    ],
    "sarama": [
        r"plans that differ, in turns +✗ [1-9]\d* of 32 +✓ 0 of 32",
        r"partitions with no owner +✗ [1-9]\d* +✓ 0",
        r"partitions of the other group +✗ [1-9]\d* +✓ 0",
        r"wrong with 64 threads +[\d,]+ of [\d,]+ +✓ 0 of [1-9]",
        r"given orders-0 to 2, claims +✗ mail-7 \(aiokafka 0\.14\.\d+\) +✓ orders-0, orders-1, orders-2",
    ],
    "faststream": [
        r"records, manual commit +✗ 1?\d\d of 200 tried",
        r"the consuming task +✗ ended by REBALANCE_IN_PROGRESS",
        r"its heartbeats since +✗ [1-9]\d*: still a member",
        r"told of it +✗ nothing +✓ commit_overdue, commit_recovered",
        r"lost, automatic commit +✗ 5 of 5",
    ],
}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no cell is broken in two."""
    monkeypatch.setenv("COLUMNS", "200")


def test_the_command_knows_every_act() -> None:
    assert [name.value for name in ActName] == list(ACTS) == list(NAIVE_FAILED)


@pytest.mark.parametrize("act", list(ACTS))
def test_the_naive_form_fails_and_headrace_holds(act: str, capsys: pytest.CaptureFixture[str]) -> None:
    began_at = time.monotonic()
    code = execute(["failures", act])
    out, err = capsys.readouterr()
    assert code is Exit.OK, out
    assert err == ""
    for seen in NAIVE_FAILED[act]:
        assert re.search(seen, out), f"{seen} in:\n{out}"
    assert "The naive form failed, Headrace held." in out
    assert time.monotonic() - began_at < ACT_S


def test_an_act_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["failures", "sarama-tomorrow"]) is Exit.USAGE
    assert "storm" in capsys.readouterr().err


# ---- Mutants: Headrace, broken on purpose


def snapshots_that_ask_the_consumer(patch: pytest.MonkeyPatch) -> None:
    """Storm's own mistake: whoever reads calls the consumer of the owner."""
    honest = App.snapshot

    def snapshot(self: App) -> Any:
        owner: Any = self._assembly._owner
        if owner is not None and owner._connection.client is not None:
            owner._connection.client.committed([], 0.1)
        return honest(self)

    patch.setattr(App, "snapshot", snapshot)


def snapshots_that_are_not_renewed(patch: pytest.MonkeyPatch) -> None:
    """Quick to read, and old."""
    patch.setattr(snapshots, "PUBLISH_S", 3600.0)


class LivePartitions:
    """A view into the owner's tenures in place of a copy."""

    def __init__(self, board: Board, now: float) -> None:
        self._board, self._now = board, now

    def __iter__(self) -> Iterator[Any]:
        return (core_snapshot._partition(tenure, self._now) for tenure in self._board.tenures.values())


def snapshots_that_look_into_the_owner(patch: pytest.MonkeyPatch) -> None:
    """Karafka's own mistake: what is read is what the owner changes."""

    def take(board: Board, busy_workers: Sequence[int], now: float, _last: object) -> EngineSnapshot:
        partitions: Any = LivePartitions(board, now)
        return replace(core_snapshot.take_snapshot(board, busy_workers, now), partitions=partitions)

    patch.setattr(core_engine, "take_snapshot", take)


def leases_of_what_is_in_use(patch: pytest.MonkeyPatch) -> None:
    """Spark's own mistake: a cached consumer is given to whoever asks."""
    honest = Book._found

    def found(self: Book, *arguments: Any) -> Found:
        for entries in self._cached.values():
            for entry in entries:
                entry.state = State.IDLE
        return honest(self, *arguments)

    patch.setattr(Book, "_found", found)


def leases_that_stand_elsewhere(patch: pytest.MonkeyPatch) -> None:
    """What another one read last is where the next one begins."""
    honest = PartitionConsumer.place

    def place(self: PartitionConsumer, offset: int) -> bool:
        return honest(self, offset if self.position is None else self.position)

    patch.setattr(PartitionConsumer, "place", place)


def leases_that_are_never_kept(patch: pytest.MonkeyPatch) -> None:
    """Right, and a consumer for every range."""
    honest = Book.end

    def end(self: Book, entry: Any, position: Any, now: float, _failed: object) -> Any:
        return honest(self, entry, position, now, EndReason.FAILED_CLOSED)

    patch.setattr(Book, "end", end)


def plans_that_meet_in_one_place(patch: pytest.MonkeyPatch) -> None:
    """Sarama's own mistake: what is being planned stands where all groups' plans do."""
    at_work: list[Problem] = []
    honest, placed = problem.compiled, placement.placed

    def compiled(*arguments: Any) -> Problem:
        at_work[:] = [honest(*arguments)]
        return at_work[0]

    def placed_in_what_is_at_work(_problem: Problem, *counts: Any) -> list[int]:
        return placed(at_work[0], *counts)

    patch.setattr(sticky, "compiled", compiled)
    patch.setattr(sticky, "placed", placed_in_what_is_at_work)


def memberships_that_share_a_claim(patch: pytest.MonkeyPatch) -> None:
    """aiokafka's mistake: what a member was given is kept for all members of the process."""
    told, says = Membership.told, Membership.says
    given: list[Claim | None] = []

    def remember(self: Membership, *arguments: Any) -> None:
        told(self, *arguments)
        given[:] = [self._claim]

    def recall(self: Membership, topics: Any) -> Any:
        self._claim = given[0]
        return says(self, topics)

    patch.setattr(Membership, "told", remember)
    patch.setattr(Membership, "says", recall)


def refusals_taken_for_success(patch: pytest.MonkeyPatch) -> None:
    """A refused commit marks its offsets as written."""
    honest = Commits.answered

    def answered(self: Commits, results: Any, tenures: Any, now: float) -> Any:
        return honest(self, [replace(result, error=None) for result in results], tenures, now)

    patch.setattr(Commits, "answered", answered)


def refusals_that_raise(patch: pytest.MonkeyPatch) -> None:
    """FastStream's own mistake: a refused commit is an exception where nothing catches it."""
    honest = Commits.answered

    def answered(self: Commits, results: Any, tenures: Any, now: float) -> Any:
        if any(result.error is not None for result in results):
            raise RuntimeError("commit refused")
        return honest(self, results, tenures, now)

    patch.setattr(Commits, "answered", answered)


def always(outcome: T) -> Callable[..., T]:
    """A half of an act whose outcome is given."""

    def play(*_arguments: object, **_settings: object) -> T:
        return outcome

    return play


def mixed_up() -> sarama.Outcome:
    """What comes of a shared planner."""
    turns = sarama.Judged(plans=32, right=16, raised=7, orphans=12, foreign=34)
    return sarama.Outcome(turns, sarama.Judged(plans=9, right=9), Cell("mail-7", as_told=True))


def tasks(wrong: int = 0) -> spark.Seen:
    """What tasks of one form got."""
    return spark.Seen(ranges=72, wrong=wrong, whole=wrong, threads=24)


def naive_given(patch: pytest.MonkeyPatch) -> None:
    """All naive halves, as if they had failed."""
    torn = "RuntimeError: dictionary changed size"
    manual = faststream.Naive(
        handled=52, tried=53, ended_by="ended by REBALANCE", told=0, heartbeats=6, committed=52
    )
    automatic = replace(manual, handled=195, tried=200, ended_by="", committed=200)

    def look_alike(_stage: stage.Stage, *, auto_commit: bool) -> faststream.Naive:
        return automatic if auto_commit else manual

    patch.setattr(storm, "_naive", always(storm.Naive(reports=3, due=17, longest_s=2.0, refused=8)))
    patch.setattr(
        karafka, "_naive", always(karafka.Naive(reports=1, rebalances=1, error=torn, elapsed_s=1.0))
    )
    patch.setattr(faststream, "_naive", look_alike)

    def cached(_broker: object, _stage: stage.Stage, *, by_thread: bool) -> spark.Outcome:
        if by_thread:
            return spark.Outcome(tasks(), 24, spark.Held(96, 192))
        return spark.Outcome(tasks(72), 1, spark.Held(4, 8))

    patch.setattr(spark, "_naive", cached)
    patch.setattr(sarama, "_naive", always(mixed_up()))


@pytest.mark.parametrize(
    ("act", "mutant", "turned"),
    [
        ("storm", snapshots_that_ask_the_consumer, r"✗ ConcurrentAccess|ended by +- +✗"),
        # The other mutant of an act, and the cures below, take half a minute and are played in the full tier.
        pytest.param(
            "storm", snapshots_that_are_not_renewed, r"oldest snapshot read .*✗", marks=pytest.mark.full
        ),
        (
            "karafka",
            snapshots_that_look_into_the_owner,
            r"(reading raised|do not add up|changed while held) .*✗ \d*[1-9R]",
        ),
        ("spark", leases_of_what_is_in_use, r"a second thread inside .*✗ [1-9]\d* times"),
        ("spark", leases_that_stand_elsewhere, r"wrong ranges, one consumer .*✗ [1-9]\d* of 72"),
        pytest.param(
            "spark",
            leases_that_are_never_kept,
            r"consumers of the partition .*✗ 72 after",
            marks=pytest.mark.full,
        ),
        ("sarama", plans_that_meet_in_one_place, r"plans that differ, in turns .*✗ [1-9]\d* of 32"),
        ("sarama", memberships_that_share_a_claim, r"given orders-0 to 2, claims .*✗ mail-7 *\n"),
        ("faststream", refusals_taken_for_success, r"committed in the end .*✗ \d+ of 200"),
        pytest.param(
            "faststream",
            refusals_that_raise,
            r"ended by +- +✗ InternalFailure",
            marks=pytest.mark.full,
        ),
    ],
)
def test_a_broken_headrace_does_not_hold(
    act: str,
    mutant: Patch,
    turned: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    naive_given(monkeypatch)
    mutant(monkeypatch)
    code = execute(["failures", act, "--patience", "3"])
    out = capsys.readouterr().out
    assert code is Exit.FAILED, out
    assert "The naive form failed, HEADRACE DID NOT HOLD." in out or "ended by" in out
    assert re.search(turned, out), out


# ---- Cures: naive forms that do not fail


def short_polls(patch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a poll that is short."""
    patch.setattr(storm, "POLL_S", 0.05)


def a_copy_before_the_iteration(patch: pytest.MonkeyPatch) -> None:
    """`dict.copy` is one step of the interpreter."""

    def report(self: karafka.LiveAssignment) -> list[str]:
        return [str(place) for place in self.handled.copy()]

    patch.setattr(karafka.LiveAssignment, "report", report)


def no_refusals(patch: pytest.MonkeyPatch) -> None:
    """Nothing happens to the task."""
    patch.setattr(faststream, "REFUSALS", 0)


def a_map_for_each_plan(patch: pytest.MonkeyPatch) -> None:
    """Sarama's own cure: a planner for each group."""
    honest = sarama.SharedPlanner.plan

    def plan(_self: sarama.SharedPlanner, owned: Any) -> Any:
        return honest(sarama.SharedPlanner(), owned)

    patch.setattr(sarama.SharedPlanner, "plan", plan)


def a_lock_around_the_plan(patch: pytest.MonkeyPatch) -> None:
    """The cure of Sarama's pull request 2487, which was not taken. Who waits for the lock misses its turns."""
    honest, lock = sarama.SharedPlanner.plan, threading.Lock()

    def plan(self: sarama.SharedPlanner, owned: Any) -> Any:
        with lock:
            return honest(self, owned)

    patch.setattr(sarama.SharedPlanner, "plan", plan)


def a_lock_around_the_range(patch: pytest.MonkeyPatch) -> None:
    """Right, and one task at a time."""
    honest, lock = spark.CachedConsumers.read, threading.Lock()

    def read(self: spark.CachedConsumers, start: int, end: int) -> list[int]:
        with lock:
            return honest(self, start, end)

    patch.setattr(spark.CachedConsumers, "read", read)


def a_key_without_the_thread(patch: pytest.MonkeyPatch) -> None:
    """Few consumers again; then they are shared."""
    honest = spark.CachedConsumers.__init__

    def init(self: spark.CachedConsumers, settings: Any, **_ignored: object) -> None:
        honest(self, settings, by_thread=False)

    patch.setattr(spark.CachedConsumers, "__init__", init)


def ours_given(patch: pytest.MonkeyPatch) -> None:
    """All of Headrace's halves, as if they had held."""
    reader = stage.Readers(lambda: None)
    reader._readings[0].count, reader.elapsed_s = 1_000_000, 1.0
    auditor = karafka.Auditor()
    auditor.owned = {3, 6}
    told = (faststream.OVERDUE, faststream.RECOVERED)
    held = storm.Ours(reader, reader, 0.1, refused=0, handled=10, produced=10)
    patch.setattr(storm, "_headrace", always(held))
    patch.setattr(karafka, "_headrace", always(karafka.Ours(reader, auditor, rebalances=9)))
    patch.setattr(spark, "_headrace", always(spark.Outcome(tasks(), 4, spark.Held(17, 32))))
    right = sarama.Judged(plans=32, right=32)
    patch.setattr(sarama, "_headrace", always(sarama.Outcome(right, right, Cell("orders-0", as_told=True))))
    patch.setattr(
        faststream,
        "_headrace",
        always(faststream.Ours(200, refused=9, told=told, health=("degraded", "ok"), early=0, late=200)),
    )


@pytest.mark.full
@pytest.mark.parametrize(
    ("act", "cure"),
    [
        ("storm", short_polls),
        ("karafka", a_copy_before_the_iteration),
        ("spark", a_lock_around_the_range),
        ("spark", a_key_without_the_thread),
        ("sarama", a_map_for_each_plan),
        ("sarama", a_lock_around_the_plan),
        ("faststream", no_refusals),
    ],
)
def test_a_naive_form_that_does_not_fail_proves_nothing(
    act: str, cure: Patch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours_given(monkeypatch)
    cure(monkeypatch)
    code = execute(["failures", act, "--patience", "3"])
    out = capsys.readouterr().out
    assert code is Exit.FAILED, out
    assert "THE NAIVE FORM DID NOT FAIL, Headrace held." in out, out


# ---- The parts


def test_turns_are_taken_line_by_line() -> None:
    """And who waits for what another holds does not hold it up for ever."""
    said: list[str] = []

    def count(name: str) -> str:
        said.append(name)
        said.append(name)
        said.append(name)
        return name

    assert in_turns([partial(count, "a"), partial(count, "b")], (1, 1)) == ["a", "b"]
    assert said == ["a", "b"] * 3
    lock = threading.Lock()

    def hold(name: str) -> str:
        with lock:
            return count(name)

    assert in_turns([partial(hold, "a"), partial(hold, "b")], (1, 1)) == ["a", "b"]
    (raised,) = in_turns([partial(int, "no number")], (1,))
    assert isinstance(raised, ValueError)


# ---- The page


@pytest.mark.parametrize("act", list(ACTS))
def test_the_page_shows_code_of_the_act(act: str) -> None:
    """What docs/failures.md quotes is what is played; the mutants that it names are here."""
    page = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
    told = re.split(r"^## ", page, flags=re.MULTILINE)
    (section,) = [part for part in told if part.startswith(f"{act}\n")]
    quoted = re.findall(r"^```python no-run\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert quoted
    source = inspect.getsource(sys.modules[ACTS[act].play.__module__])
    assert all(textwrap.indent(code, "    ") in source for code in quoted)
    mutants = set(re.findall(r"`((?:snapshots|leases|plans|memberships|refusals)_\w+)`", section))
    assert mutants
    assert mutants <= set(globals())
