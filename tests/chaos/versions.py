"""What a measurement ran on. Decides nothing; a version that cannot be found is called unknown."""

from __future__ import annotations

import platform
import sys

import confluent_kafka

from tests.chaos.cluster import ROOT


def versions() -> str:
    """What ran."""
    kafka = next(iter(sorted((ROOT / ".tools").glob("kafka-*/kafka-server-common-*.jar"))), None)
    broker = kafka.stem.rpartition("-")[2] if kafka is not None else "unknown"
    return (
        f"Python {platform.python_version()}, confluent-kafka {confluent_kafka.__version__}, "
        f"librdkafka {confluent_kafka.libversion()[0]}, Kafka {broker}, {sys.platform}"
    )
