"""The topics of the model broker: their partitions' logs, and what operators do to them.

Decides offsets; writes `Produced` and `Removed` to the history, since these are facts that no member decides. Refuses
to know groups. Invariant: a topic that is made anew has a new id, and its offsets begin again at 0.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, final

from headrace.testing.simulation.history import Produced, Removed
from headrace.testing.simulation.model.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.ports import TopicPartition
    from headrace.testing.simulation.history import History
    from headrace.testing.simulation.kernel import Kernel
    from headrace.testing.simulation.model.log import ModelRecord

EPOCH_MS = 1_600_000_000_000
"""Virtual time 0 as a timestamp."""


@final
class Topics:
    """All logs. `grown` is called with the place of each append, `reshaped` when topics or partitions changed."""

    __slots__ = ("_history", "_kernel", "_logs", "grown", "ids", "reshaped")

    def __init__(self, kernel: Kernel, history: History) -> None:
        self._kernel = kernel
        self._history = history
        self._logs: dict[str, list[Log]] = {}
        self.ids: dict[str, int] = {}
        self.grown: Callable[[TopicPartition], None] = lambda _: None
        self.reshaped: Callable[[], None] = lambda: None

    def sizes(self) -> dict[str, int]:
        """Topics and their numbers of partitions."""
        return {topic: len(logs) for topic, logs in self._logs.items()}

    def log(self, place: TopicPartition) -> Log | None:
        """The partition's log, if it exists."""
        topic, number = place
        logs = self._logs.get(topic, [])
        return logs[number] if number < len(logs) else None

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic."""
        self._logs[topic] = [Log() for _ in range(partitions)]
        self.ids[topic] = self.ids.get(topic, -1) + 1
        self.reshaped()

    def add_partitions(self, topic: str, count: int) -> None:
        """Give a topic more partitions."""
        self._logs[topic].extend(Log() for _ in range(count))
        self.reshaped()

    def delete(self, topic: str) -> None:
        """Everything in it is gone."""
        for number, log in enumerate(self._logs.pop(topic)):
            self._history.add(self._kernel.now, Removed((topic, number), log.end))
        self.reshaped()

    def partition_of(self, topic: str, key: bytes | None) -> int:
        """Where a producer puts a key; records without one go round."""
        count = len(self._logs[topic])
        if key is None:
            return self._kernel.choices.index("partition", count)
        return zlib.crc32(key) % count

    def append(
        self,
        place: TopicPartition,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        *,
        visible: bool = True,
    ) -> ModelRecord:
        """Write one record."""
        log = self.log(place)
        assert log is not None, f"{place} does not exist"
        record = log.append(key, value, tuple(headers), self._now_ms(), visible=visible)
        if log.stable > record.offset():
            self._history.add(self._kernel.now, Produced(place, record.offset(), key, visible))
            self.grown(place)
        return record

    def begin(self, place: TopicPartition) -> None:
        """Open a transaction: what is appended is not given out until it ends."""
        log = self.log(place)
        assert log is not None, f"{place} does not exist"
        log.begin()

    def finish(self, place: TopicPartition, *, committed: bool) -> None:
        """End the transaction with a marker."""
        log = self.log(place)
        if log is None:
            return
        for record in log.finish(self._now_ms(), committed=committed):
            self._history.add(
                self._kernel.now, Produced(place, record.offset(), record.key(), record.visible)
            )
        self._history.add(self._kernel.now, Produced(place, log.end - 1, None, visible=False))
        self.grown(place)

    def remove_below(self, place: TopicPartition, offset: int) -> None:
        """Retention."""
        log = self.log(place)
        if log is not None:
            log.remove_below(offset)
            self._history.add(self._kernel.now, Removed(place, log.start))

    def compact(self, place: TopicPartition) -> None:
        """Compaction: each record that goes is told by itself."""
        log = self.log(place)
        if log is not None:
            for offset in log.compact():
                self._history.add(self._kernel.now, Removed(place, log.start, offset))

    def _now_ms(self) -> int:
        return EPOCH_MS + int(self._kernel.now * 1000)
