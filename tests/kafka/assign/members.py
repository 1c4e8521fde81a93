"""Members of one group, each of another client, and all with the same words: `owned()` and `stop()`.

Decides how each client is run: aiokafka on a loop of its own, kafka-python on a thread, Java in a process. Refuses to
judge what they own.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import aiokafka

from headrace.assign import aiokafka as ours_for_aiokafka

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore", DeprecationWarning
    )  # kafka-python, when it is imported on Python 3.11 and 3.12
    import kafka

    from headrace.assign import kafka_python as ours_for_kafka_python

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
STOP_TIMEOUT_S = 20.0
SESSION_TIMEOUT_MS, HEARTBEAT_INTERVAL_MS = 10_000, 300
JAVA_ASSIGNORS = {
    "sticky": "org.apache.kafka.clients.consumer.StickyAssignor",
    "cooperative-sticky": "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
}


class GroupMember(Protocol):
    """What a test needs of a member."""

    def owned(self) -> frozenset[int]: ...

    def stop(self) -> None: ...


class Aiokafka:
    """A consumer of aiokafka with our assignor, on a thread with an event loop."""

    def __init__(self, bootstrap: str, group: str, topic: str, protocol: str) -> None:
        assert protocol == "sticky"
        self.assignor = ours_for_aiokafka.Sticky()
        self._settings = (bootstrap, group, topic)
        self._owned: frozenset[int] = frozenset()  # the loop's thread writes, tests read
        self.generation = -1  # the broker's, as the client was told it; the same
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._consume()), daemon=True)
        self._thread.start()

    async def _consume(self) -> None:
        bootstrap, group, topic = self._settings
        consumer = aiokafka.AIOKafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=group,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            partition_assignment_strategy=[self.assignor],
        )
        self.assignor.bind(consumer)
        await consumer.start()
        coordinator: Any = consumer._coordinator
        try:
            while not self._stopping.is_set():
                await consumer.getmany(timeout_ms=50)
                self.generation = coordinator.generation
                self._owned = frozenset(one.partition for one in consumer.assignment())
        finally:
            await consumer.stop()

    def owned(self) -> frozenset[int]:
        return self._owned

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(STOP_TIMEOUT_S)
        assert not self._thread.is_alive()


class KafkaPython:
    """A consumer of kafka-python with our assignor, on a thread."""

    def __init__(self, bootstrap: str, group: str, topic: str, protocol: str) -> None:
        self._settings = (bootstrap, group, topic)
        assignors: dict[str, Any] = {
            "sticky": ours_for_kafka_python.Sticky,
            "cooperative-sticky": ours_for_kafka_python.CooperativeSticky,
        }
        self._assignor = assignors[protocol]
        self._owned: frozenset[int] = frozenset()  # the thread writes, tests read
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._consume, daemon=True)
        self._thread.start()

    def _consume(self) -> None:
        bootstrap, group, topic = self._settings
        consumer: Any = kafka.KafkaConsumer(  # pyright: ignore[reportAttributeAccessIssue]
            topic,
            bootstrap_servers=bootstrap,
            group_id=group,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            partition_assignment_strategy=[self._assignor],
        )
        while not self._stopping.is_set():
            consumer.poll(timeout_ms=50)
            self._owned = frozenset(one.partition for one in consumer.assignment())
        consumer.close()

    def owned(self) -> frozenset[int]:
        return self._owned

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(STOP_TIMEOUT_S)
        assert not self._thread.is_alive()


class Java:
    """A consumer of Kafka's own client with Kafka's own assignor, in a process."""

    def __init__(self, bootstrap: str, group: str, topic: str, protocol: str) -> None:
        tools = Path(os.environ.get("HEADRACE_TOOLS", ROOT / ".tools"))
        jars = max(tools.glob("kafka-*"), key=lambda folder: folder.stat().st_mtime)
        program = Path(__file__).with_name("Member.java")
        self._process = subprocess.Popen(
            ["java", "-cp", f"{jars}/*", program, bootstrap, group, topic, JAVA_ASSIGNORS[protocol]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._owned: frozenset[int] = frozenset()  # the reader thread writes, tests read
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @staticmethod
    def is_there() -> bool:
        """Whether this machine can run a Java source file; the jars are there wherever the node was started from them."""
        return shutil.which("javac") is not None and any(ROOT.glob(".tools/kafka-*"))

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("owned"):
                self._owned = frozenset(int(number) for number in re.findall(r"\d+", line))

    def owned(self) -> frozenset[int]:
        return self._owned

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.stdin.closed:
            return  # stopped already
        self._process.stdin.write("end\n")
        self._process.stdin.close()
        self._process.wait(STOP_TIMEOUT_S)
        self._thread.join(STOP_TIMEOUT_S)
        self._process.stdout.close()


CLIENTS: dict[str, Callable[[str, str, str, str], GroupMember]] = {
    "aiokafka": Aiokafka,
    "kafka-python": KafkaPython,
    "java": Java,
}
