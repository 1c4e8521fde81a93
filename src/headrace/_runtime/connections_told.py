"""What an app with several connections tells of them: frozen values, for any thread.

Decides nothing. An app that may have one connection only has none of these.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionSnapshot:
    """One connection at one moment.

    number: as in `Holding.connection`; the first is 0. state: value of `AppState`, or "failing" while it waits to be opened
    anew. partitions: how many it holds. in_flight: records given to workers. finished: records, since it was opened.
    failures: how often it ended by an error, in a row. error: the last such error, empty without one.
    """

    number: int
    state: str
    partitions: int = 0
    in_flight: int = 0
    finished: int = 0
    failures: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class ScalingSnapshot:
    """What was decided about the number of connections.

    why, meaning: of the last decision; empty before the first. changed_at: when the number was last changed, on the monotonic
    clock, None if it never was. opened, closed: how often by decision, since the app started. decisions: how often each
    reason was given.
    """

    why: str = ""
    meaning: str = ""
    changed_at: float | None = None
    opened: int = 0
    closed: int = 0
    decisions: tuple[tuple[str, int], ...] = ()
