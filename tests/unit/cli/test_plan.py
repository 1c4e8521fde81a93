"""`headrace plan` from a file: what it says, when it doubts, and what it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from headrace._client.lag import PartitionLag
from headrace.assign import Topic
from headrace.cli import execute
from headrace.cli.exits import Exit
from headrace.cli.loads import measured, weighing

if TYPE_CHECKING:
    from pathlib import Path

GROUP: dict[str, Any] = {
    "assignor": "cooperative-sticky",
    "topics": {"orders": 6},
    "members": [
        {"id": "a", "topics": ["orders"], "owned": {"orders": [0, 1, 2]}},
        {"id": "b", "topics": ["orders"], "owned": {"orders": [3, 4, 5]}},
    ],
}


@pytest.fixture
def group(tmp_path: Path) -> Path:
    path = tmp_path / "group.json"
    path.write_text(json.dumps(GROUP), encoding="utf-8")
    return path


def test_a_member_joins(group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "plan.svg"
    assert execute(["plan", "--from", str(group), "--add-members", "1", "--svg", str(picture)]) is Exit.OK
    told = capsys.readouterr().out
    assert "assignor cooperative-sticky: approximate" in told
    assert "orders-2  a -> new-1" in told
    assert "new-1     -     2      0      2  ++" in told
    assert "eager: 6 partitions pause, for one round" in told
    assert "cooperative: 2 partitions pause, for 2 round(s)" in told
    assert picture.read_text(encoding="utf-8").startswith("<svg")


def test_as_json_and_read_again(group: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it writes of the group as it is can be read by `--from`."""
    asked = ["--remove", "a", "--add-partitions", "orders=7", "--json"]
    assert execute(["plan", "--from", str(group), *asked]) is Exit.OK
    first = capsys.readouterr().out
    told = json.loads(first)
    assert told["after"] == {"b": {"orders": [0, 1, 2, 3, 4, 5, 6]}}
    assert [one["source"] for one in told["handovers"]] == ["a", "a", "a", None]
    assert (told["paused"], told["rounds"]) == (
        {"eager": 6, "cooperative": 3},
        {"eager": 1, "cooperative": 1},
    )
    again = tmp_path / "again.json"
    again.write_text(first, encoding="utf-8")
    assert execute(["plan", "--from", str(again), *asked]) is Exit.OK
    assert capsys.readouterr().out == first


def test_it_is_exact_where_the_assignor_is_the_same(group: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Range orders members by their ids; those of new members are the broker's to give."""
    assert (
        execute(["plan", "--from", str(group), "--strategy", "range", "--remove", "b", "--json"]) is Exit.OK
    )
    assert json.loads(capsys.readouterr().out)["exact"] is True
    assert (
        execute(["plan", "--from", str(group), "--strategy", "range", "--add-members", "1", "--json"])
        is Exit.OK
    )
    assert json.loads(capsys.readouterr().out)["exact"] is False


def test_loads_of_a_file_are_added_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And written again, with racks and capacities, for `--from`."""
    path = tmp_path / "weighed.json"
    topic = {"partitions": 3, "racks": [["r"], ["s"], ["r"]], "loads": [5.0, 1.0, 1500.0]}
    member = {"id": "a", "topics": ["t"], "owned": {"t": [0, 1, 2]}, "rack": "r", "capacity": 2.0}
    path.write_text(json.dumps({"topics": {"t": topic}, "members": [member]}), encoding="utf-8")
    asked = ["plan", "--from", str(path), "--strategy", "headrace-weighted", "--add-members", "1"]
    assert execute([*asked, "--json"]) is Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert told["topics"] == {"t": topic}
    assert told["members"] == [member]
    assert told["doubts"] == ["loads change: a rebalance at another time weighs other ones"]
    assert told["loads"]["load"]["before"] == {"a": 1506.0}
    assert sum(told["loads"]["load"]["after"].values()) == 1506.0
    assert execute(asked) is Exit.OK
    head, first = capsys.readouterr().out.splitlines()[3:5]
    assert "load now  load then" in head
    assert "1,506" in first


def test_lag_and_rate_are_measured() -> None:
    """What was written between two looks, over the time between them."""

    class Growing:
        looks = 0

        def lag(self, *_asked: object) -> list[PartitionLag]:
            self.looks += 1
            return [PartitionLag("t", p, 10, 0, 20 + p * 100 * self.looks) for p in range(2)]

    (lag,) = measured(Growing(), "g", ["t"], 1.0, 0)
    assert lag.by_place == {("t", 0): 10, ("t", 1): 110}
    lag, rate = measured(Growing(), "g", ["t"], 1.0, 0.05)
    assert rate.by_place["t", 0] == 0
    assert 0 < rate.by_place["t", 1] <= 100 / 0.05
    assert rate.of({"a": {"t": [1, 2]}, "b": {}}) == {"a": rate.by_place["t", 1], "b": 0}
    weighed = weighing({"t": 3}, [lag, rate])["t"]
    assert isinstance(weighed, Topic)
    assert weighed.loads == [0, rate.by_place["t", 1], 0]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "name a group"),
        (["billing", "--from", "{group}"], "name a group"),
        (["--from", "{group}.not"], "cannot be read"),
        (["--from", "{group}", "--remove", "z"], "member z"),
        (["--from", "{group}", "--add-partitions", "orders"], "topic=count"),
        (["--from", "{group}", "--add-partitions", "orders=3"], "never lose"),
        (["--from", "{group}", "--strategy", "my-own"], "expected one of"),
    ],
)
def test_what_cannot_be_planned(
    arguments: list[str], complaint: str, group: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["plan", *(one.format(group=group) for one in arguments)]) is Exit.USAGE
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"topics": {"t": "x"}, "members": []}', '{"topics": {"t": -1}, "members": [{"id": "a"}]}',
     '{"topics": {"t": 1}, "members": [{"id": "a"}, {"id": "a"}]}', '{"topics": {"t": 1}, "members": 3}'],
)  # fmt: skip
def test_files_that_are_no_group(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text, encoding="utf-8")
    assert execute(["plan", "--from", str(path)]) is Exit.USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_a_broker_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", "billing", "-b", "127.0.0.1:1", "--timeout", "0.2"]) is Exit.USAGE
    assert "no broker described group billing" in capsys.readouterr().err
