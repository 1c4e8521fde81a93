"""Health over HTTP, of whole apps on Kafka in memory: each way to stand still makes the probe fail, and pass again.

The verdicts themselves are held in `tests/unit/runtime/test_health.py`; here it is that a probe is told, in time.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from headrace import App, RetryPolicy
from headrace._core import health
from headrace.observe import Gauge
from headrace.ports import Fault
from headrace.web import routes as web_routes
from headrace.web import serve
from tests.unit.runtime.stage import CALM, QUICK, Stage, playing
from tests.unit.web.asking import Answer, ask

if TYPE_CHECKING:
    from headrace.web import Server

pytestmark = pytest.mark.slow


def nothing(_record: Any) -> None:
    """A handler that is always done."""


def probed(stage: Stage, server: Server, path: str, status: int, reason: str | None = None) -> Answer:
    """Ask until the probe has this status, for this reason if one is given."""
    found = ask(server, path)

    def is_so() -> bool:
        nonlocal found
        found = ask(server, path)
        return found.status == status and (reason is None or reason in found.reasons())

    stage.until(is_so, f"{path} {status} {reason}")
    return found


def test_an_app_that_works_is_live_and_ready() -> None:
    with playing(nothing) as stage, serve(stage.app, 0) as server:
        stage.green()
        for path in ("/health/live", "/health/ready"):
            answer = ask(server, path)
            assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
            assert (answer.json["verdict"], answer.json["reasons"]) == ("ok", [])
            assert answer.json["partitions"] == 2
            assert answer.json["turn_age_s"] < CALM.blocked_after_s
            assert ask(server, path, method="HEAD").text == ""


def test_before_the_start_it_is_live_and_not_ready_and_after_the_end_neither_is_ready() -> None:
    app = App("memory", "group")
    with serve(app, 0) as server:
        assert (ask(server, "/health/live").status, ask(server, "/health/ready").status) == (200, 503)
        assert ask(server, "/health/ready").json["verdict"] == "new"


def test_a_hung_handler_fails_the_liveness_probe_until_it_ends() -> None:
    release = threading.Event()
    with playing(lambda _record: release.wait(20)) as stage, serve(stage.app, 0) as server:
        stage.produce()
        answer = probed(stage, server, "/health/live", 503, "partition_stuck")
        (stuck,) = [one for one in answer.json["reasons"] if one["name"] == "partition_stuck"]
        assert (stuck["severity"], stuck["facts"]["cause"]) == ("stuck", "hung")
        assert stuck["facts"]["stalled_s"] >= QUICK.stalled_after_s
        release.set()
        probed(stage, server, "/health/live", 200)
        probed(stage, server, "/health/ready", 200)


def test_a_blocked_owner_is_told_by_a_server_that_is_not_held_up() -> None:
    """A dead loop: whatever runs on the owner thread does not come back."""
    release = threading.Event()
    with playing(nothing, timeouts=QUICK) as stage, serve(stage.app, 0) as server:
        stage.green()
        stage.client.before_poll = lambda: release.wait(20)
        answer = probed(stage, server, "/health/live", 503, "owner_blocked")
        assert ask(server, "/metrics").status == 200
        assert ask(server, "/snapshot.json").status == 200
        assert "owner_blocked" in stage.reasons(), "all that was answered while it is blocked"
        assert not answer.json["ready"]
        release.set()
        probed(stage, server, "/health/live", 200)


def test_a_livelock_is_seen_though_handlers_run_all_the_time() -> None:
    """A record that fails and is tried again for ever: the loop turns, polls and works, and nothing is finished."""
    healed = threading.Event()

    def fails(_record: Any) -> None:
        if not healed.is_set():
            raise ValueError("not yet")

    retry = RetryPolicy(attempts_max=100, backoff_initial_s=0.05, backoff_max_s=0.05)
    with playing(fails, subscribe={"retry": retry}) as stage, serve(stage.app, 0) as server:
        stage.produce()
        answer = probed(stage, server, "/health/live", 200, "records_waiting")
        assert answer.json["verdict"] == "degraded"
        assert answer.json["oldest_age_s"] >= QUICK.stalled_after_s
        healed.set()
        stage.green()
        assert ask(server, "/health/live").reasons() == set()


def test_one_stuck_partition_of_many_fails_the_probe_while_others_flow() -> None:
    with playing(nothing, topics=8) as stage, serve(stage.app, 0) as server:
        stage.client.mute.add(("orders", 3))
        stage.produce(partition=3)

        def flows_and_is_red() -> bool:
            stage.produce(partition=5)
            return ask(server, "/health/live").status == 503

        stage.until(flows_and_is_red, "red")
        answer = probed(stage, server, "/health/live", 503, "partition_stuck")
        stuck = [one["facts"] for one in answer.json["reasons"] if one["name"] == "partition_stuck"]
        assert [facts["partition"] for facts in stuck] == [3]
        stage.client.mute.clear()
        probed(stage, server, "/health/live", 200)


def test_a_gauge_that_hangs_holds_up_no_probe_and_one_scrape_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web_routes, "PAGE_S", 0.3)
    release = threading.Event()
    gauge = Gauge("orders_open", lambda: float(release.wait(20)), "orders")
    with playing(nothing, gauges=[gauge]) as stage, serve(stage.app, 0) as server:
        stage.green()
        for _ in range(3):
            answer = ask(server, "/metrics")
            assert (answer.status, answer.text[:27]) == (503, "metrics have been in the ma")
        making = [one for one in threading.enumerate() if one.name == "headrace-metrics"]
        assert len(making) == 1
        assert ask(server, "/health/live").status == 200
        release.set()
        making[0].join(10)
        monkeypatch.undo()
        assert 'orders_open{group="group"} 1.0' in ask(server, "/metrics").text


def test_refused_commits_are_told_and_fail_no_probe() -> None:
    """A restart would only repeat what is finished and not committed."""
    with playing(nothing) as stage, serve(stage.app, 0) as server:
        stage.client.inner.refuse_commits(*["COORDINATOR_NOT_AVAILABLE"] * 30)
        stage.produce()
        answer = probed(stage, server, "/health/live", 200, "commits_overdue")
        assert answer.json["uncommitted_age_s"] >= 0.3
        assert answer.json["ready"]
        stage.green()
        assert ask(server, "/health/live").reasons() == set()


def test_a_rebalance_that_never_ends_makes_it_unready_and_keeps_it_live() -> None:
    with playing(nothing) as stage, serve(stage.app, 0) as server:
        stage.green()
        stage.client.inner.revoke(("orders", 0), ("orders", 1))
        probed(stage, server, "/health/ready", 503, "nothing_held")
        assert ask(server, "/health/live").status == 200
        stage.client.inner.give(("orders", 0), ("orders", 1))
        probed(stage, server, "/health/ready", 200)


def test_a_storm_of_rebalances_is_told_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with playing(nothing) as stage, serve(stage.app, 0) as server:
        for _ in range(12):
            before = stage.app.snapshot().engine.counters.assigned
            stage.client.inner.revoke(("orders", 0))
            stage.client.inner.give(("orders", 0))
            stage.until(partial(assigned_beyond, stage, before))
        assert probed(stage, server, "/health/ready", 200, "rebalance_storm").json["verdict"] == "degraded"
        monkeypatch.setattr(health, "STORM_WINDOW_S", 0.0)  # as if five minutes had passed
        assert ask(server, "/health/ready").reasons() == set()


def test_brokers_that_are_away_make_it_unready_and_keep_it_live() -> None:
    with playing(nothing) as stage, serve(stage.app, 0) as server:
        stage.client.resolve_answers = False
        stage.client.inner.report(Fault("log", "_ALL_BROKERS_DOWN", "2/2 brokers are down"))
        probed(stage, server, "/health/ready", 503, "brokers_away")
        assert ask(server, "/health/live").status == 200
        stage.produce()
        probed(stage, server, "/health/ready", 200)


def test_a_blocked_event_loop_fails_the_probe_until_it_turns() -> None:
    release = threading.Event()

    async def blocks(_record: Any) -> None:
        release.wait(20)

    with playing(blocks, timeouts=QUICK) as stage, serve(stage.app, 0) as server:
        stage.produce()
        probed(stage, server, "/health/live", 503, "loop_blocked")
        release.set()
        probed(stage, server, "/health/live", 200)


def assigned_beyond(stage: Stage, before: int) -> bool:
    """Whether more partitions were assigned than so many."""
    return stage.app.snapshot().engine.counters.assigned > before
