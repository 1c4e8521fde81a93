"""What a measurement ran on. Decides nothing; a version that cannot be found is called unknown."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import confluent_kafka

from tests.chaos.cluster import ROOT


def versions() -> str:
    """What ran."""
    tools = Path(os.environ.get("HEADRACE_TOOLS", ROOT / ".tools"))
    kafka = next(iter(sorted(tools.glob("kafka-*/kafka-server-common-*.jar"))), None)
    broker = kafka.stem.rpartition("-")[2] if kafka is not None else "unknown"
    return (
        f"Python {platform.python_version()}, confluent-kafka {confluent_kafka.__version__}, "
        f"librdkafka {confluent_kafka.libversion()[0]}, Kafka {broker}, {sys.platform}"
    )
