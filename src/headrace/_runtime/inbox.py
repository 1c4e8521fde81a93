"""The owner's inbox: the one way in for every other thread.

Items are engine events (finished chunks, acknowledgements, dead letters) and requests of the user. Any thread puts;
only the owner takes, in batches.
"""

from __future__ import annotations

import queue
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from headrace._runtime.joining import joined

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from headrace.ports import TopicPartition
    from headrace.records import Record

BATCH_MAX = 1000
"""Items taken at once: the owner must come back to its client however fast results arrive."""


@dataclass(frozen=True, slots=True)
class AckAsked:
    """`record.ack()` was called."""

    record: Record[Any, Any]


@dataclass(frozen=True, slots=True)
class MoveAsked:
    """`app.seek()` was called; the offset may still have to be looked up."""

    partition: TopicPartition
    to: int | str | datetime


@dataclass(frozen=True, slots=True)
class Wake:
    """Look again: a flag that the owner reads has changed."""


Item = "Event | AckAsked | MoveAsked | Wake"


class Inbox(Protocol):
    """What the owner needs of an inbox; the simulator brings its own."""

    def put(self, item: Any) -> None:
        """Any thread: add an item."""

    def take(self, timeout_s: float) -> Sequence[Any]:
        """Owner: what is there, at most `BATCH_MAX` items; waits up to `timeout_s` for the first."""
        ...


class ThreadInbox:
    """The real inbox, on a `queue.SimpleQueue`: 13 ns a record when records come in batches."""

    __slots__ = ("_queue", "put")

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.put = self._queue.put

    def take(self, timeout_s: float) -> Sequence[Any]:
        """See `Inbox.take`."""
        items: list[Any] = []
        get = self._queue.get_nowait
        try:
            if timeout_s > 0:
                items.append(self._queue.get(timeout=timeout_s))
            while len(items) < BATCH_MAX:
                items.append(get())
        except queue.Empty:
            pass
        return joined(items) if len(items) > 1 else items
