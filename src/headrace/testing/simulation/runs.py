"""Many scenarios: seeds played on several processors, and what each came to.

Decides how work is spread; refuses to judge. Invariant: every seed is played once, wherever it runs, and a world that
itself breaks is told as a failure of that seed.
"""

from __future__ import annotations

import multiprocessing
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from headrace.testing.simulation.notation import read_changes
from headrace.testing.simulation.world import play

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SEEDS_EACH: Final = 25
"""Seeds a process is given at once: two seconds of work."""


@dataclass(frozen=True, slots=True)
class Played:
    """What one seed came to; `facts` is "" if every promise was kept."""

    seed: int
    promise: str
    facts: str
    steps: int
    cpu_s: float


def play_seeds(
    seeds: Iterable[int], changes: Mapping[str, Any], jobs: int, until: float | None = None
) -> Iterator[Played]:
    """Play seeds on `jobs` processes, and stop giving out more at `until` (of `time.monotonic`)."""
    if jobs == 1:
        for seed in seeds:
            if until is not None and time.monotonic() >= until:
                return
            yield _play_one(seed, changes)
        return
    # Not "fork": the caller may have threads, of librdkafka for one.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        tasks = ((part, changes, until) for part in _parts(list(seeds)))
        for part in pool.imap_unordered(_play_part, tasks):
            yield from part


def _parts(seeds: Sequence[int]) -> Iterator[Sequence[int]]:
    return (seeds[first : first + SEEDS_EACH] for first in range(0, len(seeds), SEEDS_EACH))


def _play_part(task: tuple[Sequence[int], Mapping[str, Any], float | None]) -> list[Played]:
    seeds, changes, until = task
    return list(play_seeds(seeds, changes, 1, until))


def _play_one(seed: int, changes: Mapping[str, Any]) -> Played:
    began = time.process_time()
    try:
        outcome = play(read_changes(changes, seed))
    except Exception as error:  # noqa: BLE001 - a world that breaks is told with its seed, and the others go on
        last = traceback.extract_tb(error.__traceback__)[-1]
        facts = f"{type(error).__name__}: {error} ({last.name}, line {last.lineno} of {last.filename})"
        return Played(seed, "the simulation itself", facts, 0, time.process_time() - began)
    first = outcome.violations[0] if outcome.violations else None
    return Played(
        seed,
        "" if first is None else first.promise,
        "" if first is None else str(first),
        outcome.steps,
        time.process_time() - began,
    )
