"""The last commits of partitions that went: whether each revoke turned out clean.

Decides what may be told of a revoke, and when: confirmed only when its commit was written and no older one can be written
after it any more. Refuses to send. Owner thread only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace._core import notices
from headrace._core.effects import Tell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace._core.effects import Effect
    from headrace.ports import TopicPartition

OVERTAKEN = "an older commit was written after it"


@dataclass(slots=True)
class _Farewell:
    """One partition's last commit. `written`: the broker said so, but an older commit is on its way yet."""

    offset: int
    drained: bool
    written: bool = False


class Farewells:
    """Partitions that went and whose last commit has no verdict yet."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[TopicPartition, _Farewell] = {}

    def __contains__(self, key: TopicPartition) -> bool:
        return key in self._waiting

    def add(self, key: TopicPartition, offset: int, *, drained: bool) -> None:
        """The last commit of this partition is on its way."""
        self._waiting[key] = _Farewell(offset, drained)

    def forget(self, key: TopicPartition) -> None:
        """The partition was lost, or came back: nobody asks any more."""
        self._waiting.pop(key, None)

    def answered(self, key: TopicPartition, offset: int, error: str | None, *, others: bool) -> list[Effect]:
        """A commit of this partition was answered; `others` of it are on their way yet."""
        farewell = self._waiting.get(key)
        if farewell is None:
            return []
        if offset == farewell.offset and not farewell.written:
            if error is not None:
                return self.failed([key], error)
            farewell.written = True
        elif error is None and offset != farewell.offset and farewell.written:
            return self.failed([key], OVERTAKEN)
        if others or not farewell.written:
            return []
        del self._waiting[key]
        return [Tell(notices.RevokeConfirmed(*key, offset=farewell.offset, drained=farewell.drained))]

    def failed(self, keys: Iterable[TopicPartition], code: str) -> list[Effect]:
        """These were not written, as far as is known."""
        return [
            Tell(notices.RevokeUnconfirmed(*key, offset=self._waiting.pop(key).offset, code=code))
            for key in keys
            if key in self._waiting
        ]

    def given_up(self, code: str) -> list[Effect]:
        """No answer can come any more: what was written stays, as far as is known; the rest is unconfirmed."""
        return self.failed(list(self._waiting), code)
