"""A rolling restart of `headrace run --processes` on a real Kafka, seen from outside: records handled, offsets committed."""

from __future__ import annotations

import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.supervised import running, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.topics import Topics

PARTITIONS = 4
ROLL_S = 240.0
"""Each of two processes may take 40 s to end, by the app's own limits, and 60 s to be ready again; and a busy machine."""
APP = """
import os, time
from headrace import App, Commit
app = App(
    {servers!r}, {group!r}, group_protocol={protocol!r}, commit=Commit(every_s=0.5),
    librdkafka={{"session.timeout.ms": 6000}} if {protocol!r} == "classic" else None,
)
ledger = os.open("handled", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

@app.subscribe({topic!r}, concurrency=8)
def charge(record):
    time.sleep(0.005)
    os.write(ledger, f"{{os.getpid()}} {{record.partition}} {{record.offset}} {{record.raw_key.decode()}}\\n".encode())
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]  # the longest waits in a row


def handled(directory: Path) -> list[tuple[int, int, int, str]]:
    """Process, partition, offset and key of each handler call, in order."""
    path = directory / "handled"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [line.split(" ") for line in lines if line.count(" ") == 3]
    return [(int(pid), int(partition), int(offset), key) for pid, partition, offset, key in found]


def committed(servers: str, group: str, topic: str) -> list[int]:
    """Of each partition."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group})
    try:
        parts = consumer.committed([TopicPartition(topic, n) for n in range(PARTITIONS)], timeout=15)
        return [part.offset for part in parts]
    finally:
        consumer.close()


@pytest.mark.parametrize("protocol", ["classic", pytest.param("consumer", marks=pytest.mark.full)])
def test_a_roll_of_two_processes_loses_nothing_and_repeats_nothing(
    kafka: str, topics: Topics, group_id: str, tmp_path: Path, protocol: str
) -> None:
    topic = topics.create(partitions=PARTITIONS)
    app = APP.format(servers=kafka, group=group_id, topic=topic, protocol=protocol)
    (tmp_path / "billing.py").write_text(app)
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5})
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            producer.produce(topic, b"x", b"key-%d" % (sent % 53), partition=sent % PARTITIONS)
            sent += 1
        producer.flush(15)

    with running(tmp_path, "-m", "headrace", "run", "billing:app", "--processes", "2") as fleet:
        fleet.says(r"process \d is ready", times=2)
        for number in (0, 1):
            fleet.says(rf"\[{number}\] .* partition_assigned")
        send(200)
        fleet.process.send_signal(signal.SIGHUP)
        give_up_at = time.monotonic() + ROLL_S
        while "rolling restart done" not in fleet.said:
            assert time.monotonic() < give_up_at, fleet.said
            send(20)
            time.sleep(0.05)
        send(400)
        until(lambda: len(handled(tmp_path)) >= sent, "the handling of all", lambda: fleet.said)
        fleet.process.send_signal(signal.SIGTERM)
        assert fleet.ends() == 0
        assert "rolling restart stopped" not in fleet.said
        assert fleet.said.count(" is replaced") == 2
    calls = handled(tmp_path)
    times = Counter((partition, offset) for _, partition, offset, _ in calls)
    wanted = {
        (partition, offset) for partition in range(PARTITIONS) for offset in range(ends(sent, partition))
    }
    assert times.keys() == wanted
    assert [place for place, count in times.items() if count > 1] == []
    assert committed(kafka, group_id, topic) == [ends(sent, partition) for partition in range(PARTITIONS)]
    last: dict[tuple[int, str], int] = {}
    for _, partition, offset, key in calls:
        assert offset > last.get((partition, key), -1), "the order of a key"
        last[partition, key] = offset
    assert len({pid for pid, *_ in calls}) >= 3


def ends(sent: int, partition: int) -> int:
    """How many of the records that were sent in turn a partition has."""
    return (sent - partition + PARTITIONS - 1) // PARTITIONS
