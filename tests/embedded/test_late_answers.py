"""No question about a group can end the process that asked it, however late its coordinator comes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from headrace import Connections
from headrace._client.inspection import Inspector
from headrace.testing import MockBroker
from tests.cycles import handle_nothing
from tests.embedded.late_answers import looked
from tests.embedded.runtime.support import app_on, running, until

CASE_S = 60.0


def play(case: str) -> tuple[int, str]:
    """How one case ended, and what it said."""
    command = [sys.executable, "-m", "tests.embedded.late_answers", case]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=CASE_S, check=False)
    return ended.returncode, ended.stderr + ended.stdout


@pytest.mark.slow
def test_a_question_that_is_given_up_does_no_harm() -> None:
    code, said = play("by_impatience")
    assert code == 0, said
    assert said.endswith("alive\n")


def test_a_stop_ends_the_client_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    dropped: list[Inspector] = []

    def drop(asking: Inspector) -> None:
        dropped.append(asking)

    monkeypatch.setattr(Inspector, "drop", drop)
    with MockBroker(topics={"orders": 2}) as broker:
        app = app_on(broker, "asking", connections=Connections(max=2, cooldown_s=1.0, grow_when="partitions"))
        app.subscribe("orders")(handle_nothing)
        with running(app):
            until(lambda: looked(app))
            assert dropped == []
        assert len(dropped) == 1


@pytest.mark.full
def test_a_stop_while_a_question_is_out_does_no_harm() -> None:
    code, said = play("by_a_stop")
    assert code == 0, said
    assert said.endswith("alive\n")


@pytest.mark.full
def test_librdkafka_still_ends_the_process_otherwise() -> None:
    """Once this fails, librdkafka's issue 4605 is mended, and what `inspection` does for it may go."""
    code, said = play("by_librdkafka")
    assert code < 0
    assert "rd_kafka_enq_once_del_source_return" in said
