"""What `headrace lag --watch` makes of two looks."""

from __future__ import annotations

from headrace._client.lag import PartitionLag
from headrace.cli.lag import Look, table


def look(at: float, *committed_and_end: tuple[int | None, int]) -> Look:
    """A look at partitions of one topic, all from offset 0."""
    found = [
        PartitionLag("orders", number, committed, 0, end)
        for number, (committed, end) in enumerate(committed_and_end)
    ]
    return Look(at, tuple(found))


def test_a_rate_needs_two_commits() -> None:
    before = look(10.0, (100, 500), (None, 50), (7, 7))
    now = look(12.0, (300, 600), (20, 50), (None, 9))
    assert now.finished_per_s(before) == {("orders", 0): 100.0}
    assert now.finished_per_s(now) == {}, "no time has passed"


def test_the_table_of_one_look_has_no_rate() -> None:
    assert table(look(1.0, (100, 1500))).splitlines() == [
        "topic   partition  committed    end    lag",
        "orders          0        100  1,500  1,400",
        "total 1,400",
    ]


def test_the_table_of_two_looks_says_where_it_goes() -> None:
    lines = table(look(12.0, (300, 600), (None, 50)), look(10.0, (100, 600), (None, 50))).splitlines()
    assert lines[0].endswith("lag  finished/s")
    assert lines[1].endswith("300         100")
    assert lines[2].endswith("50           -")
    assert lines[3] == "total 350, 100 finished/s, lag -100/s: gone in 4 s if it goes on so"
    growing = table(look(12.0, (100, 900)), look(10.0, (100, 600))).splitlines()[-1]
    assert growing == "total 800, 0 finished/s, lag +150/s"
