"""The plug-ins as their clients call them, with the clients' own classes for what they pass."""

from __future__ import annotations

import asyncio
import time
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from headrace import assign
from headrace.assign import Claim, aiokafka, wire
from headrace.assign.membership import Membership

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore", DeprecationWarning
    )  # kafka-python, when it is imported on Python 3.11 and 3.12
    from kafka.coordinator.assignors.abstract import RebalanceProtocol  # pyright: ignore[reportAttributeAccessIssue]
    from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

    from headrace.assign import kafka_python
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from headrace.assign import Member, Plan, Topic


class Cluster:
    """What both clients' assignors ask of the cluster."""

    def __init__(self, **sizes: int) -> None:
        self._sizes = sizes

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(self._sizes[topic])) if topic in self._sizes else None


def rebalanced_by_aiokafka(
    leader: aiokafka.Sticky, group: Mapping[str, aiokafka.Sticky], cluster: Cluster
) -> dict[str, dict[str, list[int]]]:
    """One rebalance: everybody joins, one leads, everybody is told."""
    said = {name: ConsumerProtocolMemberMetadata.decode(one.metadata({"t"})) for name, one in group.items()}
    told = {
        name: ConsumerProtocolMemberAssignment.decode(data)
        for name, data in leader.assign(cluster, said).items()
    }
    for name, one in group.items():
        one.on_assignment(told[name])
    return {name: dict(answer.assignment) for name, answer in told.items()}


def test_aiokafka_members_keep_what_they_had() -> None:
    """Also where the client tells no generation: leaders count them."""
    a, b, c = aiokafka.Sticky(), aiokafka.Sticky(), aiokafka.Sticky()
    cluster = Cluster(t=6)
    assert rebalanced_by_aiokafka(a, {"a": a}, cluster) == {"a": {"t": [0, 1, 2, 3, 4, 5]}}
    two = rebalanced_by_aiokafka(a, {"a": a, "b": b}, cluster)
    assert two == {"a": {"t": [0, 1, 2]}, "b": {"t": [3, 4, 5]}}
    three = rebalanced_by_aiokafka(b, {"a": a, "b": b, "c": c}, cluster)
    assert three == {"a": {"t": [0, 1]}, "b": {"t": [3, 4]}, "c": {"t": [2, 5]}}
    claim = wire.decode_sticky(wire.decode_subscription(c.metadata({"t"})).user_data)
    assert claim == Claim({"t": [2, 5]}, 2)


def test_a_zombie_of_an_earlier_rebalance_does_not_win() -> None:
    a, b, zombie = aiokafka.Sticky(), aiokafka.Sticky(), aiokafka.Sticky()
    cluster = Cluster(t=2)
    rebalanced_by_aiokafka(zombie, {"z": zombie}, cluster)
    rebalanced_by_aiokafka(a, {"a": a, "b": b}, cluster)
    rebalanced_by_aiokafka(a, {"a": a, "b": b}, cluster)
    for order in (("z", "a", "b"), ("a", "b", "z")):
        group = {name: {"a": a, "b": b, "z": zombie}[name] for name in order}
        found = rebalanced_by_aiokafka(a, group, cluster)
        assert found == {"a": {"t": [0]}, "b": {"t": [1]}, "z": {}}


def test_two_groups_of_one_process_share_nothing() -> None:
    """N5: aiokafka's own assignor claims in one group what it was given in the other."""
    one, other = aiokafka.Sticky(), aiokafka.Sticky()
    rebalanced_by_aiokafka(one, {"one": one}, Cluster(t=3))
    rebalanced_by_aiokafka(other, {"other": other}, Cluster(t=8))
    claim = wire.decode_sticky(wire.decode_subscription(one.metadata({"t"})).user_data)
    assert claim.owned == {"t": [0, 1, 2]}


def test_a_member_with_foreign_user_data_is_one_without_history(caplog: pytest.LogCaptureFixture) -> None:
    one = aiokafka.Sticky()
    said = {
        "one": ConsumerProtocolMemberMetadata(0, ["t", "missing"], b"\0\0\0\7odd"),
        "two": ConsumerProtocolMemberMetadata(0, ["t"], wire.encode_sticky(Claim({"t": [1]}, 4))),
    }
    told = {name: wire.decode_assignment(data) for name, data in one.assign(Cluster(t=2), said).items()}
    assert told == {"one": ({"t": [0]}, b"\0\0\0\5"), "two": ({"t": [1]}, b"\0\0\0\5")}
    assert "member one: not user data of a sticky assignor" in caplog.text


class Coordinator:
    """The part of aiokafka's coordinator that `bind` relies on. The tests on a real Kafka use the real one."""

    def __init__(self, assignor: aiokafka.Sticky, members: dict[str, Any]) -> None:
        self.generation = 17
        self.heartbeats = 0
        self._heartbeat_interval_ms = 20
        self._assignor = assignor
        self._members = members

    async def _do_heartbeat(self) -> bool:
        self.heartbeats += 1
        return True

    async def _perform_assignment(self, response: object) -> dict[str, bytes]:
        await asyncio.sleep(0)
        return self._assignor.assign(Cluster(t=4), self._members)


def test_a_bound_leader_plans_beside_its_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop runs and the group is told that we live while the plan is made; claims carry the broker's generation."""
    plan = assign.Sticky.assign

    def slowly(self: assign.Sticky, members: list[Member], topics: dict[str, int | Topic]) -> Plan:
        time.sleep(0.2)
        return plan(self, members, topics)

    monkeypatch.setattr(assign.Sticky, "assign", slowly)
    one = aiokafka.Sticky()
    coordinator = Coordinator(one, {"one": ConsumerProtocolMemberMetadata(0, ["t"], b"")})
    one.bind(SimpleNamespace(_coordinator=coordinator))
    one.metadata({"t"})
    one.metadata({"t"})  # wraps the coordinator's method once

    async def lead() -> tuple[dict[str, bytes], int]:
        leading = asyncio.create_task(coordinator._perform_assignment(None))
        turns = 0
        while not leading.done():
            turns += 1
            await asyncio.sleep(0.01)
        return await leading, turns

    told, turns = asyncio.run(lead())
    assert wire.decode_assignment(told["one"])[0] == {"t": [0, 1, 2, 3]}
    assert coordinator.heartbeats >= 3
    assert turns >= 5
    one.on_assignment(ConsumerProtocolMemberAssignment.decode(told["one"]))
    assert wire.decode_sticky(wire.decode_subscription(one.metadata({"t"})).user_data).generation == 17


# ---- kafka-python


def rebalanced_by_kafka_python(
    leader: Any, group: Mapping[str, Any], cluster: Cluster, generation: int
) -> dict[str, dict[str, list[int]]]:
    """One rebalance, with what goes over the wire encoded and decoded by kafka-python."""
    members = [
        SimpleNamespace(
            member_id=name,
            group_instance_id=None,
            metadata=ConsumerProtocolSubscription.decode(one.metadata({"t"}).encode()),
        )
        for name, one in group.items()
    ]
    told = {
        name: ConsumerProtocolAssignment.decode(answer.encode())
        for name, answer in leader.assign(cluster, members).items()
    }
    found: dict[str, dict[str, list[int]]] = {}
    for name, one in group.items():
        one.on_assignment(told[name], generation)
        found[name] = {}
        for topic, partition in told[name].partitions():
            found[name].setdefault(topic, []).append(partition)
    return found


def test_kafka_python_eager() -> None:
    a, b = kafka_python.Sticky(), kafka_python.Sticky()
    assert a.supported_protocols() == [RebalanceProtocol.EAGER]
    assert rebalanced_by_kafka_python(a, {"a": a}, Cluster(t=4), 1) == {"a": {"t": [0, 1, 2, 3]}}
    assert rebalanced_by_kafka_python(a, {"a": a, "b": b}, Cluster(t=4), 2) == {
        "a": {"t": [0, 1]},
        "b": {"t": [2, 3]},
    }
    assert wire.decode_sticky(a.metadata({"t"}).user_data) == Claim({"t": [0, 1]}, 2)


def test_kafka_python_cooperative() -> None:
    """Two rounds: what moves is given up first."""
    a, b = kafka_python.CooperativeSticky(), kafka_python.CooperativeSticky()
    assert a.supported_protocols() == [RebalanceProtocol.COOPERATIVE]
    rebalanced_by_kafka_python(a, {"a": a}, Cluster(t=4), 1)
    group = {"a": a, "b": b}
    assert rebalanced_by_kafka_python(a, group, Cluster(t=4), 2) == {"a": {"t": [0, 1]}, "b": {}}
    assert rebalanced_by_kafka_python(b, group, Cluster(t=4), 3) == {"a": {"t": [0, 1]}, "b": {"t": [2, 3]}}


def test_kafka_python_zombies_may_stand_anywhere() -> None:
    """With kafka-python's own assignor the owner loses a partition for a round if the zombie is listed last."""
    found: list[dict[str, dict[str, list[int]]]] = []
    for order in (("z", "a", "b"), ("a", "b", "z")):
        group = {name: kafka_python.CooperativeSticky() for name in order}
        for name, partitions, generation in (("a", [0, 1], 9), ("b", [2, 3], 9), ("z", [0, 3], 3)):
            group[name].on_assignment(ConsumerProtocolAssignment(0, [("t", partitions)], b""), generation)
        found.append(rebalanced_by_kafka_python(group["a"], group, Cluster(t=4), 10))
    assert found[0] == found[1] == {"a": {"t": [0]}, "b": {"t": [2, 3]}, "z": {}}


def test_kafka_python_moves_to_cooperative_in_two_restarts() -> None:
    """Beside an eager assignor a member claims nothing: it has given up all."""
    one = kafka_python.CooperativeSticky(eager=True)
    assert one.supported_protocols() == [RebalanceProtocol.EAGER]
    rebalanced_by_kafka_python(one, {"a": one}, Cluster(t=4), 1)
    assert one.metadata({"t"}).owned_partitions == []


def test_kafka_python_racks() -> None:
    assert kafka_python.Sticky(rack="eu-1a").metadata({"t"}).rack_id == "eu-1a"


def test_a_class_is_made_an_object_by_kafka_python() -> None:
    """So `[Sticky]` gives each consumer its own memory."""
    assert kafka_python.Sticky()._membership is not kafka_python.Sticky()._membership
    assert isinstance(kafka_python.Sticky()._membership, Membership)
