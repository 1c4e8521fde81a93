"""Offsets as Spark writes them down, and how much of what is new one trigger takes.

Decides the JSON form and the shares; refuses to know brokers. Invariant: the same offsets always have the same text, since
Spark compares texts to see whether anything is new.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headrace.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.ports import TopicPartition as Place

JsonOffsets = dict[str, dict[str, int]]
"""By topic, then by partition: `{"orders": {"0": 23}}`."""


def to_json(offsets: Mapping[Place, int]) -> JsonOffsets:
    """In the order of topics and partitions."""
    written: JsonOffsets = {}
    for topic, partition in sorted(offsets):
        written.setdefault(topic, {})[str(partition)] = offsets[topic, partition]
    return written


def from_json(written: Mapping[str, Mapping[str, int]]) -> dict[Place, int]:
    """The other way."""
    return {
        (topic, int(partition)): at for topic, places in written.items() for partition, at in places.items()
    }


def parsed(option: str, text: str) -> dict[Place, int]:
    """A number for each partition, as a user wrote them. Raises `ConfigError`."""
    found = _json(option, text)
    try:
        offsets = from_json(found)
        sound = bool(offsets) and all(type(at) is int for at in offsets.values())
    except (AttributeError, TypeError, ValueError):
        sound, offsets = False, {}
    if not sound or any(partition < 0 for _, partition in offsets):
        raise ConfigError(option, text, 'a number for each partition, such as {"orders": {"0": 23, "1": -2}}')
    return offsets


def parsed_places(option: str, text: str) -> tuple[Place, ...]:
    """Partitions, as a user wrote them. Raises `ConfigError`."""
    found = _json(option, text)
    try:
        places = [(topic, number) for topic, numbers in found.items() for number in numbers]
        sound = bool(places) and all(type(number) is int and number >= 0 for _, number in places)
    except (AttributeError, TypeError):
        sound, places = False, []
    if not sound:
        raise ConfigError(option, text, 'partitions by topic, such as {"orders": [0, 1]}')
    return tuple(sorted(set(places)))


def limited(starts: Mapping[Place, int], ends: Mapping[Place, int], offsets_max: int) -> dict[Place, int]:
    """Ends that are nearer, so that about so many offsets lie before them: each partition gets its share of them.

    As in Spark a share is rounded down, and one below 1 up: so no partition starves, and many of them take a few more.
    """
    sizes = {place: max(0, end - starts[place]) for place, end in ends.items()}
    total = sum(sizes.values())
    if total <= offsets_max:
        return dict(ends)
    nearer: dict[Place, int] = {}
    for place, end in ends.items():
        share = offsets_max * sizes[place] // total
        if not share and sizes[place]:
            share = 1
        nearer[place] = min(end, starts[place] + share) if sizes[place] else end
    return nearer


def _json(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ConfigError(option, text, "JSON") from None
