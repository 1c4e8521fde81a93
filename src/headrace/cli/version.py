"""`headrace version`: what is installed here, for a report."""

from __future__ import annotations

import platform

import typer

from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit


def version(debug: Debug = False) -> Exit:  # noqa: ARG001 - noted by its callback
    """Print the versions of Headrace, its client and Python."""
    from headrace._client.versions import client_versions  # noqa: PLC0415 - loads the client library

    found = client_versions()
    typer.echo(
        f"headrace {found.headrace} (confluent-kafka {found.confluent_kafka}, librdkafka {found.librdkafka}, "
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()})"
    )
    return Exit.OK
