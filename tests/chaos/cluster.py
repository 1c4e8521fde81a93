"""Two Kafka nodes whose clients can be put behind a proxy: started, restarted, and their group coordinators moved.

Decides how the nodes are set up; refuses to know why they are disturbed. Each node listens twice: directly, for
producers and observers, and on a listener that is advertised at the proxy's port, so that all traffic of members leads
through the proxy. Invariant: no node outlives the cluster (see `reaper` for the case that this process is killed).
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka.admin import AdminClient

from tests.chaos.ports import free_ports, is_open
from tests.kafka_server import EXIT_UNAVAILABLE, KafkaUnavailable

if TYPE_CHECKING:
    from tests.chaos.reaper import Reaper

psutil: Any = importlib.import_module("psutil")  # it has no types of its own

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "kafka"
COMMON_SETTINGS = ROOT / "scripts" / "kafka-server" / "server.properties"
CLUSTER_ID = "headrace-chaos-cluster"  # 22 characters, as the base64 of 16 bytes is
START_WAIT_S = 60.0
STOP_WAIT_S = 20.0
OFFSETS_TOPIC = "__consumer_offsets"
OFFSETS_PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class Node:
    """Where one node is. `upstream` is where the proxy finds it, `proxied` where the proxy offers it."""

    number: int
    direct: int
    upstream: int
    proxied: int


class Cluster:
    """Node 1 is broker and controller, node 2 broker only. One thread at a time."""

    def __init__(self, folder: Path, reaper: Reaper, start_wait_s: float = START_WAIT_S) -> None:
        self._folder = folder
        self._reaper = reaper
        self._start_wait_s = start_wait_s
        direct1, up1, proxied1, controller, direct2, up2, proxied2 = free_ports(7)
        self._controller = controller
        self.nodes = (Node(1, direct1, up1, proxied1), Node(2, direct2, up2, proxied2))
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def direct(self) -> str:
        """Bootstrap addresses for those who are not to be disturbed."""
        return ",".join(f"127.0.0.1:{node.direct}" for node in self.nodes)

    @property
    def proxied(self) -> str:
        """Bootstrap addresses for members: the proxy's."""
        return ",".join(f"127.0.0.1:{node.proxied}" for node in self.nodes)

    def start(self) -> None:
        """Format and start both; returns when both serve. Raises `KafkaUnavailable` where there can be none."""
        for node in self.nodes:
            self._write_settings(node)
            format_storage = [
                str(SCRIPT), "tool", "kafka-storage", "format", "--cluster-id", CLUSTER_ID,
                "--config", str(self._settings(node)),
            ]  # fmt: skip
            done = subprocess.run(
                format_storage, check=False, capture_output=True, stdin=subprocess.DEVNULL, text=True
            )
            if done.returncode == EXIT_UNAVAILABLE:
                raise KafkaUnavailable(done.stderr.strip().splitlines()[-1].removeprefix("error: "))
            assert done.returncode == 0, f"Kafka's storage could not be formatted:\n{done.stderr}"
        for node in self.nodes:
            self._launch(node)
        for node in self.nodes:
            self._wait_until_serving(node)
        admin = AdminClient({"bootstrap.servers": self.direct})
        deadline = time.monotonic() + self._start_wait_s
        while len(admin.list_topics(timeout=self._start_wait_s).brokers) < len(self.nodes):
            assert time.monotonic() < deadline, "the second node did not join"
            time.sleep(0.1)

    def restart(self, number: int) -> float:
        """Stop one node, in order, and start it again; returns for how long it did not serve."""
        node = self.nodes[number - 1]
        began = time.monotonic()
        self._terminate(node)
        self._launch(node)
        self._wait_until_serving(node)
        return time.monotonic() - began

    def move_coordinators(self) -> dict[int, int]:
        """Give each partition of the offsets topic to the other node; returns the new leaders.

        Its leader is the coordinator of the groups that live there: they find their coordinator elsewhere.
        """
        admin = AdminClient({"bootstrap.servers": self.direct})
        partitions = admin.list_topics(OFFSETS_TOPIC, timeout=10).topics[OFFSETS_TOPIC].partitions
        targets = {number: 3 - state.leader for number, state in partitions.items() if state.leader > 0}
        asked = [f"{number}={to}" for number, to in targets.items()]
        command = [sys.executable, "-m", "tests.chaos.coordinators", self.direct, *asked]
        subprocess.run(
            command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=START_WAIT_S
        )
        deadline = time.monotonic() + START_WAIT_S
        while True:
            found = admin.list_topics(OFFSETS_TOPIC, timeout=10).topics[OFFSETS_TOPIC].partitions
            if all(found[number].leader == to for number, to in targets.items()):
                return targets
            assert time.monotonic() < deadline, "the coordinators did not move"
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop both nodes; data stay in the folder."""
        for node in reversed(self.nodes):
            self._terminate(node)

    def log_of(self, number: int) -> Path:
        """What a node says."""
        return self._folder / f"node-{number}.log"

    def _settings(self, node: Node) -> Path:
        return self._folder / f"node-{node.number}.properties"

    def _write_settings(self, node: Node) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        listeners = [f"PLAINTEXT://127.0.0.1:{node.direct}", f"PROXIED://127.0.0.1:{node.upstream}"]
        advertised = [listeners[0], f"PROXIED://127.0.0.1:{node.proxied}"]
        if node.number == 1:
            listeners.append(f"CONTROLLER://127.0.0.1:{self._controller}")
        lines = [
            COMMON_SETTINGS.read_text(),
            f"node.id={node.number}",
            f"process.roles={'broker,controller' if node.number == 1 else 'broker'}",
            f"listeners={','.join(listeners)}",
            f"advertised.listeners={','.join(advertised)}",
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
            f"controller.quorum.voters=1@127.0.0.1:{self._controller}",
            f"log.dirs={self._folder / f'data-{node.number}'}",
            f"offsets.topic.num.partitions={OFFSETS_PARTITIONS}",
            # The log of commits is evidence: nothing of it may be compacted away.
            "log.cleaner.enable=false",
        ]
        self._settings(node).write_text("\n".join(lines) + "\n")

    def _launch(self, node: Node) -> None:
        with self.log_of(node.number).open("ab") as log:
            self._running[node.number] = subprocess.Popen(
                [str(SCRIPT), "tool", "kafka.Kafka", str(self._settings(node))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._reaper.watch(self._running[node.number].pid)

    def _wait_until_serving(self, node: Node) -> None:
        deadline = time.monotonic() + self._start_wait_s
        while not is_open(node.direct):
            assert self._running[node.number].poll() is None, self._tail(node)
            assert time.monotonic() < deadline, f"node {node.number} is not ready:\n{self._tail(node)}"
            time.sleep(0.1)

    def _terminate(self, node: Node) -> None:
        process = self._running.pop(node.number, None)
        if process is None:
            return
        # The script that started Java ends when Java ends.
        for child in psutil.Process(process.pid).children() if process.poll() is None else []:
            child.terminate()
        try:
            process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(process.pid).children():
                child.kill()
            process.wait(STOP_WAIT_S)
        self._reaper.forget(process.pid)

    def _tail(self, node: Node) -> str:
        return self.log_of(node.number).read_text(errors="replace")[-3000:]
