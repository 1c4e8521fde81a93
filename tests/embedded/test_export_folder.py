"""`headrace read --by` on the embedded broker: what folders hold, and that an interrupted export goes on exactly."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer

from headrace.cli import execute
from headrace.cli.exits import Exit
from headrace.cli.export import folder as folders
from headrace.cli.export import manifest as manifests
from headrace.testing import MockBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Command = Callable[..., tuple[Exit, str, str]]

WAIT_S = 30.0
HOUR_MS = 3_600_000
NOON_MS = 1_780_000_000_000 // HOUR_MS * HOUR_MS
COUNT = 25


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    """`orders`: 2 partitions of 25, ten minutes apart and one of them late; `words`: text, the last is no JSON."""
    with MockBroker(topics={"orders": 2, "words": 1, "empty": 1}) as broker:
        broker.produce("words", [("k", "1"), ("k", "[2]"), ("k", "three")])
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
        for partition in range(2):
            for n in range(COUNT):
                minutes = n * 10 if n != 20 else 0
                stamp = NOON_MS + minutes * 60_000
                producer.produce(
                    "orders", b"%d" % n, b"k", partition=partition, timestamp=stamp, headers=[("h", b"x")]
                )
        assert producer.flush(WAIT_S) == 0
        yield broker


@pytest.fixture
def command(broker: MockBroker, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs `headrace read`: its code, what it printed, what it complained of."""

    def run(*arguments: str) -> tuple[Exit, str, str]:
        code = execute(["read", *arguments, "-b", broker.bootstrap_servers, "--timeout", "5"])
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return run


def rows(folder: Path) -> list[dict[str, Any]]:
    """All rows, with what the paths tell, in the order of partitions and offsets."""
    found = ds.dataset(folder, format="parquet", partitioning="hive").to_table().to_pylist()
    return sorted(found, key=lambda row: (str(row["topic"]), int(row["partition"]), int(row["offset"])))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_for_each_partition(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "out"
    code, _, err = command(
        "orders", "empty", "--to", str(target), "--by", "partition", "--part-records", "10"
    )
    assert code is Exit.OK
    assert err.startswith("50 records, ")
    assert [(row["topic"], row["partition"], row["offset"]) for row in rows(target)] == [
        ("orders", partition, n) for partition in range(2) for n in range(COUNT)
    ]
    assert [row["value"] for row in rows(target)] == [b"%d" % n for n in range(COUNT)] * 2
    assert rows(target)[0]["headers"] == [{"key": "h", "value": b"x"}]
    assert files(target) == [
        "_export.json",
        *(
            f"topic=orders/partition={partition}/orders-{partition}-{start:020}-{end:020}.parquet"
            for partition in range(2)
            for start, end in ((0, 8), (8, 16), (16, 25))
        ),
    ]
    first = pq.read_schema(target / files(target)[1])
    assert first.names == ["key", "value", "offset", "timestamp", "timestamp_type", "headers"]


def test_a_folder_for_each_hour(command: Command, tmp_path: Path) -> None:
    """In UTC, by the record's timestamp: a late one is in the hour that it tells."""
    target = tmp_path / "out"
    assert (
        command("orders", "--to", str(target), "--by", "hour", "--columns", "value,offset,partition")[0]
        is Exit.OK
    )
    hours = {row["hour"] for row in rows(target)}
    assert len(hours) == 5
    late = [row for row in rows(target) if row["offset"] == 20]
    assert {row["hour"] for row in late} == {min(hours)}
    assert len(rows(target)) == 2 * COUNT
    assert {path.name for path in (target / "topic=orders").iterdir()} == {f"hour={hour}" for hour in hours}
    assert pq.read_schema(target / files(target)[1]).names == ["value", "offset", "partition"]


@pytest.mark.parametrize("by", ["partition", "hour"])
def test_what_is_open_and_held_is_bounded(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """With next to no room there are more files, and the same rows."""
    monkeypatch.setattr(folders, "ROW_GROUP_BYTES", 1)
    monkeypatch.setattr(folders, "FILES_OPEN_MAX", 1)
    target = tmp_path / "out"
    assert command("orders", "--to", str(target), "--by", by)[0] is Exit.OK
    assert [row["offset"] for row in rows(target)] == [*range(COUNT)] * 2
    assert not [name for name in files(target) if "partial" in name]


def test_an_interrupted_export_goes_on(
    command: Command, broker: MockBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It breaks after each part; what was appended meanwhile is no part of it; the rest of the file of a part goes."""
    target = tmp_path / "out"
    asked = ("orders", "--to", str(target), "--by", "hour", "--part-records", "10")
    honest, broken = manifests.Manifest.note, 0

    def note(self: manifests.Manifest, part: Any) -> None:
        nonlocal broken
        if len(self.done) % 2 == 1 and broken < 4:
            broken += 1
            if broken == 2:
                self.done.add(part)  # not on disk, and so not swept: its files stay, as after a kill
            raise OSError("the disk is gone")
        honest(self, part)

    monkeypatch.setattr(manifests.Manifest, "note", note)
    tries = [command(*asked)]
    while tries[-1][0] is not Exit.OK:
        assert len(tries) < 10
        assert "with --resume goes on" in tries[-1][2]
        broker.produce("orders", [("late", "late")], partition=0)
        tries.append(command(*asked, "--resume"))
    assert len(tries) > 2
    assert [row["offset"] for row in rows(target)] == [*range(COUNT)] * 2
    assert not [name for name in files(target) if "partial" in name]
    assert "of 6 parts were there" in tries[-1][2]
    before = files(target)
    code, _, err = command(*asked, "--resume")
    assert (code, err) == (Exit.OK, "6 of 6 parts were there\n")
    assert files(target) == before


STANDS_STILL = """
import time
from headrace.cli import main
from headrace.cli.export.manifest import Manifest

honest = Manifest.note

def note(self, part):
    honest(self, part)
    if len(self.done) == 3:
        time.sleep(60)

Manifest.note = note
main()
"""


def test_ctrl_c_leaves_whole_parts_and_the_rest_is_read_later(
    command: Command, broker: MockBroker, tmp_path: Path
) -> None:
    """It comes while the third part of six is noted; what was read of the others is dropped."""
    target = tmp_path / "out"
    asked = ["orders", "--to", str(target), "--by", "partition", "--part-records", "10"]
    program = [sys.executable, "-c", STANDS_STILL, "read", *asked, "-b", broker.bootstrap_servers]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True)
    give_up_at = time.monotonic() + WAIT_S

    def noted() -> int:
        there = target / manifests.NAME
        parts = json.loads(there.read_text())["parts"] if there.exists() else []
        return sum(part[4] for part in parts)

    while noted() < 3:
        assert time.monotonic() < give_up_at
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=WAIT_S)
    assert process.returncode == Exit.INTERRUPTED, complaint
    assert complaint == "3 of 6 parts are whole; the same command with --resume goes on\n"
    assert len(files(target)) == 4
    assert command(*asked, "--resume")[0] is Exit.OK
    assert [row["offset"] for row in rows(target)] == [*range(COUNT)] * 2


def test_texts_are_decoded_and_what_is_none_is_named(command: Command, tmp_path: Path) -> None:
    target = tmp_path / "out"
    assert command("words", "--to", str(target), "--by", "partition", "--decode", "text")[0] is Exit.OK
    assert [row["value"] for row in rows(target)] == ["1", "[2]", "three"]
    broken = tmp_path / "broken"
    code, _, err = command("words", "--to", str(broken), "--by", "partition", "--decode", "json")
    assert code is Exit.FAILED
    assert "words[0]@2: the value is not JSON" in err
    assert files(broken) == ["_export.json"]


def test_what_was_left_out_is_told_by_the_try_that_did_and_counted_by_those_after_it(
    command: Command, broker: MockBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try breaks after the part that has no record but a bad one."""
    broker.produce("words", [("k", "4"), ("k", "five"), ("k", "6")])
    target = tmp_path / "out"
    asked = ["words", "--to", str(target), "--by", "partition", "--part-records", "1", "--decode", "json"]
    asked += ["--on-undecodable", "report", "--quiet", "--resume"]
    honest, broken = manifests.Manifest.note, OSError("the disk is gone")

    def note(self: manifests.Manifest, part: Any) -> None:
        if len(self.done) == 3:
            raise broken
        honest(self, part)

    with monkeypatch.context() as breaking:
        breaking.setattr(manifests.Manifest, "note", note)
        _, _, err = command(*asked)
    assert "left out: words[0]@2: the value is not JSON" in err
    assert "3 of 6 parts are whole" in err
    for lines in (["left out: words[0]@4: the value is not", "left out: 1 in"], ["left out: 2 in"]):
        code, _, err = command(*asked)
        assert code is Exit.OK
        assert [line.partition(" JSON")[0].partition(" parts")[0] for line in err.splitlines()] == lines
    assert [row["value"] for row in rows(target)] == ["1", "[2]", "4", "6"]


def test_what_cannot_be_meant_is_refused(command: Command, broker: MockBroker, tmp_path: Path) -> None:
    target = tmp_path / "out"
    there = ("orders", "--to", str(target), "--by", "partition")

    def refused(*arguments: str) -> str:
        code, _, err = command(*arguments)
        assert code is Exit.USAGE, err
        return err

    assert "needs a folder" in refused("orders", "--by", "hour")
    assert "say --by" in refused("orders", "--to", str(tmp_path / "x.parquet"), "--resume")
    assert "nothing is left" in refused(*there, "--columns", "topic,partition")
    assert "did you mean" in refused(*there, "--columns", "values")
    assert command(*there, "--resume")[0] is Exit.OK, "nothing to go on with is a beginning"
    assert "is not empty" in refused(*there)
    assert "with --since left out, not 1h" in refused(*there, "--resume", "--since", "1h")
    assert "with topics orders, not words" in refused("words", *there[1:], "--resume")
    (target / manifests.NAME).write_text("{")
    assert "cannot be read" in refused(*there, "--resume")
    (target / manifests.NAME).unlink()
    assert "no export that could go on" in refused(*there, "--resume")
    with manifests.held(tmp_path / "held"):
        assert "another export is at it" in refused("orders", "--to", str(tmp_path / "held"), "--by", "hour")


def test_a_start_that_is_gone_is_an_error_or_told(
    command: Command, broker: MockBroker, tmp_path: Path
) -> None:
    """Also when it goes between two tries."""
    target = tmp_path / "out"
    asked = ("orders", "--to", str(target), "--by", "partition", "--part-records", "10")
    assert command(*asked)[0] is Exit.OK
    said = json.loads((target / manifests.NAME).read_text())
    for part in said["parts"]:
        part[4] = part[2] == 0
    (target / manifests.NAME).write_text(json.dumps(said))
    broker.delete_records("orders", 0, 10)
    code, _, err = command(*asked, "--resume")
    assert code is Exit.FAILED
    assert "orders[0]: offsets 8 to 10 (2) are gone" in err
    code, _, err = command(*asked, "--resume", "--on-data-loss", "report")
    assert code is Exit.OK
    assert "lost: orders[0] offsets 8 to 10 (2)" in err
    assert [row["offset"] for row in rows(target)] == [*range(8), *range(10, COUNT), *range(COUNT)]
