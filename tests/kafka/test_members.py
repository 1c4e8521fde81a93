"""Members that join, leave and die: what an outside ledger says of them.

The verifier judges; these tests only make the history, and make sure that it had what it is about.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from tests.members.fleet import fleet_of, holders
from tests.members.plan import Plan
from tests.members.verifier import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.members.ledger import Line
    from tests.topics import Topics

Protocol = Literal["classic", "consumer"]
PROTOCOLS: tuple[Protocol, ...] = ("classic", "consumer")
PARTITIONS = 6
KEYS = 97
CLASSIC_CLOCKS = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 300}
"""A dead member is missed within seconds; KIP-848 groups have the broker's clocks."""

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("protocol", PROTOCOLS)]


def plan_of(kafka: str, group_id: str, topic: str, protocol: Protocol) -> Plan:
    """Eight handlers at a time, 0 to 30 ms each."""
    return Plan(
        name="",
        bootstrap_servers=kafka,
        group_id=group_id,
        topics=(topic,),
        ledger="",
        protocol=protocol,
        slow_ms=30,
        librdkafka=CLASSIC_CLOCKS if protocol == "classic" else None,
        subscribe={"concurrency": 8},
        commit_every_s=0.5,
    )


def keyed(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Records of many keys, every tenth of one key."""
    for number in range(count):
        key = number * 31 % KEYS if number % 10 else KEYS
        yield f"key-{key}".encode(), f"value-{number}".encode()


def shared(*members: str) -> Callable[[Sequence[Line]], bool]:
    """Whether these members, and no others, hold all partitions between them."""

    def condition(lines: Sequence[Line]) -> bool:
        held = holders(lines)
        return len(held) == PARTITIONS and set(held.values()) == set(members)

    return condition


def at_work(member: str, lines: Sequence[Line]) -> bool:
    """Whether this member finished some records and runs one now."""
    starts = sum(line.kind == "start" and line.member == member for line in lines)
    ends = sum(line.kind == "end" and line.member == member for line in lines)
    return ends > 50 and starts > ends


def test_clean_joins_and_leaves_lose_repeat_and_disorder_nothing(
    kafka: str, topics: Topics, group_id: str, tmp_path: Path, protocol: Protocol
) -> None:
    """One member, then three, then others leave: every record is handled exactly once, in the order of its key."""
    topic = topics.create(partitions=PARTITIONS)
    plan = replace(plan_of(kafka, group_id, topic, protocol), run_in="asyncio")
    with fleet_of(plan, tmp_path, PARTITIONS) as fleet:
        fleet.produce(keyed(1800))
        fleet.start("a")
        fleet.wait_until(shared("a"), "a holds all")
        fleet.start("b")
        fleet.start("c")
        fleet.wait_until(shared("a", "b", "c"), "all three hold some")
        assert fleet.stop("a") == [0]
        fleet.wait_until(shared("b", "c"), "b and c hold all")
        fleet.produce(keyed(600))
        assert fleet.stop("c") == [0]
        fleet.wait_until_handled()
        assert fleet.stop() == [0]
        fleet.wait_until_settled()
        verdict = verify(fleet.lines())
        assert not verdict.anomalies, verdict
        assert verdict.repeated == []
        assert {line.detail for line in fleet.lines() if line.kind == "unconfirmed"} == set()


def test_a_killed_member_costs_only_what_was_unconfirmed(
    kafka: str, topics: Topics, group_id: str, tmp_path: Path, protocol: Protocol
) -> None:
    """Two of three are killed at work, one leaves, others come: nothing is lost, the order of keys is kept."""
    topic = topics.create(partitions=PARTITIONS)
    with fleet_of(plan_of(kafka, group_id, topic, protocol), tmp_path, PARTITIONS) as fleet:
        fleet.produce(keyed(2500))
        for name in ("a", "b", "c"):
            fleet.start(name)
        fleet.wait_until(shared("a", "b", "c"), "all three hold some")
        # A member that came early may have finished the partitions that it keeps: there must be work when it is killed.
        fleet.produce(keyed(1800))
        fleet.wait_until(lambda lines: at_work("b", lines), "b is at work")
        fleet.kill("b")
        fleet.start("d")
        fleet.wait_until_handled(share=0.4)
        fleet.produce(keyed(1800))
        fleet.wait_until(lambda lines: at_work("a", lines), "a is at work")
        fleet.kill("a")
        fleet.stop("c")
        fleet.produce(keyed(300))
        fleet.wait_until_handled()
        assert fleet.stop() == [0]
        fleet.wait_until_settled()
        verdict = verify(fleet.lines())
        assert not verdict.anomalies, verdict
        assert verdict.runs > verdict.records, "nobody was killed at work"
