"""`headrace copy` on a real broker: what is copied, that it is copied once whatever interrupts it, and what is refused."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from headrace import read
from headrace.cli import execute
from headrace.cli.exits import Exit
from headrace.cli.transfer import course as courses
from headrace.cli.transfer.course import Course
from tests.kafka.witness import WAIT_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from headrace.ranges import StoredRecord
    from tests.topics import Topics

    Command = Callable[..., tuple[Exit, str]]

pytestmark = pytest.mark.slow

COUNT = 60
FIRST_MS = time.time_ns() // 1_000_000 - 3_600_000


@pytest.fixture
def command(kafka: str, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs `headrace copy`: its code, and what it said."""

    def run(*arguments: str) -> tuple[Exit, str]:
        code = execute(["copy", *arguments, "-b", kafka, "--timeout", "20"])
        return code, capfd.readouterr().err

    return run


@pytest.fixture
def source(kafka: str, topics: Topics) -> str:
    """Three partitions of 20; keys, nulls, headers, timestamps."""
    topic = topics.create(partitions=3, suffix="-source")
    fill(kafka, topic, 0, COUNT)
    return topic


def fill(kafka: str, topic: str, first: int, end: int) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    for n in range(first, end):
        producer.produce(
            topic,
            None if n % 10 == 9 else b"%d" % n,
            None if n % 7 == 6 else b"key-%d" % (n % 11),
            partition=n % 3,
            timestamp=FIRST_MS + n,
            headers=[("n", b"%d" % n), ("n", b""), ("gone", None)] if n % 2 else None,
        )
    assert producer.flush(WAIT_S) == 0


def records(kafka: str, topic: str) -> list[StoredRecord]:
    return list(read(topic, bootstrap_servers=kafka, as_="records", timeout_s=WAIT_S))


def contents(kafka: str, topic: str, *, partitions: bool = True) -> list[Any]:
    """What they hold, without their offsets, which a copy does not keep; in order within a partition."""
    held = [
        (r.partition if partitions else 0, r.timestamp_ms, r.key, r.value, r.headers)
        for r in records(kafka, topic)
    ]
    return sorted(held, key=lambda one: one[:2])


def copied(kafka: str, source: str, target: str) -> None:
    """A broker calls a transaction committed before its markers are written: a reader may be too early."""
    wanted = contents(kafka, source)
    wait_until(lambda: contents(kafka, target) == wanted, "the target is as the source")


def test_a_copy_has_everything_in_its_own_partition(
    kafka: str, topics: Topics, source: str, command: Command
) -> None:
    target = topics.create(partitions=4, suffix="-target")
    code, said = command(source, "--topic", target, "--keep-partitions")
    assert (code, said) == (Exit.OK, "60 records copied\n")
    copied(kafka, source, target)
    assert len(contents(kafka, source)) == COUNT


def test_by_key_a_key_is_in_one_partition_and_in_order(kafka: str, topics: Topics, command: Command) -> None:
    origin = topics.create(suffix="-source")
    producer = Producer({"bootstrap.servers": kafka})
    for n in range(COUNT):
        producer.produce(origin, b"%d" % n, b"key-%d" % (n % 5), timestamp=FIRST_MS + n)
    assert producer.flush(WAIT_S) == 0
    target = topics.create(partitions=3, suffix="-target")
    assert command(origin, "--topic", target)[0] is Exit.OK
    of_key: dict[Any, list[StoredRecord]] = {}
    wait_until(lambda: len(records(kafka, target)) == COUNT, "the markers of its transactions")
    for record in records(kafka, target):
        of_key.setdefault(record.key, []).append(record)
    assert len(of_key) == 5
    for some in of_key.values():
        assert len({record.partition for record in some}) == 1
        assert [record.timestamp_ms for record in some] == sorted(record.timestamp_ms or 0 for record in some)


def test_by_name_a_copy_goes_on_where_it_was_whatever_ended_it(
    kafka: str, topics: Topics, source: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It breaks between two transactions, in one, and just after one ended: each record is there once."""
    target = topics.create(partitions=3, suffix="-target")
    asked = (source, "--topic", target, "--keep-partitions", "--name", uuid.uuid4().hex)
    monkeypatch.setattr(courses, "RECORDS_MAX", 10)
    honest, tries = Course._commit, 0

    def commit(self: Course, sent: int) -> None:
        nonlocal tries
        tries += 1
        if tries == 2:
            raise OSError("before it")
        honest(self, sent)
        if tries == 4:
            raise OSError("after it")

    monkeypatch.setattr(Course, "_commit", commit)
    code, said = command(*asked)
    assert code is Exit.FAILED
    assert "10 records copied; again with --name" in said
    code, said = command(*asked)
    assert code is Exit.FAILED
    code, said = command(*asked)
    assert code is Exit.OK
    copied(kafka, source, target)
    assert command(*asked) == (Exit.OK, "0 records copied\n")
    fill(kafka, source, COUNT, COUNT + 5)
    assert command(*asked) == (Exit.OK, "5 records copied\n")
    copied(kafka, source, target)


STANDS_STILL = """
import signal
import time
from headrace._client.transactions import TransactionWriter
from headrace.cli import main
from headrace.cli.transfer import course

signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the suite runs in the background
course.RECORDS_MAX = 10
honest, count = TransactionWriter.send, []

def send(self, *record):
    honest(self, *record)
    count.append(record)
    if len(count) == 25:
        self._producer.flush(10)
        print("stands", flush=True)
        time.sleep(60)

TransactionWriter.send = send
main()
"""


@pytest.mark.parametrize(
    ("end", "code"), [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_copy_that_is_ended_in_a_transaction_leaves_none_of_it(
    kafka: str, topics: Topics, source: str, command: Command, end: signal.Signals, code: int
) -> None:
    """Whoever reads what is committed never sees the five; the next try ends the transaction that a kill left open."""
    target = topics.create(partitions=3, suffix="-target")
    asked = [source, "--topic", target, "--keep-partitions", "--name", uuid.uuid4().hex]
    process = subprocess.Popen(
        [sys.executable, "-c", STANDS_STILL, "copy", *asked, "-b", kafka],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stands\n"
    process.send_signal(end)
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == code, said
    if end is signal.SIGINT:
        # Before it the client may tell that the coordinator of transactions is still loading.
        assert "20 records copied; again with --name" in said
        wait_until(
            lambda: len(records(kafka, target)) == 20, "the transaction that was aborted holds nobody up"
        )
    assert command(*asked) == (Exit.OK, "40 records copied\n")
    copied(kafka, source, target)


@pytest.mark.parametrize("by", [None, "partition", "hour"])
def test_from_parquet_back_to_a_topic(
    kafka: str,
    topics: Topics,
    source: str,
    command: Command,
    tmp_path: Path,
    by: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of it, once, interrupted too."""
    target = topics.create(partitions=3, suffix="-target")
    out = tmp_path / ("out.parquet" if by is None else "out")
    folders = () if by is None else ("--by", by, "--part-records", "7")
    assert execute(["read", source, "--to", str(out), *folders, "-b", kafka, "-q"]) is Exit.OK
    name = uuid.uuid4().hex
    asked = (str(out), "--topic", target, "--keep-partitions", "--name", name)
    monkeypatch.setattr(courses, "RECORDS_MAX", 7)
    honest, tries = Course._commit, 0

    def commit(self: Course, sent: int) -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            raise OSError("broken")
        honest(self, sent)

    monkeypatch.setattr(Course, "_commit", commit)
    assert command(*asked)[0] is Exit.FAILED
    assert command(*asked) == (Exit.OK, "46 records copied\n")
    copied(kafka, source, target)
    assert "one of files" in command(source, *asked[1:])[1]
    if by is not None:
        manifest = out / "_export.json"
        manifest.write_text(manifest.read_text().replace("true", "false", 1))
        assert "is not finished" in command(*asked)[1]


def test_a_record_that_the_target_refuses_ends_the_copy(kafka: str, topics: Topics, command: Command) -> None:
    """With what was copied before it, and the reason; nothing of its transaction appears."""
    origin = topics.create(suffix="-source")
    target = topics.create(suffix="-target", config={"max.message.bytes": "2000"})
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(origin, b"small")
    producer.produce(origin, b"x" * 5000)
    assert producer.flush(WAIT_S) == 0
    code, said = command(origin, "--topic", target)
    assert code is Exit.FAILED
    assert said.startswith("0 records copied; without --name another copy begins anew")
    assert "MSG_SIZE_TOO_LARGE" in said
    assert contents(kafka, target) == []


def test_records_that_are_gone_are_an_error_or_told(
    kafka: str, topics: Topics, source: str, command: Command
) -> None:
    """Between two tries of one name."""
    target = topics.create(partitions=3, suffix="-target")
    asked = (source, "--topic", target, "--name", uuid.uuid4().hex)
    assert command(*asked)[0] is Exit.OK
    fill(kafka, source, COUNT, COUNT + 30)
    cut = TopicPartition(source, 0, 25)
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_records([cut])[cut].result(WAIT_S)
    code, said = command(*asked)
    assert code is Exit.FAILED
    assert f"{source}[0]: offsets 20 to 25 (5) are gone" in said
    code, said = command(*asked, "--on-data-loss", "report")
    assert code is Exit.OK
    assert said == f"lost: {source}[0] offsets 20 to 25 (5)\n25 records copied\n"


def test_what_cannot_be_meant_is_refused(
    kafka: str, topics: Topics, source: str, command: Command, tmp_path: Path
) -> None:
    target = topics.create(partitions=1, suffix="-target")

    def refused(*arguments: str) -> str:
        code, said = command(*arguments)
        assert code is Exit.USAGE, said
        return said

    assert "into itself" in refused(source)
    assert "into itself" in refused(source, "--to", kafka)
    assert "takes letters" in refused(source, "--topic", target, "--name", "a b")
    assert "goes with --to" in refused(source, "--topic", target, "--to-setting", "linger.ms=5")
    assert "and 3 are needed" in refused(source, "--topic", target, "--keep-partitions")
    assert "topic not found" in refused(source, "--topic", "nowhere")
    assert "topic not found" in refused("nowhere", "--topic", target)
    assert "not beside topics" in refused(source, "./x.parquet", "--topic", target)
    assert "no such file" in refused(str(tmp_path / "x.parquet"), "--topic", target)
    assert "no Parquet files" in refused(f"{tmp_path}/", "--topic", target)
    (tmp_path / "x.parquet").write_bytes(b"nothing")
    assert "x.parquet: " in refused(str(tmp_path / "x.parquet"), "--topic", target)
