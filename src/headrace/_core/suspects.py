"""Topics that a refused commit may be about: librdkafka reports one partition's refusal for every partition of the commit.

Decides which partitions share the next commit, so that one deleted topic does not keep the offsets of all others from
being written, and names the topic that stays refused by itself. Owner thread only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from headrace._core.tenure import Tenure


class Suspects:
    """Topics under suspicion: each is committed by itself, in turn, until it is cleared."""

    __slots__ = ("_alone_since", "_topics", "_turn")

    def __init__(self) -> None:
        self._topics: list[str] = []
        self._turn = 0
        # Since when a topic has been refused when committed by itself.
        self._alone_since: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._topics)

    def share(self, dirty: Sequence[Tenure]) -> Sequence[Tenure]:
        """Which of these go into the next commit: all of them where nothing is suspected."""
        if not self._topics or not dirty:
            return dirty
        parties: list[list[Tenure]] = [[tenure for tenure in dirty if tenure.topic not in self._topics]]
        parties += ([tenure for tenure in dirty if tenure.topic == topic] for topic in self._topics)
        waiting = [party for party in parties if party]
        self._turn += 1
        return waiting[self._turn % len(waiting)]

    def refused(self, topics: Collection[str], now: float) -> None:
        """A commit of these was refused because of a topic."""
        if len(topics) == 1:
            self._alone_since.setdefault(next(iter(topics)), now)
        self._topics += sorted(set(topics) - set(self._topics))

    def written(self, topics: Collection[str]) -> None:
        """A commit of these was written: they are beyond suspicion."""
        self._topics = [topic for topic in self._topics if topic not in topics]
        for topic in topics:
            self._alone_since.pop(topic, None)

    def gone(self, now: float, after_s: float) -> str | None:
        """A topic that has been refused by itself for so long, if there is one."""
        return next((topic for topic, since in self._alone_since.items() if now - since >= after_s), None)
