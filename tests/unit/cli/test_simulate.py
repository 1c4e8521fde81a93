"""`headrace simulate`: what it plays, what it says of what it found, and how it ends."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from headrace.cli import execute
from headrace.cli.exits import Exit
from headrace.testing.invariants import Violation
from headrace.testing.simulation import shrink, world
from headrace.testing.simulation.notation import read, written
from headrace.testing.simulation.scenario import scenario_of
from headrace.testing.simulation.world import Outcome, play

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.testing.simulation.scenario import Scenario

SMALL = '{"records": 4, "members": 1, "deeds": [], "faults": {}}'


def lossy(scenario: Scenario) -> Outcome:
    """Plays it, and finds fault with worlds of three records or more."""
    found = (Violation("S1", 1.5, "a record is gone"),) if scenario.records > 2 else ()
    return replace(play(scenario), violations=found)


def test_a_seed_is_played(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["simulate", "--seed", "3"]) is Exit.OK
    assert "seed 3: every promise was kept" in capsys.readouterr().out


def test_the_log_has_a_line_for_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["simulate", "--seed", "3", "--log"]) is Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == play(scenario_of(3)).history.lines()
    assert any("HandlerStarted" in line for line in lines)


def test_a_scenario_changes_what_the_seed_draws(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "world.json").write_text(SMALL)
    assert execute(["simulate", "--seed", "3", "--scenario", SMALL, "--log"]) is Exit.OK
    first = capsys.readouterr().out
    assert first.count("Produced") <= 5 + first.count("DeadLetterSent")
    assert (
        execute(["simulate", "--seed", "3", "--scenario", f"@{tmp_path / 'world.json'}", "--log"]) is Exit.OK
    )
    assert capsys.readouterr().out == first


@pytest.mark.slow
def test_a_range_is_played_on_several_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["simulate", "--seeds", "0..29", "--jobs", "2"]) is Exit.OK
    told = capsys.readouterr().out
    assert told.startswith("30 seeds in ")
    assert "none broke a promise" in told


@pytest.mark.slow
def test_a_broken_promise_is_told_with_what_plays_it_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "play", lossy)
    monkeypatch.setattr(shrink, "play", lossy)
    assert execute(["simulate", "--seed", "3"]) is Exit.FAILED
    told = capsys.readouterr().out.splitlines()
    assert "a record is gone" in told[0]
    assert told[-1] == "replay: headrace simulate --seed 3 --log"
    assert execute(["simulate", "--seed", "3", "--shrink"]) is Exit.FAILED
    words = shlex.split(capsys.readouterr().out.splitlines()[-1].removeprefix("replay: "))
    changes = words[words.index("--scenario") + 1]
    assert json.loads(changes)["records"] == 3
    assert read(changes, 3).records == 3


def test_ranges_tell_every_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from headrace.testing.simulation import runs

    monkeypatch.setattr(runs, "play", lossy)
    assert execute(["simulate", "--seeds", "3..4", "--jobs", "1"]) is Exit.FAILED
    told = capsys.readouterr().out
    assert "headrace simulate --seed 4 --log" in told
    assert "S1 broken 2 times" in told


def test_what_nobody_foresaw_is_a_failure_of_its_seed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from headrace.testing.simulation import runs

    def crashing(scenario: Scenario) -> Outcome:
        raise KeyError("nobody foresaw this")

    monkeypatch.setattr(runs, "play", crashing)
    assert execute(["simulate", "--seeds", "3..3", "--jobs", "1"]) is Exit.FAILED
    assert "nobody foresaw this" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "1", "--seeds", "1..2"], "either --seed or --seeds"),
        (["--seeds", "5"], "a range such as"),
        (["--seeds", "5..1"], "a range such as"),
        (["--seeds", "1..2", "--log"], "for one seed"),
        (["--seed", "1", "--scenario", "{"], "JSON"),
        (["--seed", "1", "--scenario", '{"recods": 1}'], "records"),
        (["--seed", "1", "--scenario", '{"records": "many"}'], "such as"),
        (["--seed", "1", "--scenario", "@no-such-file.json"], "no-such-file.json"),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["simulate", *words]) is Exit.USAGE
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_without_greenlet_the_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in sys.modules if each.startswith("headrace.testing.simulation")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "greenlet", None)
    assert execute(["simulate", "--seed", "1"]) is Exit.USAGE
    assert "headrace[simulation]" in capsys.readouterr().err


def test_the_command_of_a_changed_world_names_what_differs() -> None:
    changed = replace(scenario_of(7), records=1)
    assert written(scenario_of(7)) == "{}"
    assert json.loads(written(changed)) == {"records": 1}
