"""Notices that no other test is about. `tests/reached.py` names a test for each, and sees that it has it told."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from headrace import Budgets, RetryPolicy
from headrace._core import notices
from headrace.ports import CommitRequest
from tests.unit.runtime.stage import playing

if TYPE_CHECKING:
    from headrace import Record


def nothing(_given: object) -> None:
    pass


def test_a_full_queue_is_told_with_its_budget_and_its_head() -> None:
    go = threading.Event()
    with playing(lambda _record: go.wait(), budgets=Budgets(queued_records_max=5)) as stage:
        try:
            stage.produce(20)
            stage.until(lambda: stage.named("intake_paused"))
            told = stage.named("intake_paused")[0]
        finally:
            go.set()
    assert isinstance(told, notices.IntakePaused)
    assert (told.topic, told.partition, told.reason, told.head) == ("orders", 0, "queued_records_max", 0)


def test_metadata_that_is_no_offset_map_is_told_and_nothing_is_skipped() -> None:
    handled: list[int] = []

    def handle(record: Record[Any, Any]) -> None:
        handled.append(record.offset)

    with playing(handle, topics=1) as stage:
        stage.client.revoke(("orders", 0))
        stage.until(lambda: not stage.assembly.snapshot().engine.partitions)
        stage.kafka.commit([CommitRequest("orders", 0, 2, "not a map")])
        stage.produce(4, key=b"k")
        stage.client.give(("orders", 0))
        stage.until(lambda: handled == [2, 3])
        assert [notice.facts()["partition"] for notice in stage.named("offset_map_rejected")] == [0]


def test_the_end_of_an_app_is_told_with_the_error() -> None:
    def handle(_record: Record[Any, Any]) -> None:
        raise LookupError("no such order")

    with playing(handle, subscribe={"retry": RetryPolicy(attempts_max=1)}) as stage:
        stage.produce()
        stage.until(lambda: stage.named("app_failed"))
        told = stage.named("app_failed")[0]
    assert isinstance(told, notices.AppFailed)
    assert (told.error, "no such order" in told.message) == ("RecordFailed", True)


def test_a_revoke_and_a_new_connection_are_told() -> None:
    with playing(nothing, on_stall="rejoin") as stage:
        stage.client.revoke(("orders", 1))
        stage.until(lambda: stage.named("partition_revoked"))
        owner = stage.assembly._owner
        assert owner is not None
        executor: Any = owner._parts.executors[0]
        submit = executor.submit
        executor.submit = nothing  # the fault: nothing reaches a worker
        stage.produce()
        stage.red("partition_stuck")
        executor.submit = submit
        stage.until(lambda: stage.named("connection_rebuilt"))
        stage.green()
    assert [notice.facts()["partition"] for notice in stage.named("partition_revoked")][:1] == [1]
