"""`scripts/mutants`: hunts mutants and measures how many seeds each survives.

Decides where seeds start and how many are tried; writes what it found to `killers.toml` and into docs/guarantees.md.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from tests.mutants.catalogue import STRESS_TESTS, Killer, killers, mutants, write_killers
from tests.mutants.hunt import Unfit, fails_its_test, first_caught, mutated
from tests.mutants.table import write_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.mutants.catalogue import Mutant

STARTS: Final = (0, 20_000, 40_000, 60_000, 80_000)
SEEDS_MAX: Final = 3_000


def hunt(mutant: Mutant, sound: dict[str, str], starts: Sequence[int], seeds_max: int) -> Killer | str:
    """Try to catch one; a sentence if it survives, or cannot be tried."""
    try:
        with mutated(mutant) as environment:
            if mutant.number in STRESS_TESTS:
                if not fails_its_test(environment, mutant):
                    return f"survives {STRESS_TESTS[mutant.number]}"
                return Killer(mutant.number, mutant.name, test=STRESS_TESTS[mutant.number])
            caught = [first_caught(environment, sound, start, start + seeds_max) for start in starts]
    except Unfit as unfit:
        return str(unfit)
    missed = [start for start, found in zip(starts, caught, strict=True) if found is None]
    if missed:
        return f"survives {seeds_max} seeds from {missed} on"
    needed = [found[0] - start + 1 for start, found in zip(starts, caught, strict=True) if found is not None]
    seed, promise = min((found for found in caught if found is not None), key=lambda found: found[0])
    return Killer(mutant.number, mutant.name, promise, seed, tuple(needed))


def main() -> int:
    """Hunt the mutants that were named, or all."""
    parser = argparse.ArgumentParser(prog="scripts/mutants", description="Hunt mutants with the simulator.")
    parser.add_argument("numbers", nargs="*", type=int, help="which (default: all)")
    parser.add_argument(
        "--starts", type=int, default=len(STARTS), help="how many ranges of seeds to measure in"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="most seeds of each range")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    asked = parser.parse_args()
    chosen = [each for each in mutants() if not asked.numbers or each.number in asked.numbers]
    found, survivors = killers(), 0

    def hunted(each: Mutant) -> Killer | str:
        return hunt(each, sound, STARTS[: asked.starts], asked.seeds)

    with mutated(None) as sound, ThreadPoolExecutor(asked.jobs) as pool:
        results = pool.map(hunted, chosen)
        for mutant, result in zip(chosen, results, strict=True):
            if isinstance(result, Killer):
                found[mutant.number] = result
                how = result.test or f"{result.promise}, seeds needed {list(result.needed)}"
                say(f"{mutant.number:2} {mutant.name}: caught by {how}")
            else:
                survivors += 1
                found.pop(mutant.number, None)
                say(f"{mutant.number:2} {mutant.name}: {result}")
            write_killers(found)
    write_table(found)
    say(f"{len(chosen) - survivors} of {len(chosen)} caught")
    return 1 if survivors else 0


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
