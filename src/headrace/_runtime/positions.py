"""Where partitions stand and where they are moved to: the client's positions, seeks, offsets that do not exist any more.

Asks the client and tells the engine; decides nothing about records. Owner thread only.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from headrace._core import events
from headrace.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._runtime.faults import Faults
    from headrace._runtime.parts import Parts
    from headrace.ports import Client


class Positions:
    """The positions of one connection."""

    __slots__ = ("_faults", "_parts", "_read_at", "_step")

    def __init__(self, parts: Parts, faults: Faults, step: Callable[[events.Event], None]) -> None:
        self._parts = parts
        self._faults = faults
        self._step = step
        self._read_at = 0.0

    def look_after(self, client: Client | None, now: float) -> None:
        """What is due: moves, and a look at where idle partitions are."""
        if client is not None and self._faults.moves_due(now):
            self._move(client, now)
        if now - self._read_at >= self._parts.commit.every_s:
            self.read(client, now)

    def read(self, client: Client | None, now: float) -> None:
        """See whether idle partitions have passed something that is no record, such as a transaction's marker."""
        self._read_at = now
        engine = self._parts.engine
        idle = engine.idle_partitions()
        if not idle or client is None:
            return
        moved = [
            (*key, position)
            for key, position in client.positions(idle).items()
            if position > (engine.position_of(key) or position)
        ]
        if moved:
            self._step(events.PositionsRead(moved))

    def _move(self, client: Client, now: float) -> None:
        """Seeks: those of the user, and those of offsets that do not exist any more."""
        for event in self._faults.resolve_moves(client, self._parts.timeouts.request_s, now):
            if event.reason != "user":
                # The client's fetcher ended at the offset that does not exist; no seek starts it again.
                client.reassign((event.topic, event.partition), event.offset)
            self._step(event)


def require_place(key: str, to: object) -> None:
    """Raise `ConfigError` unless this says where a partition can be moved to. Any thread."""
    if isinstance(to, str):
        fine = to in ("earliest", "latest")
    else:
        fine = isinstance(to, datetime) or (isinstance(to, int) and not isinstance(to, bool) and to >= 0)
    if not fine:
        raise ConfigError(key, to, "an offset of at least 0, 'earliest', 'latest' or a datetime")
