"""A member that harms its group: it joins by the plain client, and does not poll as a member must.

Run as `python -m tests.chaos.hostile KIND SERVERS GROUP PROTOCOL TOPIC`. KIND `idle` never polls at all; `lapsed` polls
until it was given partitions, then never again. Both have callbacks, so that a rebalance waits for polls that never
come. It ends by being killed.
"""

from __future__ import annotations

import sys
import threading
import time

from confluent_kafka import Consumer, TopicPartition

LAPSES_WITHIN_S = 30.0


def main(kind: str, servers: str, group: str, protocol: str, topic: str) -> None:
    """Join, then be silent."""
    config: dict[str, object] = {
        "bootstrap.servers": servers,
        "group.id": group,
        "group.protocol": protocol,
        "client.id": "hostile",
        "max.poll.interval.ms": 10_000,
        "enable.auto.commit": False,
        "log_level": 0,
    }
    if protocol == "classic":
        config |= {"session.timeout.ms": 6000, "partition.assignment.strategy": "cooperative-sticky"}
    consumer = Consumer(config)
    given: list[TopicPartition] = []

    def on_assign(_consumer: Consumer, partitions: list[TopicPartition]) -> None:
        given.extend(partitions)

    def on_revoke(_consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        given.clear()

    consumer.subscribe([topic], on_assign=on_assign, on_revoke=on_revoke)
    deadline = time.monotonic() + LAPSES_WITHIN_S
    while kind == "lapsed" and not given and time.monotonic() < deadline:
        consumer.poll(0.1)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:6])
