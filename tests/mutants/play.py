"""Plays seeds in this process until one breaks a promise: `python -m tests.mutants.play START STOP`.

Prints `broken SEED PROMISE`, or `held`. A world that never gives way, in real time, has broken L5.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from headrace.testing.simulation.scenario import scenario_of
from headrace.testing.simulation.world import play

if TYPE_CHECKING:
    from types import FrameType

WORLD_MAX_S: Final = 60
"""A world takes a tenth of a second; a machine may be busy elsewhere."""


def main(start: int, stop: int) -> None:
    """Play them in order."""
    seed = start

    def give_up(_number: int, _frame: FrameType | None) -> None:
        # Not an exception: the runtime under test would catch it.
        os.write(1, f"broken {seed} L5\n".encode())
        os._exit(0)

    signal.signal(signal.SIGALRM, give_up)
    for seed in range(start, stop):
        signal.alarm(WORLD_MAX_S)
        try:
            violations = play(scenario_of(seed)).violations
        except Exception as error:  # noqa: BLE001 - a mutant may break the world itself
            sys.stdout.write(f"broken {seed} {type(error).__name__}\n")
            return
        if violations:
            sys.stdout.write(f"broken {seed} {violations[0].promise} {violations[0].facts[:200]}\n")
            return
    sys.stdout.write("held\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
