"""Every mutant is caught again: at the seed that once killed it, which the source as it is survives, or by its stress test."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from headrace.testing.simulation.scenario import scenario_of
from headrace.testing.simulation.world import play
from tests.mutants.catalogue import HERE, STRESS_TESTS, Mutant, killers, mutants
from tests.mutants.hunt import Unfit, fails_its_test, first_broken, mutated
from tests.mutants.table import table, written

if TYPE_CHECKING:
    from pathlib import Path

KILLERS = killers()
MUTANTS = mutants()
AGAIN = "scripts/mutants finds another seed; look first whether the judge or the scenarios have become blind"


def caught(mutant: Mutant) -> bool:
    with mutated(mutant) as environment:
        if mutant.number in STRESS_TESTS:
            return fails_its_test(environment, mutant)
        seed = KILLERS[mutant.number].seed
        return first_broken(environment, range(seed, seed + 1)) is not None


@pytest.fixture(scope="module")
def hunted() -> dict[int, bool]:
    """All of them at once: each is a process of its own."""
    known = [mutant for mutant in MUTANTS if mutant.number in KILLERS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return {mutant.number: found for mutant, found in zip(known, pool.map(caught, known), strict=True)}


def test_there_are_27_and_each_says_whose_bug_it_is() -> None:
    assert [mutant.number for mutant in MUTANTS] == list(range(1, 28))
    assert not [mutant.name for mutant in MUTANTS if len(mutant.what) < 40]
    assert sorted(KILLERS) == list(range(1, 28)), AGAIN


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(hunted: dict[int, bool], mutant: Mutant) -> None:
    assert hunted.get(mutant.number), AGAIN


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_without_its_mutant_the_seed_holds(mutant: Mutant) -> None:
    if mutant.number not in STRESS_TESTS:
        assert not play(scenario_of(KILLERS[mutant.number].seed)).violations


def test_a_patch_that_does_not_apply_is_an_error(tmp_path: Path) -> None:
    patch = tmp_path / "99-gone.patch"
    patch.write_text(
        (HERE / MUTANTS[0].patch.name).read_text("utf-8").replace("committable", "gone"), "utf-8"
    )
    with pytest.raises(Unfit, match="does not apply"), mutated(Mutant(99, "gone", patch, "")):
        pass


def test_the_page_shows_what_was_measured() -> None:
    assert written() == table(KILLERS), "scripts/mutants writes it"
