"""The committed offsets of groups, with their metadata as it was given.

Decides which partition of a commit is written; refuses to know generations. Invariant: what is written is told to the
history at once, with what stood there before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headrace.ports import Committed
from headrace.testing.simulation.history import CommitApplied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.ports import CommitRequest, TopicPartition
    from headrace.testing.simulation.model.network import Network
    from headrace.testing.simulation.model.topics import Topics


@final
class Commits:
    """Of all groups."""

    __slots__ = ("_committed", "_network", "_topics")

    def __init__(self, network: Network, topics: Topics) -> None:
        self._network = network
        self._topics = topics
        self._committed: dict[tuple[str, TopicPartition], Committed] = {}

    def read(self, group: str, places: Sequence[TopicPartition]) -> list[Committed]:
        """What the group committed."""
        return [self._committed.get((group, place), Committed(*place, None)) for place in places]

    def offset(self, group: str, place: TopicPartition) -> int | None:
        """The committed offset, or None."""
        found = self._committed.get((group, place))
        return None if found is None else found.offset

    def forget(self, topic: str) -> None:
        """The topic was deleted: so are the commits for it."""
        for key in [key for key in self._committed if key[1][0] == topic]:
            del self._committed[key]

    def set(self, group: str, place: TopicPartition, offset: int, metadata: str = "") -> None:
        """An operator resets the group's offset."""
        self._committed[group, place] = Committed(*place, offset, metadata)

    def write(self, group: str, member: str, requests: Sequence[CommitRequest]) -> str:
        """Write what may be written; the code of the first partition that was refused, or ""."""
        network = self._network
        unlucky = -1
        if len(requests) > 1 and network.strikes("commit_partly_refused", member):
            unlucky = network.kernel.choices.index("refused partition", len(requests))
        refused = ""
        for index, asked in enumerate(requests):
            place = (asked.topic, asked.partition)
            if self._topics.log(place) is None:
                refused = refused or "UNKNOWN_TOPIC_OR_PART"
            elif len(asked.metadata) > network.settings.metadata_max or index == unlucky:
                refused = refused or "OFFSET_METADATA_TOO_LARGE"
            else:
                before = self.offset(group, place)
                self._committed[group, place] = Committed(
                    *place, asked.offset, asked.metadata, asked.leader_epoch
                )
                network.history.add(
                    network.kernel.now,
                    CommitApplied(member, place, asked.offset, before, asked.metadata),
                )
        return refused
