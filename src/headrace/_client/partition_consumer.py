"""One consumer of one partition, placed by hand: what a pool leases.

Decides where the consumer stands, and keeps what was fetched beyond the end of a range for whoever goes on there.
Refuses to know leases. Invariant: between `position` and the next record handed out the partition has no record that
this consumer could see; so one who wants to begin at `position` needs no seek.
"""

from __future__ import annotations

import ctypes
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final, final

from headrace._client.range_consumer import EndSeen, OutOfRange, RangeConsumer, Unknown
from headrace.errors import ConfigError, OffsetsMissing, RecordsLost, TopicMissing

if TYPE_CHECKING:
    from confluent_kafka import Message

    from headrace._client.range_consumer import Fact
    from headrace._client.settings import ConnectionSettings

QUESTION_S: Final = 5.0
DENIED_MAX: Final = 4
"""A broker that has just started may deny a topic that it has; so often it must do so before it is believed."""
RETRY_S: Final = 0.5
FETCH_WAIT_MS: Final = 50
"""How long a broker may hold a fetch that finds nothing. Less would make idle consumers ask all the time."""


@final
class PartitionConsumer:
    """Reads one partition. Joins no group, commits nothing. Used by one thread at a time."""

    def __init__(self, settings: ConnectionSettings, topic: str, partition: int, queue_bytes: int) -> None:
        # A fetch that waits at the end of the partition holds up the next one, so a seek waits for it.
        told = {"fetch.wait.max.ms": FETCH_WAIT_MS} | dict(settings.librdkafka)
        settings = replace(settings, librdkafka=told)
        isolation = str(settings.librdkafka.get("isolation.level", "read_committed"))
        self._reader = RangeConsumer(settings, isolation=isolation, queue_bytes=queue_bytes, partitions=1)
        self._place = (topic, partition)
        # Fetched, and not handed out: it stood beyond the end that was asked for.
        self._kept: deque[Message] = deque()
        # Beyond everything that was fetched, and all that the partition's end has shown to be no record.
        self._ahead = 0
        self._denied = 0
        # The broker does not have what comes next, and says so once only.
        self._refused = False
        self._position: int | None = None

    @property
    def position(self) -> int | None:
        """The next offset; None until it was placed."""
        return self._position

    def place(self, offset: int) -> bool:
        """Stand at this offset. False if it stood there already, with all it has fetched."""
        if offset == self._position:
            return False
        self._begin(offset)
        return True

    def consume(self, records_max: int, timeout_s: float, end: int | None) -> list[Message]:
        """At most so many records below `end`; waits `timeout_s` for the first, and not for the rest.

        After an error it stands nowhere: place it again.
        """
        if self._position is None:
            raise ConfigError("position", None, "an offset: give it to lease(...), or call seek(...)")
        self._advance(end)
        if end is not None and self._position >= end:
            return []
        if not self._kept:
            try:
                self._refill(records_max, timeout_s, end)
            except BaseException:
                # Records may have gone down with it: nobody may go on here as if nothing had happened.
                self._position = None
                raise
        taken = self._take(records_max, end)
        if taken:
            self._position = _offset(taken[-1]) + 1
        self._advance(end)
        return taken

    def watermarks(self, timeout_s: float) -> tuple[int, int] | None:
        """First and next offset of the partition; None if the broker did not say so in time."""
        return self._reader.bounds(self._place, timeout_s)

    @property
    def trouble(self) -> str:
        """What the client last complained of, for an error's text."""
        error = self._reader.last_error
        return "no broker has complained" if error is None else ": ".join(error)

    def close(self) -> None:
        """Drop the connections."""
        self._reader.close()

    def abandon(self) -> None:
        """In the child of a fork: never free it. Its threads are in the parent, and freeing it would wait for them."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def _begin(self, offset: int) -> None:
        self._position = None  # if this fails, it stands nowhere
        self._kept.clear()
        self._refused = False
        self._reader.begin({self._place: offset})
        self._position = self._ahead = offset

    def _advance(self, end: int | None) -> None:
        """Pass what is known to hold no record, but not the end that was asked for: the next one may begin there."""
        assert self._position is not None
        reached = _offset(self._kept[0]) if self._kept else self._ahead
        self._position = max(self._position, reached if end is None else min(reached, end))

    def _take(self, records_max: int, end: int | None) -> list[Message]:
        kept = self._kept
        if kept and len(kept) <= records_max and not _beyond(kept[-1], end):
            # Nearly always: only the last ones of a range are looked at one by one.
            taken: list[Message] = list(kept)
            kept.clear()
            return taken
        taken = []
        while kept and len(taken) < records_max and not _beyond(kept[0], end):
            taken.append(kept.popleft())
        return taken

    def _refill(self, records_max: int, timeout_s: float, end: int | None) -> None:
        if not self._refused:
            self._fetch(1, timeout_s)
            if self._kept and records_max > 1:
                self._fetch(records_max - 1, 0.0)
        if self._refused and not self._kept:
            self._refused = False
            self._replace(end)

    def _fetch(self, records_max: int, wait_s: float) -> None:
        chunk, facts = self._reader.take(records_max, wait_s)
        if chunk.messages:
            self._kept.extend(chunk.messages)
            self._ahead = chunk.offsets[-1] + 1
            self._denied = 0
        for fact in facts:
            self._note(fact, wait_s)

    def _note(self, fact: Fact, wait_s: float) -> None:
        match fact:
            case EndSeen(offset=offset):
                self._ahead = max(self._ahead, offset)
            case OutOfRange():
                self._refused = True
            case Unknown():
                self._denied += 1
                if self._denied >= DENIED_MAX and self._reader.exists(self._place, QUESTION_S) is False:
                    raise TopicMissing([self._place[0]])
                time.sleep(min(RETRY_S, wait_s))
                self._reader.begin({self._place: self._ahead})

    def _replace(self, end: int | None) -> None:
        """The broker does not have what comes next: say what is lost or missing, or ask again if it has it after all."""
        wanted, bounds = self._ahead, self.watermarks(QUESTION_S)
        if bounds is not None:
            first, following = bounds
            if wanted < first:
                raise RecordsLost(*self._place, wanted, first if end is None else min(first, end))
            if wanted > following:
                raise OffsetsMissing(*self._place, wanted, following)
        self._reader.begin({self._place: wanted})


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None, "a record has an offset"
    return offset


def _beyond(message: Message, end: int | None) -> bool:
    return end is not None and _offset(message) >= end
