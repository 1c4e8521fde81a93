"""`headrace run module:app`: import an app and run it until it is told to stop.

Decides what `--dry-run` shows, how logging is set up if nobody did, and what watches the app from outside; the app decides
everything else. Invariant: no secret is printed.
"""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console

from headrace import App, AppState, web
from headrace._client.settings import (
    ConnectionSettings,
    consumer_config,
    describe,
    numbered,
    producer_config,
)
from headrace._core.notices import AppFailed
from headrace._runtime.settings import flatten
from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit, RunFailed, Unusable
from headrace.cli.loading import load_app
from headrace.cli.processes.exchange import READY_S
from headrace.cli.processes.member import Member, Place
from headrace.cli.processes.supervise import (
    PROCESSES_MAX,
    limits_of,
    log_to_stderr,
    parse_address,
    supervise,
)
from headrace.elsewhere import check_before_start
from headrace.errors import FatalError
from headrace.web import HealthFiles, Server

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

log = logging.getLogger("headrace.web")


class LogLevel(Enum):
    """Levels of `logging`."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Target = Annotated[str, typer.Argument(metavar="MODULE:APP", help="Where the App is, such as billing:app.")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Check what can be checked without a broker, and print the resolved settings, secrets hidden.",
    ),
]
Level = Annotated[
    LogLevel, typer.Option(help="Level of the log on stderr, unless the module sets up logging itself.")
]
Serve = Annotated[
    str | None,
    typer.Option(
        "--serve",
        metavar="[HOST:]PORT",
        help="Serve health, metrics and a dashboard over HTTP; HOST is 127.0.0.1 if left out.",
    ),
]
Hosts = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        metavar="NAME",
        help="With --serve: a name by which others ask for it, such as billing.default.svc; may be repeated.",
    ),
]
ShowRecords = Annotated[
    bool,
    typer.Option(
        "--show-records",
        help="With --serve: show keys of records to all who look, and whole records to who has the token.",
    ),
]
Files = Annotated[
    Path | None,
    typer.Option(
        "--health-files", metavar="DIR", help="Keep DIR/live and DIR/ready young while the answer is yes."
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--processes",
        min=1,
        max=PROCESSES_MAX,
        metavar="N",
        help="Run N processes of the app, watched and replaced.",
    ),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE", help="With --processes: replace a process that holds more, such as 800M or 1.5G."
    ),
]
ReadyTimeoutS = Annotated[
    float | None,
    typer.Option(
        "--ready-timeout",
        min=1,
        max=3600,
        metavar="SECONDS",
        help=f"With --processes: longest wait for one process to be ready in a rolling restart; else {READY_S:g}.",
    ),
]
OwnPlace = Annotated[str | None, typer.Option("--member", hidden=True)]


def run(
    target: Target,
    dry_run: DryRun = False,
    log_level: Level = LogLevel.INFO,
    serve: Serve = None,
    allow_host: Hosts = None,
    show_records: ShowRecords = False,
    health_files: Files = None,
    processes: Processes = None,
    memory_limit: MemoryLimit = None,
    ready_timeout_s: ReadyTimeoutS = None,
    member: OwnPlace = None,
    debug: Debug = False,
) -> Exit:
    """Run an App until SIGINT or SIGTERM.

    The first signal drains: handlers finish, offsets are committed, the group is left. The second stops hard.
    The working directory is added to the import path. With --processes SIGHUP replaces them, one at a time.
    """
    hosts = tuple(allow_host or ())
    if serve is None:
        _refuse({"--allow-host": bool(hosts), "--show-records": show_records}, "--serve")
    if processes is not None and not dry_run:
        limits = limits_of(memory_limit, READY_S if ready_timeout_s is None else ready_timeout_s)
        level, shown = log_level.value, show_records
        return supervise(target, processes, limits, level, serve, hosts, health_files, shown, debug=debug)
    if processes is None:
        given = {
            "--memory-limit": memory_limit is not None,
            "--ready-timeout": ready_timeout_s is not None,
        }
        _refuse(given, "--processes")
    watcher = None if member is None else Member(Place.parsed(member))
    with numbered(0 if watcher is None else watcher.number):
        app = load_app(target)
    if not app.subscriptions:
        raise Unusable(f"{target} has no subscriptions; register handlers with @app.subscribe(...)")
    if dry_run:
        check_before_start(app)
        print_settings(app)
        return Exit.OK
    log_to_stderr(log_level.name, lambda line: not _tells_of_failed_start(line, app))
    with ExitStack() as watching:
        if health_files is not None:
            watching.enter_context(HealthFiles(app, health_files))
        url = (
            watching.enter_context(_served(app, serve, hosts, show_records)).url if serve is not None else ""
        )
        if watcher is not None:
            watcher.watch(app, url)
        elif url:
            log.info("serving %s", url)
        try:
            app.run()
        except FatalError as error:
            raise RunFailed(error) from error
    return Exit.OK


def _refuse(given: Mapping[str, bool], without: str) -> None:
    for option, is_given in given.items():
        if is_given:
            raise Unusable(f"{option} goes with {without}")


def _served(app: App, address: str, hosts: Sequence[str], show_records: bool = False) -> Server:
    host, port = parse_address(address)
    try:
        # From the environment: other users of the machine can read a command line.
        token = os.environ.get("HEADRACE_ACTIONS_TOKEN") or None
        return web.serve(app, port, host=host, hosts=hosts, actions_token=token, show_records=show_records)
    except OSError as error:
        raise Unusable(f"--serve {address}: {error}") from error


def _tells_of_failed_start(line: logging.LogRecord, app: App) -> bool:
    """Whether the command's last line will say the same, and at once: nothing has to be drained."""
    told: object = line.args[0] if isinstance(line.args, tuple) and line.args else None
    return isinstance(told, AppFailed) and app.state in {AppState.NEW, AppState.STARTING}


def connection_of(app: App) -> ConnectionSettings:
    """What the app tells its Kafka clients."""
    settings = app.settings
    return ConnectionSettings(
        bootstrap_servers=settings.bootstrap_servers,
        group_id=settings.group_id,
        librdkafka=settings.librdkafka,
        group_protocol=settings.group_protocol,
        instance_id=settings.instance_id,
    )


def print_settings(app: App) -> None:
    """Everything that is decided before the start, one `name = value` a line, to read and to compare."""
    connection = connection_of(app)
    console = Console(soft_wrap=True, highlight=False)
    sections: list[tuple[str, dict[str, Any]]] = [("app", _settings_of(app))]
    sections += [
        (f"subscription {settings.name}", flatten(settings) | {"on_exhausted": settings.exhausted})
        for settings in app.subscriptions
    ]
    sections.append(("librdkafka consumer", dict(describe(consumer_config(connection)))))
    sections.append(("librdkafka producer", dict(describe(producer_config(connection)))))
    for index, (title, values) in enumerate(sections):
        if index:
            console.print()
        console.print(f"[{title}]", style="bold", markup=False)
        for name, value in values.items():
            console.print(f"{name} = {_shown(value)}", markup=False)


def _settings_of(app: App) -> dict[str, object]:
    # The user's librdkafka settings hold secrets; they are shown, hidden where they must be, with the clients' own.
    return {name: value for name, value in flatten(app.settings).items() if name != "librdkafka"}


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        items = cast("tuple[object, ...]", value)
        return ", ".join(_shown(item) for item in items) or "none"
    if isinstance(value, type):
        return value.__qualname__
    return "none" if value is None else str(value)
