"""Asks for partitions of the offsets topic to be led by other nodes: the groups' coordinators move with them.

Run as `python -m tests.chaos.coordinators SERVERS PARTITION=NODE...`: a process of its own, since librdkafka's admin
client cannot reassign partitions, and kafka-python, which can, warns of itself when it is imported. Decides nothing.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from tests.chaos.cluster import OFFSETS_TOPIC

REQUEST_TIMEOUT_MS = 15_000


def main(servers: str, *moves: str) -> None:
    """Ask; the move itself goes on after this has ended."""
    kafka: Any = importlib.import_module("kafka")  # checkers take this name for tests/kafka
    targets = dict(move.split("=") for move in moves)
    client = kafka.KafkaAdminClient(
        bootstrap_servers=servers.split(","), request_timeout_ms=REQUEST_TIMEOUT_MS
    )
    try:
        answers = client.alter_partition_reassignments(
            {kafka.TopicPartition(OFFSETS_TOPIC, int(number)): [int(to)] for number, to in targets.items()}
        )
        refused = {str(place): str(error) for place, error in answers.items() if error is not None}
        assert not refused, refused
    finally:
        client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
