"""A partition's log as a consumer meets it, played without a broker: for tests of what a share makes of it.

Decides what `take` gives, one step of a script at a time; refuses to know what is right. Time passes only in `take`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import Message

from headrace._client.range_consumer import Chunk, EndSeen, Fact

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterable, Mapping

    from headrace.ports import TopicPartition as Place

Step = tuple["Iterable[tuple[str, int, int]]", "list[Fact]"]
"""Records as (topic, partition, offset), and the facts that come with them."""


def message(topic: str, partition: int, offset: int) -> Message:
    """A record whose value is its offset."""
    return Message(
        topic=topic, partition=partition, offset=offset, key=None, value=b"%d" % offset, timestamp=(1, offset)
    )


@dataclass
class Scripted:
    """`Source` that gives what its script says, then nothing. Each `take` lasts `wait_s`."""

    steps: deque[Step]
    now: float = 0.0
    begun: dict[Place, int] = field(default_factory=dict[tuple[str, int], int])
    dropped: list[Place] = field(default_factory=list[tuple[str, int]])
    placed: list[tuple[Place, int]] = field(default_factory=list[tuple[tuple[str, int], int]])
    bounds_of: dict[Place, tuple[int, int] | None] = field(
        default_factory=dict[tuple[str, int], "tuple[int, int] | None"]
    )
    there: bool | None = True
    asked: int = 0
    closed: bool = False
    last_error: tuple[str, str] | None = None

    def clock(self) -> float:
        return self.now

    def begin(self, offsets: Mapping[Place, int]) -> None:
        self.begun = dict(offsets)

    def take(self, records_max: int, wait_s: float) -> tuple[Chunk, list[Fact]]:
        self.now += wait_s
        records, facts = self.steps.popleft() if self.steps else ((), [])
        messages = [message(*record) for record in records]
        assert len(messages) <= records_max
        return Chunk(messages, None), facts

    def drop(self, place: Place) -> None:
        assert place not in self.dropped
        self.dropped.append(place)

    def place_again(self, place: Place, offset: int) -> None:
        self.placed.append((place, offset))

    def bounds(self, place: Place, timeout_s: float) -> tuple[int, int] | None:
        self.asked += 1
        return self.bounds_of.get(place)

    def exists(self, place: Place, timeout_s: float) -> bool | None:
        self.asked += 1
        return self.there

    def close(self) -> None:
        self.closed = True


@dataclass
class Log:
    """`Source` over logs with holes: it gives each partition's records in turns, and says where they end."""

    records: dict[Place, list[int]]
    ends: dict[Place, int]
    at: dict[Place, int] = field(default_factory=dict[tuple[str, int], int])
    last_error: tuple[str, str] | None = None
    now: float = 0.0

    def clock(self) -> float:
        return self.now

    def begin(self, offsets: Mapping[Place, int]) -> None:
        self.at = dict(offsets)

    def take(self, records_max: int, wait_s: float) -> tuple[Chunk, list[Fact]]:
        self.now += wait_s
        messages: list[Message] = []
        facts: list[Fact] = []
        for place, at in list(self.at.items()):
            mine = [offset for offset in self.records[place] if offset >= at][: max(1, records_max // 3)]
            messages += [message(*place, offset) for offset in mine if len(messages) < records_max]
            if mine:
                self.at[place] = mine[-1] + 1
            if not mine or mine[-1] == self.records[place][-1]:
                facts.append(EndSeen(place, self.ends[place]))
        return Chunk(messages[:records_max], None), facts

    def drop(self, place: Place) -> None:
        del self.at[place]

    def place_again(self, place: Place, offset: int) -> None:
        self.at[place] = offset

    def bounds(self, place: Place, timeout_s: float) -> tuple[int, int] | None:
        raise AssertionError("nothing is out of range")

    def exists(self, place: Place, timeout_s: float) -> bool | None:
        return True

    def close(self) -> None:
        self.at.clear()
