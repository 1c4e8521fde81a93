"""The verdict: red for each reason, green again without it, and never "stuck" for what a restart would not cure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace._core import health
from headrace._core.health import ConnectionFailing, Facts, Health, Hung, Limits, Reason, Vitals, judge
from headrace._core.snapshot import PartitionSnapshot
from headrace._core.stalls import Stall
from headrace._core.states import AppState

NOW = 10_000.0
LIMITS = Limits(
    stalled_after_s=120.0, blocked_after_s=30.0, rebalance_s=60.0, hung_after_s=60.0, alert_after_s=30.0
)
PARTITION = PartitionSnapshot(
    topic="orders",
    partition=0,
    epoch=1,
    phase="active",
    delivered=10,
    finished=9,
    waiting=1,
    in_flight=0,
    parked=0,
    held=0,
    settling=0,
    unacked=0,
    position=10,
    committable=9,
    committed=9,
    bytes_held=1,
    oldest_age_s=1.0,
    paused=(),
)
VITALS = Vitals(as_of=NOW - 0.2, polled_at=NOW - 0.1, joined=True)
WELL = Facts(
    state=AppState.RUNNING,
    vitals=VITALS,
    partitions=(PARTITION,),
    snapshot_at=NOW - 0.2,
    confirmed_at=NOW - 1.0,
    turned_at=NOW - 0.01,
    hook=None,
    error=None,
)
OLD = replace(PARTITION, oldest_age_s=120.0)
STALL = Stall("orders", 3, 1, "silent", NOW - 130.0, 10, 25, 8, 0, 0)


def with_vitals(**changes: object) -> Facts:
    return replace(WELL, vitals=replace(VITALS, **changes))  # type: ignore[arg-type] # checked by the dataclass itself


RED: dict[str, Facts] = {
    "owner_blocked": replace(WELL, turned_at=NOW - 30.0),
    "loop_blocked": with_vitals(loop_silent_since=NOW - 30.0),
    "partition_stuck": with_vitals(stalls=(STALL,)),
    "poll_overdue": with_vitals(polled_at=NOW - 151.0),
    "handler_hanging": with_vitals(hung=(Hung("orders", 0, 9, NOW - 61.0, "headrace-x-0"),)),
    "head_blocked": replace(WELL, partitions=(replace(OLD, paused=("flow",)),)),
    "records_waiting": replace(WELL, partitions=(replace(OLD, waiting=0, parked=1),)),
    "commits_refused": with_vitals(refused=("REBALANCE_IN_PROGRESS", 1, NOW)),
    "commits_overdue": with_vitals(uncommitted_since=NOW - 30.0),
    "starts_unknown": with_vitals(starts=(("orders", 1),), starts_since=NOW - 1.0),
    "rebalance_open": with_vitals(rebalance_since=NOW - 60.0),
    "nothing_held": replace(with_vitals(rebalance_since=NOW - 60.0), partitions=()),
    "rebalance_storm": with_vitals(rebalances=tuple(NOW - n for n in range(10, 0, -1))),
    "rebuilding": replace(with_vitals(rebuild=("commits refused", NOW - 2.0)), state=AppState.REBUILDING),
    "brokers_away": with_vitals(brokers_away_since=NOW - 1.0),
    "hook_hanging": replace(WELL, hook=("revoked:f", NOW - 60.0)),
    "app_ended": replace(WELL, state=AppState.FAILED, error=("Fenced", "no")),
}
ALMOST: dict[str, Facts] = {
    "owner_blocked": replace(WELL, turned_at=NOW - 29.0),
    "loop_blocked": with_vitals(loop_silent_since=NOW - 29.0),
    "poll_overdue": with_vitals(polled_at=NOW - 149.0),
    "head_blocked": replace(WELL, partitions=(replace(PARTITION, oldest_age_s=119.0, paused=("flow",)),)),
    "head that is old and not paused": replace(WELL, partitions=(OLD,)),
    "records_waiting": replace(WELL, partitions=(replace(PARTITION, oldest_age_s=119.0, parked=1),)),
    "commits_overdue": with_vitals(uncommitted_since=NOW - 29.0),
    "rebalance_open": with_vitals(rebalance_since=NOW - 59.0),
    "rebalance_storm": with_vitals(rebalances=tuple(NOW - n for n in range(9))),
    "storm of long ago": with_vitals(rebalances=tuple(NOW - 301.0 for _ in range(10))),
    "hook_hanging": replace(WELL, hook=("revoked:f", NOW - 59.0)),
}


def seen(facts: Facts) -> Health:
    return judge(facts, LIMITS, NOW)


def test_all_is_well() -> None:
    verdict = seen(WELL)
    assert (verdict.verdict, verdict.reasons, verdict.live, verdict.ready) == ("ok", (), True, True)
    assert verdict.turn_age_s == pytest.approx(0.01)
    assert verdict.oldest_age_s == pytest.approx(1.2), "the snapshot's age is added"
    assert verdict.commit_age_s == pytest.approx(1.0)


def test_every_reason_is_reached() -> None:
    """But for what one connection cannot know of another: see unit/runtime/test_verdict.py."""
    assert RED.keys() == {reason.name for reason in health.REASONS} - {ConnectionFailing.name}


@pytest.mark.parametrize("name", RED)
def test_each_reason_alone_turns_the_verdict(name: str) -> None:
    (reason,) = seen(RED[name]).reasons
    assert reason.name == name
    verdict = seen(RED[name])
    assert verdict.verdict == ("ended" if name == "app_ended" else reason.severity)
    assert verdict.live == (reason.severity != "stuck" and name != "app_ended")
    assert verdict.ready == (reason.severity == "degraded" and not reason.unready)


@pytest.mark.parametrize("name", ALMOST)
def test_what_is_not_yet_a_reason_leaves_it_green(name: str) -> None:
    assert seen(ALMOST[name]).reasons == ()


def test_the_facts_of_a_reason_are_told() -> None:
    (stuck,) = seen(RED["partition_stuck"]).reasons
    assert stuck.facts() == {
        "topic": "orders",
        "partition": 3,
        "cause": "silent",
        "stalled_s": 130.0,
        "lag": 17,
    }
    assert str(stuck).startswith("partition_stuck topic=orders partition=3 cause=silent")


def test_the_gravest_comes_first() -> None:
    facts = replace(
        RED["commits_refused"],
        turned_at=NOW - 99.0,
        vitals=replace(RED["commits_refused"].vitals, stalls=(STALL,)),
    )
    assert [reason.name for reason in seen(facts).reasons] == [
        "owner_blocked",
        "partition_stuck",
        "commits_refused",
    ]
    assert seen(facts).verdict == "stuck"


@pytest.mark.parametrize(("state", "verdict"), [
    (AppState.NEW, "new"),
    (AppState.STARTING, "starting"),
    (AppState.RUNNING, "ok"),
    (AppState.DRAINING, "stopping"),
    (AppState.COMMITTING, "stopping"),
    (AppState.CLOSING, "stopping"),
    (AppState.STOPPED, "ended"),
])  # fmt: skip
def test_an_orderly_life_has_no_reasons(state: AppState, verdict: str) -> None:
    """What refused commits and open rebalances mean is said of a running app alone."""
    facts = replace(
        with_vitals(refused=("X", 1, 0.0)) if verdict != "ok" else WELL, state=state, turned_at=NOW
    )
    assert (seen(facts).verdict, seen(facts).reasons) == (verdict, ())
    assert seen(facts).live
    assert seen(facts).ready == (verdict == "ok")


def test_a_start_and_a_stop_may_be_stuck() -> None:
    for state in (AppState.STARTING, AppState.DRAINING, AppState.CLOSING):
        assert seen(replace(WELL, state=state, turned_at=NOW - 31.0)).verdict == "stuck"


def test_every_reason_is_a_value() -> None:
    for facts in RED.values():
        for reason in seen(facts).reasons:
            assert isinstance(reason, Reason)
            assert hash(reason) == hash(replace(reason))
