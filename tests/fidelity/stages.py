"""Where scripts run: on the model in virtual time, and on brokers that speak Kafka's protocol, embedded or real."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, Producer, TopicPartition

from headrace._client.consumer import KafkaClient
from headrace._client.settings import ConnectionSettings
from headrace.testing.simulation.choices import Seeded
from headrace.testing.simulation.faults import Faults
from headrace.testing.simulation.history import History
from headrace.testing.simulation.kernel import Kernel, Process
from headrace.testing.simulation.model.kafka import ModelKafka
from headrace.testing.simulation.model.settings import ModelSettings
from tests.chaos.proxy import Link
from tests.fidelity.script import MAX_POLL_S, PARTITIONS, SESSION_S, WAIT_S, Member

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.ports import TopicPartition as Place
    from headrace.testing.broker import MockBroker
    from headrace.testing.simulation.model.settings import Protocol
    from tests.chaos.proxy import Proxy

POLL_S = 0.02


class ModelStage:
    """The model: each member is a thread of a process of its own."""

    def __init__(self, protocol: Protocol, seed: int = 0) -> None:
        self._protocol: Protocol = protocol
        self._kernel = Kernel(Seeded(seed))
        settings = ModelSettings(
            session_timeout_s=SESSION_S,
            heartbeat_interval_s=0.2,
            max_poll_interval_s=MAX_POLL_S,
            first_rebalance_delay_s=0.0,
            metadata_refresh_s=0.5,
            latency_s=0.002,
        )
        self.kafka = ModelKafka(self._kernel, History(), Faults.none(), settings)
        self.kafka.create("t", PARTITIONS)
        self.places: list[Place] = [("t", number) for number in range(PARTITIONS)]
        self.members: dict[str, Member] = {}
        self.gone: list[Member] = []
        self._processes: dict[str, Process] = {}
        self._asleep: dict[str, float] = {}
        self._leaving: list[str] = []
        self._refusals: list[str] = []

    def join(self, name: str, instance: str | None) -> None:
        process = self._processes[name] = Process(name)
        member = Member(name, self.kafka.client(process, name, "g", self._protocol, instance))
        self.members[name] = member

        def live() -> None:
            member.client.subscribe(["t"], member)
            while name not in self._leaving:
                self._kernel.wait(self._asleep.get(name, 0.0))
                member.poll(POLL_S)
            member.client.close(5.0)
            self._leaving.remove(name)

        self._kernel.spawn(process, name, live)

    def leave(self, name: str) -> None:
        self._leaving.append(name)
        self.until(lambda: name not in self._leaving, f"{name} has left")
        self.gone.append(self.members.pop(name))

    def kill(self, name: str) -> None:
        self._kernel.kill(self._processes[name])
        self.gone.append(self.members.pop(name))

    def sleep(self, name: str, sleep_s: float) -> None:
        self._asleep[name] = self._kernel.now + sleep_s
        self.wait(sleep_s)

    def wait(self, wait_s: float) -> None:
        over = self._kernel.now + wait_s
        self._kernel.later(wait_s, "waited", lambda: None)
        self.until(lambda: self._kernel.now >= over, f"{wait_s} s are over")

    def cut(self, name: str) -> None:
        self.kafka.cut(self._processes[name])

    def silence(self, name: str) -> None:
        self.kafka.silence(self._processes[name])

    def speak(self, name: str) -> None:
        self.kafka.speak(self._processes[name])

    def restart(self, down_s: float) -> None:
        self.kafka.down(down_s)
        self.wait(down_s)

    def refuse(self, api: str, code: str) -> None:
        self.kafka.refuse_next(api, code)

    def produce(self, partition: int, count: int) -> None:
        for _ in range(count):
            self.kafka.append("t", partition, b"key")

    def ends(self) -> list[int]:
        return [self.kafka.end(place) for place in self.places]

    def committed(self) -> list[int]:
        return [self.kafka.committed(place, "g") or 0 for place in self.places]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        give_up_at = self._kernel.now + WAIT_S
        while not condition():
            assert self._kernel.now < give_up_at, f"not on the model: {what}"
            assert self._kernel.step(), "nothing happens any more"


class WireStage:
    """A broker behind sockets. All members are polled in turn by one thread; a killed one only goes silent."""

    def __init__(
        self,
        protocol: Protocol,
        bootstrap_servers: str,
        topic: str,
        *,
        direct: str = "",
        broker: MockBroker | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self._protocol = protocol
        self._bootstrap_servers = bootstrap_servers
        self._topic = topic
        self._broker = broker
        self._proxy = proxy
        self.places: list[Place] = [(topic, number) for number in range(PARTITIONS)]
        self.members: dict[str, Member] = {}
        self.gone: list[Member] = []
        self._killed: list[Member] = []
        self._asleep: str = ""
        self._ends = [0] * PARTITIONS
        plain = {"bootstrap.servers": direct or bootstrap_servers, "log_level": 0}
        self._producer = Producer(plain | {"client.id": "fidelity"})
        self._reader = Consumer(
            plain | {"client.id": "fidelity", "group.id": topic, "enable.auto.commit": False}
        )

    def close(self) -> None:
        """End whoever is left."""
        for member in [*self.members.values(), *self._killed]:
            if self._proxy is not None:
                self._proxy.set(self._client_id(member.name), Link.SOUND)
            member.client.close(2.0)
        self._reader.close()

    def _client_id(self, name: str) -> str:
        return f"{self._topic}-{name}"

    def join(self, name: str, instance: str | None) -> None:
        quick: dict[str, Any] = {
            "client.id": self._client_id(name),
            "fetch.wait.max.ms": 10,
            "reconnect.backoff.ms": 10,
            "reconnect.backoff.max.ms": 100,
            "max.poll.interval.ms": int(MAX_POLL_S * 1000),
            "socket.timeout.ms": 10_000,
            "enable.metrics.push": False,
        }
        if self._protocol != "kip848":
            quick |= {"session.timeout.ms": int(SESSION_S * 1000), "heartbeat.interval.ms": 200}
        if self._protocol == "eager":
            quick["partition.assignment.strategy"] = "range"
        settings = ConnectionSettings(
            self._bootstrap_servers,
            self._topic,
            quick,
            group_protocol="consumer" if self._protocol == "kip848" else "classic",
            instance_id=instance,
        )
        member = self.members[name] = Member(name, KafkaClient(settings))
        member.client.subscribe([self._topic], member)

    def leave(self, name: str) -> None:
        # The others go on meanwhile: their coordinator waits for them.
        member = self.members.pop(name)
        done = threading.Event()

        def close() -> None:
            member.client.close(5.0)
            done.set()

        threading.Thread(target=close, daemon=True).start()
        self.until(done.is_set, f"{name} has left")
        self.gone.append(member)

    def kill(self, name: str) -> None:
        assert self._proxy is not None
        self._proxy.set(self._client_id(name), Link.CUT)
        member = self.members.pop(name)
        self.gone.append(member)
        self._killed.append(member)

    def sleep(self, name: str, sleep_s: float) -> None:
        self._asleep = name
        self.wait(sleep_s)
        self._asleep = ""

    def wait(self, wait_s: float) -> None:
        over = time.monotonic() + wait_s
        self.until(lambda: time.monotonic() >= over, f"{wait_s} s are over")

    def cut(self, name: str) -> None:
        assert self._proxy is not None
        self._proxy.set(self._client_id(name), Link.CUT)
        self._proxy.set(self._client_id(name), Link.SOUND)

    def silence(self, name: str) -> None:
        assert self._proxy is not None
        self._proxy.set(self._client_id(name), Link.HALF_OPEN)

    def speak(self, name: str) -> None:
        assert self._proxy is not None
        self._proxy.set(self._client_id(name), Link.SOUND)

    def restart(self, down_s: float) -> None:
        assert self._broker is not None
        self._broker.broker_down()
        self.wait(down_s)
        self._broker.broker_up()

    def refuse(self, api: str, code: str) -> None:
        assert self._broker is not None
        self._broker.push_errors(api, code)

    def produce(self, partition: int, count: int) -> None:
        for _ in range(count):
            self._producer.produce(self._topic, b"value", b"key", partition)
        assert self._producer.flush(WAIT_S) == 0
        self._ends[partition] += count

    def ends(self) -> list[int]:
        return list(self._ends)

    def committed(self) -> list[int]:
        asked = [TopicPartition(self._topic, number) for number in range(PARTITIONS)]
        return [max(0, place.offset) for place in self._reader.committed(asked, timeout=WAIT_S)]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        give_up_at = time.monotonic() + WAIT_S
        while not condition():
            told = {member.name: member.told for member in self.members.values()}
            assert time.monotonic() < give_up_at, f"not in time: {what}; {told}"
            for member in list(self.members.values()):
                if member.name != self._asleep:
                    member.poll(POLL_S)
            if not self.members:
                time.sleep(POLL_S)
