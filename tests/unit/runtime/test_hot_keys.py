"""Hot keys: the bounds of the sketch against exact counts, what is sampled, what is forgotten, and how much is kept."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from headrace._runtime.hot_keys import (
    CAPACITY,
    EVERY,
    KEY_BYTES_MAX,
    TOP,
    WINDOW_S,
    KeySampler,
    Sketch,
    together,
)
from headrace.ports import Polled

if TYPE_CHECKING:
    from collections.abc import Iterable


class Stored:
    """A record that has nothing but a key."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key

    def key(self) -> bytes | None:
        return self._key


def polled(keys: Iterable[bytes | None], partition: int = 0) -> Polled:
    records: list[Any] = [Stored(key) for key in keys]
    return Polled([("orders", partition, records)], len(records))


def fed(keys: list[bytes | None], now: float = 0.0) -> KeySampler:
    """In polls of all sizes."""
    sampler, chance = KeySampler(), random.Random(1)  # noqa: S311 - a test
    at = 0
    while at < len(keys):
        size = chance.randint(1, 300)
        sampler.polled(polled(keys[at : at + size]), now)
        at += size
    return sampler


@given(st.lists(st.integers(0, 12)), st.integers(1, 8))
def test_counts_are_within_their_errors(keys: list[int], capacity: int) -> None:
    """As the paper proves: never too low, too high by at most the error, and no frequent key is missing."""
    sketch, exact = Sketch(capacity), Counter(keys)
    for key in keys:
        sketch.add(("t", 0, b"%d" % key, b""))
    found = {int(lane[2]): bounds for lane, bounds in sketch.found().items()}
    assert len(found) <= capacity
    for key, (count, error) in found.items():
        assert count - error <= exact[key] <= count
    assert {key for key, count in exact.items() if count > len(keys) / capacity} <= found.keys()
    assert all(count <= sketch.floor for key, count in exact.items() if key not in found)
    assert sum(count for count, _ in found.values()) == len(keys) == sketch.samples


def test_one_in_so_many_is_looked_at_whatever_the_polls_are() -> None:
    told = fed([b"k"] * (1000 * EVERY)).told(0.0)
    assert (told.every, len(told.top)) == (EVERY, 1)
    assert told.top[0].count == told.samples
    assert abs(told.samples - 1000) < 100


def test_keys_that_come_round_and_round_are_seen_by_their_share() -> None:
    """With a fixed stride one of these would have all samples."""
    keys = EVERY // 4
    told = fed([b"%d" % (n % keys) for n in range(1000 * EVERY)]).told(0.0)
    assert max(one.count for one in told.top) < 4 * told.samples / keys


def test_hot_keys_are_found_among_very_many() -> None:
    chance = random.Random(3)  # noqa: S311 - a test
    keys: list[bytes | None] = [
        b"hot"
        if chance.random() < 0.2
        else b"warm"
        if chance.random() < 0.1
        else b"%d" % chance.randrange(10**9)
        for _ in range(60_000)
    ]
    told = fed(keys).told(0.0)
    assert [one.key for one in told.top[:2]] == [b"hot", b"warm"]
    hot = told.top[0]
    assert 0.15 < (hot.count - hot.error) / told.samples < 0.25
    assert all(one.count - one.error < 12 for one in told.top[2:])


def test_where_each_key_comes_once_none_is_hot() -> None:
    assert fed([b"%d" % n for n in range(50_000)]).told(0.0).top == ()


def test_records_without_a_key_are_counted_apart() -> None:
    told = fed([None] * 6_400 + [b""] * 6_400).told(0.0)
    assert told.samples == told.keyless + told.top[0].count
    assert [one.key for one in told.top] == [b""]
    assert told.keyless > 0


def test_what_is_kept_has_a_bound() -> None:
    """Long keys are cut and told apart all the same."""
    long: list[bytes | None] = [b"x" * 100_000 + b"%d" % n for n in range(3)]
    told = fed(long * 3_000).told(0.0)
    assert [(len(one.key), one.cut) for one in told.top] == [(KEY_BYTES_MAX, True)] * 3
    assert len({one.digest for one in told.top}) == 3
    many = fed([b"%d" % (n % 500) for n in range(60_000)])
    assert len(many._now.found()) == CAPACITY
    assert len(many.told(0.0).top) <= TOP


def test_what_was_hot_is_forgotten() -> None:
    sampler = KeySampler()
    seen: list[list[bytes]] = []
    for minute, key in enumerate((b"a", b"b", b"c")):
        now = minute * WINDOW_S
        sampler.polled(polled([key] * 20_000), now)
        seen.append(sorted(one.key for one in sampler.told(now).top))
    assert seen == [[b"a"], [b"a", b"b"], [b"b", b"c"]]
    assert sampler.told(4 * WINDOW_S).samples == 0


def test_both_minutes_are_one_count() -> None:
    """What a full sketch does not count may still have come: the error says how often."""
    sampler = KeySampler()
    sampler.polled(polled(b"%d" % (n % 300) for n in range(60_000)), 0.0)
    floor = sampler._now.floor
    sampler.polled(polled([b"late"] * 30_000), WINDOW_S)
    late = next(one for one in sampler.told(WINDOW_S).top if one.key == b"late")
    assert floor > 0
    assert late.error == floor
    assert late.count - late.error == sampler._now.samples


def test_a_partition_that_moved_between_connections_is_counted_together() -> None:
    one, other = fed([b"k"] * 10_000).told(0.0), fed([b"k"] * 5_000 + [None] * 500).told(0.0)
    both = together([one, other])
    assert len(both.top) == 1
    assert both.top[0].count == one.top[0].count + other.top[0].count
    assert (both.samples, both.keyless) == (one.samples + other.samples, other.keyless)


def test_the_hottest_comes_first_and_its_text_holds_no_key() -> None:
    told = fed([b"secret-%d" % min(n % 10, n % 3) for n in range(50_000)]).told(0.0)
    assert all(a.count >= b.count for a, b in pairwise(told.top))
    assert "secret" not in repr(told)
