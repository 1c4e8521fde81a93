"""The embedded broker in a process of its own: honest CPU figures, and a consumer's process may be killed beside it.

It decides how the child is started, spoken to and ended; what may be asked is `MockBroker`'s. Invariant: no call waits
longer than its timeout, and the child ends with its parent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, final

import headrace
from headrace.testing._cluster import MockBrokerError
from headrace.testing.broker import MockBroker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from multiprocessing.connection import Connection

    from headrace.testing._cluster import ClusterControl, ClusterSettings

_END_WAIT_S: Final = 5.0
"""How long a child that was asked to end may take before it is killed. It usually takes 50 ms."""


@final
class MockBrokerProcess(MockBroker):
    """A `MockBroker` in a child process: same methods, same limits, none of its CPU time in this process.

    The child ends when this object is closed or this process dies, however it dies. `produce`, `committed` and the
    other methods that act as a client do so in this process.

    start_timeout_s: how long the child may take to answer, usually 0.2 s; generous, for a loaded machine.
    call_timeout_s: how long a command may take, usually under 1 ms. A child that exceeds it is killed.
    """

    def __init__(
        self,
        brokers: int = 1,
        topics: Mapping[str, int] | None = None,
        *,
        rebalance_delay_s: float = 0.0,
        heartbeat_interval_s: float = 0.2,
        session_timeout_s: float = 30.0,
        start_timeout_s: float = 20.0,
        call_timeout_s: float = 10.0,
    ) -> None:
        self._start_timeout_s = start_timeout_s
        self._call_timeout_s = call_timeout_s
        super().__init__(
            brokers,
            topics,
            rebalance_delay_s=rebalance_delay_s,
            heartbeat_interval_s=heartbeat_interval_s,
            session_timeout_s=session_timeout_s,
        )

    def _start(self, settings: ClusterSettings) -> ClusterControl:
        self._child = _ChildCluster(settings, self._start_timeout_s, self._call_timeout_s)
        return self._child

    @property
    def pid(self) -> int:
        """The child's process id, for measuring its CPU time."""
        return self._child.pid

    def kill(self) -> None:
        """End the child at once, as `kill -9` does: clients see their broker vanish, records are gone for good."""
        self._cluster("kill")
        self._child.kill()


@final
class _ChildCluster:
    """Forwards each command to the child and waits for its answer, one at a time. Safe to call from any thread."""

    def __init__(self, settings: ClusterSettings, start_timeout_s: float, call_timeout_s: float) -> None:
        self._lock = threading.Lock()
        self._call_timeout_s = call_timeout_s
        ours, theirs = Pipe()
        self._connection: Connection[bytes, bytes] = ours
        with theirs:
            self._process = _start_child(theirs.fileno(), settings)
        self._bootstrap_servers = cast(str, self._receive("start", start_timeout_s))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def bootstrap_servers(self) -> str:
        return self._bootstrap_servers

    def create_topic(self, topic: str, partitions: int, replication: int) -> None:
        self._call("create_topic", topic, partitions, replication)

    def delete_topic(self, topic: str) -> None:
        self._call("delete_topic", topic)

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        self._call("delete_records", topic, partition, before_offset)

    def push_errors(self, api_key: int, codes: Sequence[int]) -> None:
        self._call("push_errors", api_key, codes)

    def push_broker_errors(self, broker: int, api_key: int, faults: Sequence[tuple[int, int]]) -> None:
        self._call("push_broker_errors", broker, api_key, faults)

    def pending_broker_errors(self, broker: int, api_key: int) -> int:
        return cast(int, self._call("pending_broker_errors", broker, api_key))

    def clear_errors(self, api_key: int) -> None:
        self._call("clear_errors", api_key)

    def set_broker_down(self, broker: int) -> None:
        self._call("set_broker_down", broker)

    def set_broker_up(self, broker: int) -> None:
        self._call("set_broker_up", broker)

    def set_round_trip(self, broker: int, delay_ms: int) -> None:
        self._call("set_round_trip", broker, delay_ms)

    def set_leader(self, topic: str, partition: int, broker: int) -> None:
        self._call("set_leader", topic, partition, broker)

    def set_coordinator(self, group: str, broker: int) -> None:
        self._call("set_coordinator", group, broker)

    def set_api_version(self, api_key: int, version_min: int, version_max: int) -> None:
        self._call("set_api_version", api_key, version_min, version_max)

    def set_consumer_group_timing(self, heartbeat_interval_ms: int, session_timeout_ms: int) -> None:
        self._call("set_consumer_group_timing", heartbeat_interval_ms, session_timeout_ms)

    def start_tracking(self) -> None:
        self._call("start_tracking")

    def stop_tracking(self) -> None:
        self._call("stop_tracking")

    def requests(self) -> list[tuple[int, int, int]]:
        answer = cast(list[list[int]], self._call("requests"))
        return [(at_us, broker, key) for at_us, broker, key in answer]

    def close(self) -> None:
        """Ask the child to end by closing the pipe; kill it if it does not. Idempotent."""
        with self._lock:
            self._connection.close()
            try:
                self._process.wait(_END_WAIT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Later calls raise."""
        self._process.kill()
        self._process.wait()

    # The answer is JSON, so it comes untyped; each caller names what its command returns.
    def _call(self, call: str, *arguments: object) -> Any:
        with self._lock:
            if self._connection.closed:
                raise MockBrokerError(call, "the broker is closed")
            try:
                self._connection.send_bytes(json.dumps([call, *arguments]).encode())
            except OSError:
                raise self._gone(call) from None
            return self._receive(call, self._call_timeout_s)

    def _receive(self, call: str, timeout_s: float) -> Any:
        try:
            answered = self._connection.poll(timeout_s)
            status, *rest = json.loads(self._connection.recv_bytes()) if answered else ("late",)
        except (EOFError, OSError):
            raise self._gone(call) from None
        if status == "ok":
            return rest[0]
        if status == "error":
            raise MockBrokerError(*rest)
        self.kill()  # a late answer would be taken for that of the next command
        self._connection.close()
        raise MockBrokerError(
            call, f"the broker's process did not answer within {timeout_s:g} s and was killed"
        )

    def _gone(self, call: str) -> MockBrokerError:
        self._connection.close()
        try:
            code = self._process.wait(_END_WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return MockBrokerError(call, "the broker's process hung up without ending and was killed")
        return MockBrokerError(
            call, f"the broker's process ended with exit code {code}; its stderr may say why"
        )


def _start_child(descriptor: int, settings: ClusterSettings) -> subprocess.Popen[bytes]:
    # The parent may have found headrace on a path of its own; and -P keeps the working directory off the child's.
    root = str(Path(headrace.__file__).parents[1])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    arguments = [str(descriptor), json.dumps(asdict(settings))]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "headrace.testing._broker_host", *arguments],
        pass_fds=(descriptor,),
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
