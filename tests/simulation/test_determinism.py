"""One seed plays one world, byte for byte, whatever order sets and dictionaries of strings have in a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from headrace.testing.simulation.scenario import scenario_of

PLAY = """
import sys
from headrace.testing.simulation.scenario import scenario_of
from headrace.testing.simulation.world import play
for seed in sys.argv[1:]:
    played = play(scenario_of(int(seed)))
    print(seed, played.steps, played.seconds, *played.history.lines(), sep="\\n")
"""
SEEDS = range(40)


def log_of(hash_seed: str, seeds: list[int]) -> bytes:
    """The logs of these seeds, played in a process of their own."""
    return subprocess.run(
        [sys.executable, "-c", PLAY, *map(str, seeds)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["eager", "cooperative", "kip848"])
def test_a_seed_plays_the_same_world_in_every_process(protocol: str) -> None:
    seeds = [seed for seed in SEEDS if scenario_of(seed).protocol == protocol][:6]
    assert len(seeds) == 6
    first, second = log_of("1", seeds), log_of("4242", seeds)
    assert first == second
    assert first.count(b"\n") > 600, "hardly anything was played"


@pytest.mark.slow
def test_another_seed_plays_another_world() -> None:
    assert log_of("1", [1]) != log_of("1", [2])
