"""Questions about the group: one at a time, and never given up for a slow answer."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from headrace._client.inspection import GroupMember, GroupState, Inspector
from headrace._client.lookout import KafkaLookout
from headrace._client.settings import ConnectionSettings
from headrace._core.scaling import GroupView


def test_a_slow_answer_is_waited_for_and_no_second_question_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Future[Any]] = []
    state = GroupState(
        "STABLE",
        "classic",
        "range",
        (GroupMember("headrace-0-0", "h", 3), GroupMember("headrace-0-1", "h", 2)),
    )

    def ask(_self: Inspector, _group: str) -> Future[Any]:
        asked.append(Future())
        return asked[-1]

    def answer(_self: Inspector, future: Future[Any], wait_s: float) -> GroupState:
        future.result(wait_s)
        return state

    monkeypatch.setattr(Inspector, "ask_group", ask)
    monkeypatch.setattr(Inspector, "answer", answer)
    lookout = KafkaLookout(ConnectionSettings("localhost:1", "billing"))

    assert lookout.group(0.01) is None
    assert lookout.group(0.01) is None
    assert len(asked) == 1
    asked[0].set_result(None)
    assert lookout.group(0.01) == GroupView(partitions=5, processes=1)
    lookout.group(0.01)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("client_id", "members", "processes"),
    [
        (None, ["headrace-0-0", "headrace-0-1", "headrace-1-0", "headrace-1-2"], 2),
        ("billing", ["billing", "billing-1", "billing", "billing-1", "billing-2"], 2),
        # Each process has a name of its own.
        ("pod-a", ["pod-a", "pod-a-1", "pod-b", "pod-b-1", "pod-b-2"], 2),
        ("pod-1", ["pod-1", "pod-1-1", "pod-2", "pod-3"], 3),
        # Others than Headrace.
        ("billing", ["billing", "rdkafka", "rdkafka"], 3),
        ("billing", [], 1),
    ],
)
def test_further_connections_of_a_process_are_no_processes(
    monkeypatch: pytest.MonkeyPatch, client_id: str | None, members: list[str], processes: int
) -> None:
    described = GroupState(
        "STABLE", "consumer", "uniform", tuple(GroupMember(name, "h", 2) for name in members)
    )

    def answer(*_asked: object) -> GroupState:
        return described

    monkeypatch.setattr(Inspector, "ask_group", answer)
    monkeypatch.setattr(Inspector, "answer", answer)
    librdkafka = {} if client_id is None else {"client.id": client_id}
    lookout = KafkaLookout(ConnectionSettings("localhost:1", "billing", librdkafka=librdkafka))
    assert lookout.group(0.01) == GroupView(2 * len(members), processes)
