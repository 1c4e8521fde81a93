"""Applies a mutant to a copy of the source and plays the simulator on it until a promise is broken.

Decides when a mutant counts as caught: a promise broken at a seed, or its stress test failed. Refuses to judge. Invariant:
the checkout is never changed; a patch that does not apply is an error, not a mutant that survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.mutants.catalogue import ROOT, STRESS_TESTS

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.mutants.catalogue import Mutant

PLAYS_S: Final = 1800.0
TEST_S: Final = 120.0


class Unfit(Exception):
    """A patch that does not apply any more: it has to be written anew for the source as it is."""


@contextmanager
def mutated(mutant: Mutant | None) -> Generator[dict[str, str]]:
    """An environment whose `headrace` is a copy of this checkout's, with the mutant in it; None: as it is."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as temporary:
        place = Path(temporary)
        shutil.copytree(ROOT / "src", place / "src", ignore=shutil.ignore_patterns("__pycache__"))
        if mutant is not None:
            command = ["patch", "-p1", "--fuzz=3", "--no-backup-if-mismatch", "-i", str(mutant.patch)]
            done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise Unfit(f"{mutant.patch.name} does not apply:\n{done.stdout}{done.stderr}")
        yield {**os.environ, "PYTHONPATH": os.pathsep.join((str(place / "src"), str(ROOT)))}


def first_broken(environment: dict[str, str], seeds: range) -> tuple[int, str] | None:
    """Play seeds until one breaks a promise: which seed, which promise; None if none does."""
    command = [sys.executable, "-m", "tests.mutants.play", str(seeds.start), str(seeds.stop)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PLAYS_S, check=False
    )
    word, *rest = (done.stdout.strip().splitlines() or ["nothing"])[-1].split()
    if word == "broken":
        return int(rest[0]), rest[1]
    if word == "held" and done.returncode == 0:
        return None
    raise RuntimeError(f"the player died:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def first_caught(
    environment: dict[str, str], sound: dict[str, str], start: int, stop: int
) -> tuple[int, str] | None:
    """The first seed that breaks a promise with the mutant and holds without it."""
    while start < stop:
        found = first_broken(environment, range(start, stop))
        if found is None or first_broken(sound, range(found[0], found[0] + 1)) is None:
            return found
        sys.stderr.write(f"seed {found[0]} breaks a promise without any mutant\n")
        start = found[0] + 1
    return None


def fails_its_test(environment: dict[str, str], mutant: Mutant) -> bool:
    """Whether the stress test that is named for it fails."""
    return test_fails(environment, STRESS_TESTS[mutant.number])


def test_fails(environment: dict[str, str], test: str) -> bool:
    """Run one test; anything but passing and failing is an error."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TEST_S, check=False
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{test} could not be run:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return done.returncode == 1
