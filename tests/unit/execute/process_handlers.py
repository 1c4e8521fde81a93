"""Handlers, decoders and resources that worker processes can import: what a record's value says is what happens."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.outcomes import RetryLater

if TYPE_CHECKING:
    from collections.abc import Generator

    from headrace.records import Batch, Record

WAIT_MAX_S = 30.0


class Odd(Exception):
    """Cannot be unpickled the usual way: two arguments, one message."""

    def __init__(self, name: str, count: int) -> None:
        self.name = name
        self.count = count
        super().__init__(f"{name} x {count}")


def handle(record: Record[Any, Any]) -> None:
    """Do what the value says: `verb` or `verb argument`."""
    verb, _, argument = (record.raw_value or b"").decode().partition(" ")
    if verb == "touch":
        Path(argument).touch()
    elif verb == "hold":
        hold(Path(argument))
    elif verb == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif verb == "sleep":
        time.sleep(float(argument))
    elif verb == "pid":
        Path(argument).write_text(str(os.getpid()))
    elif verb == "ack":
        record.ack()
    elif verb:
        fail(verb)


def hold(path: Path) -> None:
    """Say by `path` that we run, and go on when `path` is gone."""
    path.write_text(str(os.getpid()))
    deadline = time.monotonic() + WAIT_MAX_S
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.002)


def fail(kind: str) -> None:
    """Raise the exception of this name."""
    if kind == "odd":
        raise Odd("pear", 3)
    if kind == "local":

        class Local(Exception):
            pass

        raise Local("not importable")
    if kind == "later":
        raise RetryLater(5, count_attempt=True)
    if kind == "exit":
        raise SystemExit(3)
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "memory":
        raise MemoryError
    if kind == "cause":
        raise ValueError("outer") from KeyError("inner")
    raise ValueError(kind)


async def handle_async(record: Record[Any, Any]) -> None:
    """As `handle`, after a turn of the loop."""
    await asyncio.sleep(0)
    asyncio.get_running_loop()
    handle(record)


def handle_batch(batch: Batch[Any, Any]) -> None:
    """Fail the records that say "bad"; raise if one says "raise"; else do what each says."""
    for record in batch:
        if record.raw_value == b"bad":
            batch.fail(record, ValueError("bad one"))
        elif record.raw_value == b"raise":
            raise ValueError("whole batch")
        else:
            handle(record)


def decode(raw: bytes) -> str:
    """A decoder that turns some values away."""
    if raw == b"rotten":
        raise ValueError("rotten")
    return raw.decode()


def wanted(record: Record[Any, Any]) -> bool:
    """A filter."""
    return record.raw_value != b"unwanted"


def see_value(record: Record[Any, Any]) -> None:
    """Write the decoded value into the file it names."""
    assert isinstance(record.value, str)
    if record.value:
        Path(record.value).write_text(f"{record.topic} {record.partition} {record.offset} {record.attempt}")


@contextmanager
def resource() -> Generator[None]:
    """Something each worker holds: it leaves a file at entry and another at exit."""
    folder = Path(os.environ["HEADRACE_TEST_RESOURCE"])
    (folder / f"entered-{os.getpid()}").touch()
    yield
    (folder / f"left-{os.getpid()}").touch()


def broken_resource() -> Any:
    """A resource that cannot be had."""
    raise ConnectionError("no database")


def slow_resource() -> Any:
    """A resource that takes its time."""
    time.sleep(30)


def dying_resource() -> Any:
    """Ends the worker before it is ready, as a crash in a C library would."""
    os._exit(7)
