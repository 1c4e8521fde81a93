"""The options that every command with a connection shares, and what they make.

Decides how a setting is written on the command line; which settings exist is librdkafka's to say.
"""

from __future__ import annotations

import re
from typing import Annotated

import typer

from headrace._client.settings import ConnectionSettings
from headrace.cli.exits import Unusable

COMMAND_LINE_GROUP = "headrace-cli"
"""The client wants a group id even where it joins none; nothing is ever committed to this one."""

Bootstrap = Annotated[
    str,
    typer.Option(
        "--bootstrap-servers", "-b", envvar="HEADRACE_BOOTSTRAP", help="Brokers, as host:port[,host:port...]."
    ),
]
Librdkafka = Annotated[
    list[str] | None,
    typer.Option(
        "-X", metavar="KEY=VALUE", help="A librdkafka setting, such as security.protocol=SSL; repeatable."
    ),
]
TimeoutS = Annotated[
    float, typer.Option("--timeout", min=0.1, max=600, metavar="SECONDS", help="Longest wait for a broker.")
]

DEFAULT_BOOTSTRAP = "localhost:9092"
DEFAULT_TIMEOUT_S = 10.0


def connection(
    bootstrap_servers: str, settings: list[str] | None, group_id: str = COMMAND_LINE_GROUP
) -> ConnectionSettings:
    """The connection that these options describe. Raises `ConfigError`, and `Unusable` for a badly written one."""
    return ConnectionSettings(
        bootstrap_servers=bootstrap_servers, group_id=group_id, librdkafka=parse_settings(settings or [])
    )


def parse_settings(settings: list[str]) -> dict[str, str]:
    """`key=value` strings as a dictionary. A complaint never repeats the text: it may be a password."""
    parsed: dict[str, str] = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator or not re.fullmatch(r"[a-z0-9._-]+", key.strip()):
            raise Unusable("-X takes key=value, such as -X security.protocol=SSL")
        parsed[key.strip()] = value
    return parsed
