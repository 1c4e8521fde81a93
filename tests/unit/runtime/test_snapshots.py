"""How often snapshots are made: as often as they are cheap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headrace._core.health import Vitals
from headrace._core.snapshot import EngineSnapshot
from headrace._core.states import AppState
from headrace._runtime.snapshots import (
    PUBLISH_S,
    PUBLISH_S_MAX,
    PUBLISH_SHARE,
    OwnerSnapshot,
    Publisher,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class Scene:
    """An engine and the owner's signs, on a clock of our own; freezing the engine's numbers takes so long."""

    def __init__(self, cost_s: float) -> None:
        self.now = 100.0
        self.cost_s = cost_s
        scene: Any = self
        self.publisher = Publisher(scene, (), lambda: self.now, scene)

    def snapshot(self, _busy: Sequence[int], _now: float, _last: EngineSnapshot) -> EngineSnapshot:
        self.now += self.cost_s
        return EngineSnapshot()

    def read(self, _now: float) -> Vitals:
        return Vitals()

    def told(self) -> OwnerSnapshot:
        return OwnerSnapshot()

    def made_within(self, span_s: float) -> int:
        """How many snapshots an owner makes that turns every millisecond."""
        before, until = self.publisher.latest.sequence, self.now + span_s
        while self.now < until:
            self.publisher.publish(AppState.RUNNING)
            self.now += 0.001
        return self.publisher.latest.sequence - before


def test_cheap_ones_are_made_four_times_a_second() -> None:
    scene = Scene(0.0001)
    scene.made_within(10.0)
    assert scene.publisher.pause_s == PUBLISH_S
    assert scene.made_within(50.0) == pytest.approx(200, rel=0.02)


@pytest.mark.parametrize("cost_s", [0.002, 0.004, 0.009])
def test_dear_ones_take_no_more_than_their_share(cost_s: float) -> None:
    scene = Scene(cost_s)
    scene.made_within(10.0)
    assert scene.made_within(200.0) * cost_s / 200.0 <= PUBLISH_SHARE


def test_they_are_never_older_than_the_bound() -> None:
    scene = Scene(0.5)
    scene.made_within(10.0)
    assert scene.publisher.pause_s == PUBLISH_S_MAX


def test_one_that_had_to_wait_for_the_interpreter_puts_off_none() -> None:
    scene = Scene(0.0001)
    scene.made_within(10.0)
    scene.cost_s = 0.1
    scene.publisher.publish(AppState.RUNNING, force=True)
    scene.cost_s = 0.0001
    assert scene.publisher.pause_s == PUBLISH_S


def test_whoever_insists_gets_one_at_once() -> None:
    scene = Scene(0.5)
    scene.made_within(10.0)
    before = scene.publisher.latest.sequence
    scene.publisher.publish(AppState.DRAINING, force=True)
    assert (scene.publisher.latest.sequence, scene.publisher.latest.state) == (before + 1, "draining")
