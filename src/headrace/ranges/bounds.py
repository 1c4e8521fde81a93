"""Where a read starts and ends, as a user says it; and from what a cluster answers to ranges of plain offsets.

Decides which questions a bound needs and what the answers make of it; refuses to know how they are asked, and what time
it is. Invariant: a range never ends below what was asked for without an error or a counted loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from headrace.config import require_choice, require_count
from headrace.errors import ConfigError, OffsetsMissing
from headrace.ranges.planning import OFFSET_MAX, OffsetRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.ports import TopicPartition as Place

Edge = Literal["earliest", "latest"]
Side = Literal["start", "end"]

EXPECTED: Final = (
    '"earliest", "latest", an offset, a datetime with a time zone, a timedelta (so long ago), Last(...), Committed(...), '
    "or a dictionary of these by (topic, partition)"
)


@dataclass(frozen=True, slots=True)
class Last:
    """So many offsets before the end, in each partition, or all that there are.

    As a start it counts from where the range ends, as an end from the end of the partition. Compaction and transactions
    leave offsets without a record, so that there may be fewer records.
    """

    offsets: int

    def __post_init__(self) -> None:
        require_count("Last.offsets", self.offsets, 0, OFFSET_MAX)


@dataclass(frozen=True, slots=True)
class Committed:
    """What a consumer group committed.

    otherwise: stands in where the group has committed nothing.
    """

    group_id: str
    otherwise: Edge = "earliest"

    def __post_init__(self) -> None:
        if not self.group_id or not isinstance(self.group_id, str):  # pyright: ignore[reportUnnecessaryIsInstance] # users' input
            raise ConfigError("Committed.group_id", self.group_id, "a non-empty string")
        require_choice("Committed.otherwise", self.otherwise, ("earliest", "latest"))


Bound = Edge | int | datetime | timedelta | Last | Committed
Bounds = Bound | Mapping["Place", Bound]


@dataclass(frozen=True, slots=True)
class Loss:
    """Offsets that a range should have had and that are gone: retention, or a deletion of records, was faster."""

    topic: str
    partition: int
    start: int
    end: int

    @property
    def offsets(self) -> int:
        """How many."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Answers:
    """What a cluster said of the partitions in question. `times` has None where no record is that young."""

    earliest: Mapping[Place, int]
    latest: Mapping[Place, int]
    times: Mapping[tuple[Side, Place], int | None] = field(
        default_factory=dict[tuple[Side, "Place"], "int | None"]
    )
    committed: Mapping[tuple[str, Place], int] = field(default_factory=dict[tuple[str, "Place"], int])


def per_partition(side: Side, bounds: Bounds, places: Sequence[Place]) -> dict[Place, Bound]:
    """The bound of each partition. Raises `ConfigError` for what is no bound, and for a dictionary that does not fit."""
    if not isinstance(bounds, Mapping):
        _check(side, bounds)
        return dict.fromkeys(places, bounds)
    unknown = sorted(bounds.keys() - set(places))
    missing = sorted(set(places) - bounds.keys())
    if unknown or missing:
        what = f"is not there: {unknown[0]}" if unknown else f"is left out: {missing[0]}"
        raise ConfigError(
            side, f"a dictionary of {len(bounds)}", f"all partitions of the topics, and no other; one {what}"
        )
    for bound in bounds.values():
        _check(side, bound)
    return {place: bounds[place] for place in places}


def moment_ms(bound: Bound, now_ms: int) -> int | None:
    """The moment that a bound means, in ms since the Unix epoch; None if it means none."""
    match bound:
        case datetime():
            return round(bound.timestamp() * 1000)
        case timedelta():
            return now_ms - round(bound.total_seconds() * 1000)
        case _:
            return None


def ranged(
    starts: Mapping[Place, Bound], ends: Mapping[Place, Bound], answers: Answers
) -> tuple[list[OffsetRange], list[Loss]]:
    """Ranges of plain offsets, and what is lost of them already. Raises `OffsetsMissing` for offsets that do not exist yet."""
    ranges: list[OffsetRange] = []
    losses: list[Loss] = []
    for place, bound in starts.items():
        end = _end(place, ends[place], answers)
        start = _start(place, bound, end, answers)
        latest = answers.latest[place]
        if (bound, ends[place]) == ("latest", "earliest"):
            raise ConfigError("start", bound, "a start that is not after the end")
        if max(start, end) > latest:
            raise OffsetsMissing(*place, max(start, end), latest)
        if isinstance(bound, int) and isinstance(ends[place], int) and start > end:
            raise ConfigError(
                "start", start, f"an offset of at most the end, {end}, in {place[0]}[{place[1]}]"
            )
        start = min(start, end)
        alive = min(max(start, answers.earliest[place]), end)
        if alive > start:
            losses.append(Loss(*place, start, alive))
        ranges.append(OffsetRange(*place, alive, end))
    return ranges, losses


def _end(place: Place, bound: Bound, answers: Answers) -> int:
    match bound:
        case Last():
            return max(answers.earliest[place], answers.latest[place] - bound.offsets)
        case _:
            return _offset("end", place, bound, answers)


def _start(place: Place, bound: Bound, end: int, answers: Answers) -> int:
    match bound:
        case Last():
            # As many as there are: what is older was not asked for by name.
            return max(min(answers.earliest[place], end), end - bound.offsets)
        case _:
            return _offset("start", place, bound, answers)


def _offset(side: Side, place: Place, bound: Bound, answers: Answers) -> int:
    edges = {"earliest": answers.earliest[place], "latest": answers.latest[place]}
    match bound:
        case int():
            return bound
        case str():
            return edges[bound]
        case datetime() | timedelta():
            found = answers.times[side, place]
            return answers.latest[place] if found is None else found
        case Committed():
            return answers.committed.get((bound.group_id, place), edges[bound.otherwise])
        case Last():
            raise AssertionError("counted from elsewhere")


def _check(side: Side, bound: object) -> None:
    shown: object = bound
    match bound:
        case bool():
            pass
        case int() if 0 <= bound <= OFFSET_MAX:
            return
        case int() if bound < 0:
            raise ConfigError(side, bound, f"an offset of at least 0; Last({-bound}) counts from the end")
        case "earliest" | "latest" | Last() | Committed():
            return
        case "committed":
            raise ConfigError(side, bound, 'the group as well: Committed("group-id")')
        case datetime() if bound.tzinfo is not None:
            return
        case datetime():
            raise ConfigError(side, bound, "a time zone, as in datetime(..., tzinfo=UTC)")
        case timedelta() if bound >= timedelta(0):
            return
        case _:
            pass
    raise ConfigError(side, shown, EXPECTED)
