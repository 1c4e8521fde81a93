"""One group, members of three clients and two languages, led by each of them: every partition is owned once, few move."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from headrace.assign import wire
from tests.kafka.assign.members import CLIENTS, Aiokafka, GroupMember, Java

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.topics import Topics

PARTITIONS = 12
SETTLED_TIMEOUT_S = 40.0
STILL_FOR_S = 0.6


def settled(members: Sequence[GroupMember], loads: Sequence[int]) -> list[frozenset[int]]:
    """Wait until all partitions are owned, once each, with these loads, and stay so for a while."""
    give_up_at = time.monotonic() + SETTLED_TIMEOUT_S
    since, last = time.monotonic(), [member.owned() for member in members]
    while True:
        now = [member.owned() for member in members]
        if now != last:
            since, last = time.monotonic(), now
        whole = sorted(partition for owned in now for partition in owned) == list(range(PARTITIONS))
        if whole and sorted(map(len, now)) == sorted(loads) and time.monotonic() > since + STILL_FOR_S:
            return now
        assert time.monotonic() < give_up_at, now
        time.sleep(0.05)


def moved(before: Sequence[frozenset[int]], after: Sequence[frozenset[int]]) -> int:
    """Partitions that a member who stayed had and has no more."""
    return sum(len(had - has) for had, has in zip(before, after, strict=True))


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("protocol", "order"),
    [
        ("sticky", ["aiokafka", "kafka-python", "java"]),
        ("sticky", ["kafka-python", "java", "aiokafka"]),
        ("sticky", ["java", "aiokafka", "kafka-python"]),
        ("cooperative-sticky", ["kafka-python", "java", "kafka-python"]),
        ("cooperative-sticky", ["java", "kafka-python", "java"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_members_of_several_clients_agree(
    kafka: str, topics: Topics, group_id: str, protocol: str, order: list[str]
) -> None:
    """The first to join leads. They join one after the other, then the leader leaves: each step moves what it must."""
    if not Java.is_there():
        pytest.skip("no javac, or no jars of Kafka under .tools")
    topic = topics.create(partitions=PARTITIONS)
    with ExitStack() as stack:
        members: list[GroupMember] = []

        def join(client: str) -> None:
            member = CLIENTS[client](kafka, group_id, topic, protocol)
            stack.callback(member.stop)
            members.append(member)

        join(order[0])
        one = settled(members, [12])
        join(order[1])
        two = settled(members, [6, 6])
        assert moved(one, two[:1]) == 6
        join(order[2])
        three = settled(members, [4, 4, 4])
        assert moved(two, three[:2]) == 4
        members[0].stop()
        rest = settled(members[1:], [6, 6])
        assert moved(three[1:], rest) == 0


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_bound_member_of_aiokafka_claims_the_brokers_generation(
    kafka: str, topics: Topics, group_id: str
) -> None:
    """aiokafka does not tell it; claims of its own assignor are always of generation -1."""
    topic = topics.create(partitions=PARTITIONS)
    with ExitStack() as stack:
        members: list[Aiokafka] = []
        for joined in (1, 2):
            member = Aiokafka(kafka, group_id, topic, "sticky")
            stack.callback(member.stop)
            members.append(member)
            settled(members, [PARTITIONS // joined] * joined)
        for one in members:
            said = wire.decode_subscription(one.assignor.metadata([topic]))
            claim = wire.decode_sticky(said.user_data)
            assert claim.generation == one.generation >= 2
            assert frozenset(claim.owned[topic]) == one.owned()
