"""Handlers that worker processes import."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from headrace import worker_resource

if TYPE_CHECKING:
    from collections.abc import Generator

    from headrace import Record

LOG = "HEADRACE_TEST_LOG"
"""Names the file to which handlers append, one line each: an appended line is whole however many write."""


def note(*words: object) -> None:
    """Append one line."""
    line = " ".join(str(word) for word in words) + "\n"
    descriptor = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def handle(record: Record[Any, Any]) -> None:
    """Note what was handled, and where."""
    note("handled", record.partition, record.offset, record.raw_key, os.getpid())


def die_once(record: Record[Any, Any]) -> None:
    """The record `fatal` kills its worker the first time."""
    if record.raw_value == b"fatal" and record.attempt == 1:
        note("killed", record.partition, record.offset, record.raw_key, os.getpid())
        os.kill(os.getpid(), signal.SIGKILL)
    handle(record)


@contextmanager
def resource() -> Generator[int]:
    """One per process."""
    note("entered", os.getpid())
    yield os.getpid()


def use_resource(record: Record[Any, Any]) -> None:
    """Note whose resource this is."""
    note("used", worker_resource(), os.getpid())
