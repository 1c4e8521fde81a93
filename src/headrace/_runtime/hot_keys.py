"""Which keys most records have: about one record in 256 is looked at, and a sketch of fixed size counts what it has.

Decides what is sampled and what is forgotten. Refuses to know who may see a key. Invariants: memory does not grow with
the number of keys, nor with their length; a key's true count of samples lies between `count - error` and `count`.

The sketch is Space-Saving: Metwally, Agrawal, El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data
Streams", ICDT 2005. Two are kept, of this minute and of the last one, so that what was hot an hour ago is forgotten.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import nlargest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.ports import Polled
    from headrace.records import Source

EVERY = 256
"""One record in so many is looked at, in the mean: what `benchmarks/watched.py` calls keys."""
CAPACITY = 128
"""Keys that a sketch counts: one that more than 1 in 128 samples have is among them, whatever the others are."""
WINDOW_S = 60.0
TOP = 16
"""Keys that are told."""
SURE_MIN = 2
"""Samples that a key has for sure before it is told: where each key comes once, none is hot."""
KEY_BYTES_MAX = 128
"""Of a longer key so many bytes are kept, and a digest of all, by which it is told from others."""

Lane = tuple[str, int, bytes, bytes]
"""Topic, partition, key, and the digest of a key that is too long to be kept; else that is empty."""


@dataclass(frozen=True, slots=True)
class HotKey:
    """A key that many records had of late.

    count: samples that had it, at most; at least `count - error`. key: its bytes, the first 128 of them if `cut`. It is
    not in the text of this value, since what is logged should not hold it.
    """

    topic: str
    partition: int
    key: bytes = field(repr=False)
    count: int
    error: int
    cut: bool = False
    digest: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class HotKeys:
    """What was seen in samples of the last one to two minutes.

    samples: records looked at. keyless: those without a key. every: how many records a sample stands for, in the mean.
    top: the keys that most of them had, the hottest first.
    """

    samples: int = 0
    keyless: int = 0
    every: int = EVERY
    top: tuple[HotKey, ...] = ()


class Sketch:
    """Space-Saving: counts the `capacity` keys that came most, each with what it may be counted too much."""

    __slots__ = ("_by_count", "_capacity", "_counts", "_least", "keyless", "samples")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._counts: dict[Lane, int] = {}
        # By count: keys, and the error of each. To move a key is to move it one up, so the least is always at hand.
        self._by_count: dict[int, dict[Lane, int]] = {}
        self._least = 0
        self.samples = 0
        self.keyless = 0

    def add(self, lane: Lane) -> None:
        """One more record had this key."""
        self.samples += 1
        count = self._counts.get(lane)
        if count is not None:
            self._put(lane, count + 1, self._taken(lane, count))
        elif len(self._counts) < self._capacity:
            self._put(lane, 1, 0)
            self._least = 1
        else:
            least = self._least
            evicted = next(iter(self._by_count[least]))
            del self._counts[evicted]
            self._taken(evicted, least)
            self._put(lane, least + 1, least)

    @property
    def floor(self) -> int:
        """How often a key may have come that is not counted."""
        return self._least if len(self._counts) >= self._capacity else 0

    def found(self) -> dict[Lane, tuple[int, int]]:
        """Count and error of each key."""
        return {
            lane: (count, error) for count, lanes in self._by_count.items() for lane, error in lanes.items()
        }

    def _taken(self, lane: Lane, count: int) -> int:
        lanes = self._by_count[count]
        error = lanes.pop(lane)
        if not lanes:
            del self._by_count[count]
            # Whoever was taken goes one up, or is followed by one who does.
            if count == self._least:
                self._least = count + 1
        return error

    def _put(self, lane: Lane, count: int, error: int) -> None:
        self._counts[lane] = count
        self._by_count.setdefault(count, {})[lane] = error


class KeySampler:
    """Looks at some of what polls bring. Owner thread only; what `told` returns is for any thread."""

    __slots__ = ("_before", "_began_at", "_chance", "_now", "_skip")

    def __init__(self, began_at: float = 0.0) -> None:
        # Not each 256th: keys that come round and round would always be seen, or never.
        self._chance = random.Random(64).random  # noqa: S311 - no secret hangs on it
        self._skip = 0
        self._began_at = began_at
        self._now = Sketch()
        self._before = Sketch()

    def polled(self, polled: Polled, now: float) -> None:
        """Look at some of these records."""
        if polled.count <= self._skip:
            self._skip -= polled.count
            return
        self._turn(now)
        skip = self._skip
        for topic, partition, records in polled.groups:
            there = len(records)
            while skip < there:
                self._look(topic, partition, records[skip])
                skip += 1 + int(self._chance() * (2 * EVERY - 1))
            skip -= there
        self._skip = skip

    def told(self, now: float) -> HotKeys:
        """The keys that most had."""
        self._turn(now)
        sketches = self._now, self._before
        samples = sum(each.samples for each in sketches)
        if not samples:
            return HotKeys()
        counts: Counter[Lane] = Counter()
        errors: Counter[Lane] = Counter()
        parts = [(each.found(), each.floor) for each in sketches]
        for lane in {lane for found, _ in parts for lane in found}:
            for found, floor in parts:
                # What a full sketch does not count may still have come.
                count, error = found.get(lane, (floor, floor))
                counts[lane] += count
                errors[lane] += error
        return HotKeys(samples, sum(each.keyless for each in sketches), EVERY, _hottest(counts, errors))

    def _look(self, topic: str, partition: int, record: Source) -> None:
        key = record.key()
        if key is None:
            self._now.samples += 1
            self._now.keyless += 1
        elif len(key) <= KEY_BYTES_MAX:
            self._now.add((topic, partition, key, b""))
        else:
            digest = blake2b(key, digest_size=16).digest()
            self._now.add((topic, partition, key[:KEY_BYTES_MAX], digest))

    def _turn(self, now: float) -> None:
        passed_s = now - self._began_at
        if passed_s < WINDOW_S:
            return
        self._before = self._now if passed_s < 2 * WINDOW_S else Sketch()
        self._now, self._began_at = Sketch(), now


def together(parts: Sequence[HotKeys]) -> HotKeys:
    """What several connections saw. A key that two of them had, since its partition moved, is counted together."""
    counts: Counter[Lane] = Counter()
    errors: Counter[Lane] = Counter()
    for part in parts:
        for one in part.top:
            lane = one.topic, one.partition, one.key, one.digest
            counts[lane] += one.count
            errors[lane] += one.error
    return HotKeys(
        sum(part.samples for part in parts),
        sum(part.keyless for part in parts),
        EVERY,
        _hottest(counts, errors),
    )


def _hottest(counts: Counter[Lane], errors: Counter[Lane]) -> tuple[HotKey, ...]:
    # By what is sure: a key that was just let in may owe nearly all of its count to others.
    sure = {lane: count - errors[lane] for lane, count in counts.items() if count - errors[lane] >= SURE_MIN}
    return tuple(
        HotKey(*lane[:3], counts[lane], errors[lane], cut=lane[3] != b"", digest=lane[3])
        for lane in nlargest(TOP, sure, key=lambda lane: (sure[lane], counts[lane], lane))
    )
