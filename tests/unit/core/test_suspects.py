"""Which topics share a commit while one of them is suspected to be missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from headrace._core.suspects import Suspects

if TYPE_CHECKING:
    from headrace._core.tenure import Tenure


@dataclass(frozen=True)
class Dirty:
    """As much of a tenure as matters here."""

    topic: str


def dirty(*topics: str) -> list[Tenure]:
    return [cast("Tenure", Dirty(topic)) for topic in topics]


def test_without_suspicion_all_go_together() -> None:
    assert len(Suspects().share(dirty("a", "b", "c"))) == 3


def test_suspected_topics_take_turns_and_the_others_go_on() -> None:
    suspects = Suspects()
    suspects.refused({"a", "b"}, now=1.0)
    shares = [tuple(tenure.topic for tenure in suspects.share(dirty("a", "b", "c", "d"))) for _ in range(6)]
    assert set(shares) == {("c", "d"), ("a",), ("b",)}
    assert all(shares.count(share) == 2 for share in shares)


def test_a_topic_that_is_written_is_cleared() -> None:
    suspects = Suspects()
    suspects.refused({"a", "b"}, now=1.0)
    suspects.written({"a"})
    assert suspects
    suspects.written({"b"})
    assert not suspects
    assert len(suspects.share(dirty("a", "b"))) == 2


def test_only_a_topic_refused_by_itself_is_gone() -> None:
    suspects = Suspects()
    suspects.refused({"a", "b"}, now=1.0)
    assert suspects.gone(now=1_000.0, after_s=30.0) is None
    suspects.refused({"b"}, now=2.0)
    assert suspects.gone(now=31.0, after_s=30.0) is None
    suspects.refused({"b"}, now=32.0)
    assert suspects.gone(now=32.0, after_s=30.0) == "b"
    suspects.written({"b"})
    assert suspects.gone(now=1_000.0, after_s=30.0) is None
