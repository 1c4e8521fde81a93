"""`headrace rehearse MODULE:APP`: the user's own app on an embedded broker, under what production will do to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit
from headrace.cli.quiet import quiet

if TYPE_CHECKING:
    from headrace import App
    from headrace.cli.rehearsal.plan import Act, TopicPlan
    from headrace.cli.rehearsal.samples import Sample
    from headrace.cli.rehearsal.verdict import Verdict

SHARES = (("half of them within", 0.5), ("99 of 100 within", 0.99), ("the longest", 1.0))


def rehearse(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:APP", help="Where the App is, such as billing:app.")
    ],
    records: Annotated[
        Path | None,
        typer.Option(
            help="Records to send, over and over: a JSON object a line, as `headrace tail TOPIC --form json` prints. "
            "Made up if not given."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=4, max=3600, help="How long the acts last, beside waiting for members.")
    ] = 24.0,
    rate: Annotated[float, typer.Option(min=0.1, max=5000, help="Records a second.")] = 50.0,
    debug: Debug = False,
) -> Exit:
    """Run an App on an embedded broker through rebalances, refused commits, slow brokers, a kill and a restart.

    The app's handlers run for real, in processes of their own: what they write elsewhere is written. They can know of it
    by the environment variable HEADRACE_REHEARSAL=1. Only the broker and its security settings are replaced. Ends with a
    verdict from records kept beside the runtime: exit code 0 only if nothing stands against production.
    """
    from headrace.cli.loading import load_app  # noqa: PLC0415 - see above
    from headrace.cli.rehearsal.course import Rehearsal, perform  # noqa: PLC0415 - loads the client library
    from headrace.cli.rehearsal.samples import from_file, made_up, topics_of  # noqa: PLC0415 - see above
    from headrace.cli.rehearsal.verdict import judge  # noqa: PLC0415 - see above

    console = Console(highlight=False)
    app = load_app(target)
    samples: list[Sample] = [] if records is None else from_file(records)
    topics = _topics(app, topics_of(app.subscriptions, samples))
    samples = samples or made_up(sorted(topics))
    console.print(f"Rehearsing {target} on an embedded broker; its handlers run for real.", markup=False)
    if records is None:
        console.print("Its records are made up; give your own with --records.", style="dim")

    def tell(act: Act) -> None:
        console.print(f"- {act.value}", markup=False)

    rehearsal = Rehearsal(target, app, topics, samples, seconds, rate, debug)
    with quiet(debug=debug, who="rehearsal"):
        evidence, problems = perform(rehearsal, tell)
    verdict = judge(evidence)
    _print_verdict(console, verdict, problems)
    return Exit.OK if verdict.held and not problems else Exit.FAILED


def _topics(app: App, found: dict[str, int]) -> dict[str, TopicPlan]:
    from headrace.cli.rehearsal.plan import TopicPlan  # noqa: PLC0415 - see above

    subscriptions = app.subscriptions
    return {
        topic: TopicPlan(
            topic,
            subscriptions[index].order_by,
            subscriptions[index].batch is not None,
            subscriptions[index].guarantee,
            subscriptions[index].dead_letter,
        )
        for topic, index in found.items()
    }


def _print_verdict(console: Console, verdict: Verdict, problems: list[str]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("produced", f"{verdict.produced:,}", "read back from the topics")
    table.add_row("handled", f"{verdict.handled:,}", "the handler returned")
    if verdict.filtered:
        table.add_row("filtered", f"{verdict.filtered:,}", "turned away by the filter")
    if verdict.given_up:
        table.add_row("given up", f"{verdict.given_up:,}", "dead-lettered or skipped, as the settings say")
    for name, count, meaning in (
        ("unhandled", verdict.unhandled, "none of these: lost, or left behind by an app that ended"),
        ("out of order", verdict.out_of_order, "before an earlier record of their key, or beside it"),
        ("uncommitted", verdict.uncommitted, "the group would read them again"),
    ):
        table.add_row(name, Text(f"{count:,}", style="bold red" if count else "bold green"), meaning)
    table.add_row(
        "repeated",
        f"{verdict.repeated:,}",
        f"handled again, as a kill ({verdict.repeated_after_kill:,}), a refusal or a loss allows",
    )
    console.print()
    console.print("What happened, from the rehearsal's own ledger:", style="bold")
    console.print(table)
    _print_handlers(console, verdict)
    for problem in (*verdict.problems, *problems):
        console.print(f"problem: {problem}", style="red", markup=False)
    for advice in verdict.advice:
        console.print(f"note: {advice}", style="yellow", markup=False)
    if verdict.held and not problems:
        console.print("Nothing stands against production.", style="bold green")
    else:
        console.print("NOT READY: see what is red above.", style="bold red")


def _print_handlers(console: Console, verdict: Verdict) -> None:
    durations = verdict.durations_s
    if durations:
        spans = ", ".join(
            f"{name} {_span(durations[min(len(durations) - 1, int(share * len(durations)))])}"
            for name, share in SHARES
        )
        console.print(f"handlers: {spans}", markup=False)
    for error, count in verdict.errors:
        console.print(f"handlers raised {error} {count:,} times", markup=False)
    told = ", ".join(f"{name} {count:,}" for name, count in verdict.notices)
    if told:
        console.print(f"the runtime told: {told}", style="dim", markup=False)


def _span(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
