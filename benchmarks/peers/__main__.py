"""The command behind `scripts/bench`: what is measured, and where results go. See `--help`."""

from __future__ import annotations

import argparse
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.peers import growth, handover, machine, profiling, quick, reporting
from benchmarks.peers.cells import CELLS, cell_named
from benchmarks.peers.contenders import CONTENDERS, contender_named
from benchmarks.peers.environments import Unavailable
from benchmarks.peers.measuring import Bench, broker, measure, say, where

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.peers.cells import Cell


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Headrace beside its peers, on a real Kafka in a process of its own.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--quick", action="store_true", help="the gate: three pairs beside the raw loop, under 3 minutes"
    )
    what.add_argument(
        "--full", action="store_true", help="all cells, growth, handover and profiles: about three hours"
    )
    what.add_argument(
        "--growth", nargs="?", const="", metavar="SWEEP", help="cost as work grows, or one sweep of it"
    )
    what.add_argument("--handover", nargs="?", const="", metavar="CONTENDER", help="stop, kill, and scale-up")
    what.add_argument(
        "--profile", action="store_true", help="where Headrace's time goes, for the --cell given"
    )
    what.add_argument(
        "--publish", action="store_true", help="make the page again from the results, without measuring"
    )
    what.add_argument("--list", action="store_true", help="cells and contenders")
    parser.add_argument("--cell", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("--contender", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="times the records of each cell (default 1)")
    parser.add_argument("--seconds", type=float, help="of each run, at most (default: the cell's)")
    parser.add_argument("--servers", help="use this Kafka instead of starting one")
    parser.add_argument(
        "--store",
        action="store_true",
        help="with --quick: store the ratios; else: keep results and write the page",
    )
    return parser.parse_args()


def main() -> int:
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    for name in given.contender:
        contender_named(name)
    cells = [cell_named(name) for name in given.cell] or list(CELLS)
    if given.seconds:
        cells = [replace(cell, seconds=given.seconds) for cell in cells]
    if given.list:
        print("\n".join(f"{cell.name:18} {cell.title}" for cell in CELLS))
        print("\n".join(f"{each.name:26} {each.title}: {each.differs}" for each in CONTENDERS))
    elif given.publish:
        reporting.publish()
    else:
        facts = machine.describe()
        with broker(given.servers) as servers:
            bench = Bench(servers, given.scale)
            if given.quick:
                return quick.quick(bench, write=given.store)
            take(given, bench, cells, facts)
    return 0


def take(given: argparse.Namespace, bench: Bench, cells: list[Cell], facts: dict[str, str]) -> None:
    """Measure what was asked for; each part, and each cell, is kept as soon as it is there."""
    asked: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "profile": lambda: profiling.profile(bench, given.cell),
        "growth": lambda: growth.grow(bench, given.rounds, given.growth or None),
        "handover": lambda: handover.hand_over(bench, given.rounds, given.handover or None),
    }
    chosen = {
        "profile": given.profile,
        "growth": given.growth is not None,
        "handover": given.handover is not None,
    }
    if given.full or not any(chosen.values()):
        found: list[dict[str, Any]] = []
        for cell in cells:
            entries = [entry.as_json() for entry in measure(bench, [cell], given.rounds, given.contender)]
            found += entries
            keep(given, "cells", entries, facts)
        print(reporting.bar_table({"cells": found}))
        print(reporting.missing_table({"cells": found}))
    for part, measured in asked.items():
        if given.full or chosen[part]:
            try:
                keep(given, part, measured(), facts)
            except Unavailable as missing:  # what else was asked for is measured
                say(f"{part}: not measured: {missing}")


def keep(given: argparse.Namespace, part: str, entries: list[dict[str, Any]], facts: dict[str, str]) -> None:
    """Show it, and write it down if that was asked for."""
    show(part, entries)
    if given.store:
        reporting.store(part, facts, entries)
        reporting.publish()
        say(f"written: {where(reporting.RESULTS)}, {where(reporting.PAGE)}")


def show(part: str, entries: list[dict[str, Any]]) -> None:
    """The part as the page would show it."""
    makers = {
        "cells": reporting.cell_tables,
        "growth": reporting.growth_table,
        "handover": reporting.handover_table,
        "profile": reporting.profile_tables,
    }
    print(makers[part]({part: entries}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
