"""What Kafka itself does with static members: the ground of a warning in docs/howto/static-membership.md.

Plain clients, none of Headrace. If this fails, a broker has learnt better: take the warning back, and the simulator's
`GIVEN_OUT_AGAIN_S` with it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.topics import Topics

pytestmark = [pytest.mark.full, pytest.mark.kafka]

WAIT_S = 30.0
SETTLED_S = 5.0


class Member:
    """A member of a classic, cooperative group that polls on a thread of its own."""

    def __init__(self, kafka: str, group_id: str, instance_id: str, topic: str, *, stays_away: bool) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": group_id,
                "group.instance.id": instance_id,
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": 30_000,
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        self._stays_away = stays_away
        self.gave_up = threading.Event()
        self.ended = threading.Event()
        self.owned: set[int] = set()
        self._consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked)
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def _live(self) -> None:
        while not self.ended.is_set():
            self._consumer.poll(0.1)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign(partitions)
        self.owned |= {each.partition for each in partitions}

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.gave_up.set()
        if self._stays_away:
            self.ended.wait()  # As a process that is killed now: it never joins for the round that follows.
        consumer.incremental_unassign(partitions)
        self.owned -= {each.partition for each in partitions}

    def end(self) -> None:
        """Leave for good."""
        self.ended.set()
        self._thread.join(WAIT_S)
        self._consumer.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_static_member_that_goes_half_way_leaves_partitions_to_nobody(
    kafka: str, topics: Topics, group_id: str
) -> None:
    topic = topics.create(partitions=4)
    first = Member(kafka, group_id, "a", topic, stays_away=True)
    members = [first]
    try:
        wait_until(lambda: len(first.owned) == 4)
        members.append(other := Member(kafka, group_id, "b", topic, stays_away=False))
        assert first.gave_up.wait(WAIT_S)
        members.append(again := Member(kafka, group_id, "a", topic, stays_away=False))
        wait_until(lambda: len(again.owned) == 2)
        time.sleep(SETTLED_S)
        assert (len(again.owned), len(other.owned)) == (2, 0), "two of four partitions are nobody's"
        # Whoever joins brings the round about.
        members.append(third := Member(kafka, group_id, "c", topic, stays_away=False))
        wait_until(lambda: len(again.owned | other.owned | third.owned) == 4)
    finally:
        for member in members:
            member.end()
