"""What a bounded read asks of a cluster before it begins: `ranges.resolving.Lookups` over the observer and a reader.

Decides which client puts which question; refuses to know what the answers mean. Invariant: no question that is answered
late harms the process: librdkafka may abort it after a late answer about a group's offsets to an admin client (its issue
4605), so that question is put by a consumer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, final

from headrace._client.admin import Observer
from headrace._client.reading import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace._client.settings import ConnectionSettings
    from headrace.ports import TopicPartition as Place


@final
class RangeLookups:
    """Read-only questions. Connects at the first one. Used by one thread."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        observer = Observer(settings)
        self.partitions = observer.partitions
        self.topic_ids = observer.topic_ids
        self.starts = observer.starts
        self.topics = observer.topics
        self._observer = observer

    def ends(self, places: Sequence[Place], timeout_s: float, *, committed_only: bool) -> dict[Place, int]:
        """The offset after the last record, or before the first open transaction."""
        return self._observer.ends(places, timeout_s, committed_only=committed_only)

    def offsets_at(
        self, moments: Mapping[Place, int], timeout_s: float, *, committed_only: bool
    ) -> dict[Place, int | None]:
        """The first offset with a timestamp of at least so many ms."""
        return self._observer.offsets_at(moments, timeout_s, committed_only=committed_only)

    def committed_of(self, group_id: str, places: Sequence[Place], timeout_s: float) -> dict[Place, int]:
        """What a group committed; partitions without are left out. Does not join the group."""
        with Reader(replace(self._settings, group_id=group_id)) as reader:
            return reader.committed(list(places), timeout_s)
