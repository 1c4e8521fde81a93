"""Small worlds in every way they can go, to a stated depth: no way breaks a promise, and none is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.testing.invariants import Violation
from headrace.testing.simulation import explore as module
from headrace.testing.simulation.explore import explore, replay, small_world
from headrace.testing.simulation.history import HandlerStarted
from headrace.testing.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.testing.simulation.history import Entry
    from headrace.testing.simulation.model.settings import Protocol

ALL_OF_IT = tuple(range(0, 131, 10))
"""Windows that begin all through the small world: it has some 130 choices, overlapping if deeper than ten."""


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["cooperative", "kip848", "eager"])
def test_no_way_to_depth_four_breaks_a_promise(protocol: Protocol) -> None:
    found = explore(small_world(protocol), ALL_OF_IT[::2], depth=4, states_max=100_000)
    assert not found.violations
    assert found.complete
    assert found.states > 1_000


@pytest.mark.slow
def test_the_same_is_explored_every_time() -> None:
    first, second = (explore(small_world("cooperative"), (0, 60), 5, 100_000) for _ in range(2))
    assert (first.states, first.runs, first.ended) == (second.states, second.runs, second.ended)


@pytest.mark.slow
def test_what_only_another_order_shows_is_found_and_played_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Watched(World):
        """Takes offence if the first member is the first to work: with the first option everywhere, the second is."""

        def _see(self, now: float, entry: Entry) -> None:
            before = any(isinstance(each, HandlerStarted) for _, each in self.history.entries[:-1])
            if isinstance(entry, HandlerStarted) and not before and entry.member.startswith("m0"):
                self.judge.violations.append(Violation("L1", now, "the other one began"))
            super()._see(now, entry)

    monkeypatch.setattr(module, "World", Watched)
    world = small_world("cooperative")
    assert not replay(world, (0,), 8).violations
    found = explore(world, (0,), depth=8, states_max=100_000)
    assert found.violations
    choices, violation = found.violations[0]
    assert violation in replay(world, choices, 8).violations


@pytest.mark.slow
def test_it_says_when_it_left_something_untried() -> None:
    found = explore(small_world("cooperative"), (0,), depth=10, states_max=500)
    assert not found.complete


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("protocol", "depth", "states_min"),
    [("cooperative", 16, 100_000), ("kip848", 12, 25_000), ("eager", 12, 30_000)],
)
def test_no_way_deep_down_breaks_a_promise(
    protocol: Protocol,
    depth: int,
    states_min: int,
    record_property: Callable[[str, object], None],
) -> None:
    found = explore(small_world(protocol), ALL_OF_IT, depth, states_max=1_000_000)
    record_property("distinct states", found.states)
    assert not found.violations, found.violations[:3]
    assert found.complete
    assert found.states >= states_min
