"""A consumer over a `MemoryKafka`: `ports.Client` without network, for trials and for tests of the runtime.

Keeps the real client's contract: callbacks come inside `poll` and `close` only, commits are answered by a later `poll`,
what `on_assign` does not assign is not fetched. The only member of its group, unless a test takes partitions away with
`revoke` or `lose` and gives them back with `give`. Owner thread only, but for those three, `report` and `refuse_commits`.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, final

from headrace.errors import TopicMissing
from headrace.ports import CommitResult, Polled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.ports import CommitRequest, Committed, Fault, RebalanceListener, TopicPartition
    from headrace.records import Source
    from headrace.testing.memory_kafka import MemoryKafka


@final
class MemoryClient:
    """One consumer. `idle` is called with the time left when a poll that may wait finds nothing; by default it waits."""

    max_poll_interval_s = 300.0
    session_timeout_s = 45.0

    def __init__(self, kafka: MemoryKafka, idle: Callable[[float], None] | None = None) -> None:
        self._kafka = kafka
        self._idle = idle or self._wait
        self._listener: RebalanceListener | None = None
        self._names: list[str] = []
        # What the group gave us, and of it what was assigned: next offsets.
        self._given: set[TopicPartition] = set()
        self._taken_away: set[TopicPartition] = set()
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._answers: deque[list[CommitResult]] = deque()
        # Any thread appends; taken by the next poll.
        self._asked: deque[Callable[[RebalanceListener], None]] = deque()
        self._reported: deque[Fault] = deque()
        self._refusals: deque[str] = deque()
        self.closed = False

    # For tests: what the group and the broker do next

    def revoke(self, *places: TopicPartition) -> None:
        """The group takes these back in the next poll."""
        self._asked.append(lambda listener: self._take(places, listener.on_revoke))

    def lose(self, *places: TopicPartition) -> None:
        """These are lost in the next poll."""
        self._asked.append(lambda listener: self._take(places, listener.on_lost))

    def give(self, *places: TopicPartition) -> None:
        """The group gives these back in the next poll."""
        self._asked.append(lambda _: self._taken_away.difference_update(places))

    def report(self, fault: Fault) -> None:
        """The next poll returns this fault."""
        self._reported.append(fault)

    def refuse_commits(self, *codes: str) -> None:
        """The next commits are refused, with these codes in turn."""
        self._refusals.extend(codes)

    def accept_commits(self) -> None:
        """No commit is refused any more."""
        self._refusals.clear()

    # ports.Client

    def check(self, topics: Sequence[str], timeout_s: float | None) -> None:
        """See that the topics exist."""
        del timeout_s
        known = self._kafka.topics()
        missing = [topic for topic in topics if topic not in known]
        if missing:
            raise TopicMissing(missing)

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None:
        """Join the group; partitions come in the next poll."""
        self._names = list(topics)
        self._listener = listener

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        """Callbacks first, then records, then what was reported."""
        called = self._call_back()
        polled = self._fetch(records_max)
        if timeout_s > 0 and not called and not polled.count and not self._reported:
            self._idle(timeout_s)
            polled = self._fetch(records_max)
        while self._reported:
            polled.faults.append(self._reported.popleft())
        return polled

    def committed(self, partitions: Sequence[TopicPartition], timeout_s: float) -> list[Committed] | None:
        """What the group committed."""
        del timeout_s
        return self._kafka.committed(partitions)

    def resolve(
        self, wanted: Mapping[TopicPartition, str | int], timeout_s: float
    ) -> dict[TopicPartition, int] | None:
        """Offsets for "earliest", "latest" or a timestamp in ms."""
        del timeout_s
        return {place: self._offset_of(place, where) for place, where in wanted.items()}

    def earliest(self, partition: TopicPartition, timeout_s: float) -> int | None:
        """Nothing is ever deleted."""
        del partition, timeout_s
        return 0

    def assign(self, starts: Mapping[TopicPartition, int]) -> None:
        """Begin to fetch these; not paused."""
        self._positions |= {place: offset for place, offset in starts.items() if place in self._given}
        self._paused.difference_update(starts)

    def unassign(self, partitions: Sequence[TopicPartition]) -> None:
        """Stop fetching these."""
        for place in partitions:
            self._positions.pop(place, None)

    def reassign(self, partition: TopicPartition, offset: int) -> None:
        """Continue at `offset`."""
        self.seek(partition, offset, 0.0)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Stop fetching these; unknown ones are ignored."""
        self._paused.update(place for place in partitions if place in self._positions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Fetch these again."""
        self._paused.difference_update(partitions)

    def seek(self, partition: TopicPartition, offset: int, timeout_s: float) -> None:
        """Continue this partition at `offset`, if it is assigned."""
        del timeout_s
        if partition in self._positions:
            self._positions[partition] = offset

    def positions(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Next offsets of those that are assigned."""
        return {place: self._positions[place] for place in partitions if place in self._positions}

    def commit(self, requests: Sequence[CommitRequest]) -> None:
        """Write it, or refuse it; a later poll answers."""
        error = self._refusals.popleft() if self._refusals else None
        if error is None:
            self._kafka.commit(requests)
        self._answers.append(
            [CommitResult(asked.topic, asked.partition, asked.offset, error) for asked in requests]
        )

    def close(self, timeout_s: float) -> bool:
        """Give everything back, answer the last commits."""
        del timeout_s
        if not self.closed and self._listener is not None:
            self._take(sorted(self._given), self._listener.on_revoke)
            self._answer(self._listener)
        self.closed = True
        return True

    # Inside

    def _call_back(self) -> bool:
        """Whether anything happened."""
        listener = self._listener
        if listener is None:
            return False
        happened = self._answer(listener)
        while self._asked:
            self._asked.popleft()(listener)
            happened = True
        new = [place for place in self._ours() if place not in self._given]
        if new:
            self._given.update(new)
            listener.on_assign(new)
        return happened or bool(new)

    def _answer(self, listener: RebalanceListener) -> bool:
        happened = bool(self._answers)
        while self._answers:
            listener.on_commit(self._answers.popleft())
        return happened

    def _take(
        self, places: Sequence[TopicPartition], tell: Callable[[Sequence[TopicPartition]], None]
    ) -> None:
        held = [place for place in places if place in self._given]
        if not held:
            return
        tell(held)
        self._taken_away.update(held)
        self._given.difference_update(held)
        self._paused.difference_update(held)
        self.unassign(held)

    def _ours(self) -> list[TopicPartition]:
        return [
            (topic, number)
            for topic, partitions in self._kafka.topics().items()
            if any(matches(name, topic) for name in self._names)
            for number in range(partitions)
            if (topic, number) not in self._taken_away
        ]

    def _fetch(self, records_max: int) -> Polled:
        polled = Polled()
        for place, position in list(self._positions.items()):
            if place in self._paused or polled.count >= records_max:
                continue
            found: list[Source] = [*self._kafka.read(place, position, records_max - polled.count)]
            if found:
                polled.groups.append((*place, found))
                polled.count += len(found)
                self._positions[place] = position + len(found)
        return polled

    def _offset_of(self, place: TopicPartition, where: str | int) -> int:
        if isinstance(where, int):
            return self._kafka.offset_at(place, where)
        return 0 if where == "earliest" else self._kafka.end(place)

    def _wait(self, timeout_s: float) -> None:
        with self._kafka.changed:
            self._kafka.changed.wait(timeout_s)


def matches(name: str, topic: str) -> bool:
    """Whether a subscribed name, or a pattern with its ^, stands for this topic."""
    return re.search(name, topic) is not None if name.startswith("^") else name == topic
