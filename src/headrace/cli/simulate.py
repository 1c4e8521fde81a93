"""`headrace simulate`: consumer groups of production code on a model of Kafka, in virtual time, from seeds."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit, Unusable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.testing.simulation.runs import Played
    from headrace.testing.simulation.scenario import Scenario
    from headrace.testing.simulation.world import Outcome


def simulate(
    seed: Annotated[int | None, typer.Option(min=0, help="Play this one.")] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="FIRST..LAST", help="Play all of these; 0..99 if nothing is given.")
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="What is not left to the seed: a JSON object, or @FILE. See docs/howto/simulate.md.",
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "-j", min=1, help="Processes that play; as many as there are processors if not given."
        ),
    ] = os.cpu_count() or 1,
    log: Annotated[bool, typer.Option("--log", help="With one seed: print its history.")] = False,
    shrink: Annotated[
        bool,
        typer.Option(
            "--shrink", help="With one seed: look for a smaller scenario that breaks the same promise."
        ),
    ] = False,
    debug: Debug = False,  # noqa: ARG001 - noted by its callback
) -> Exit:
    """Play seeded worlds: Headrace's own loop on a model of Kafka, in virtual time, with faults; judge every step.

    A seed draws a group: its settings, its members, what its handlers do, what fails and when; and every interleaving. The
    same seed plays the same, byte for byte. Needs the extra headrace[simulation]. Exit code 1 if a promise was broken.
    """
    try:
        # All that an extra brings is asked for here: what plays and shrinks is loaded later.
        import greenlet  # noqa: F401, PLC0415 # pyright: ignore[reportUnusedImport] - see above

        from headrace.testing.simulation import notation  # noqa: PLC0415 - takes its time
    except ModuleNotFoundError as error:
        if error.name != "greenlet":
            raise
        raise Unusable('a simulation needs greenlet: pip install "headrace[simulation]"') from error
    changes: dict[str, Any] = {} if scenario is None else notation.parsed(_text_of(scenario))
    if seeds is None and (seed is not None or "seed" in changes):
        return _play_one(notation.read_changes(changes, seed), log=log, shrink=shrink)
    if seed is not None or log or shrink:
        raise Unusable("--seed, --log and --shrink are for one seed; give either --seed or --seeds")
    first, last = _range_of(seeds or "0..99")
    return _play_many(first, last, changes, jobs)


def _text_of(scenario: str) -> str:
    if not scenario.startswith("@"):
        return scenario
    try:
        return Path(scenario[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise Unusable(f"--scenario {scenario}: {error.strerror}") from error


def _range_of(seeds: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)\.\.(\d+)", seeds)
    if found is None or int(found[1]) > int(found[2]):
        raise Unusable(f"--seeds takes a range such as 0..999, not {seeds!r}")
    return int(found[1]), int(found[2])


def _play_one(scenario: Scenario, *, log: bool, shrink: bool) -> Exit:
    from headrace.testing.simulation.shrink import shrink as smaller_of  # noqa: PLC0415 - see above
    from headrace.testing.simulation.world import play  # noqa: PLC0415 - see above

    outcome = play(scenario)
    if shrink and outcome.violations:
        _print_verdict(outcome)
        outcome = smaller_of(outcome, lambda step: typer.echo(f"smaller: {step}"))
    if log:
        for line in outcome.history.lines():
            typer.echo(line)
    _print_verdict(outcome)
    return Exit.FAILED if outcome.violations else Exit.OK


def _print_verdict(outcome: Outcome) -> None:
    for violation in outcome.violations:
        typer.echo(str(violation))
    kept = "" if outcome.violations else "every promise was kept; "
    typer.echo(
        f"seed {outcome.scenario.seed}: {kept}{len(outcome.history.entries)} entries, "
        f"{outcome.seconds:.1f} virtual seconds, {outcome.steps} steps"
    )
    if outcome.violations:
        typer.echo(f"replay: {command_of(outcome.scenario)}")


def command_of(scenario: Scenario) -> str:
    """The command that plays this scenario again, with its history."""
    from headrace.testing.simulation.notation import written  # noqa: PLC0415 - see above

    changes = written(scenario)
    differs = "" if changes == "{}" else f" --scenario {shlex.quote(changes)}"
    return f"headrace simulate --seed {scenario.seed}{differs} --log"


def _play_many(first: int, last: int, changes: Mapping[str, Any], jobs: int) -> Exit:
    from headrace.testing.simulation.notation import read_changes  # noqa: PLC0415 - see above
    from headrace.testing.simulation.runs import play_seeds  # noqa: PLC0415 - see above

    began = time.monotonic()
    broken: Counter[str] = Counter()
    count, cpu_s = 0, 0.0

    def tell(played: Played) -> None:
        typer.echo(played.facts)
        typer.echo(f"  replay: {command_of(read_changes(changes, played.seed))}")

    for played in play_seeds(range(first, last + 1), changes, jobs):
        count += 1
        cpu_s += played.cpu_s
        if played.facts:
            broken[played.promise] += 1
            tell(played)
    took_s = time.monotonic() - began
    typer.echo(
        f"{count} seeds in {took_s:.1f} s on {jobs} processes, {count / cpu_s * 60:.0f} a minute and processor: "
        + (
            ", ".join(f"{promise} broken {times} times" for promise, times in sorted(broken.items()))
            or "none broke a promise"
        )
    )
    return Exit.FAILED if broken else Exit.OK
