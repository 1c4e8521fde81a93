"""An inbox that keeps account of what passes through it: which records were handled, which tries failed and how.

Refuses to know what the engine makes of it. Invariant: an item is noted before the owner can take it, so the account is
never behind what was committed.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, final

from headrace._core.events import Delivered, Finished
from headrace._execute.invocation import FILTERED, bind
from headrace._runtime.inbox import AckAsked, ThreadInbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.records import Record
    from headrace.subscriptions import SubscriptionSettings

Place = tuple[str, int, int]


def place_of(record: Record[Any, Any]) -> Place:
    """Topic, partition and offset."""
    return (record.topic, record.partition, record.offset)


@final
class Account:
    """`inbox.Inbox`, noting. Any thread puts; lists are read when the app is over."""

    def __init__(self, subscriptions: Sequence[SubscriptionSettings]) -> None:
        self._subscriptions = subscriptions
        self._inner = ThreadInbox()
        self.take = self._inner.take
        # Guards all below.
        self._lock = threading.Lock()
        self.handled: list[Record[Any, Any]] = []
        self.filtered: list[Record[Any, Any]] = []
        self.failed: list[tuple[Record[Any, Any], int, BaseException]] = []
        self.acknowledged: set[Place] = set()
        # Any thread sets, the owner resets: whether something happened since it last looked.
        self.stirred = False

    def put(self, item: Any) -> None:
        """Note it and pass it on."""
        with self._lock:
            match item:
                case Finished():
                    self._finished(item)
                case Delivered(record, None):
                    self.handled.append(record)
                case Delivered(record, Exception() as error):
                    self.failed.append((record, record.attempt, error))
                case AckAsked(record):
                    self.acknowledged.add(place_of(record))
                case _:
                    pass
            self.stirred = True
        self._inner.put(item)

    def _finished(self, event: Finished) -> None:
        self.failed += [(record, record.attempt, error) for record, error in event.failed]
        if not event.filtered:
            self.handled += event.succeeded
            return
        # The event says how many were filtered, not which: the decoders and the filter are asked once more.
        ask = bind(self._subscriptions[event.subscription], lambda _: None)
        for record in event.succeeded:
            (self.filtered if ask(record) is FILTERED else self.handled).append(record)
