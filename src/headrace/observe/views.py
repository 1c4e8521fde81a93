"""What the metrics of one report are read from: one snapshot, one health, and what the broker was last asked.

Refuses to read anything twice within a report. Invariant: all partitions, topics and totals of a report come from one
snapshot, so its sums match its parts; offsets of the broker are asked for only when a metric of theirs is kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from headrace._client.lag import PartitionLag
from headrace.observe.metrics import Unknown, Value, total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headrace._core.health import Health
    from headrace._core.snapshot import PartitionSnapshot
    from headrace._runtime.snapshots import Snapshot
    from headrace.observe.states import ReporterState


@dataclass(frozen=True, slots=True)
class PartitionOffsets:
    """What the broker said of one partition, each number at an instant of the same tick, or why it did not.

    end: offset after the last record. stable: before the first open transaction. readable: the one of the two that the
    app reads up to. committed: the group's, None if it has committed nothing.
    """

    start: int | Unknown
    end: int | Unknown
    stable: int | Unknown
    committed: int | Unknown | None
    readable: int | Unknown

    @classmethod
    def unknown(cls, reason: str) -> PartitionOffsets:
        """Nothing is known, for one reason."""
        why = Unknown(reason)
        return cls(why, why, why, why, why)


@dataclass(frozen=True, slots=True)
class View:
    """All that one report is made of. `now` is on the snapshot's clock, `wall_s` the same moment since the Unix epoch."""

    snapshot: Snapshot
    health: Health
    now: float
    offsets_of: Callable[[str, int], PartitionOffsets]
    offsets_age_s: Callable[[], float | None]
    reporters: tuple[ReporterState, ...] = ()
    wall_s: float = field(default_factory=time.time)

    def age_s(self, at_snapshot_s: float | None) -> float | None:
        """An age that the snapshot tells, as of now."""
        return None if at_snapshot_s is None else at_snapshot_s + max(0.0, self.now - self.snapshot.as_of)

    def partitions(self) -> tuple[PartitionView, ...]:
        """Those of the snapshot, in order of topic and number."""
        parts = sorted(self.snapshot.engine.partitions, key=lambda part: (part.topic, part.partition))
        return tuple(PartitionView(part, self) for part in parts)


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One partition of ours."""

    part: PartitionSnapshot
    view: View

    @property
    def offsets(self) -> PartitionOffsets:
        """What the broker said of it."""
        return self.view.offsets_of(self.part.topic, self.part.partition)

    def lag(self) -> Value:
        """Records behind the committed offset, up to where the app may read."""
        found = self.offsets
        match found.start, found.readable, found.committed:
            case int() as start, int() as end, (int() | None) as committed:
                return PartitionLag(self.part.topic, self.part.partition, committed, start, end).lag
            case Unknown() as why, _, _:
                return why
            case _, Unknown() as why, _:
                return why
            case _, _, Unknown() as why:
                return why
            case _:
                raise AssertionError(found)

    def lag_s(self) -> Value:
        """How old the first unfinished record is by its own timestamp; 0 where there is none left to read."""
        timestamp_ms = self.part.oldest_timestamp_ms
        if timestamp_ms is not None:
            return max(0.0, self.view.wall_s - timestamp_ms / 1000)
        if self.part.oldest_age_s is not None:
            return Unknown("the first unfinished record carries no timestamp")
        end = self.offsets.readable
        if isinstance(end, Unknown):
            return end
        return 0 if end <= self.part.position else Unknown("the next record is not fetched yet")

    def records(self) -> Value:
        """Offsets that exist."""
        found = self.offsets
        if isinstance(found.start, Unknown):
            return found.start
        return found.end if isinstance(found.end, Unknown) else found.end - found.start

    def committed(self) -> Value:
        """The group's committed offset."""
        found = self.offsets.committed
        return Unknown("nothing is committed") if found is None else found


@dataclass(frozen=True, slots=True)
class TopicView:
    """The partitions of ours of one topic: never empty."""

    topic: str
    partitions: tuple[PartitionView, ...]

    def total(self, read: Callable[[PartitionView], Value]) -> Value:
        """The sum over the partitions, made afresh; unknown, naming the partition, if one is."""
        values = [(part.part.partition, read(part)) for part in self.partitions]
        for partition, value in values:
            if isinstance(value, Unknown):
                return Unknown(f"partition {partition}: {value.reason}")
        return total(value for _, value in values)

    def largest(self, read: Callable[[PartitionView], Value]) -> Value:
        """The largest over the partitions; unknown, naming the partition, if one is."""
        values = [(part.part.partition, read(part)) for part in self.partitions]
        known: list[int | float] = []
        for partition, value in values:
            if isinstance(value, Unknown):
                return Unknown(f"partition {partition}: {value.reason}")
            known.append(value)
        return max(known)


def topics_of(partitions: tuple[PartitionView, ...]) -> Iterator[TopicView]:
    """The partitions, which must be in order, by topic."""
    for topic, parts in groupby(partitions, key=lambda part: part.part.topic):
        yield TopicView(topic, tuple(parts))
