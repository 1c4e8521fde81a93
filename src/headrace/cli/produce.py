"""`headrace produce TOPIC [VALUE...]`: write records and wait until the broker has each."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.connection import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_TIMEOUT_S,
    Bootstrap,
    Librdkafka,
    TimeoutS,
    connection,
)
from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit, Unusable
from headrace.errors import ProduceFailed, TopicMissing

if TYPE_CHECKING:
    from collections.abc import Iterator


def produce(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", show_default=False)],
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="[VALUE]...", help="Values; without any, each line of stdin is one."),
    ] = None,
    key: Annotated[str | None, typer.Option("--key", "-k", help="Key of every record.")] = None,
    key_separator: Annotated[
        str | None, typer.Option("--key-separator", "-K", help="Each record is KEY, this, VALUE.")
    ] = None,
    headers: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME=VALUE", help="A header; repeatable.")
    ] = None,
    partition: Annotated[
        int | None, typer.Option("--partition", "-p", min=0, help="The partition; else the key decides.")
    ] = None,
    bootstrap_servers: Bootstrap = DEFAULT_BOOTSTRAP,
    librdkafka: Librdkafka = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
    debug: Debug = False,  # noqa: ARG001 - noted by its callback
) -> Exit:
    """Write records to a topic and wait for the broker to acknowledge them."""
    from headrace._client.admin import Observer  # noqa: PLC0415 - loads the client library
    from headrace.cli.sending import Sending  # noqa: PLC0415 - see above

    if key is not None and key_separator is not None:
        raise Unusable("give --key or --key-separator, not both")
    parsed = [_parse_header(header) for header in headers or []]
    settings = connection(bootstrap_servers, librdkafka)
    partitions = Observer(settings).topics(timeout_s).get(topic)
    if partitions is None:
        raise TopicMissing([topic])
    if partition is not None and partition >= partitions:
        raise Unusable(f"topic {topic} has partitions 0 to {partitions - 1}, not {partition}")
    with Sending(settings) as sending:
        try:
            for value in _values(values):
                its_key, its_value = _split(value, key, key_separator)
                sending.send(topic, its_value, its_key, parsed, partition)
            sending.flush()
        except ProduceFailed as failure:
            typer.echo(
                f"error: {sending.failed} of {sending.failed + sending.acknowledged} records not acknowledged; "
                f"the first: {failure}",
                err=True,
            )
            return Exit.FAILED
        typer.echo(f"{sending.acknowledged} acknowledged by {topic}", err=True)
    return Exit.OK


def _values(values: list[str] | None) -> Iterator[bytes]:
    if values:
        yield from (value.encode() for value in values)
        return
    for line in sys.stdin.buffer:
        yield line.rstrip(b"\r\n")


def _split(value: bytes, key: str | None, separator: str | None) -> tuple[bytes | None, bytes]:
    if separator is None:
        return (None if key is None else key.encode()), value
    its_key, found, rest = value.partition(separator.encode())
    if not found:
        raise Unusable(f"a record without the key separator {separator!r}")
    return its_key, rest


def _parse_header(header: str) -> tuple[str, bytes]:
    name, separator, value = header.partition("=")
    if not separator or not name:
        raise Unusable("--header takes name=value")
    return name, value.encode()
