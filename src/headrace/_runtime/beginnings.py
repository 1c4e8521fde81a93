"""Where newly assigned partitions begin: committed offsets, offset maps, and starts where there is no commit.

Reads are bounded; what could not be read is tried again outside the rebalance callback, and until then nothing of it
runs. A failed read never becomes a reset. Owner thread only.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from headrace._core import notices
from headrace._core.events import Start
from headrace.errors import OffsetUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from headrace._core.notices import Notice
    from headrace.ports import Client, Committed, TopicPartition
    from headrace.subscriptions import SubscriptionSettings

RETRY_INITIAL_S = 0.1
RETRY_MAX_S = 5.0
READ_INITIAL_S = 1.0
"""How long the first reading may take: other partitions wait meanwhile. The next ones may take longer."""


class Beginnings:
    """Partitions that are assigned to this member and wait for their start to be known."""

    __slots__ = ("_retry_at", "_settings_of", "_tell", "_tries", "_waiting")

    def __init__(
        self, settings_of: Callable[[str], SubscriptionSettings | None], tell: Callable[[Notice], None]
    ) -> None:
        self._settings_of = settings_of
        self._tell = tell
        self._waiting: set[TopicPartition] = set()
        self._tries = 0
        self._retry_at = 0.0

    def add(self, partitions: Iterable[TopicPartition]) -> None:
        """These were assigned. Partitions of topics that are nobody's are passed over."""
        self._waiting.update(key for key in partitions if self._settings_of(key[0]) is not None)
        self._tries = 0

    def discard(self, partitions: Iterable[TopicPartition]) -> None:
        """These were revoked or lost before they began."""
        self._waiting.difference_update(partitions)

    def clear(self) -> None:
        """The connection is gone, and everything assigned with it."""
        self._waiting.clear()

    @property
    def waiting(self) -> frozenset[TopicPartition]:
        """Partitions whose start is not known yet."""
        return frozenset(self._waiting)

    def next_retry(self) -> float | None:
        """When to try again, or None with nothing waiting."""
        return self._retry_at if self._waiting else None

    def read(self, client: Client, now: float, timeout_max_s: float) -> list[Start]:
        """Try to learn where the waiting partitions begin; those that could be learnt wait no longer.

        Each request takes at most `timeout_max_s`, and less at the first tries.

        Raises `OffsetUnavailable` for a partition without a commit whose subscription says to stop then.
        """
        if not self._waiting:
            return []
        wanted = sorted(self._waiting)
        timeout_s = min(READ_INITIAL_S * 2 ** min(self._tries, 10), timeout_max_s)
        committed = client.committed(wanted, timeout_s)
        starts = None if committed is None else self._resolve(client, committed, timeout_s)
        if starts is None:
            self._tries += 1
            self._retry_at = now + min(RETRY_INITIAL_S * 2 ** min(self._tries, 10), RETRY_MAX_S)
            if self._tries & (self._tries - 1) == 0:
                names = ", ".join(f"{topic}[{partition}]" for topic, partition in wanted[:10])
                self._tell(notices.OffsetsUnreadable(names, self._tries))
            return []
        self._waiting.clear()
        self._tries = 0
        return starts

    def _resolve(
        self, client: Client, committed: Sequence[Committed], timeout_s: float
    ) -> list[Start] | None:
        unset = [(found.topic, found.partition) for found in committed if found.offset is None]
        resolved: dict[TopicPartition, int] = {}
        if unset:
            known = self._topics_with_commits(client, committed, unset, timeout_s)
            if known is None:
                return None
            wanted = {key: self._start_of(key, added=key[0] in known) for key in unset}
            answer = client.resolve(wanted, timeout_s)
            if answer is None or any(key not in answer for key in unset):
                return None
            resolved = answer
        return [
            Start(
                found.topic,
                found.partition,
                resolved[(found.topic, found.partition)] if found.offset is None else found.offset,
                found.offset,
                found.metadata,
                found.leader_epoch,
            )
            for found in committed
        ]

    def _topics_with_commits(
        self,
        client: Client,
        committed: Sequence[Committed],
        unset: Sequence[TopicPartition],
        timeout_s: float,
    ) -> set[str] | None:
        """Topics of which the group has some commit: a partition without one was added to them later.

        Sound because a resolved start is committed at once: a group that has read a topic has a commit for each
        partition that existed then.
        """
        known = {found.topic for found in committed if found.offset is not None}
        probes = sorted({(topic, 0) for topic, partition in unset if topic not in known and partition != 0})
        if probes:
            answer = client.committed(probes, timeout_s)
            if answer is None:
                return None
            known |= {found.topic for found in answer if found.offset is not None}
        return known

    def _start_of(self, key: TopicPartition, *, added: bool) -> str | int:
        settings = self._settings_of(key[0])
        assert settings is not None, key
        start = settings.start_if_no_offset
        if start == "error":
            raise OffsetUnavailable(*key, None, "start_if_no_offset")
        if added:
            # Whatever the group's first start was, records of a partition that came later are all new to it.
            return "earliest"
        if isinstance(start, datetime):
            return int(start.timestamp() * 1000)
        return start
