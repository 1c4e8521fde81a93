"""The commands of docs/howto/export.md, run in their order on the embedded broker: what is told there is what happens."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.dataset as ds
import pyarrow.parquet as pq

from headrace.cli import execute
from headrace.cli.exits import Exit
from headrace.testing import MockBroker

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "export.md"


def test_the_commands_of_the_page_do_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) == 7
    monkeypatch.chdir(tmp_path)
    Path("payment.avsc").write_text('"string"', encoding="utf-8")
    with MockBroker(topics={"orders": 2, "payments": 1}) as broker:
        broker.produce("orders", [("k", '{"n": 1}')] * 5, partition=1)
        broker.produce("payments", [("k", b"\x04ok"), ("k", b"none")])
        for line in commands:
            program, *arguments = shlex.split(line)
            assert program == "headrace"
            assert execute([*arguments, "-b", broker.bootstrap_servers, "-q"]) is Exit.OK, line
    assert pq.read_table("orders.parquet").num_rows == 5
    assert pq.read_schema("hour.parquet").names == ["key", "value", "timestamp"]
    assert len(Path("newest.jsonl").read_text().splitlines()) == 5
    assert [json.loads(line)["value"] for line in Path("payments.jsonl").read_text().splitlines()] == ["ok"]
    for folder, name in (("by-partition", "partition"), ("by-hour", "hour")):
        found = ds.dataset(folder, format="parquet", partitioning="hive")
        assert found.count_rows() == 5
        assert {"topic", name} <= set(found.schema.names)
