"""Drawn faults on small groups: the model breaks none of its own rules, settles when it is calm, and repeats itself."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from headrace.testing.simulation.choices import Seeded
from headrace.testing.simulation.faults import MOST, Faults
from headrace.testing.simulation.history import Fetched
from headrace.testing.simulation.model.trouble import Trouble
from tests.simulation.model.consumers import GROUP, TOPIC, World
from tests.simulation.model.test_rebalances import PROTOCOLS, held

if TYPE_CHECKING:
    from headrace.testing.simulation.model.settings import Protocol

KEPT: dict[Protocol, tuple[int, ...]] = {"eager": (), "cooperative": (4,), "kip848": (62,)}
"""Seeds that once found the model itself at fault."""

CALM_S = 60.0
SETTLED_S = 200.0


def troubled(protocol: Protocol, seed: int) -> World:
    """Three members, one of which is killed or frozen, and whatever the seed draws."""
    choices = Seeded(seed)
    faults = Faults.drawn(choices)
    world = World(protocol, seed=seed, faults=faults, preemption=0.05)
    world.live("a")
    world.live("b", starts=choices.between("start", 0.0, 20.0))
    doomed = world.live("c", starts=5.0, stops=CALM_S)
    trouble = Trouble(world.kernel, world.kafka, GROUP, protocol, [TOPIC])
    trouble.plan(CALM_S)
    if choices.chance("kill", 0.5):
        world.kernel.later(30.0, "kill", lambda: world.kernel.kill(doomed))
    elif choices.chance("freeze", 0.5):
        world.kernel.later(30.0, "freeze", lambda: world.kernel.freeze(doomed, 15.0))
    for number in range(40):
        at_s = choices.between("record", 0.0, CALM_S)
        world.kernel.later(at_s, "record", partial(_append, world, number))
    world.run(CALM_S)
    world.kafka.calm()
    trouble.calm()
    world.run(SETTLED_S)
    return world


def _append(world: World, number: int) -> None:
    world.kafka.append(TOPIC, number % 4, b"%d" % (number % 3))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_group_settles_when_nothing_fails_any_more(protocol: Protocol) -> None:
    for seed in (*range(25), *KEPT[protocol]):
        world = troubled(protocol, seed)
        places = [(TOPIC, n) for n in range(world.kafka.topics.sizes()[TOPIC])]
        has = [held(world.told(name)) for name in "ab"]
        assert has[0] | has[1] == set(places), f"seed {seed}: somebody is missing"
        assert not has[0] & has[1], f"seed {seed}: two of them have the same"
        if world.kafka.topics.ids[TOPIC]:
            continue  # made anew: these simple consumers may stand where nothing is
        for place in places:
            at = max(world.kafka.committed(place, GROUP) or 0, world.kafka.start(place))
            assert at == world.kafka.end(place), f"seed {seed}: {place} was not read to its end"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_seed_repeats_itself_to_the_byte(protocol: Protocol) -> None:
    first, second = troubled(protocol, 7), troubled(protocol, 7)
    assert first.history.lines() == second.history.lines()
    assert first.kernel.steps == second.kernel.steps


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_records_come_in_order_and_once_for_as_long_as_nothing_fails(protocol: Protocol) -> None:
    world = World(protocol, seed=3, preemption=0.2)
    for name in "abc":
        world.live(name, starts=float("abc".index(name)) * 8.0)
    world.run(60.0)
    seen = [
        offset
        for place in world.places
        for _, entry in world.history.entries
        if isinstance(entry, Fetched) and entry.place == place
        for offset in entry.offsets
    ]
    assert seen == [offset for _ in world.places for offset in range(10)]


def test_what_is_drawn_lies_within_its_bounds_and_differs() -> None:
    drawn = [Faults.drawn(Seeded(seed)) for seed in range(200)]
    for faults in drawn:
        for name, most in MOST.items():
            assert 0 <= getattr(faults, name) <= most
    seen = {name for faults in drawn for name in faults.active()}
    assert seen == set(MOST), "a fault that is never drawn proves nothing"
    assert not Faults.none().active()


def test_one_fault_can_be_taken_away() -> None:
    faults = replace(Faults.none(), commit_refused=0.5, hostile_members=1)
    assert faults.active() == ("commit_refused", "hostile_members")
    assert faults.without("commit_refused").active() == ("hostile_members",)
