"""Brokers that are slow, gone, elsewhere or unwilling while an app runs on them: it waits, goes on, and ends in time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from headrace import ClientFailed, NotAuthorized
from headrace.testing.broker import MockBroker
from tests.embedded.runtime.oracle import GROUP, Group
from tests.embedded.runtime.support import told, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.embedded.runtime.conftest import Outcome


def slow_commits_hold_up_nothing_and_are_sent_one_at_a_time() -> None:
    with MockBroker(topics={"orders": 2}) as broker, Group(broker) as group:
        group.produce(10)
        # A late answer holds back those of heartbeats: the session must outlast it.
        app = group.start(commit_timeout_s=10.0, librdkafka={"session.timeout.ms": 20_000})
        group.eventually(group.all_committed, "the first commit")
        broker.push_delays("OffsetCommit", 6.0)
        broker.track_requests()
        group.produce(10)
        until(lambda: group.requests("OffsetCommit") == 1, "the slow commit")
        began = time.monotonic()
        group.produce(10)
        until(group.all_handled, "consumption beside the slow commit", 5.0)
        assert time.monotonic() - began < 5.5
        assert group.requests("OffsetCommit") == 1, "a second commit was sent beside the slow one"
        group.eventually(group.all_committed, "the commit")
        app.stop()
        assert group.no_duplicates()
        group.finish()


def a_commit_slower_than_its_timeout_is_sent_again_and_never_goes_back() -> None:
    with MockBroker(topics={"orders": 2}) as broker, Group(broker) as group:
        group.produce(10)
        app = group.start(commit_timeout_s=0.5, librdkafka={"session.timeout.ms": 10_000})
        group.eventually(group.all_committed, "the first commit")
        broker.push_delays("OffsetCommit", 2.0, 1.0)
        for _ in range(5):
            group.produce(4)
            group.eventually(group.all_handled, "consumption")
        group.eventually(group.all_committed, "the commit")
        assert told(app, "commit_refused")
        app.stop()
        group.finish()
        assert group.no_duplicates()


def a_slow_last_commit_is_waited_for_at_stop() -> None:
    with MockBroker(topics={"orders": 2}) as broker, Group(broker) as group:
        group.produce(10)
        app = group.start(commit_every_s=30.0, commit_timeout_s=5.0)
        group.eventually(group.all_handled, "consumption")
        broker.push_delays("OffsetCommit", 1.0)
        app.stop()
        assert group.all_committed()
        assert group.no_duplicates()


def a_commit_whose_reply_is_lost_is_sent_again() -> None:
    with MockBroker(topics={"orders": 2}) as broker, Group(broker) as group:
        group.produce(10)
        # Longer than reconnecting and finding the coordinator take: what is lost then may be repeated.
        app = group.start(librdkafka={"session.timeout.ms": 10_000})
        group.eventually(group.all_committed, "the first commit")
        broker.push_delays("OffsetCommit", 1.0)
        broker.track_requests()
        group.produce(10)
        until(lambda: group.requests("OffsetCommit"), "a commit")
        broker.broker_down()
        until(lambda: told(app, "client_fault"), "the loss of the broker")
        broker.broker_up()
        group.eventually(group.all_committed, "the commit")
        assert group.all_handled()
        app.stop()
        assert group.no_duplicates()


def a_coordinator_that_moves_takes_the_commits_along() -> None:
    with MockBroker(2, topics={"orders": 2}) as broker, Group(broker) as group:
        broker.set_coordinator(GROUP, 1)
        group.produce(10)
        app = group.start()
        group.eventually(group.all_committed, "the first commit")
        for coordinator in (2, 1):
            broker.set_coordinator(GROUP, coordinator)
            group.produce(10)
            group.eventually(group.all_handled, "consumption")
            group.eventually(group.all_committed, "the commit")
        app.stop()
        group.finish()


def a_broker_away_for_three_seconds_is_waited_for() -> None:
    with MockBroker(topics={"orders": 2}) as broker, Group(broker) as group:
        group.produce(10)
        app = group.start()
        group.eventually(group.all_handled, "consumption")
        broker.broker_down()
        back = threading.Timer(3.0, broker.broker_up)
        back.start()
        back.join()
        group.produce(10)
        group.eventually(group.all_committed, "the commit")
        assert app.state.value == "running"
        app.stop()
        group.finish()


def no_broker_at_stop_is_no_reason_to_hang() -> None:
    with MockBroker(topics={"orders": 2}) as broker, Group(broker, stop_s=4.0) as group:
        group.produce(10)
        app = group.start(commit_every_s=30.0)
        group.eventually(group.all_handled, "consumption")
        broker.broker_down()
        began = time.monotonic()
        app.stop()
        assert time.monotonic() - began < 4.0 + 4.0
        broker.broker_up()
        group.finish()


def no_broker_at_a_hard_stop_takes_no_time() -> None:
    with MockBroker(topics={"orders": 2}) as broker, Group(broker) as group:
        group.produce(10)
        app = group.start(commit_every_s=30.0)
        group.eventually(group.all_handled, "consumption")
        broker.broker_down()
        app.request_stop(hard=True, timeout_s=1.0)
        began = time.monotonic()
        app.wait()
        assert time.monotonic() - began < 4.0
        broker.broker_up()
        group.finish()


def _offsets_unreadable_once(code: str) -> None:
    with MockBroker(topics={"orders": 2}) as broker, Group(broker) as group:
        _handle_some(group)
        broker.push_errors("OffsetFetch", code)
        app = group.start()
        # Not asked by the oracle before it is over: its question would draw the error.
        until(lambda: len(app.snapshot().engine.partitions) == 2, "the assignment", 25.0)
        group.produce(10)
        group.eventually(group.all_committed, "the commit")
        app.stop()
        assert group.all_handled()
        assert group.no_duplicates(), "it began at a reset"


def _offsets_unreadable_for_long(code: str) -> None:
    with MockBroker(topics={"orders": 2}) as broker, Group(broker) as group:
        _handle_some(group)
        group.produce(10)
        before = len(group.seen.starts)
        broker.push_errors("OffsetFetch", *[code] * 1000)
        app = group.start()
        until(lambda: told(app, "offsets_unreadable"), "the notice", 25.0)
        assert not app.snapshot().engine.partitions
        assert len(group.seen.starts) == before, "something ran before its offset was known"
        broker.clear_errors("OffsetFetch")
        group.eventually(group.all_committed, "the commit")
        app.stop()
        assert group.all_handled()
        assert group.no_duplicates(), "it began at a reset"


def offsets_refused_once_are_read_again() -> None:
    _offsets_unreadable_once("COORDINATOR_LOAD_IN_PROGRESS")


def offsets_of_an_open_transaction_once_are_read_again() -> None:
    _offsets_unreadable_once("UNSTABLE_OFFSET_COMMIT")


def offsets_asked_of_the_wrong_coordinator_once_are_read_again() -> None:
    _offsets_unreadable_once("NOT_COORDINATOR")


def a_connection_cut_while_offsets_are_read_is_made_again() -> None:
    _offsets_unreadable_once("_TRANSPORT")


def nothing_runs_while_offsets_are_refused() -> None:
    _offsets_unreadable_for_long("COORDINATOR_LOAD_IN_PROGRESS")


def nothing_runs_while_the_coordinator_is_away() -> None:
    _offsets_unreadable_for_long("COORDINATOR_NOT_AVAILABLE")


def nothing_runs_while_a_transaction_is_open() -> None:
    _offsets_unreadable_for_long("UNSTABLE_OFFSET_COMMIT")


def nothing_runs_after_an_unknown_error() -> None:
    _offsets_unreadable_for_long("UNKNOWN")


def offsets_that_may_not_be_read_stop_the_app_with_the_reason() -> None:
    with MockBroker(topics={"orders": 2}) as broker, Group(broker) as group:
        _handle_some(group)
        broker.push_errors("OffsetFetch", *["GROUP_AUTHORIZATION_FAILED"] * 1000)
        with pytest.raises(NotAuthorized):
            group.start().wait()  # The answer may be there before the start is over.
        broker.clear_errors()
        group.finish()
        assert group.no_duplicates()


def a_coordinator_hard_to_find_delays_the_start_only() -> None:
    with MockBroker(topics={"orders": 2}) as broker, Group(broker) as group:
        group.produce(10)
        broker.push_errors("FindCoordinator", *["COORDINATOR_NOT_AVAILABLE"] * 3)
        app = group.start()
        until(group.all_handled, "consumption", 25.0)
        broker.clear_errors()
        group.eventually(group.all_committed, "the commit")
        app.stop()
        group.finish()


def a_group_that_may_not_be_found_stops_the_app_with_the_reason() -> None:
    with MockBroker(topics={"orders": 2}) as broker, Group(broker) as group:
        group.produce(10)
        broker.push_errors("FindCoordinator", *["GROUP_AUTHORIZATION_FAILED"] * 1000)
        with pytest.raises((NotAuthorized, ClientFailed)):
            group.start().wait()  # The answer may be there before the start is over.
        broker.clear_errors()
        group.finish()


def a_broker_that_refuses_fetches_for_a_while_loses_nothing() -> None:
    with MockBroker(topics={"orders": 2}) as broker, Group(broker) as group:
        group.produce(10)
        app = group.start()
        group.eventually(group.all_committed, "the first commit")
        broker.push_errors("Fetch", *["NOT_LEADER_FOR_PARTITION", "UNKNOWN", "_TRANSPORT"] * 3)
        group.produce(10)
        group.eventually(group.all_committed, "the commit")
        app.stop()
        assert group.all_handled()
        assert group.no_duplicates()


def heartbeats_that_are_refused_cost_the_partitions_and_no_record() -> None:
    with MockBroker(topics={"orders": 2}) as broker, Group(broker) as group:
        group.produce(10)
        app = group.start()
        group.eventually(group.all_committed, "the first commit")
        broker.push_errors("Heartbeat", "UNKNOWN_MEMBER_ID")
        until(lambda: told(app, "partition_lost"), "the loss")
        group.produce(10)
        group.eventually(group.all_committed, "the commit")
        app.stop()
        group.finish()


def _handle_some(group: Group) -> None:
    group.produce(10)
    app = group.start()
    group.eventually(group.all_committed, "the first commit")
    app.stop()


CASES: list[Callable[[], None]] = [
    a_broker_away_for_three_seconds_is_waited_for,
    no_broker_at_stop_is_no_reason_to_hang,
    no_broker_at_a_hard_stop_takes_no_time,
    nothing_runs_while_offsets_are_refused,
    nothing_runs_while_the_coordinator_is_away,
    nothing_runs_while_a_transaction_is_open,
    nothing_runs_after_an_unknown_error,
    offsets_refused_once_are_read_again,
    offsets_of_an_open_transaction_once_are_read_again,
    offsets_asked_of_the_wrong_coordinator_once_are_read_again,
    a_connection_cut_while_offsets_are_read_is_made_again,
    offsets_that_may_not_be_read_stop_the_app_with_the_reason,
    a_coordinator_hard_to_find_delays_the_start_only,
    a_group_that_may_not_be_found_stops_the_app_with_the_reason,
    slow_commits_hold_up_nothing_and_are_sent_one_at_a_time,
    a_commit_slower_than_its_timeout_is_sent_again_and_never_goes_back,
    a_slow_last_commit_is_waited_for_at_stop,
    a_commit_whose_reply_is_lost_is_sent_again,
    a_coordinator_that_moves_takes_the_commits_along,
    a_broker_that_refuses_fetches_for_a_while_loses_nothing,
    heartbeats_that_are_refused_cost_the_partitions_and_no_record,
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_broker_fault(case: Callable[[], None], outcome: Outcome) -> None:
    outcome(case)


def run_case(case: Callable[[], None]) -> None:
    """Run one fault."""
    case()
