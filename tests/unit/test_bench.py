"""What the benchmark concludes from its numbers, and that its page shows the stored ones; nothing is measured here."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from benchmarks.peers import charts, growth, handover, judging, quick, reporting
from benchmarks.peers.cells import CELLS, Cell, Shape, cell_named
from benchmarks.peers.contenders import CONTENDERS, Task, command, contender_named
from benchmarks.peers.environments import ROOT, Environments, reason
from benchmarks.peers.judging import PAIRS
from benchmarks.peers.profiling import self_times
from benchmarks.peers.quick import CELLS as QUICK_CELLS
from benchmarks.peers.quick import STORED

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.peers.contenders import Contender
    from benchmarks.peers.measuring import Bench


def rounds(first: int, *rates: float) -> list[dict[str, Any]]:
    return [{"per_s": rate, "round": str(first + index)} for index, rate in enumerate(rates)]


@pytest.mark.parametrize(
    ("pairs", "worse"),
    [
        ([2.6, 2.6, 2.6], True),
        ([2.6, 2.6, 2.4], False),
        ([2.5, 2.5, 2.5], False),
        ([9.0, 9.0], False),
        ([], False),
    ],
)
def test_the_gate_fails_only_if_each_of_three_pairs_is_a_quarter_worse(
    pairs: list[float], worse: bool
) -> None:
    """Stored is 2.0."""
    assert judging.is_worse(2.0, pairs) is worse


class Scripted:
    """Answers that are given beforehand: CPU per record by contender."""

    def __init__(self, **costs: float | None) -> None:
        self.costs, self.runs = costs, 0

    def run(self, contender: Contender, _cell: Cell) -> dict[str, Any]:
        self.runs += 1
        cost = self.costs[contender.name]
        return {"error": "exit code 1: it fell"} if cost is None else {"cpu_us": cost}


@pytest.mark.parametrize(
    ("ours", "code", "runs"), [(1.0, 0, 2 * len(QUICK_CELLS)), (100.0, 1, 2 * PAIRS * len(QUICK_CELLS))]
)
def test_the_gate_judges_what_is_too_slow_for_its_time(
    monkeypatch: pytest.MonkeyPatch, ours: float, code: int, runs: int
) -> None:
    """When time is up at once, each cell has a pair; one that may fail has all three."""
    monkeypatch.setattr(quick, "LIMIT_S", 0.0)
    bench = Scripted(headrace=ours, raw=1.0)
    assert quick.quick(cast("Bench", bench), write=False) == code
    assert bench.runs == runs


@pytest.mark.parametrize("fallen", ["headrace", "raw"])
def test_the_gate_fails_where_a_run_does(fallen: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is no pair less: nothing would be judged."""
    bench = Scripted(**{"headrace": 1.0, "raw": 1.0, fallen: None})
    assert quick.quick(cast("Bench", bench), write=False) == 1
    assert f"def-0 {fallen}: exit code 1: it fell" in capsys.readouterr().err


def test_the_gate_has_a_ratio_for_each_of_its_cells() -> None:
    """One without would judge nothing."""
    assert set(json.loads(STORED.read_text())) == set(QUICK_CELLS)


@pytest.mark.parametrize(("power", "expected"), [(0, 0.0), (1, 1.0), (0.5, 0.5)])
def test_the_exponent_is_that_of_the_law(power: float, expected: float) -> None:
    """Costs made by a law give its power back."""
    sizes = [10, 100, 5000]
    assert judging.exponent(sizes, [3 * size**power for size in sizes]) == pytest.approx(expected)


def test_ratios_are_of_runs_of_one_round() -> None:
    """A machine that slows down from round to round changes none of them."""
    runs = {
        ("def-0", "headrace"): rounds(1, 40.0, 20.0, 4.0),
        ("def-0", "raw"): rounds(1, 100.0, 50.0, 10.0),
    }
    assert judging.Results(runs).ratio("def-0", "headrace", "raw", "per_s") == pytest.approx(0.4)


def test_runs_of_different_rounds_are_not_compared() -> None:
    """One contender was measured again, on another day: only what lies beside it counts, or nothing."""
    runs = {("def-0", "headrace"): rounds(2, 20.0, 90.0), ("def-0", "raw"): rounds(1, 100.0, 50.0)}
    assert judging.Results(runs).ratio("def-0", "headrace", "raw", "per_s") == pytest.approx(0.4)
    runs = {("def-0", "headrace"): rounds(3, 90.0), ("def-0", "raw"): rounds(1, 100.0, 50.0)}
    assert judging.Results(runs).ratio("def-0", "headrace", "raw", "per_s") is None


def test_a_bar_without_numbers_is_not_met() -> None:
    """It is not measured."""
    assert {bar.met for bar in judging.bars(judging.Results({}))} == {None}


def test_a_bar_is_met_or_missed_by_its_number() -> None:
    """Both ways."""
    runs = {("await-10", "headrace"): [{"per_s": 50_000.0}], ("idle", "headrace"): [{"idle_share": 0.02}]}
    met = {bar.asks: bar.met for bar in judging.bars(judging.Results(runs))}
    assert met["10 ms awaited, concurrency 1,000: records/s: at least 45,000"] is True
    assert met["idle: share of one core: at most 0.01"] is False


def test_growth_is_judged_by_its_exponent_and_memory() -> None:
    """A payload of 116 bytes is not the runtime's."""
    entry = {"name": "in-flight", "exponent": 0.3, "bytes_per_record": 1000.0}
    met = {bar.asks: bar.met for bar in judging.bars(judging.Results({}), [entry])}
    assert met["a record in flight: bytes beyond its payload: at most 1,024"] is True
    assert met["CPU per record as in-flight grows: exponent: at most 0.1"] is False


def test_sizes_that_were_never_reached_are_no_points() -> None:
    """A rate below the one asked for means fewer in flight than the size says."""
    fast, slow = (
        {"per_s": 15_000.0, "cpu_us": 20.0, "peak_mb": 50.0},
        {"per_s": 900.0, "cpu_us": 90.0, "peak_mb": 50.0},
    )
    more = {"per_s": 14_000.0, "cpu_us": 20.0, "peak_mb": 51.0}
    entry = growth.entry_of(growth.SWEEPS[0], {100: [fast], 1_000: [more], 10_000: [slow], 100_000: []})
    assert [size for size, _ in entry["points"]] == [100, 1_000]
    assert entry["not_reached"] == [10_000, 100_000]
    assert entry["exponent"] == pytest.approx(0.0)
    assert entry["bytes_per_record"] == pytest.approx(2**20 / 900)


def test_bare_loops_are_no_peers() -> None:
    """They keep no promise that could be compared. A peer that could not run is known; one that did not is awaited."""
    runs = {("block-10", name): rounds(1, 50.0) for name in cell_named("block-10").contenders}
    runs |= {("block-10", "raw"): rounds(1, 900.0), ("block-10", "arroyo"): rounds(1, 90.0)}
    runs["block-10", "pc-key-tuned"] = []
    assert judging.Results(runs).best_peer("block-10") == ("arroyo", 90.0)
    del runs["block-10", "pc-key-tuned"]
    assert judging.Results(runs).best_peer("block-10") is None


def test_cells_name_contenders_that_there_are() -> None:
    """And every contender takes part somewhere."""
    named = {name for cell in CELLS for name in cell.contenders}
    assert named == {contender.name for contender in CONTENDERS}
    assert len({cell.name for cell in CELLS}) == len(CELLS)


def test_every_environment_has_its_lock() -> None:
    """With hashes, and without an address."""
    names = {contender.environment for contender in CONTENDERS} - {"own", "c"}
    for name in {*(name for name in names if ":" not in name), "profile"}:
        text = (ROOT / "requirements" / f"bench-{name}.lock").read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text


def test_a_program_is_told_its_whole_job() -> None:
    """The last argument is what members/meter.py reads."""
    task = Task("here:1", "t", "g", 1000, replace(CELLS[0], work_ms=2.0))
    job = json.loads(command(contender_named("headrace"), task, Environments())[-1])
    assert (job["servers"], job["records"], job["warm"], job["work_ms"]) == ("here:1", 1000, 100, 2.0)


def test_a_missing_artifact_is_told_in_a_line_without_addresses() -> None:
    """As Maven says it, colours and all."""
    told = "\x1b[0m\n[ERROR] Failed: Could not find artifact a.b:core:jar:1.2 in central (https://example.org/x) -> [Help 1]\n"
    assert reason(told) == "Maven does not find a.b:core:jar:1.2"
    assert "://" not in reason("it said https://example.org/x is away")


def test_moved_partitions_are_told_from_what_members_wrote() -> None:
    """Partition 0 moves after 2 s, 1 after 3 s; offset 5 of partition 0 is begun with twice."""
    lines = [
        handover.Line(9.0, 0, 5, 0),
        handover.Line(9.5, 1, 7, 0),
        handover.Line(9.9, 2, 1, 1),
        handover.Line(10.5, 2, 2, 1),
        handover.Line(12.0, 0, 5, 1),
        handover.Line(13.0, 1, 8, 1),
    ]
    assert handover.told(lines, 10.0, "kill") == {"first_s": 2.0, "all_s": 3.0, "pause_s": 3.0, "repeated": 1}


def test_partitions_that_nobody_takes_are_an_error() -> None:
    """Not a fast handover."""
    lines = [handover.Line(9.0, 0, 5, 0), handover.Line(9.0, 1, 5, 1), handover.Line(11.0, 1, 6, 1)]
    assert "error" in handover.told(lines, 10.0, "kill")


def test_samples_count_for_the_innermost_function() -> None:
    """Whatever line it was on; other threads than Headrace's do not count."""
    stacks = (
        "thread (7): headrace-owner;main (a.py:1);step (src/b.py:7) 3\n"
        "thread (7): headrace-owner;main (a.py:1);step (src/b.py:9) 2\n"
        "thread (1): MainThread;y (c.py:1) 8\n"
    )
    assert self_times(stacks) == {"step (b.py)": 5}


def test_pictures_are_well_formed() -> None:
    """Names are escaped."""
    drawn = charts.bars("a < b", [("x & y", 12.0, "ours"), ("z", 90_000.0, "peer")], "records per second")
    assert "x &amp; y" in drawn
    ET.fromstring(drawn)  # noqa: S314 - made here
    ET.fromstring(charts.lines("t", [("n", [(1, 2.0), (10, 2.5)])], "us"))  # noqa: S314 - made here


def test_a_page_without_markers_is_refused() -> None:
    """Results would be lost without a word."""
    with pytest.raises(ValueError, match="no markers"):
        reporting.between("no markers here", "cells", "x")
    page = "a\n<!-- cells: begin -->\nold\n<!-- cells: end -->\nb"
    assert reporting.between(page, "cells", "new").split("\n")[2] == "new"


def test_what_was_not_measured_again_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found in use: one sweep that was measured again took the others' place."""
    monkeypatch.setattr(reporting, "RESULTS", tmp_path / "results.json")
    reporting.store("growth", {}, [{"name": "keys", "exponent": 1}, {"name": "partitions", "exponent": 2}])
    reporting.store("growth", {}, [{"name": "keys", "exponent": 3}])
    reporting.store("handover", {}, [{"contender": "raw", "event": event} for event in ("stop", "kill")])
    reporting.store("handover", {}, [{"contender": "raw", "event": "kill", "runs": 3}])
    known = reporting.load()
    assert [(each["name"], each["exponent"]) for each in known["growth"]] == [("keys", 3), ("partitions", 2)]
    assert known["handover"] == [
        {"contender": "raw", "event": "stop"},
        {"contender": "raw", "event": "kill", "runs": 3},
    ]


def test_the_page_shows_the_stored_results() -> None:
    """Tables are made from the file, never by hand."""
    page = reporting.PAGE.read_text()
    assert reporting.shown_on(page, reporting.load()) == page, "run scripts/bench --publish"


def test_shapes_of_different_records_have_different_topics() -> None:
    """A topic is filled once for each."""
    shapes = [cell.shape for cell in CELLS] + [Shape(records=1), Shape(keys=2), Shape(codec="gzip")]
    assert len({shape.name for shape in shapes}) == len(set(shapes))
    assert Cell("x", "y").shape == Shape()
