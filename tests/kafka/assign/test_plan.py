"""`headrace plan` on a live group."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from headrace.cli import execute
from headrace.cli.exits import Exit
from tests.kafka.assign.members import KafkaPython

if TYPE_CHECKING:
    from tests.topics import Topics

pytestmark = pytest.mark.slow


def test_a_live_group_is_read_and_planned(
    kafka: str, topics: Topics, group_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The forecast of one more member is what then happens."""
    topic = topics.create(partitions=6)
    first = KafkaPython(kafka, group_id, topic, "cooperative-sticky")
    try:
        give_up_at = time.monotonic() + 20
        while len(first.owned()) < 6:
            assert time.monotonic() < give_up_at
            time.sleep(0.05)
        assert execute(["plan", group_id, "-b", kafka, "--add-members", "1", "--json"]) is Exit.OK
        told = json.loads(capsys.readouterr().out)
        assert told["assignor"] == "cooperative-sticky"
        assert len(told["handovers"]) == 3
        moved = frozenset(int(one["partition"]) for one in told["handovers"])
        second = KafkaPython(kafka, group_id, topic, "cooperative-sticky")
        try:
            while second.owned() != moved:
                assert time.monotonic() < give_up_at
                time.sleep(0.05)
        finally:
            second.stop()
    finally:
        first.stop()


def test_a_group_without_members_is_refused(
    kafka: str, group_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["plan", group_id, "-b", kafka]) is Exit.USAGE
    assert "has no members" in capsys.readouterr().err
