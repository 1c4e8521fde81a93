"""What partitions weigh: how far a group is behind on each, how fast each grows, or what a file says of it.

Decides how loads are added up by member. Refuses to know plans. Invariant: what could not be measured is not there; it
is never a zero.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from headrace.assign import Topic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace._client.lag import PartitionLag

LAG: Final = "lag"
RATE: Final = "records/s"
LOAD: Final = "load"

Place = tuple[str, int]


class Offsets(Protocol):
    """What is asked of `Observer`."""

    def lag(self, group_id: str, topics: Sequence[str] | None, timeout_s: float, /) -> Sequence[PartitionLag]:
        """Each partition's committed offset and its end."""
        ...


@dataclass(frozen=True, slots=True)
class Loads:
    """One kind of load of each partition. what: its name, which is a column's title."""

    what: str
    by_place: Mapping[Place, float]

    def of(self, shares: Mapping[str, Mapping[str, Sequence[int]]]) -> dict[str, float]:
        """What each member has. A partition that is new weighs nothing yet."""
        weight = self.by_place
        return {
            member: sum(weight.get((topic, p), 0) for topic, partitions in owned.items() for p in partitions)
            for member, owned in shares.items()
        }


def measured(
    offsets: Offsets, group: str, topics: Sequence[str], timeout_s: float, rate_over_s: float
) -> list[Loads]:
    """The lag of each partition; and if asked for, how many records a second are written to it, over that time.

    Raises what the broker's refusal makes: `NotAuthorized`, `BrokerUnreachable`, `ClientFailed`, `TopicMissing`.
    """
    began_at = time.monotonic()
    first = offsets.lag(group, topics, timeout_s)
    found = [Loads(LAG, {(one.topic, one.partition): one.lag for one in first})]
    if rate_over_s:
        time.sleep(rate_over_s)
        spent = time.monotonic() - began_at
        ends = {(one.topic, one.partition): one.end for one in offsets.lag(group, topics, timeout_s)}
        rates = {
            (one.topic, one.partition): max(0, ends[one.topic, one.partition] - one.end) / spent
            for one in first
            if (one.topic, one.partition) in ends
        }
        found.append(Loads(RATE, rates))
    return found


def told(topics: Mapping[str, int | Topic]) -> list[Loads]:
    """The loads that a file gives for its topics, if any."""
    by_place = {
        (name, partition): load
        for name, topic in topics.items()
        if isinstance(topic, Topic) and topic.loads is not None
        for partition, load in enumerate(topic.loads)
    }
    return [Loads(LOAD, by_place)] if by_place else []


def weighing(sizes: Mapping[str, int], loads: Sequence[Loads]) -> dict[str, int | Topic]:
    """Topics with the last of these loads, which is the rate where that was measured: for strategies that weigh."""
    if not loads:
        return dict(sizes)
    by_place = loads[-1].by_place
    return {
        name: Topic(size, loads=[by_place.get((name, p), 0.0) for p in range(size)])
        for name, size in sizes.items()
    }
