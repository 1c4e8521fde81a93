"""What fails is made smaller, and still fails for the same reason."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.testing.invariants import Violation
from headrace.testing.simulation import shrink as module
from headrace.testing.simulation.faults import Faults
from headrace.testing.simulation.history import History
from headrace.testing.simulation.scenario import Scenario, scenario_of
from headrace.testing.simulation.shrink import shrink
from headrace.testing.simulation.world import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


def large() -> Scenario:
    """A drawn world with much in it."""
    drawn = next(each for each in map(scenario_of, range(900)) if len(each.deeds) >= 5 and each.members >= 2)
    faults = Faults(commit_slow=0.3, slow_s=2.0, request_lost=0.1, compactions=2)
    return replace(drawn, records=60, partitions=4, faults=faults)


def breaking(monkeypatch: pytest.MonkeyPatch, promise_of: Callable[[Scenario], str]) -> Outcome:
    """The outcome of the large world, where `promise_of` says what each world breaks."""

    def play(scenario: Scenario) -> Outcome:
        promise = promise_of(scenario)
        found = (Violation(promise, 1.0, ""),) if promise else ()  # type: ignore[arg-type] # by name
        return Outcome(scenario, found, 1, 1.0, History())

    monkeypatch.setattr(module, "play", play)
    return play(large())


def test_only_what_the_failure_needs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    what = large().deeds[2].what

    def promise_of(scenario: Scenario) -> str:
        needed = any(deed.what == what for deed in scenario.deeds) and scenario.faults.commit_slow
        return "S1" if scenario.records >= 7 and needed else "L1"

    smallest = shrink(breaking(monkeypatch, promise_of), lambda _: None, plays_max=100_000).scenario
    assert promise_of(smallest) == "S1"
    assert (smallest.records, smallest.members, smallest.partitions) == (7, 1, 1)
    assert len(smallest.deeds) == 1
    assert smallest.faults.active() == ("commit_slow",)
    assert smallest.preemption == smallest.hot == smallest.transactions == 0


def test_each_smaller_world_has_several_chances(monkeypatch: pytest.MonkeyPatch) -> None:
    def promise_of(scenario: Scenario) -> str:
        return "S1" if scenario == large() or scenario.chance == 4 else ""

    smallest = shrink(breaking(monkeypatch, promise_of), lambda _: None, plays_max=100_000).scenario
    assert smallest.records == 0


def test_it_ends_after_so_many_plays_with_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    outcome = breaking(monkeypatch, lambda _: "S1")
    assert shrink(outcome, steps.append, plays_max=3).violations
    assert len(steps) == 3
