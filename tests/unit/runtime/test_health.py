"""Whole apps on Kafka in memory: for each way to stand still health turns red, says why, and turns green again."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from headrace import RetryLater, Stalled
from headrace._core import notices
from headrace.errors import LoopEnded
from headrace.ports import Fault
from tests.unit.runtime.stage import CALM, QUICK, Stage, playing

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

PATIENT = replace(CALM, hung_after_s=30.0)


def nothing(_record: Any) -> None:
    """A handler that is always done."""


def assigned_beyond(stage: Stage, before: int) -> Callable[[], bool]:
    """Whether more partitions were assigned than so many."""
    return lambda: stage.app.snapshot().engine.counters.assigned > before


def stalled(stage: Stage) -> notices.PartitionStalled:
    """The one stall that was told of."""
    (notice,) = stage.named("partition_stalled")
    assert isinstance(notice, notices.PartitionStalled)
    return notice


def test_an_app_that_idles_and_works_is_well() -> None:
    with playing(nothing) as stage:
        stage.green()
        time.sleep(3 * QUICK.stalled_after_s)
        assert stage.app.health().verdict == "ok", "idleness is no stall"
        stage.produce(50)
        stage.until(lambda: stage.kafka.committed([("orders", 0)])[0].offset == 50)
        stage.green()
    assert stage.told == [] or not stage.named("partition_stalled")


def test_a_hung_handler_is_told_from_a_slow_one_and_stays_until_it_ends() -> None:
    release = threading.Event()

    def hang(_record: Any) -> None:
        release.wait(20)

    with playing(hang) as stage:
        stage.produce()
        stage.red("handler_hanging")
        assert stage.red("partition_stuck").verdict == "stuck"
        assert not stage.app.health().live
        told = stalled(stage)
        assert (told.cause, told.remedy, told.in_flight) == ("hung", "report", 1)
        assert "release.wait(20)" in told.stacks
        assert told.oldest_running_s is not None
        assert told.poll_age_s is not None
        assert told.poll_age_s < 1.0
        release.set()
        stage.green()
        assert len(stage.named("stall_ended")) == 1
    assert len(stage.named("partition_stalled")) == 1


def test_a_handler_within_its_time_is_slow_and_not_stuck() -> None:
    release = threading.Event()

    def slow(_record: Any) -> None:
        release.wait(20)

    with playing(slow, timeouts=PATIENT) as stage:
        stage.produce(3, key=b"a")
        time.sleep(3 * PATIENT.stalled_after_s)
        assert stage.app.health().verdict == "ok"
        release.set()


def test_one_stuck_partition_of_many_is_seen_while_others_flow() -> None:
    with playing(nothing, topics=8) as stage:
        give_up_at = time.monotonic() + 10
        stage.client.mute.add(("orders", 3))
        stage.produce(partition=3)
        while "partition_stuck" not in stage.reasons():
            stage.produce(partition=5)
            time.sleep(0.02)
            assert time.monotonic() < give_up_at
        (reason,) = [r.facts() for r in stage.app.health().reasons if r.name == "partition_stuck"]
        assert (reason["partition"], reason["cause"], reason["lag"]) == (3, "silent", 1)
        assert stage.named("partition_reassigned"), "the gentle remedy comes first"
        stage.client.mute.clear()
        stage.green()


def test_a_lost_claim_list_is_seen() -> None:
    """Records that a worker has and nobody reports: whatever lost them."""
    with playing(nothing) as stage:
        owner = stage.assembly._owner
        assert owner is not None
        submit = owner._parts.executors[0].submit
        owner._parts.executors[0].submit = lambda records: None  # type: ignore[method-assign] # the fault
        stage.produce()
        stage.red("partition_stuck")
        assert stalled(stage).cause == "not_reported"
        assert "headrace-" in stalled(stage).stacks
        owner._parts.executors[0].submit = submit  # type: ignore[method-assign]


def test_rejoin_gets_a_partition_going_again() -> None:
    with playing(nothing, on_stall="rejoin") as stage:
        owner = stage.assembly._owner
        assert owner is not None
        submit = owner._parts.executors[0].submit
        owner._parts.executors[0].submit = lambda records: None  # type: ignore[method-assign] # the fault
        stage.produce(3)
        stage.red("partition_stuck")
        owner._parts.executors[0].submit = submit  # type: ignore[method-assign]
        stage.until(lambda: len(stage.clients) == 2, "a new connection")
        stage.until(lambda: stage.kafka.committed([("orders", 0)])[0].offset == 3)
        stage.green()
        assert stage.app.health().rebuilds == 1
    assert stalled(stage).remedy == "rejoin"


def test_a_rejoin_that_brought_nothing_is_not_repeated() -> None:
    with playing(nothing, on_stall="rejoin") as stage:
        owner = stage.assembly._owner
        assert owner is not None
        owner._parts.executors[0].submit = lambda records: None  # type: ignore[method-assign] # the fault
        stage.produce(3)
        stage.until(lambda: len(stage.named("partition_stalled")) == 2)
        time.sleep(2 * QUICK.stalled_after_s)
        assert len(stage.clients) == 2
    remedies = [notice.facts()["remedy"] for notice in stage.named("partition_stalled")]
    assert remedies == ["rejoin", "report"]


def test_exit_ends_the_app_with_a_typed_error() -> None:
    release = threading.Event()
    with playing(lambda _record: release.wait(20), on_stall="exit") as stage:
        stage.produce()
        stage.until(stage.assembly.over.is_set, "the end")
        with pytest.raises(Stalled, match=r"orders\[0\] was stuck") as caught:
            stage.assembly.raise_if_failed()
        assert caught.value.evidence == "hung"
        assert stage.app.health().verdict == "ended"
        assert not stage.app.health().live
        release.set()


def test_refused_commits_are_a_reason_from_the_first_one_on() -> None:
    with playing(nothing) as stage:
        stage.client.inner.refuse_commits(*["REBALANCE_IN_PROGRESS"] * 1000)
        stage.produce()
        assert stage.red("commits_refused").ready, "consumption goes on"
        stage.client.inner.accept_commits()
        stage.green()


def test_refusals_of_partitions_that_went_are_no_reason_any_more() -> None:
    with playing(nothing) as stage:
        stage.client.inner.refuse_commits(*["COORDINATOR_NOT_AVAILABLE"] * 1000)
        stage.produce()
        stage.red("commits_refused")
        stage.client.inner.lose(("orders", 0))
        stage.until(lambda: "commits_refused" not in stage.reasons())


def test_commits_that_stay_refused_are_overdue_and_consumption_goes_on() -> None:
    seen: list[Any] = []
    with playing(seen.append) as stage:
        stage.client.inner.refuse_commits(*["COORDINATOR_NOT_AVAILABLE"] * 30)
        stage.produce()
        assert stage.red("commits_overdue").verdict == "degraded"
        stage.produce(5)
        stage.until(lambda: len(seen) == 6)
        stage.green()
        assert stage.kafka.committed([("orders", 0)])[0].offset == 6


def test_offsets_that_cannot_be_read_are_a_reason() -> None:
    with playing(nothing) as stage:
        stage.green()
        stage.client.committed_answers = False
        stage.client.inner.lose(("orders", 0))
        stage.client.inner.give(("orders", 0))
        stage.red("starts_unknown")
        stage.client.committed_answers = True
        stage.green()


def test_a_rebalance_that_does_not_end() -> None:
    with playing(nothing) as stage:
        stage.green()
        stage.client.inner.revoke(("orders", 0))
        assert stage.red("rebalance_open").ready, "the other partition is ours"
        stage.client.inner.revoke(("orders", 1))
        assert not stage.red("nothing_held").ready
        assert stage.app.health().live, "a restart would not help"
        stage.client.inner.give(("orders", 0), ("orders", 1))
        stage.green()


def test_a_storm_of_rebalances() -> None:
    with playing(nothing) as stage:
        for _ in range(12):
            before = stage.app.snapshot().engine.counters.assigned
            stage.client.inner.revoke(("orders", 0))
            stage.client.inner.give(("orders", 0))
            stage.until(assigned_beyond(stage, before))
        assert stage.red("rebalance_storm").ready


def test_brokers_that_are_away() -> None:
    with playing(nothing) as stage:
        stage.client.resolve_answers = False
        stage.client.inner.report(Fault("log", "_ALL_BROKERS_DOWN", "2/2 brokers are down"))
        assert not stage.red("brokers_away").ready
        assert stage.app.health().live
        stage.produce()
        stage.green()


def test_the_owner_blocked_by_a_listener() -> None:
    release = threading.Event()
    blocking = threading.Event()

    def listener(notice: notices.Notice) -> None:
        if notice.name == "commit_refused":
            blocking.set()
            release.wait(20)

    with playing(nothing, timeouts=QUICK) as stage:
        stage.assembly.teller.listen(listener)
        stage.client.inner.refuse_commits("REBALANCE_IN_PROGRESS")
        stage.produce()
        assert blocking.wait(5)
        health = stage.red("owner_blocked")
        assert (health.verdict, health.live, health.ready) == ("stuck", False, False)
        stage.until(lambda: stage.named("owner_blocked"))
        told = stage.named("owner_blocked")[0].facts()
        assert "release.wait(20)" in str(told["stack"])
        release.set()
        stage.green()
        stage.until(lambda: stage.named("owner_resumed"))


def test_a_client_that_hangs_is_given_up_at_a_stop() -> None:
    release = threading.Event()
    with playing(nothing, timeouts=replace(QUICK, stop_s=0.2)) as stage:
        stage.client.before_poll = partial(release.wait, 60)
        stage.red("owner_blocked")
        began = time.monotonic()
        stage.assembly.request_stop()
        stage.until(stage.assembly.over.is_set, "the end")
        assert time.monotonic() - began < 7.0
        with pytest.raises(Stalled, match="the stop"):
            stage.assembly.raise_if_failed()
        assert stage.app.health().verdict == "ended"
        release.set()


def test_exit_when_the_owner_is_blocked() -> None:
    release = threading.Event()
    with playing(nothing, timeouts=replace(QUICK, stop_s=0.2), on_stall="exit") as stage:
        stage.client.before_poll = partial(release.wait, 60)
        stage.until(stage.assembly.over.is_set, "the end")
        with pytest.raises(Stalled, match="the owner thread was stuck"):
            stage.assembly.raise_if_failed()
        release.set()


def test_a_blocked_event_loop() -> None:
    release = threading.Event()

    async def block(_record: Any) -> None:
        release.wait(20)

    with playing(block, timeouts=QUICK) as stage:
        stage.produce()
        health = stage.red("loop_blocked")
        assert (health.verdict, health.live) == ("stuck", False)
        stage.until(lambda: stage.named("loop_blocked"))
        assert "release.wait(20)" in str(stage.named("loop_blocked")[0].facts()["stack"])
        release.set()
        stage.green()
        assert stage.named("loop_resumed")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["stop", "exit"])
def test_a_loop_that_ends_ends_the_app(how: str) -> None:
    """`SystemExit` in a task of the handler's own leaves `run_forever`: nothing async would ever run again."""
    kept: list[Any] = []

    async def leave() -> None:
        raise SystemExit(7)

    async def handler(_record: Any) -> None:
        if how == "stop":
            asyncio.get_running_loop().stop()
        else:
            kept.append(asyncio.get_running_loop().create_task(leave()))
        await asyncio.sleep(30)

    with playing(handler, timeouts=replace(CALM, stop_s=0.5)) as stage:
        stage.produce()
        stage.until(stage.assembly.over.is_set, "the end")
        with pytest.raises(LoopEnded) as caught:
            stage.assembly.raise_if_failed()
        assert isinstance(caught.value.__cause__, SystemExit) == (how == "exit")


def test_a_hook_that_hangs_is_a_reason() -> None:
    release = threading.Event()
    with playing(nothing, hooks={"on_revoked": lambda _places: release.wait(20)}) as stage:
        stage.client.inner.revoke(("orders", 0))
        assert stage.red("hook_hanging").live
        release.set()
        stage.client.inner.give(("orders", 0))
        stage.green()


def test_hooks_and_listeners_that_exit_end_nothing() -> None:
    called: list[Any] = []

    def leave(_told: Any) -> None:
        raise SystemExit(7)

    with playing(nothing, hooks={"on_assigned": leave, "on_revoked": called.append}) as stage:
        stage.assembly.teller.listen(leave)
        stage.until(lambda: stage.named("hook_overran"))
        stage.client.inner.revoke(("orders", 0))
        stage.until(lambda: called, "the next hook")
        stage.produce(partition=1)
        stage.until(lambda: stage.kafka.committed([("orders", 1)])[0].offset == 1)


def test_a_retry_that_never_succeeds_is_a_reason_and_no_stall() -> None:
    good = threading.Event()

    def later(_record: Any) -> None:
        if not good.is_set():
            raise RetryLater(0.01)

    with playing(later) as stage:
        stage.produce()
        health = stage.red("records_waiting")
        assert health.live
        assert "partition_stuck" not in stage.reasons()
        good.set()
        stage.green()


def test_records_that_nobody_acknowledges_are_a_reason() -> None:
    held: list[Any] = []
    with playing(held.append, subscribe={"ack": "manual"}) as stage:
        stage.produce()
        assert stage.red("records_waiting").live
        held[0].ack()
        stage.green()
