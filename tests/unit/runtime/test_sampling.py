"""What the policy of the number of connections is given: shares of looks, rates, lags, and since when each is settled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace._core.health import Vitals
from headrace._runtime.sampling import Sampling
from tests.unit.runtime.fake_links import FakeLink, part

if TYPE_CHECKING:
    from headrace._core.load import LoadSample


class Play:
    """Two connections on a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0
        self.links: Any = [FakeLink(0), FakeLink(1)]
        self.sampling = Sampling(lambda: self.now)

    def look(self, times: int) -> None:
        """So many looks, a tenth of a second apart."""
        for _ in range(times):
            self.sampling.look(self.links)
            self.now += 0.1

    def take(self, ends: dict[tuple[str, int], int] | None) -> list[LoadSample]:
        return self.sampling.take(self.links, (), ends)[1]


def test_rates_are_of_the_span_and_lags_of_the_partitions_held() -> None:
    play = Play()
    play.look(1)
    play.take(None)
    for finished, link in zip((50, 20), play.links, strict=True):
        link.owner.tell(part(link.number, position=10), finished=finished)
    play.look(10)
    ends = {("orders", 0): 30, ("orders", 1): 5}
    first, second = play.take(ends)
    assert (round(first.rate), first.lag) == (50, 20)
    assert (round(second.rate), second.lag) == (20, 0), "never below none"
    assert [sample.lag for sample in play.take(None)] == [None, None]
    assert [round(sample.rate) for sample in play.take(None)] == [0, 0]


def test_workers_starve_where_there_is_lag_and_nothing_waits() -> None:
    play = Play()
    busy, idle = play.links
    busy.owner.tell(part(0, waiting=3))
    idle.owner.tell(part(1))
    play.look(4)
    busy.owner.tell(part(0))
    play.look(4)
    first, second = play.take({("orders", 0): 1, ("orders", 1): 1})
    assert (first.starved, second.starved) == (0.5, 1.0)
    play.look(4)
    assert [sample.starved for sample in play.take({})] == [0.0, 0.0], "no lag, no hunger"


def test_one_that_holds_nothing_does_not_starve() -> None:
    play = Play()
    play.look(4)
    assert [sample.starved for sample in play.take({("orders", 0): 9})] == [0.0, 0.0]


def test_settled_since_the_last_rebalance_and_not_while_anything_moves() -> None:
    play = Play()
    owner = play.links[0].owner

    def settled(vitals: Vitals) -> float | None:
        owner.tell(vitals=vitals)
        return play.sampling.take(play.links, (), None)[0][0].settled_since

    assert settled(Vitals()) is None, "it has not joined"
    owner.running.set()
    play.look(1)
    assert settled(Vitals()) == 100.0
    assert settled(Vitals(rebalances=(101.0, 102.0))) == 102.0
    assert settled(Vitals(rebalances=(101.0,), rebalance_since=103.0)) is None
    assert settled(Vitals(rebalances=(101.0,), rebuild=("why", 103.0))) is None
    assert settled(Vitals(rebalances=(101.0,), refused=("CODE", 1, 103.0))) is None
    assert settled(Vitals(rebalances=(101.0,), starts=(("orders", 0),))) is None


def test_one_that_fails_has_a_view_and_no_sample() -> None:
    play = Play()
    views, samples = play.sampling.take(play.links, {1, 2}, None)
    assert [(view.number, view.failing) for view in views] == [(0, False), (1, True), (2, True)]
    assert len(samples) == 1


def test_one_that_is_gone_is_forgotten() -> None:
    play = Play()
    play.look(1)
    gone = play.links.pop()
    play.take(None)
    assert gone not in play.sampling._spans
