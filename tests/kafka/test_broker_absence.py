"""Brokers and topics that are not there: at start, and for a while in the middle."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from headrace import App, BrokerUnreachable, Commit, Record, Timeouts, TopicMissing
from tests import kafka_server
from tests.kafka.witness import PROTOCOLS, Protocol, group_of, produce, running, wait_until
from tests.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

NOBODY = "127.0.0.1:9"
START_WAIT_S = 90.0

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_topic_that_does_not_exist_is_named_at_start(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    """A dead-letter topic too: it would be missed when it is needed."""
    topic = topics.create()
    for subscribed, dead_letter in ((f"{topic}-missing", None), (topic, f"{topic}-missing")):
        app = App(kafka, group_id, group_protocol=protocol)
        app.subscribe(subscribed, dead_letter=dead_letter)(print)
        with pytest.raises(TopicMissing) as missing:
            app.start()
        assert missing.value.topics == (f"{topic}-missing",)


def test_a_broker_that_does_not_answer_is_given_up_in_time() -> None:
    app = App(NOBODY, "nobody", timeouts=Timeouts(connect_s=1.0))
    app.subscribe("any")(print)
    began = time.monotonic()
    with pytest.raises(BrokerUnreachable) as unreachable:
        app.start()
    assert time.monotonic() - began < 5.0
    assert unreachable.value.bootstrap_servers == NOBODY


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_static_member_that_comes_back_in_time_moves_no_partitions(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    """One of two static members restarts: the other is not even asked to give anything back."""
    topic = topics.create(partitions=4)
    moves: list[str] = []
    handled: list[bytes] = []

    def member(name: str) -> App:
        app = App(
            kafka,
            group_id,
            group_protocol=protocol,
            instance_id=name,
            librdkafka={"heartbeat.interval.ms": 300} if protocol == "classic" else None,
            commit=Commit(every_s=0.1),
        )

        @app.subscribe(topic)
        def handle(record: Record[Any, Any]) -> None:
            handled.append(record.raw_value or b"")

        return app

    stays, leaves = member("stays"), member("leaves")
    with running(stays), group_of(kafka, group_id) as group:
        wait_until(lambda: len(held(stays)) == 4, "the first holds all")
        with running(leaves):
            wait_until(lambda: len(held(stays)) == len(held(leaves)) == 2, "they share")
            before = held(leaves)
            stays.listen(lambda notice: moves.append(notice.name))
        produce(kafka, topic, ((f"key-{i}".encode(), b"%d" % i) for i in range(100)))
        back = member("leaves")
        with running(back):
            wait_until(lambda: held(back) == before, "it has its own again")
            ends = [group.ends(topic, partition)[1] for partition in range(4)]
            wait_until(lambda: [group.committed(topic, p) or 0 for p in range(4)] == ends, "all is committed")
        assert not {"partition_assigned", "partition_revoked", "partition_lost"} & set(moves)
    assert sorted(handled) == sorted(b"%d" % i for i in range(100))


@pytest.mark.kafka
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_broker_that_restarts_is_waited_for_and_nothing_is_lost(
    own_broker: OwnBroker, unique_name: str, group_id: str, protocol: Protocol
) -> None:
    """Handlers go on with what is in memory; commits and fetches go on when it is back."""
    kafka = own_broker.address
    topics = Topics(kafka, prefix=unique_name)
    topic = topics.create(partitions=2)
    handled: set[tuple[int, int]] = set()
    go_on = threading.Event()
    app = App(
        kafka, group_id, group_protocol=protocol, commit=Commit(every_s=0.2), librdkafka={"log_level": 0}
    )

    @app.subscribe(topic, concurrency=8)
    def handle(record: Record[Any, Any]) -> None:
        if record.offset >= 50:
            go_on.wait()
        handled.add((record.partition, record.offset))

    produced = produce(kafka, topic, ((f"key-{i}".encode(), b"") for i in range(400)))
    with running(app), group_of(kafka, group_id) as group:
        wait_until(lambda: len(handled) >= 50, "some is handled")
        own_broker.stop()
        go_on.set()
        wait_until(lambda: len(handled) == produced, "what was fetched is handled without a broker")
        own_broker.start()
        produced += produce(kafka, topic, ((f"key-{i}".encode(), b"") for i in range(100)))
        wait_until(lambda: len(handled) == produced, "what came later is handled", START_WAIT_S / 3)
        ends = [group.ends(topic, partition)[1] for partition in range(2)]
        wait_until(lambda: [group.committed(topic, p) for p in range(2)] == ends, "all is committed")


def held(app: App) -> set[int]:
    """The partitions that an app has now."""
    return {partition.partition for partition in app.snapshot().engine.partitions}


class OwnBroker:
    """A broker of these tests' own, that may be stopped and started again with its data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = ""

    def start(self) -> None:
        """Start it, where it was before if it was before."""
        answer = self._run("start", "--owner", str(os.getpid()))
        if answer.returncode == kafka_server.EXIT_UNAVAILABLE and not kafka_server.is_required():
            pytest.skip(f"no Kafka: {answer.stderr}")
        assert answer.returncode == 0, answer.stderr
        self.address = answer.stdout.strip().partition("=")[2]

    def stop(self) -> None:
        """Stop it; the data stay."""
        assert self._run("stop").returncode == 0

    def _run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(kafka_server.SCRIPT), command, "--dir", str(self._folder), *arguments],
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=START_WAIT_S,
        )


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Generator[OwnBroker]:
    """Shared by the tests that stop it; they leave it running."""
    broker = OwnBroker(tmp_path_factory.mktemp("own-kafka"))
    broker.start()
    yield broker
    broker.stop()
