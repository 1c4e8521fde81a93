"""Topics as the source of a copy: a bounded read, and where each partition goes on.

Decides what is read after what was noted; refuses to know how it is written. Invariant: a note names, for every
partition, the first offset that was not given yet.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, final

from headrace.cli.exits import Unusable
from headrace.cli.transfer.course import Outgoing
from headrace.errors import RecordsLost, TopicRemade
from headrace.ranges import OffsetRange, find_ranges, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from headrace.ports import TopicPartition as Place
    from headrace.ranges import Loss, Records

_KIND: Final = "topics"


@final
class TopicOrigin:
    """What is copied from topics. Used by one thread, after `begin`."""

    def __init__(self, into: Callable[[str], str], *, keep_partitions: bool) -> None:
        self._into, self._keep = into, keep_partitions
        self._reading: Records | None = None
        self._at: dict[Place, int] = {}
        self._ends: dict[Place, int] = {}
        self._topic_ids: Mapping[str, str] = {}

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What was gone."""
        return () if self._reading is None else self._reading.losses

    @property
    def partitions(self) -> dict[str, int]:
        """How many partitions each target needs, if they are kept."""
        needed: dict[str, int] = {}
        for topic, partition in self._ends:
            into = self._into(topic)
            needed[into] = max(needed.get(into, 0), partition + 1)
        return needed

    def begin(
        self,
        topics: Sequence[str],
        noted: str | None,
        bounds: Mapping[str, Any],
        settings: Mapping[str, Any],
        how: Mapping[str, Any],
    ) -> tuple[Loss, ...]:
        """Find what is to be read: from the note on, where it speaks of a partition. Returns what is gone already."""
        found = find_ranges(topics, **bounds, **settings)
        known, ids = _positions(noted)
        remade = [topic for topic, one in ids.items() if found.topic_ids.get(topic, one) != one]
        if remade:
            raise TopicRemade(remade)
        ranges: list[OffsetRange] = []
        for one in found.ranges:
            at = known.get(one.place)
            ranges.append(one if at is None else OffsetRange(*one.place, min(at, one.end), one.end))
            # A note may be ahead of an end that lies in the past: it stays there.
            self._at[one.place] = one.start if at is None else at
            self._ends[one.place] = one.end
        losses = tuple(loss for loss in found.losses if (loss.topic, loss.partition) not in known)
        if losses and how["on_data_loss"] == "error":
            raise RecordsLost(losses[0].topic, losses[0].partition, losses[0].start, losses[0].end)
        self._topic_ids = found.topic_ids
        self._reading = read(ranges, as_="records", **settings, **how)
        return losses

    def records(self) -> Iterator[Outgoing]:
        """See `Origin`."""
        assert self._reading is not None, "begin comes first"
        with self._reading as reading:
            for record in reading:
                self._at[record.topic, record.partition] = record.offset + 1
                yield Outgoing(
                    self._into(record.topic),
                    record.partition if self._keep else None,
                    record.key,
                    record.value,
                    record.headers,
                    record.timestamp_ms,
                )
        for place, end in self._ends.items():
            self._at[place] = max(self._at[place], end)

    def note(self) -> str:
        """See `Origin`."""
        at: dict[str, list[int]] = {}
        for (topic, _), offset in sorted(self._at.items()):
            at.setdefault(topic, []).append(offset)
        said = {"kind": _KIND, "at": at, "ids": dict(self._topic_ids)}
        return json.dumps(said, separators=(",", ":"))


def _positions(noted: str | None) -> tuple[dict[Place, int], Mapping[str, str]]:
    if noted is None:
        return {}, {}
    said = json.loads(noted)
    if said["kind"] != _KIND:
        raise Unusable("--name: the copy of that name is one of files; choose another name")
    positions = {(t, p): offset for t, offsets in said["at"].items() for p, offset in enumerate(offsets)}
    return positions, said["ids"]
