"""Many seeds of the simulator, and what they found: the program behind `scripts/soak`."""

from __future__ import annotations

import argparse
import os
import sys
import time

from headrace.testing.simulation.runs import play_seeds

SEEDS_A_SECOND_MAX = 100
"""Of one process, on any machine."""


def main() -> int:
    asked = _asked()
    most = asked.seeds or int(asked.seconds * asked.jobs * SEEDS_A_SECOND_MAX)
    began = time.monotonic()
    until = None if asked.seconds is None else began + asked.seconds
    played = bad = steps = 0
    cpu_s = 0.0
    for world in play_seeds(range(asked.start, asked.start + most), {}, asked.jobs, until):
        played += 1
        steps += world.steps
        cpu_s += world.cpu_s
        if world.facts:
            bad += 1
            say(f"seed {world.seed}: {world.facts}")
            say(f"  replay: headrace simulate --seed {world.seed} --log")
    took_s = time.monotonic() - began
    say(
        f"soak: {played} worlds from seed {asked.start} on, in {took_s:.1f} s on {asked.jobs} processes;"
        f" {played / max(cpu_s, 0.001) * 60:.0f} a minute of one core; {steps} steps; {bad} broke a promise"
    )
    if played < asked.at_least:
        say(f"soak: {played} worlds are fewer than --at-least {asked.at_least}")
    return 1 if bad or played < asked.at_least else 0


def say(text: str) -> None:
    """Print it now: a run that is cut short has told what it found."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak")
    ends = parser.add_mutually_exclusive_group(required=True)
    ends.add_argument("--seeds", type=int, help="so many worlds")
    ends.add_argument("--seconds", type=float, help="as many worlds as can be played in so long")
    parser.add_argument("--start", type=int, default=100_000, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--at-least", type=int, default=1, help="fewer worlds are a failure")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
