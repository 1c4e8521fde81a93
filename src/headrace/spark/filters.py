"""What Spark's filters mean for a read: fewer partitions, and nearer starts and ends.

Decides which filters narrow a read, and which of those are thereby done; refuses to know pyspark, whose filters are told
by their class names. Invariant: a record that passes all filters is within what is read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from headrace.ranges.planning import OFFSET_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

NEVER_NULL: Final = frozenset({"topic", "partition", "offset", "timestamp", "timestampType"})
_EQUAL: Final = frozenset({"EqualTo", "EqualNullSafe"})


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What is left to read. None is all. moment_ms: what has an older timestamp is not wanted."""

    topics: frozenset[str] | None = None
    partitions: frozenset[int] | None = None
    offset_min: int = 0
    offset_end: int = OFFSET_MAX
    moment_ms: int | None = None

    def wants(self, topic: str, partition: int) -> bool:
        """Whether anything of this partition may be wanted."""
        return (self.topics is None or topic in self.topics) and (
            self.partitions is None or partition in self.partitions
        )


def narrowed(filters: Iterable[Any]) -> tuple[Narrowing, list[Any]]:
    """What filters, all of which hold, leave to be read; and those that Spark has to apply all the same."""
    narrowing = Narrowing()
    left: list[Any] = []
    for one in filters:
        narrower, done = _narrower(narrowing, one)
        narrowing = narrower
        if not done:
            left.append(one)
    return narrowing, left


def _narrower(so_far: Narrowing, one: Any) -> tuple[Narrowing, bool]:
    kind = type(one).__name__
    column: tuple[str, ...] = getattr(one, "attribute", ())
    if len(column) != 1:
        return so_far, False
    name = column[0]
    if kind == "IsNotNull":
        return so_far, name in NEVER_NULL
    value = getattr(one, "value", None)
    match name:
        case "topic":
            topics = _among(so_far.topics, kind, value, str)
            return (so_far, False) if topics is None else (replace(so_far, topics=topics), True)
        case "partition":
            partitions = _among(so_far.partitions, kind, value, int)
            return (so_far, False) if partitions is None else (replace(so_far, partitions=partitions), True)
        case "offset":
            return _between(so_far, kind, value)
        case "timestamp":
            return _since(so_far, kind, value), False
        case _:
            return so_far, False


def _among(known: frozenset[T] | None, kind: str, value: Any, of: type[T]) -> frozenset[T] | None:
    values: tuple[Any, ...] = (value,) if kind in _EQUAL else tuple(value) if kind == "In" else ()
    if not values or any(type(one) is not of for one in values):
        return None
    return frozenset(values) if known is None else known & frozenset(values)


def _between(so_far: Narrowing, kind: str, value: Any) -> tuple[Narrowing, bool]:
    if kind == "In" and value and all(type(one) is int for one in value):
        # Those between them are read for nothing, and sorted out by Spark.
        return _cut(so_far, min(value), max(value) + 1), False
    if type(value) is not int:
        return so_far, False
    match kind:
        case "EqualTo" | "EqualNullSafe":
            return _cut(so_far, value, value + 1), True
        case "GreaterThan":
            return _cut(so_far, value + 1, OFFSET_MAX), True
        case "GreaterThanOrEqual":
            return _cut(so_far, value, OFFSET_MAX), True
        case "LessThan":
            return _cut(so_far, 0, value), True
        case "LessThanOrEqual":
            return _cut(so_far, 0, value + 1), True
        case _:
            return so_far, False


def _cut(so_far: Narrowing, start: int, end: int) -> Narrowing:
    return replace(
        so_far,
        offset_min=min(OFFSET_MAX, max(so_far.offset_min, start)),
        offset_end=max(0, min(so_far.offset_end, end)),
    )


def _since(so_far: Narrowing, kind: str, value: Any) -> Narrowing:
    """Only a start: timestamps need not rise, so that nothing says where the last one before a moment stands."""
    if kind not in _EQUAL | {"GreaterThan", "GreaterThanOrEqual"}:
        return so_far
    if not isinstance(value, datetime) or value.tzinfo is None or value.timestamp() < 0:
        return so_far
    moment = math.floor(value.timestamp() * 1000)
    return replace(so_far, moment_ms=moment if so_far.moment_ms is None else max(so_far.moment_ms, moment))
