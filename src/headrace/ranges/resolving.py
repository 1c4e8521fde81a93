"""From topics, a start and an end to ranges of plain offsets: one request for each kind of question, for all partitions.

Decides what is asked, and in which order; refuses to know what the answers mean (`bounds`) and how they travel
(`Lookups`). Invariant: the ends are asked for last, so that no other answer lies beyond them for having come later.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from headrace.errors import ConfigError
from headrace.ranges.bounds import Answers, Committed, moment_ms, per_partition, ranged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.ports import TopicPartition as Place
    from headrace.ranges.bounds import Bound, Bounds, Loss, Side
    from headrace.ranges.planning import OffsetRange


class Lookups(Protocol):
    """Questions to a cluster. Each is one call for all partitions, bounded by `timeout_s`, and whole or an error."""

    def partitions(self, topics: Sequence[str], timeout_s: float) -> list[Place]:
        """All partitions of these topics. Raises `TopicMissing`."""
        ...

    def topic_ids(self, topics: Sequence[str], timeout_s: float) -> Mapping[str, str]:
        """What tells topics of one name apart; those of which nothing is known are left out."""
        ...

    def starts(self, places: Sequence[Place], timeout_s: float) -> dict[Place, int]:
        """The first offset that exists."""
        ...

    def ends(self, places: Sequence[Place], timeout_s: float, *, committed_only: bool) -> dict[Place, int]:
        """The offset after the last record, or after the last one that no open transaction keeps back."""
        ...

    def offsets_at(
        self, moments: Mapping[Place, int], timeout_s: float, *, committed_only: bool
    ) -> dict[Place, int | None]:
        """The first offset with a timestamp of at least so many ms; None if there is none."""
        ...

    def committed_of(self, group_id: str, places: Sequence[Place], timeout_s: float) -> dict[Place, int]:
        """What a group committed; partitions without are left out."""
        ...


@dataclass(frozen=True, slots=True)
class Resolved:
    """Ranges as they were when they were asked for, in order of topics and partitions; empty ones are among them."""

    ranges: tuple[OffsetRange, ...]
    losses: tuple[Loss, ...]
    topic_ids: Mapping[str, str] = field(default_factory=dict[str, str])
    """What each topic is by its broker's word; a topic that is made anew under its name has another. Left out if unknown."""


def resolve(
    lookups: Lookups,
    topics: Sequence[str],
    start: Bounds,
    end: Bounds,
    *,
    now_ms: int,
    timeout_s: float,
    committed_only: bool = True,
) -> Resolved:
    """The ranges from `start` to `end` of all partitions of these topics.

    now_ms: what a `timedelta` counts back from. committed_only: "latest" is before the first open transaction.
    timeout_s: for all requests together.
    """
    deadline = time.monotonic() + timeout_s
    places = lookups.partitions(topics, timeout_s)
    topic_ids = lookups.topic_ids(topics, _left(deadline))
    starts, ends = per_partition("start", start, places), per_partition("end", end, places)
    earliest = lookups.starts(places, _left(deadline))
    committed: dict[tuple[str, Place], int] = {}
    for group_id, asked in _groups(starts, ends).items():
        found = lookups.committed_of(group_id, asked, _left(deadline))
        committed |= {(group_id, place): offset for place, offset in found.items()}
    times: dict[tuple[Side, Place], int | None] = {}
    for side, bounds in _sides(starts, ends):
        moments = {
            place: ms for place, bound in bounds.items() if (ms := moment_ms(bound, now_ms)) is not None
        }
        if moments:
            offsets = lookups.offsets_at(moments, _left(deadline), committed_only=committed_only)
            times |= {(side, place): offset for place, offset in offsets.items()}
    latest = lookups.ends(places, _left(deadline), committed_only=committed_only)
    ranges, losses = ranged(starts, ends, Answers(earliest, latest, times, committed))
    return Resolved(tuple(ranges), tuple(losses), topic_ids)


def check(
    lookups: Lookups, ranges: Sequence[OffsetRange], *, timeout_s: float, committed_only: bool = True
) -> Resolved:
    """Ranges of plain offsets, held against what there is: what is gone of them already, in one request for each edge."""
    deadline = time.monotonic() + timeout_s
    topics = sorted({one.topic for one in ranges})
    there = set(lookups.partitions(topics, timeout_s))
    topic_ids = lookups.topic_ids(topics, _left(deadline))
    for one in ranges:
        if one.place not in there:
            raise ConfigError("topics", str(one), "partitions that exist")
    places = sorted({one.place for one in ranges})
    earliest = lookups.starts(places, _left(deadline))
    latest = lookups.ends(places, _left(deadline), committed_only=committed_only)
    alive: list[OffsetRange] = []
    losses: list[Loss] = []
    for one in ranges:
        found, lost = ranged({one.place: one.start}, {one.place: one.end}, Answers(earliest, latest))
        alive += found
        losses += lost
    return Resolved(tuple(alive), tuple(losses), topic_ids)


def _sides(
    starts: Mapping[Place, Bound], ends: Mapping[Place, Bound]
) -> tuple[tuple[Side, Mapping[Place, Bound]], tuple[Side, Mapping[Place, Bound]]]:
    return ("start", starts), ("end", ends)


def _groups(*sides: Mapping[Place, Bound]) -> dict[str, list[Place]]:
    groups: dict[str, dict[Place, None]] = {}
    for side in sides:
        for place, bound in side.items():
            if isinstance(bound, Committed):
                groups.setdefault(bound.group_id, {})[place] = None
    return {group_id: list(places) for group_id, places in groups.items()}


def _left(deadline: float) -> float:
    return max(0.01, deadline - time.monotonic())
