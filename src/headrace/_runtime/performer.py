"""Performing effects: the only place where the engine's decisions reach the client, the executors and the producer.

Decides nothing. What performing leads to at once (records taken back, a commit that was not sent) is handed to `feed`
as events. Owner thread only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from headrace._core import effects as do
from headrace._core import events
from headrace.ports import CommitNotSent

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._runtime.connection import Connection
    from headrace._runtime.parts import Parts
    from headrace.errors import FatalError
    from headrace.ports import Client


class Performer:
    """Performs the effects of one engine."""

    __slots__ = ("_connection", "_fail", "_feed", "_judge", "_parts", "rebuild")

    def __init__(
        self,
        parts: Parts,
        connection: Connection,
        feed: Callable[[events.Event], None],
        fail: Callable[[FatalError], None],
        judge: Callable[[FatalError], FatalError | None],
    ) -> None:
        self._parts = parts
        self._connection = connection
        self._feed = feed
        self._fail = fail
        self._judge = judge
        # Why the connection must be made anew, once the owner gets to it.
        self.rebuild: str | None = None

    def perform(self, effect: do.Effect) -> None:  # noqa: C901, PLR0912 - a match over every effect has one branch each
        """Do one thing."""
        match effect:
            case do.Dispatch(subscription, records):
                self._parts.executors[subscription].submit(records)
            case do.Tell(notice):
                self._parts.tell(notice)
            case do.Recall(subscription, tenures):
                returned = self._parts.executors[subscription].recall(tenures)
                if returned:
                    self._feed(events.Finished(subscription, returned=returned))
            case do.Cancel(subscription, tenures):
                self._parts.executors[subscription].cancel(tenures)
            case do.ProduceDeadLetter():
                self._parts.produce_dead_letter(effect)
            case do.StopApp(error):
                final = self._judge(error)
                if final is not None:
                    self._fail(final)
            case do.HoldingsChanged():
                self._parts.on_holdings(effect)
            case do.Rebuild(reason):
                self.rebuild = reason
            case do.SendCommit() | do.Pause() | do.Resume() | do.Seek():
                client = self._connection.usable
                if client is not None:
                    self._perform_on(client, effect)
            case _:
                assert_never(effect)

    def _perform_on(self, client: Client, effect: do.SendCommit | do.Pause | do.Resume | do.Seek) -> None:
        match effect:
            case do.SendCommit(requests):
                try:
                    client.commit(requests)
                except CommitNotSent as refused:
                    # By the inbox: the engine must not be stepped again for this within its own effects.
                    self._parts.inbox.put(events.CommitRefused(refused.code))
            case do.Pause(partitions):
                client.pause(partitions)
            case do.Resume(partitions):
                client.resume(partitions)
            case do.Seek(topic, partition, offset):
                client.seek((topic, partition), offset, self._parts.timeouts.request_s)
            case _:
                assert_never(effect)
