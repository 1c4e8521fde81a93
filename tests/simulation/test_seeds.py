"""Drawn worlds, and those that once failed: every promise is kept in each."""

from __future__ import annotations

import pytest

from headrace.testing.simulation.notation import read
from headrace.testing.simulation.scenario import Scenario, scenario_of
from headrace.testing.simulation.world import play
from tests.simulation.regressions import REGRESSIONS

SEEDS = 300
AT_A_TIME = 50


def broken_in(scenario: Scenario) -> list[str]:
    """What was broken, as lines."""
    return [f"seed {scenario.seed}: {found}" for found in play(scenario).violations]


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, AT_A_TIME))
def test_drawn_worlds_keep_every_promise(first: int) -> None:
    broken = [line for seed in range(first, first + AT_A_TIME) for line in broken_in(scenario_of(seed))]
    assert not broken, "\n".join(broken)


def test_the_ordinary_seeds_play_every_protocol_and_way_of_running() -> None:
    drawn = [scenario_of(seed) for seed in range(SEEDS)]
    assert {each.protocol for each in drawn} == {"eager", "cooperative", "kip848"}
    assert {settings.run_in for each in drawn for settings in each.subscriptions} == {
        "threads",
        "asyncio",
        "processes",
    }
    assert {deed.what for each in drawn for deed in each.deeds} >= {
        "kill",
        "freeze",
        "bounce",
        "stop",
        "seek",
    }


@pytest.mark.slow
@pytest.mark.parametrize(("world", "sentence"), REGRESSIONS)
def test_what_once_failed_holds(world: int | str, sentence: str) -> None:
    scenario = scenario_of(world) if isinstance(world, int) else read(world)
    assert not broken_in(scenario), sentence
