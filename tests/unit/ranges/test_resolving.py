"""From what a user says to ranges: each kind of bound, what is asked for it, and what is refused or counted as lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ConfigError, OffsetsMissing
from headrace.ranges import Committed, Last, Loss, OffsetRange
from headrace.ranges.resolving import Resolved, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.ports import TopicPartition as Place

NOW_MS = 1_000_000_000_000
A, B = ("a", 0), ("a", 1)
IDS = {"a": "id of a"}


@dataclass
class Cluster:
    """Two partitions whose record at offset n has timestamp `NOW_MS - 1000 * (end - n)`, a second between two."""

    bounds: dict[Place, tuple[int, int]] = field(default_factory=lambda: {A: (100, 200), B: (0, 50)})
    stable: dict[Place, int] = field(default_factory=dict[tuple[str, int], int])
    commits: dict[tuple[str, Place], int] = field(default_factory=dict[tuple[str, tuple[str, int]], int])
    asked: list[str] = field(default_factory=list[str])

    def partitions(self, topics: Sequence[str], timeout_s: float) -> list[Place]:
        self.asked.append("partitions")
        return [place for place in self.bounds if place[0] in topics]

    def topic_ids(self, topics: Sequence[str], timeout_s: float) -> Mapping[str, str]:
        return {topic: f"id of {topic}" for topic in topics}

    def starts(self, places: Sequence[Place], timeout_s: float) -> dict[Place, int]:
        self.asked.append("starts")
        return {place: self.bounds[place][0] for place in places}

    def ends(self, places: Sequence[Place], timeout_s: float, *, committed_only: bool) -> dict[Place, int]:
        self.asked.append("ends")
        stable = self.stable if committed_only else {}
        return {place: stable.get(place, self.bounds[place][1]) for place in places}

    def offsets_at(
        self, moments: Mapping[Place, int], timeout_s: float, *, committed_only: bool
    ) -> dict[Place, int | None]:
        self.asked.append("times")
        found: dict[Place, int | None] = {}
        for place, moment in moments.items():
            start, end = self.bounds[place]
            found[place] = next((n for n in range(start, end) if NOW_MS - 1000 * (end - n) >= moment), None)
        return found

    def committed_of(self, group_id: str, places: Sequence[Place], timeout_s: float) -> dict[Place, int]:
        self.asked.append(f"committed {group_id}")
        return {p: self.commits[group_id, p] for p in places if (group_id, p) in self.commits}


def ask(cluster: Cluster, start: Any, end: Any, *, committed_only: bool = True) -> Resolved:
    """Resolve topic "a"."""
    return resolve(cluster, ["a"], start, end, now_ms=NOW_MS, timeout_s=5, committed_only=committed_only)


def at(seconds_ago: float) -> datetime:
    """A moment."""
    return datetime.fromtimestamp(NOW_MS / 1000 - seconds_ago, UTC)


@pytest.mark.parametrize(
    ("start", "end", "a", "b"),
    [
        ("earliest", "latest", (100, 200), (0, 50)),
        ("earliest", "earliest", (100, 100), (0, 0)),
        ("latest", "latest", (200, 200), (50, 50)),
        (Last(10), "latest", (190, 200), (40, 50)),
        (Last(80), "latest", (120, 200), (0, 50)),  # as many as there are: nothing is lost
        (Last(0), "latest", (200, 200), (50, 50)),
        ("earliest", Last(60), (100, 140), (0, 0)),
        (Last(5), Last(10), (185, 190), (35, 40)),  # counted from where the range ends
        (timedelta(seconds=7), "latest", (193, 200), (43, 50)),
        (timedelta(seconds=7), timedelta(seconds=2), (193, 198), (43, 48)),
        (timedelta(seconds=60), "latest", (140, 200), (0, 50)),
        (timedelta(0), "latest", (200, 200), (50, 50)),  # nothing so young
        (at(7.5), at(2), (193, 198), (43, 48)),  # the first at or after a moment
        (at(2), at(7), (193, 193), (43, 43)),  # later than its end: empty, and no error across partitions
        (Committed("g"), "latest", (150, 200), (0, 50)),
        (Committed("g", "latest"), "latest", (150, 200), (50, 50)),
        ("earliest", Committed("g"), (100, 150), (0, 0)),
        (Committed("g"), Last(60), (140, 140), (0, 0)),
        ({A: 120, B: "latest"}, {A: timedelta(seconds=1), B: "latest"}, (120, 199), (50, 50)),
        ({A: 120, B: 20}, {A: 120, B: 50}, (120, 120), (20, 50)),
    ],
)
def test_each_kind_of_bound(start: Any, end: Any, a: tuple[int, int], b: tuple[int, int]) -> None:
    found = ask(Cluster(commits={("g", A): 150}), start, end)
    assert found == Resolved((OffsetRange(*A, *a), OffsetRange(*B, *b)), (), IDS)


def test_a_kind_of_question_is_one_request_for_all_partitions() -> None:
    """And the ends are asked for last."""
    cluster = Cluster()
    ask(cluster, Committed("g"), timedelta(seconds=3))
    assert cluster.asked == ["partitions", "starts", "committed g", "times", "ends"]
    cluster.asked.clear()
    ask(cluster, "earliest", "latest")
    assert cluster.asked == ["partitions", "starts", "ends"]
    cluster.asked.clear()
    ask(cluster, {A: Committed("g"), B: Committed("h")}, Committed("g"))
    assert sorted(cluster.asked) == ["committed g", "committed h", "ends", "partitions", "starts"]


def test_latest_is_before_open_transactions_unless_asked_otherwise() -> None:
    cluster = Cluster(stable={A: 180})
    assert ask(cluster, "earliest", "latest").ranges[0].end == 180
    assert ask(cluster, "earliest", "latest", committed_only=False).ranges[0].end == 200


@pytest.mark.parametrize("start", [20, Committed("old")])
def test_a_start_before_the_first_record_is_a_loss(start: Any) -> None:
    cluster = Cluster(bounds={A: (100, 200)}, commits={("old", A): 20})
    found = ask(cluster, start, "latest")
    assert found == Resolved((OffsetRange(*A, 100, 200),), (Loss(*A, 20, 100),), IDS)
    assert found.losses[0].offsets == 80
    assert ask(cluster, 99, "latest").losses == (Loss(*A, 99, 100),)
    assert ask(cluster, 100, "latest").losses == ()


def test_a_range_that_is_gone_as_a_whole_is_lost_as_far_as_it_went() -> None:
    found = ask(Cluster(bounds={A: (100, 200)}), 20, 60)
    assert found == Resolved((OffsetRange(*A, 60, 60),), (Loss(*A, 20, 60),), IDS)


@pytest.mark.parametrize(
    ("start", "end"), [(0, 51), (51, "latest"), (Committed("ahead"), "latest"), ("earliest", 51)]
)
def test_offsets_that_do_not_exist_yet_are_refused(start: Any, end: Any) -> None:
    """Never cut short in silence: what is there may be less than what was meant."""
    cluster = Cluster(bounds={B: (0, 50)}, commits={("ahead", B): 51})
    with pytest.raises(OffsetsMissing, match=r"a\[1\].*51.*ends at 50"):
        ask(cluster, start, end)


def test_offsets_behind_an_open_transaction_are_refused_too() -> None:
    with pytest.raises(OffsetsMissing, match="transactions"):
        ask(Cluster(bounds={B: (0, 50)}, stable={B: 40}), 0, 50)
    assert ask(Cluster(bounds={B: (0, 50)}, stable={B: 40}), 0, 50, committed_only=False).ranges[0].end == 50


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (-2, "latest", r"Last\(2\)"),
        ("earliest", -1, r"Last\(1\)"),
        ("beginning", "latest", "earliest"),
        ("committed", "latest", "Committed"),
        (True, "latest", "earliest"),
        (1.5, "latest", "earliest"),
        (None, "latest", "earliest"),
        (datetime(2026, 1, 1), "latest", "time zone"),  # noqa: DTZ001 - that is the point
        (timedelta(seconds=-1), "latest", "so long ago"),
        ("latest", "earliest", "not after"),
        ({A: 120, B: 30}, {A: 119, B: 50}, "at most the end, 119"),
        ({A: 120}, "latest", r"left out: \('a', 1\)"),
        ({A: 120, B: 0, ("a", 2): 0}, "latest", r"not there: \('a', 2\)"),
        ({A: 120, B: "later"}, "latest", "earliest"),
    ],
)
def test_a_bound_that_makes_no_sense_is_refused(start: Any, end: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ask(Cluster(), start, end)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Last(-1), "Last.offsets"),
        (lambda: Last("10"), "Last.offsets"),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        (lambda: Committed(""), "group_id"),
        (lambda: Committed("g", "newest"), "otherwise"),  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    ],
)
def test_a_value_that_makes_no_sense_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


bounds = (
    st.sampled_from(["earliest", "latest"])
    | st.integers(0, 60)
    | st.builds(Last, st.integers(0, 60))
    | st.integers(0, 60).map(lambda s: timedelta(seconds=s))
    | st.builds(Committed, st.just("g"), st.sampled_from(["earliest", "latest"]))
)


@given(bounds, bounds, st.integers(0, 30), st.integers(0, 30), st.none() | st.integers(0, 60))
def test_what_is_asked_for_is_in_the_range_or_lost_or_refused(
    start: Any, end: Any, first: int, records: int, commit: int | None
) -> None:
    """Whatever is said: the range exists, ends where it was to end, and what its start lacks is counted."""
    place = ("a", 0)
    cluster = Cluster(
        bounds={place: (first, first + records)}, commits={} if commit is None else {("g", place): commit}
    )
    try:
        found = ask(cluster, start, end)
    except (OffsetsMissing, ConfigError):
        return
    (whole,) = found.ranges
    assert first <= whole.start or whole.size == 0
    assert whole.end <= first + records
    if isinstance(end, int):
        assert whole.end == end
    if isinstance(start, int):
        lost = sum(loss.offsets for loss in found.losses)
        assert whole.start - lost == min(start, whole.end)
