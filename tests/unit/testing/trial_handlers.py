"""Handlers that worker processes can import: what a trial runs in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace import Record


def fail_once(record: Record) -> None:
    """Fail at the first try."""
    if record.attempt == 1:
        msg = "the first try"
        raise ValueError(msg)


def is_wanted(record: Record) -> bool:
    """Turn away what says so."""
    return record.value != b"unwanted"
