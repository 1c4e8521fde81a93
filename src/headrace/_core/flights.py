"""Commits that were sent and not answered: as long as there is one, it may be written, however long ago it was sent.

The client answers every commit that it took once, in any order, and several may say the same. Answers carry no identity:
of equal ones the oldest is taken to be answered. Owner thread only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from headrace.ports import TopicPartition

FORGOTTEN_AFTER_S: Final = 120.0
"""Longer than librdkafka holds a commit back and then tries to send it: after that no answer comes."""


class Flights:
    """The commits of one connection that are on their way."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: list[tuple[float, dict[TopicPartition, int]]] = []

    def sent(self, content: dict[TopicPartition, int], now: float) -> None:
        """A commit of these offsets leaves."""
        self._open = [each for each in self._open if now - each[0] < FORGOTTEN_AFTER_S]
        self._open.append((now, content))

    def not_sent(self) -> None:
        """The newest did not leave after all."""
        if self._open:
            self._open.pop()

    def forget(self) -> None:
        """What is on its way is of partitions that are nobody's here any more; a new connection may follow."""
        self._open.clear()

    def flying(self, key: TopicPartition) -> bool:
        """Whether a commit of this partition is on its way."""
        return any(key in content for _, content in self._open)

    def __bool__(self) -> bool:
        return bool(self._open)

    def answered(self, content: dict[TopicPartition, int]) -> None:
        """An answer of these offsets has come."""
        for index, (_, sent) in enumerate(self._open):
            if sent == content:
                del self._open[index]
                return
