"""This machine's own text, written by another client's hands and read by two members: per key it comes out as it went in."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.members.fleet import fleet_of, holders
from tests.members.plan import Plan
from tests.members.verifier import verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.topics import Topics

PACKAGES = Path("/var/lib/dpkg/status")
PACKAGE_LOG = Path("/var/log/dpkg.log")
PARTITIONS = 4
LINES_MAX = 30_000
WAIT_S = 20.0
SEPARATOR = "\t"


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "run_in"), [("classic", "threads"), ("consumer", "asyncio")])
def test_each_key_comes_out_line_for_line_through_a_rebalance(
    kafka: str,
    topics: Topics,
    group_id: str,
    tmp_path: Path,
    protocol: Literal["classic", "consumer"],
    run_in: Literal["threads", "asyncio"],
) -> None:
    """64 handlers in each of two processes; the second joins in the middle and leaves again."""
    source = list(real_lines())
    topic = topics.create(partitions=PARTITIONS)
    half = len(source) // 2
    produce_with_kcat(kafka, topic, source[:half])
    plan = Plan(
        name="",
        bootstrap_servers=kafka,
        group_id=group_id,
        topics=(topic,),
        ledger="",
        protocol=protocol,
        run_in=run_in,
        slow_ms=10,
        keeps_values=True,
        librdkafka={"heartbeat.interval.ms": 300} if protocol == "classic" else None,
        subscribe={"concurrency": 64},
    )
    with fleet_of(plan, tmp_path, PARTITIONS) as fleet:
        fleet.start("first")
        fleet.start("second")
        fleet.wait_until(lambda lines: set(holders(lines).values()) == {"first", "second"}, "both hold some")
        # However fast they are, there is something for the second.
        produce_with_kcat(kafka, topic, source[half:])
        fleet.note_acked(places_of(kafka, topic))
        fleet.wait_until(
            lambda lines: any(line.kind == "end" and line.member == "second" for line in lines), "it works"
        )
        fleet.wait_until_handled(share=0.5)
        assert fleet.stop("second") == [0]
        fleet.wait_until_handled()
        assert fleet.stop() == [0]
        fleet.wait_until_settled()
        verdict = verify(fleet.lines())
        assert not verdict.anomalies, verdict
        assert verdict.repeated == []
        handled = [line for line in fleet.lines() if line.kind == "end"]
    assert {line.member for line in handled} == {"first", "second"}
    assert by_key((line.key or "", line.detail.removeprefix("ok:")) for line in handled) == by_key(source)


def real_lines() -> Iterator[tuple[str, str]]:
    """(package, line) of what the system's package manager has on file; elsewhere, of the packages Python has."""
    count = 0
    for package, line in system_lines() if PACKAGES.exists() else python_lines():
        if line.strip() and SEPARATOR not in package:
            yield package, line
            count += 1
            if count >= LINES_MAX:
                return


def system_lines() -> Iterator[tuple[str, str]]:
    """Every line of every installed package's entry, and of what the log says of it."""
    package = ""
    for line in PACKAGES.read_text(encoding="utf-8", errors="replace").split("\n"):
        if line.startswith("Package: "):
            package = line.removeprefix("Package: ")
        yield package, line
    if PACKAGE_LOG.exists():
        for line in PACKAGE_LOG.read_text(encoding="utf-8", errors="replace").split("\n"):
            words = line.split(" ")
            if len(words) > 4:
                yield words[4 if words[2] == "status" else 3].partition(":")[0], line


def python_lines() -> Iterator[tuple[str, str]]:
    """Every line of the metadata of every installed Python package."""
    for distribution in importlib.metadata.distributions():
        text = distribution.read_text("METADATA") or ""
        for line in text.split("\n"):
            yield distribution.metadata["Name"], line


def produce_with_kcat(kafka: str, topic: str, source: list[tuple[str, str]]) -> None:
    """Write the lines as kcat reads them: key, separator, value."""
    kcat = shutil.which("kcat")
    if kcat is None:
        if os.environ.get("HEADRACE_REQUIRE_KAFKA") == "1":
            pytest.fail("HEADRACE_REQUIRE_KAFKA=1, but kcat is not installed")
        pytest.skip("kcat is not installed")
    command = [kcat, "-P", "-b", kafka, "-t", topic, "-K", SEPARATOR, "-X", "enable.idempotence=true"]
    text = "".join(f"{key}{SEPARATOR}{value}\n" for key, value in source)
    subprocess.run(command, input=text.encode(), check=True, timeout=WAIT_S)


def places_of(kafka: str, topic: str) -> list[tuple[str, int, int, str]]:
    """Where each record lies and its key, by a plain consumer: kcat tells nobody what was acknowledged."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "reads-only", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    found: list[tuple[str, int, int, str]] = []
    ended = 0
    while ended < PARTITIONS:
        messages = consumer.consume(5000, WAIT_S if not found else 0.2)
        assert messages or found
        for message in messages:
            key, partition, offset = message.key(), message.partition(), message.offset()
            if message.error() is not None:
                ended += 1
            elif isinstance(key, bytes) and partition is not None and offset is not None:
                found.append((topic, partition, offset, key.decode()))
    consumer.close()
    return found


def by_key(pairs: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> dict[str, list[str]]:
    """The lines of each key, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return found
