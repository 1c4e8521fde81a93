"""Groups on the model broker: what each member is told, protocol by protocol, when others come, go, hang or die."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.testing.simulation.history import CommitApplied
from headrace.testing.simulation.kernel import Process
from headrace.testing.simulation.model.settings import ModelSettings
from tests.simulation.model.consumers import GROUP, TOPIC, World

if TYPE_CHECKING:
    from headrace.ports import TopicPartition
    from headrace.testing.simulation.model.settings import Protocol

PROTOCOLS: list[Protocol] = ["eager", "cooperative", "kip848"]
ALL = [(TOPIC, number) for number in range(4)]


def held(told: list[tuple[str, list[TopicPartition]]]) -> set[TopicPartition]:
    """What a member has after all it was told."""
    has: set[TopicPartition] = set()
    for call, places in told:
        if call == "assign":
            assert not has & set(places), "given twice"
            has |= set(places)
        else:
            assert has >= set(places), "taken what was not given"
            has -= set(places)
    return has


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_member_is_given_all_and_gives_all_back(protocol: Protocol) -> None:
    world = World(protocol)
    world.live("a", stops=20.0)
    world.run(40.0)
    assert world.told("a") == [("assign", ALL), ("revoke", ALL)]
    assert world.consumers["a"].closed is True
    assert world.committed() == [10, 10, 10, 10]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_two_members_share_and_the_one_that_stays_is_given_the_rest(protocol: Protocol) -> None:
    world = World(protocol)
    world.live("a")
    world.live("b", starts=10.0, stops=40.0)
    world.run(35.0)
    assert len(held(world.told("a"))) == len(held(world.told("b"))) == 2
    assert held(world.told("a")) | held(world.told("b")) == set(ALL)
    world.run(80.0)
    assert held(world.told("a")) == set(ALL)
    assert held(world.told("b")) == set()
    assert sum((consumer.calls().count("lost") for consumer in world.consumers.values()), 0) == 0 or (
        protocol == "cooperative"
    )


def test_an_eager_member_gives_everything_back_for_each_newcomer() -> None:
    world = World("eager")
    world.live("a")
    world.live("b", starts=10.0)
    world.run(40.0)
    assert world.told("a") == [("assign", ALL), ("revoke", ALL), ("assign", ALL[:2])]
    assert world.told("b") == [("assign", ALL[2:])]


def test_a_cooperative_member_gives_back_what_moves_and_is_told_of_nothing_new_too() -> None:
    """As librdkafka: the callback of a round that adds nothing comes with an empty list."""
    world = World("cooperative", records=0)
    world.live("a")
    world.live("b", starts=10.0)
    world.run(60.0)
    assert world.told("a") == [("assign", ALL), ("revoke", ALL[2:]), ("assign", []), ("assign", [])]
    assert world.told("b") == [("assign", []), ("assign", ALL[2:])]


def test_a_kip848_member_is_given_what_another_has_let_go() -> None:
    world = World("kip848", records=0)
    world.live("a")
    world.live("b", starts=10.0)
    world.run(60.0)
    assert world.told("a") == [("assign", ALL), ("revoke", ALL[2:]), ("assign", [])]
    assert world.told("b") == [("assign", ALL[2:])]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_killed_member_is_missed_after_its_session(protocol: Protocol) -> None:
    world = World(protocol)
    world.live("a")
    doomed = world.live("b")
    world.run(20.0)
    assert held(world.told("b"))
    world.kernel.kill(doomed)
    world.run(20.0 + world.kafka.settings.session_timeout_s + 10.0)
    assert held(world.told("a")) == set(ALL)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_frozen_member_loses_its_partitions_and_comes_back(protocol: Protocol) -> None:
    world = World(protocol)
    world.live("a")
    frozen = world.live("b")
    world.run(20.0)
    world.kernel.freeze(frozen, 25.0)
    world.run(44.0)
    assert held(world.told("a")) == set(ALL)
    world.run(80.0)
    assert "lost" in world.consumers["b"].calls()
    assert len(held(world.told("a"))) == len(held(world.told("b"))) == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_does_not_poll_in_time_loses_everything_and_joins_again(protocol: Protocol) -> None:
    world = World(protocol)
    consumer = world.make("a")
    late_s = world.kafka.settings.max_poll_interval_s + 5.0

    def sleep() -> None:
        consumer.client.subscribe([TOPIC], consumer)
        while not consumer.told:
            consumer.poll()
        world.kernel.wait(world.kernel.now + late_s)
        while consumer.calls() != ["assign", "lost", "assign"]:
            consumer.poll()

    world.do("a", sleep, until=120.0)
    assert consumer.calls() == ["assign", "lost", "assign"]
    assert ("log", "_MAX_POLL_EXCEEDED") in [(fault.kind, fault.code) for fault in consumer.faults]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_hostile_member_is_given_up(protocol: Protocol) -> None:
    """It joins and never polls. What it is given is consumed by nobody until the group has had enough."""
    world = World(protocol)
    world.live("a")
    world.run(10.0)
    world.kafka.hostile(GROUP, protocol, [TOPIC])
    world.run(25.0)
    world.run(25.0 + 3 * world.kafka.settings.max_poll_interval_s)
    assert held(world.told("a")) == set(ALL)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_static_member_that_comes_back_in_time_disturbs_nobody(protocol: Protocol) -> None:
    world = World(protocol)
    world.live("a", instance_id="one")
    world.live("b", stops=20.0, instance_id="two")
    world.run(19.0)
    before = held(world.told("b"))
    told = list(world.told("a"))
    world.live("c", starts=22.0, instance_id="two")
    world.run(60.0)
    assert world.told("b")[-1] == ("revoke", sorted(before))
    assert held(world.told("c")) == before
    assert world.told("a") == told


def test_a_second_static_member_of_one_name_fences_the_first() -> None:
    world = World("cooperative")
    world.live("a", instance_id="one")
    world.run(10.0)
    world.live("b", starts=10.0, instance_id="one")
    world.run(40.0)
    assert [(f.kind, f.code) for f in world.consumers["a"].faults] == [("fenced", "FENCED_INSTANCE_ID")]
    assert held(world.told("b")) == set(ALL)


def test_a_kip848_static_member_is_not_let_in_while_the_other_lives() -> None:
    world = World("kip848")
    world.live("a", instance_id="one")
    world.live("b", starts=10.0, instance_id="one")
    world.run(40.0)
    assert [(f.kind, f.code) for f in world.consumers["b"].faults] == [("rebuild", "UNRELEASED_INSTANCE_ID")]
    assert held(world.told("a")) == set(ALL)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_partitions_added_later_are_given(protocol: Protocol) -> None:
    world = World(protocol)
    world.live("a")
    world.run(10.0)
    world.kafka.add_partitions(TOPIC, 2)
    world.run(40.0)
    assert held(world.told("a")) == {*ALL, (TOPIC, 4), (TOPIC, 5)}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_farewell_is_written_before_anybody_else_is_given_the_partitions(protocol: Protocol) -> None:
    world = World(protocol, settings=ModelSettings(latency_s=0.2))
    world.live("a", commit_every=1000)
    world.live("b", starts=15.0)
    world.run(60.0)
    taken = set(held(world.told("b")))
    assert taken
    first: dict[TopicPartition, float] = {}
    for now, entry in world.history.entries:
        if isinstance(entry, CommitApplied) and entry.member == "a":
            first.setdefault(entry.place, now)
    assert taken <= set(first), "committed by the revoke, and by nothing else"
    assert all(not world.consumers["b"].seen.get(place) for place in taken), "nothing came twice"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_coordinator_that_moves_keeps_the_group(protocol: Protocol) -> None:
    world = World(protocol)
    world.live("a")
    world.live("b")
    world.run(20.0)
    before = {name: world.calls() for name, world in world.consumers.items()}
    world.kafka.move_coordinator()
    world.run(40.0)
    assert {name: consumer.calls() for name, consumer in world.consumers.items()} == before


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("down_s", [1.0, 25.0])
def test_a_broker_that_restarts_is_waited_for(protocol: Protocol, down_s: float) -> None:
    world = World(protocol)
    world.live("a")
    world.live("b")
    world.run(20.0)
    world.kafka.down(down_s)
    for number in range(4):
        world.kafka.append(TOPIC, number, b"key")
    world.run(100.0)
    has = [held(world.told(name)) for name in "ab"]
    assert has[0] | has[1] == set(ALL)
    assert not has[0] & has[1]
    assert world.committed() == [11, 11, 11, 11]


def test_a_process_that_was_killed_says_nothing_any_more() -> None:
    world = World("eager")
    process = world.live("a")
    world.run(10.0)
    told = list(world.told("a"))
    world.kernel.kill(process)
    world.run(60.0)
    assert world.told("a") == told
    assert not Process("b").frozen_until
