"""`headrace run module:app`: import an app and run it until it is told to stop.

Decides what `--dry-run` shows, how logging is set up if nobody did, and what watches the app from outside; the app decides
everything else. Invariant: no secret is printed.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from headrace import App, AppState, web
from headrace._client.settings import ConnectionSettings, consumer_config, describe, producer_config
from headrace._core.notices import AppFailed
from headrace._runtime.settings import flatten
from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit, RunFailed, Unusable
from headrace.cli.loading import load_app
from headrace.elsewhere import check_before_start
from headrace.errors import FatalError
from headrace.web import HealthFiles, Server

log = logging.getLogger("headrace.web")


class LogLevel(Enum):
    """Levels of `logging`."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def run(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:APP", help="Where the App is, such as billing:app.")
    ],
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check what can be checked without a broker, and print the resolved settings, secrets hidden.",
        ),
    ] = False,
    log_level: Annotated[
        LogLevel, typer.Option(help="Level of the log on stderr, unless the module sets up logging itself.")
    ] = LogLevel.INFO,
    serve: Annotated[
        str | None,
        typer.Option(
            "--serve",
            metavar="[HOST:]PORT",
            help="Serve health, metrics and a dashboard over HTTP; HOST is 127.0.0.1 if left out.",
        ),
    ] = None,
    health_files: Annotated[
        Path | None,
        typer.Option(
            "--health-files", metavar="DIR", help="Keep DIR/live and DIR/ready young while the answer is yes."
        ),
    ] = None,
    debug: Debug = False,  # noqa: ARG001 - noted by its callback
) -> Exit:
    """Run an App until SIGINT or SIGTERM.

    The first signal drains: handlers finish, offsets are committed, the group is left. The second stops hard.
    The working directory is added to the import path.
    """
    app = load_app(target)
    if not app.subscriptions:
        raise Unusable(f"{target} has no subscriptions; register handlers with @app.subscribe(...)")
    if dry_run:
        check_before_start(app)
        print_settings(app)
        return Exit.OK
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(lambda line: not _tells_of_failed_start(line, app))
    logging.basicConfig(
        level=log_level.name, handlers=[handler], format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    with ExitStack() as watching:
        if health_files is not None:
            watching.enter_context(HealthFiles(app, health_files))
        if serve is not None:
            server = watching.enter_context(_served(app, serve))
            log.info("serving %s", server.url)
        try:
            app.run()
        except FatalError as error:
            raise RunFailed(error) from error
    return Exit.OK


def _served(app: App, address: str) -> Server:
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        raise Unusable(f"--serve {address}: expected [HOST:]PORT, such as 8080 or 0.0.0.0:8080")
    try:
        # From the environment: other users of the machine can read a command line.
        token = os.environ.get("HEADRACE_ACTIONS_TOKEN") or None
        return web.serve(app, int(port), host=host.strip("[]") or "127.0.0.1", actions_token=token)
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
