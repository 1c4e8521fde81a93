"""`headrace doctor`: look at client, cluster, topics and group before an app has to.

Asks, and prints what `diagnosis` concludes. Invariant: changes nothing and joins no group.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from headrace.cli import diagnosis
from headrace.cli.connection import (
    COMMAND_LINE_GROUP,
    DEFAULT_BOOTSTRAP,
    DEFAULT_TIMEOUT_S,
    Bootstrap,
    Librdkafka,
    TimeoutS,
    connection,
)
from headrace.cli.debugging import Debug
from headrace.cli.diagnosis import DEFAULT_STRATEGY, Finding, Grade
from headrace.cli.exits import Exit
from headrace.cli.loading import load_app
from headrace.cli.run import connection_of
from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace._client.settings import ConnectionSettings

BESIDE = ("faststream", "aiokafka")
_STYLES = {Grade.OK: "green", Grade.NOTE: "yellow", Grade.PROBLEM: "bold red"}


def doctor(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODULE:APP]", help="Check what this App needs; its connection is used then."
        ),
    ] = None,
    topics: Annotated[
        list[str] | None, typer.Option("--topic", "-t", help="Check this topic, too; repeatable.")
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", "-g", help="Check this group, as if an App were to join it.")
    ] = None,
    bootstrap_servers: Bootstrap = DEFAULT_BOOTSTRAP,
    librdkafka: Librdkafka = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
    debug: Debug = False,  # noqa: ARG001 - noted by its callback
) -> Exit:
    """Check client, cluster, topics and group.

    Exit code 0 if nothing is a problem, 1 if something is, 2 if no broker could be asked.
    """
    consumed, written = list(topics or []), list[str]()
    if target is None:
        settings = connection(bootstrap_servers, librdkafka, group or COMMAND_LINE_GROUP)
    else:
        app = load_app(target)
        settings = connection_of(app)
        group = group or settings.group_id
        for subscription in app.subscriptions:
            consumed += subscription.topics
            written += filter(None, [subscription.dead_letter])
    findings: list[Finding] = []
    console = Console(highlight=False, soft_wrap=True)
    for finding in _examine(settings, consumed, written, group, timeout_s):
        findings.append(finding)
        _print(console, finding)
    return Exit.OK if diagnosis.healthy(findings) else Exit.FAILED


def _examine(
    settings: ConnectionSettings, consumed: list[str], written: list[str], group: str | None, timeout_s: float
) -> Iterator[Finding]:
    from headrace._client.admin import Observer  # noqa: PLC0415 - loads the client library
    from headrace._client.inspection import Inspector  # noqa: PLC0415 - see above
    from headrace._client.versions import broker_speech, client_versions  # noqa: PLC0415 - see above

    yield from diagnosis.of_installation(client_versions(), _installed_beside())
    observer, inspector = Observer(settings), Inspector(settings)
    cluster = observer.cluster(timeout_s)
    speech = broker_speech(settings, timeout_s)
    yield from diagnosis.of_cluster(cluster, speech, settings.group_protocol)
    there = inspector.topics(timeout_s)
    yield from diagnosis.of_topics(list(dict.fromkeys(consumed + written)), there)
    if group is None:
        return
    strategy = str(settings.librdkafka.get("partition.assignment.strategy", DEFAULT_STRATEGY))
    known = [there[topic].partitions for topic in consumed if topic in there]
    yield from diagnosis.of_group(
        group,
        inspector.group(group, timeout_s),
        settings.group_protocol,
        strategy,
        sum(known) if known else None,
    )
    try:
        lags = observer.lag(group, [t for t in consumed if t in there] or None, timeout_s)
    except HeadraceError as error:
        yield Finding(Grade.NOTE, f"offsets {group}", f"cannot be read: {error}")
        return
    yield from diagnosis.of_offsets(group, lags)


def _installed_beside() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in BESIDE:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _print(console: Console, finding: Finding) -> None:
    line = Text(f"{finding.grade.value:<8}", _STYLES[finding.grade])
    console.print(line.append(f"{finding.subject}: {finding.text}", "default"))
    if finding.advice:
        console.print(Text(f"{'':<8}-> {finding.advice}", "dim"))
