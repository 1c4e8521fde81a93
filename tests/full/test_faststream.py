"""The real FastStream 0.5.3 on aiokafka 0.10, in an environment of its own: a refused commit ends its consumption.

What `headrace failures faststream` plays with a look-alike happens here to the original: on the embedded broker with an
injected refusal, and on a real Kafka in a real rebalance. Headrace under the same is in tests/embedded.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from confluent_kafka import Producer

from headrace.testing.broker_process import MockBrokerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from tests.topics import Topics

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.version_info >= (3, 13), reason="aiokafka 0.10 has wheels up to Python 3.12"),
]

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "faststream_member.py"
INSTALL_S = 180
WAIT_S = 30.0
DEAD_S = 5.0
"""So long a dead consumer is watched: a living one handles hundreds of records in it."""

RECORDS = 3000
QUICK_S, SLOW_S = 0.005, 1.0
ASSIGN_S = 2.5
"""The leader's time to assign: so long the group refuses commits, and a slow handler ends within it."""

ROUNDS = 6


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python with FastStream 0.5.3, installed from requirements/faststream.lock."""
    folder = tmp_path_factory.mktemp("faststream")
    python = folder / "bin" / "python"
    lock = str(ROOT / "requirements" / "faststream.lock")
    uv = [sys.executable, "-m", "uv"]
    for command in (
        [*uv, "venv", "-q", "--allow-existing", "--python", sys.executable, str(folder)],
        [*uv, "pip", "install", "-q", "--python", str(python), "--require-hashes", "-r", lock],
    ):
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=INSTALL_S)
        assert done.returncode == 0, done.stderr
    return python


@dataclass(frozen=True, slots=True)
class State:
    """What a member says of itself: see faststream_member.py."""

    handled: int = 0
    ended_by: str | None = None
    held: int = 0


class Member:
    """A FastStream process."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        # The reader writes, whole; the test reads.
        self.state = State()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.state = State(**json.loads(line))

    def wait(self, condition: Callable[[State], bool], timeout_s: float = WAIT_S) -> bool:
        """Whether it came true in time."""
        give_up_at = time.monotonic() + timeout_s
        while not condition(self.state):
            if time.monotonic() > give_up_at or self._process.poll() is not None:
                return False
            time.sleep(0.05)
        return True

    def close(self) -> None:
        """Ask, then kill."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def member(python: Path, servers: str, topic: str, commit: str, work_s: float) -> Generator[Member]:
    """One that has handled something."""
    process = Member([str(python), str(PROGRAM), servers, topic, f"group-{topic}", commit, str(work_s)])
    try:
        yield process
    finally:
        process.close()


def fill(settings: Mapping[str, Any], topic: str) -> None:
    """Records that FastStream takes for text."""
    producer = Producer(dict(settings))
    for number in range(RECORDS):
        producer.produce(topic, key=b"%d" % number, value=b'"%d"' % number)
    assert producer.flush(30) == 0


@pytest.mark.parametrize("commit", ["manual", "auto"])
def test_a_refused_commit_ends_its_consumption(
    commit: str, interpreter: Path, record_property: Callable[[str, object], None]
) -> None:
    """One refusal suffices where commits are manual; automatic commits survive many."""
    with MockBrokerProcess(topics={"orders": 2}) as broker:
        fill({"bootstrap.servers": broker.bootstrap_servers}, "orders")
        with member(interpreter, broker.bootstrap_servers, "orders", commit, QUICK_S) as stream:
            assert stream.wait(lambda state: state.handled >= 50)
            broker.push_errors("OffsetCommit", *["REBALANCE_IN_PROGRESS"] * (1 if commit == "manual" else 5))
            if commit == "manual":
                assert stream.wait(lambda state: state.ended_by is not None)
            at_refusal = stream.state.handled
            broker.track_requests()
            time.sleep(DEAD_S)
            assert stream.wait(lambda state: state.held == 2), "it is still, or again, a member"
            record_property("faststream", f"{commit}, injected: {stream.state}")
            give_up_at = time.monotonic() + WAIT_S  # the embedded broker's rebalance lasts a session
            while not broker.requests("Heartbeat"):
                assert time.monotonic() < give_up_at, "it does not keep its membership up"
                time.sleep(0.1)
            if commit == "manual":
                assert stream.state == State(at_refusal, "CommitFailedError", held=2)
                assert at_refusal < 100
            else:
                assert stream.state.ended_by is None
                assert stream.wait(lambda state: state.handled > at_refusal + 100)


class SlowLeader(RoundRobinPartitionAssignor):  # type: ignore[misc, no-any-unimported] # aiokafka has no types
    """Assigns as FastStream's own members would, later."""

    @classmethod
    def assign(cls, cluster: Any, members: Any) -> Any:
        time.sleep(ASSIGN_S)
        return super().assign(cluster, members)


@contextmanager
def rebalances(servers: str, topic: str, leaving: threading.Event) -> Generator[None]:
    """A leader that joined first and takes its time, and a member that comes and goes."""
    joined = threading.Event()

    def consumer() -> Any:
        return AIOKafkaConsumer(
            topic,
            bootstrap_servers=servers,
            group_id=f"group-{topic}",
            partition_assignment_strategy=[SlowLeader],
            enable_auto_commit=False,
            heartbeat_interval_ms=200,
            session_timeout_ms=10_000,
        )

    async def churn() -> None:
        leader = consumer()
        await leader.start()
        joined.set()
        for _ in range(ROUNDS):
            if await asyncio.to_thread(leaving.wait, 6.0):
                break
            other = consumer()
            await other.start()
            await asyncio.sleep(1.0)
            await other.stop()
        await asyncio.to_thread(leaving.wait, WAIT_S)
        await leader.stop()

    thread = threading.Thread(target=lambda: asyncio.run(churn()), daemon=True)
    thread.start()
    try:
        assert joined.wait(WAIT_S)
        yield
    finally:
        leaving.set()
        thread.join(WAIT_S)


def test_a_real_rebalance_ends_its_consumption(
    kafka: str, topics: Topics, interpreter: Path, record_property: Callable[[str, object], None]
) -> None:
    """On a real Kafka nobody injects anything: the group refuses commits while its leader assigns."""
    topic = topics.create(partitions=4)
    fill({"bootstrap.servers": kafka}, topic)
    leaving = threading.Event()
    with (
        rebalances(kafka, topic, leaving),
        member(interpreter, kafka, topic, "manual", SLOW_S) as stream,
    ):
        began_at = time.monotonic()
        ended = stream.wait(lambda state: state.ended_by is not None, timeout_s=120)
        record_property(
            "faststream", f"manual, real rebalance: {stream.state} after {time.monotonic() - began_at:.0f} s"
        )
        assert ended, stream.state
        leaving.set()
        at_end = stream.state.handled
        # The others have left: everything is its own now, and stays unread.
        assert stream.wait(lambda state: state.held == 4), stream.state
        time.sleep(DEAD_S)
        assert stream.state == State(at_end, "CommitFailedError", held=4)
