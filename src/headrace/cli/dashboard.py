"""`headrace dashboard`: one page on several apps, each of which serves its own health.

Decides nothing: it says where to look, and waits to be interrupted.
"""

from __future__ import annotations

import threading
from typing import Annotated

import typer

from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit, Unusable
from headrace.web import serve_dashboard


def dashboard(
    apps: Annotated[
        list[str],
        typer.Option("--app", metavar="URL", help="An app that runs with --serve; repeatable."),
    ],
    port: Annotated[
        int, typer.Option("--port", help="Where the page is served; 0 lets the system choose.")
    ] = 8090,
    host: Annotated[str, typer.Option("--host", help="Loopback unless you say otherwise.")] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A name by which others ask for it; repeatable."),
    ] = None,
    debug: Debug = False,  # noqa: ARG001 - noted by its callback
) -> Exit:
    """Serve a dashboard of one or more running apps, until interrupted. It shows, and changes nothing."""
    try:
        server = serve_dashboard(apps, port, host=host, hosts=allow_host or ())
    except OSError as error:
        raise Unusable(f"{host}:{port}: {error}") from error
    with server:
        typer.echo(f"dashboard at {server.url}")
        threading.Event().wait()
    return Exit.OK
