"""What is told of several connections of one app: how many there are and why, and what becomes of each.

A part of the catalogue of notices, with its rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from headrace._core.notices import DEBUG, WARNING, Notice


@dataclass(frozen=True, slots=True)
class ConnectionsChanged(Notice):
    """The app opens, or closes, one of its connections."""

    name: ClassVar[str] = "connections_changed"
    before: int
    after: int
    why: str
    meaning: str


@dataclass(frozen=True, slots=True)
class ConnectionsKept(Notice):
    """Why the number of connections stays; told when the reason changes."""

    name: ClassVar[str] = "connections_kept"
    level: ClassVar[int] = DEBUG
    count: int
    why: str
    meaning: str


@dataclass(frozen=True, slots=True)
class ConnectionMoved(Notice):
    """One of several connections moved to another state; of the first, `state_changed` tells."""

    name: ClassVar[str] = "connection_moved"
    connection: int
    previous: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConnectionFailed(Notice):
    """One of several connections ended by an error, for the `count`-th time in a row; it is opened anew in `again_in_s`."""

    name: ClassVar[str] = "connection_failed"
    level: ClassVar[int] = WARNING
    connection: int
    error: str
    message: str
    count: int
    again_in_s: float
