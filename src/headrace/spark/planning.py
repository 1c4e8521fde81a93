"""From options to ranges of plain offsets: what a batch reads, and what a trigger of a stream does.

Decides what is asked of a cluster, and what is lost before anything was read; refuses to know how questions travel.
Invariant: each range ends at an offset that existed when it was planned, so a task that is run again reads the same.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol, final

from headrace.errors import ConfigError, OffsetsMissing, RecordsLost, TopicMissing
from headrace.ranges.planning import OffsetRange, split
from headrace.ranges.resolving import Lookups
from headrace.spark.options import EARLIEST, LATEST, At

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.ports import TopicPartition as Place
    from headrace.spark.filters import Narrowing
    from headrace.spark.options import SourceOptions, Where, Wheres

INTERNAL: Final = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})
"""Topics of the brokers' own: a pattern does not match them, as in Spark."""

LOSS_ADVICE: Final = "in Spark: the option failOnDataLoss=false warns, and goes on with what is there"
_LOG: Final = logging.getLogger("headrace.spark")

Offsets = dict["Place", int]


class SourceLookups(Lookups, Protocol):
    """Questions of a bounded read, and the names of topics."""

    def topics(self, timeout_s: float) -> Mapping[str, int]:
        """Every topic, with its number of partitions."""
        ...


@final
class Planner:
    """Plans with one cluster's answers. Used by one thread."""

    def __init__(self, options: SourceOptions, lookups: SourceLookups) -> None:
        self._options = options
        self._lookups = lookups
        self._deadline = 0.0

    def batch(self, narrowing: Narrowing) -> list[OffsetRange]:
        """The ranges of a batch, as many as there shall be tasks."""
        self._begin()
        places = self._places()
        starts = _per_partition("startingOffsets", self._options.start, places)
        ends = _per_partition("endingOffsets", self._options.end, places)
        places = [place for place in places if narrowing.wants(*place)]
        earliest = self._lookups.starts(places, self._left())
        at_starts = self._moments(starts, places)
        at_ends = self._moments(ends, places)
        since = narrowing.moment_ms
        young = self._offsets_at({} if since is None else dict.fromkeys(places, since))
        latest = self._ends(places)
        ranges: list[OffsetRange] = []
        for place in places:
            start = self._offset(place, starts[place], at_starts, earliest, latest, is_start=True)
            end = self._offset(place, ends[place], at_ends, earliest, latest, is_start=False)
            if start > end and not isinstance(starts[place], At) and not isinstance(ends[place], At):
                raise ConfigError(
                    "startingOffsets", start, f"at most the end, {end}, in {place[0]}[{place[1]}]"
                )
            if since is not None:
                found = young[place]
                start = max(start, latest[place] if found is None else found)
            start, end = max(start, narrowing.offset_min), min(end, narrowing.offset_end)
            if start < end:
                ranges += self._alive(place, start, end, earliest[place], latest[place])
        return self._split(ranges)

    def initial(self) -> Offsets:
        """Where a new stream begins."""
        self._begin()
        places = self._places()
        starts = _per_partition("startingOffsets", self._options.start, places)
        earliest = self._lookups.starts(places, self._left())
        times = self._moments(starts, places)
        latest = self._ends(places)
        return {
            place: self._offset(place, starts[place], times, earliest, latest, is_start=True)
            for place in places
        }

    def latest(self) -> Offsets:
        """The ends of all partitions now."""
        self._begin()
        return self._ends(self._places())

    def starts_of_new(self, start: Offsets, end: Offsets) -> Offsets:
        """Starts for the partitions of `end`: those that came since `start` begin at their first record."""
        new = sorted(end.keys() - start.keys())
        if not new:
            return {place: start[place] for place in end}
        self._begin()
        first = self._lookups.starts(new, self._left())
        return {place: start[place] if place in start else first[place] for place in end}

    def trigger(self, start: Offsets, end: Offsets) -> list[OffsetRange]:
        """The ranges of one micro-batch. Where each is still whole is seen when it is read."""
        begins = self.starts_of_new(start, end)
        for place in sorted(end.keys() - start.keys()):
            if begins[place] > 0:
                self._lose(*place, 0, begins[place])
        for topic, partition in sorted(start.keys() - end.keys()):
            if self._options.fail_on_data_loss:
                error = TopicMissing([topic])
                error.add_note(f"partition {partition} was read before and is gone; {LOSS_ADVICE}")
                raise error
            _LOG.warning("%s[%d] is gone, and with it what was not read of it", topic, partition)
        ranges: list[OffsetRange] = []
        for place in sorted(end):
            if end[place] < begins[place]:
                self._miss(*place, begins[place], end[place])
            else:
                ranges.append(OffsetRange(*place, begins[place], end[place]))
        return self._split(ranges)

    # Inside

    def _split(self, ranges: Sequence[OffsetRange]) -> list[OffsetRange]:
        return split(ranges, parts_min=self._options.parts_min, records_max=self._options.records_max)

    def _places(self) -> list[Place]:
        selection = self._options.selection
        if selection.pattern is not None:
            pattern = re.compile(selection.pattern)
            topics = [
                name
                for name in self._lookups.topics(self._left())
                if pattern.fullmatch(name) and name not in INTERNAL
            ]
        else:
            topics = sorted({topic for topic, _ in selection.places}) or list(selection.topics)
        there = self._lookups.partitions(topics, self._left()) if topics else []
        if not selection.places:
            return sorted(there)
        missing = sorted(set(selection.places) - set(there))
        if missing:
            raise ConfigError("assign", missing[0], "partitions that exist")
        return list(selection.places)

    def _moments(self, wheres: Mapping[Place, Where], places: Iterable[Place]) -> dict[Place, int | None]:
        asked = {place: where.ms for place in places if isinstance(where := wheres[place], At)}
        return self._offsets_at(asked)

    def _offsets_at(self, asked: Mapping[Place, int]) -> dict[Place, int | None]:
        if not asked:
            return {}
        only = self._options.committed_only
        return self._lookups.offsets_at(asked, self._left(), committed_only=only)

    def _ends(self, places: Sequence[Place]) -> Offsets:
        only = self._options.committed_only
        return self._lookups.ends(places, self._left(), committed_only=only) if places else {}

    def _offset(
        self,
        place: Place,
        where: Where,
        times: Mapping[Place, int | None],
        earliest: Mapping[Place, int],
        latest: Mapping[Place, int],
        *,
        is_start: bool,
    ) -> int:
        if isinstance(where, At):
            found = times[place]
            if found is not None:
                # An open transaction may stand between the last stable offset and it.
                return min(found, latest[place])
            if is_start and self._options.late_start_is_error:
                expected = (
                    f"a moment with a record after it in {place[0]}[{place[1]}], or "
                    "startingOffsetsByTimestampStrategy=latest"
                )
                raise ConfigError("startingTimestamp", where.ms, expected)
            return latest[place]
        if where in (EARLIEST, LATEST):
            return (earliest if where == EARLIEST else latest)[place]
        return where

    def _alive(self, place: Place, start: int, end: int, first: int, following: int) -> list[OffsetRange]:
        if end > following:
            self._miss(*place, end, following)
            end = max(start, following)
        if start < first:
            self._lose(*place, start, min(first, end))
            start = min(first, end)
        return [OffsetRange(*place, start, end)] if start < end else []

    def _lose(self, topic: str, partition: int, start: int, end: int) -> None:
        if self._options.fail_on_data_loss:
            error = RecordsLost(topic, partition, start, end)
            error.add_note(LOSS_ADVICE)
            raise error
        _LOG.warning("%s[%d]: offsets %d to %d are lost", topic, partition, start, end)

    def _miss(self, topic: str, partition: int, offset: int, end: int) -> None:
        if self._options.fail_on_data_loss:
            error = OffsetsMissing(topic, partition, offset, end)
            error.add_note(LOSS_ADVICE)
            raise error
        _LOG.warning("%s[%d] ends at %d: there is nothing up to %d", topic, partition, end, offset)

    def _begin(self) -> None:
        self._deadline = time.monotonic() + self._options.timeout_s

    def _left(self) -> float:
        return max(0.01, self._deadline - time.monotonic())


def _per_partition(option: str, wheres: Wheres, places: Sequence[Place]) -> dict[Place, Where]:
    if not isinstance(wheres, Mapping):
        return dict.fromkeys(places, wheres)
    unknown, left_out = sorted(wheres.keys() - set(places)), sorted(set(places) - wheres.keys())
    if unknown or left_out:
        what = f"is not read: {unknown[0]}" if unknown else f"is left out: {left_out[0]}"
        raise ConfigError(
            option, f"offsets of {len(wheres)}", f"exactly the partitions that are read; one {what}"
        )
    return dict(wheres)
