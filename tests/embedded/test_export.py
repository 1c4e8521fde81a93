"""`headrace read` on the embedded broker: what the files hold, and that they are whole or not there."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, TopicPartition

from headrace.cli import execute
from headrace.cli.exits import Exit
from headrace.testing import MockBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Command = Callable[..., tuple[Exit, str, str]]

WAIT_S = 30.0


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    """`orders`: texts, JSON, nulls; `raw`: what is no text; `words`: text that is no JSON."""
    with MockBroker(topics={"orders": 1, "raw": 1, "words": 1, "large": 2}) as broker:
        broker.produce("words", [("k", "fine")])
        broker.produce(
            "orders",
            [
                ("a", '{"n": 1}', [("h", b"x"), ("h", None)]),
                (None, '"two, \\"quoted\\""'),
                ("", "[]"),
                ("d", None),
            ],
        )
        broker.produce("raw", [(b"k", b"fine"), (b"\xff", b"\x00\xfe")])
        yield broker


@pytest.fixture
def command(broker: MockBroker, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs `headrace read`: its code, what it printed, what it complained of."""

    def run(*arguments: str) -> tuple[Exit, str, str]:
        code = execute(["read", *arguments, "-b", broker.bootstrap_servers, "--timeout", "5"])
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return run


def test_lines_of_json_are_what_tail_prints(
    command: Command, broker: MockBroker, capfd: pytest.CaptureFixture[str]
) -> None:
    for topic in ("orders", "raw"):
        code, out, err = command(topic)
        assert code is Exit.OK
        assert err.startswith(f"{len(out.splitlines())} records, ")
        execute(
            ["tail", topic, "--from-beginning", "--exit", "--form", "json", "-b", broker.bootstrap_servers]
        )
        assert out == capfd.readouterr().out


def test_json_values_are_values_when_decoded(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    code, out, err = command("orders", "--to", str(target), "--decode", "json", "-q")
    assert (code, out, err) == (Exit.OK, "", "")
    rows = [json.loads(row) for row in target.read_text().splitlines()]
    assert [(row["key"], row["value"]) for row in rows] == [
        ("a", {"n": 1}), (None, 'two, "quoted"'), ("", []), ("d", None)
    ]  # fmt: skip
    assert rows[0]["headers"] == [["h", "x"], ["h", None]]


def test_csv_keeps_quotes_and_tells_null_from_empty(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    assert command("orders", "--to", str(target))[0] is Exit.OK
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["value"] for row in rows] == ['{"n": 1}', '"two, \\"quoted\\""', "[]", ""]
    assert json.loads(rows[0]["headers"]) == [["h", "x"], ["h", None]]
    lines = target.read_text().splitlines()
    assert [text.split(",")[4] for text in lines[1:]] == ['"a"', "", '""', '"d"']


def test_parquet_has_bytes_or_texts_as_asked(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    assert command("orders", "raw", "--to", str(target))[0] is Exit.OK
    there: list[dict[str, Any]] = pq.read_table(target).to_pylist()
    rows = sorted(there, key=lambda row: (str(row["topic"]), int(row["offset"])))
    assert [row["value"] for row in rows][-3:] == [None, b"fine", b"\x00\xfe"]
    assert (
        command("orders", "--to", str(target), "--decode", "json", "--columns", "offset, value")[0] is Exit.OK
    )
    table = pq.read_table(target)
    assert table.schema.names == ["offset", "value"]
    assert table["value"].to_pylist() == ['{"n": 1}', '"two, \\"quoted\\""', "[]", None]
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
@pytest.mark.parametrize(
    ("topic", "decode", "words"),
    [
        ("raw", "text", "raw[0]@1: the key is not UTF-8"),
        ("words", "json", "words[0]@0: the value is not JSON"),
    ],
)
def test_what_does_not_decode_is_named_and_no_file_is_left(
    command: Command, tmp_path: Path, name: str, topic: str, decode: str, words: str
) -> None:
    code, _, err = command(topic, "--to", str(tmp_path / name), "--decode", decode)
    assert code is Exit.FAILED
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_topic(command: Command, broker: MockBroker) -> None:
    def offsets(*arguments: str) -> list[int]:
        code, out, err = command("orders", *arguments)
        assert code is Exit.OK, err
        return [json.loads(row)["offset"] for row in out.splitlines()]

    assert offsets("--last", "2") == [2, 3]
    assert offsets("--since", "latest") == []
    assert offsets("--until", "earliest") == []
    assert offsets("--committed", "nobody") == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["orders", "--to", "x.xlsx"], "must end in"),
        (["orders", "--last", "2", "--since", "1h"], "give one of"),
        (["orders", "--since", "soon"], "--since soon"),
        (["orders", "--columns", "key"], "for Parquet"),
        (["orders", "--to", "x.parquet", "--columns", "values"], "did you mean"),
        (["nowhere"], "topic not found: nowhere"),
        ([], "TOPIC"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    command: Command, arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*arguments)
    assert (code, out) == (Exit.USAGE, "")
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_records_that_are_gone_are_an_error_or_told(
    command: Command, broker: MockBroker, tmp_path: Path
) -> None:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "late"})
    consumer.commit(offsets=[TopicPartition("orders", 0, 1)], asynchronous=False)
    consumer.close()
    broker.delete_records("orders", 0, 3)
    assert command("orders", "-q")[1].count("\n") == 1  # the earliest there is: nothing is lost
    target = tmp_path / "out.jsonl"
    code, _, err = command("orders", "--committed", "late", "--to", str(target))
    assert (code, target.exists()) == (Exit.FAILED, False)
    assert "offsets 1 to 3 (2) are gone" in err
    code, out, err = command("orders", "--committed", "late", "--on-data-loss", "report", "-q")
    assert (code, out.count("\n")) == (Exit.OK, 1)
    assert err == "lost: orders[0] offsets 1 to 3 (2)\n"


def test_ctrl_c_leaves_no_file(broker: MockBroker, tmp_path: Path) -> None:
    """In the middle of a read that would go on for long."""
    for partition in range(2):
        broker.produce("large", [("k", "x" * 1000)] * 2000, partition=partition)
    broker.round_trip(0.5)
    target = tmp_path / "out.jsonl"
    program = "from headrace.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        program,
        "read",
        "large",
        "--to",
        str(target),
        "-b",
        broker.bootstrap_servers,
    ]
    slow = [
        "-X",
        "max.partition.fetch.bytes=20000",
        "-X",
        "fetch.max.bytes=20000",
        "-X",
        "message.max.bytes=20000",
    ]
    process = subprocess.Popen([*command, *slow], stderr=subprocess.PIPE, text=True)
    give_up_at = time.monotonic() + WAIT_S
    while not any(path.name.endswith(".partial") for path in tmp_path.iterdir()):
        assert time.monotonic() < give_up_at
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=WAIT_S)
    assert (process.returncode, complaint) == (Exit.INTERRUPTED, "")
    assert list(tmp_path.iterdir()) == []
