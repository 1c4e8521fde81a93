"""What one consumer fetches, in the two languages of librdkafka: incremental (cooperative, KIP-848) and whole (eager).

Decides which call makes an assignment so; refuses to know why. Invariant: `_starts` holds exactly the partitions that
librdkafka fetches for us, so that it is never asked to unassign what it does not have (it raises, and the group hangs).
Owner thread only, but for the last callbacks of a close.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, final

from confluent_kafka import KafkaException, TopicPartition

from headrace._client.fetched import first_offsets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from confluent_kafka import Consumer

    from headrace._client.fetched import Messages
    from headrace.ports import TopicPartition as Place

_SEEK_RETRY_S = 0.005  # a partition just assigned starts within librdkafka's own next turn


@final
class Assignment:
    """The partitions of one consumer and where each was told to start."""

    __slots__ = (
        "_answered",
        "_consumer",
        "_cooperative",
        "_in_callback",
        "_starts",
        "in_hand",
        "moved",
        "overtook",
    )

    def __init__(self, consumer: Consumer, *, cooperative: bool) -> None:
        self._consumer = consumer
        self._cooperative = cooperative
        self._starts: dict[Place, int] = {}
        self._answered = False
        self._in_callback = False
        self.overtook = False
        """Whether partitions were let go outside a callback since the last poll ended.

        To librdkafka that answers a revoke whose callback is still to come: it has joined again, or told the group that all
        is given up, when that comes. What a poll brings then is a loss, whatever it says: a commit might be accepted by now,
        and undo the next owner's.
        """
        self.moved: dict[Place, int] = {}
        """Partitions assigned or unassigned since `forget_moves`, and where they last started."""
        self.in_hand: Messages = []
        """Taken from librdkafka and not yet handed over: positions must not stand beyond these."""

    def forget_moves(self) -> None:
        """A new poll begins."""
        if self.moved:
            self.moved = {}

    def holds(self, place: Place) -> bool:
        """Whether the partition is fetched for us."""
        return place in self._starts

    def places(self) -> list[Place]:
        """All partitions that are fetched for us."""
        return list(self._starts)

    # Answers to the group

    def begin_callback(self) -> None:
        """A callback begins; librdkafka wants one call of assign or unassign before it ends."""
        self._answered = False
        self._in_callback = True

    def answer_assign(self) -> None:
        """End of on_assign: if nothing was assigned, say so, or confluent-kafka assigns everything."""
        self._in_callback = False
        if not self._answered:
            self._call_add({})

    def answer_revoke(self, places: Iterable[Place]) -> None:
        """End of on_revoke or on_lost: let go of those that are still held, be it none."""
        mine = [place for place in places if place in self._starts]
        if self._cooperative:
            if mine or not self._answered:
                self._call_remove(mine)
            self._in_callback = False
            return
        self._in_callback = False
        # The eager protocol takes everything, and knows no partial answer.
        self._moved(self._starts)
        self._starts.clear()
        self._consumer.unassign()

    # Calls of the owner

    def add(self, starts: Mapping[Place, int]) -> None:
        """Fetch these too. One that is held already begins again at its new start."""
        again = {place: start for place, start in starts.items() if place in self._starts}
        for place, start in again.items():
            self.renew(place, start)
        new = {place: start for place, start in starts.items() if place not in again}
        if new:
            self._call_add(new)

    def remove(self, places: Sequence[Place]) -> None:
        """Stop fetching those of these that are held."""
        mine = [place for place in places if place in self._starts]
        if mine:
            self._call_remove(mine)

    def renew(self, place: Place, start: int) -> None:
        """Unassign and assign one partition that is held."""
        if place not in self._starts:
            return
        self._moved([place])
        if self._cooperative:
            self._call_remove([place])
            self._call_add({place: start})
        else:
            self._assign_whole({**self._current(), place: start})

    def seek(self, place: Place, offset: int, timeout_s: float) -> None:
        """Fetch from `offset` next; a partition whose fetcher is not running is assigned anew instead.

        A seek is answered by librdkafka's main thread without asking a broker, so the call itself is short.
        """
        if place not in self._starts:
            return
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._consumer.seek(TopicPartition(*place, offset))
            except KafkaException:
                # Not started yet, or ended by an error such as an offset out of range.
                if time.monotonic() + _SEEK_RETRY_S >= deadline:
                    self.renew(place, offset)
                    return
                time.sleep(_SEEK_RETRY_S)
            else:
                self._starts[place] = offset
                return

    def positions(self, places: Sequence[Place]) -> dict[Place, int]:
        """Offset of the next record to hand over, of those of these that are held and have one."""
        mine = self._held(places)
        if not mine:
            return {}
        found = {(p.topic, p.partition): p.offset for p in self._consumer.position(mine)}
        known = {place: offset for place, offset in found.items() if offset >= 0}
        # Taken is not handed over: a position beyond it would let a commit skip it.
        known |= {place: offset for place, offset in first_offsets(self.in_hand).items() if place in known}
        return known

    def pause(self, places: Sequence[Place]) -> None:
        """Stop delivery of those of these that are held."""
        mine = self._held(places)
        if mine:
            with suppress(KafkaException):  # it went in between, which pauses it too
                self._consumer.pause(mine)

    def resume(self, places: Sequence[Place]) -> None:
        """Deliver those of these again that are held."""
        mine = self._held(places)
        if mine:
            with suppress(KafkaException):
                self._consumer.resume(mine)

    # librdkafka

    def _held(self, places: Sequence[Place]) -> list[TopicPartition]:
        return [TopicPartition(*place) for place in places if place in self._starts]

    def _call_add(self, starts: Mapping[Place, int]) -> None:
        if self._cooperative:
            self._consumer.incremental_assign(
                [TopicPartition(*place, start) for place, start in starts.items()]
            )
            self._starts.update(starts)
            self._answered = True
            self._moved(starts)
        else:
            self._assign_whole({**self._current(), **starts} if self._starts else dict(starts))

    def _call_remove(self, mine: list[Place]) -> None:
        self._moved(mine)
        if self._cooperative:
            for place in mine:
                del self._starts[place]
            self._consumer.incremental_unassign([TopicPartition(*place) for place in mine])
            self._answered = True
            self.overtook = self.overtook or not self._in_callback
        else:
            current = self._current()
            self._assign_whole({place: current[place] for place in current if place not in mine})

    def _assign_whole(self, starts: dict[Place, int]) -> None:
        self._consumer.assign([TopicPartition(*place, start) for place, start in starts.items()])
        self._starts = starts
        self._moved(starts)
        self._answered = True

    def _current(self) -> dict[Place, int]:
        """Where each held partition would go on: its position, or its start while nothing was delivered."""
        return {**self._starts, **self.positions(list(self._starts))}

    def _moved(self, places: Iterable[Place]) -> None:
        for place in places:
            self.moved[place] = self._starts.get(place, 0)
