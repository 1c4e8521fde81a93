"""Faults on demand: errors, delays, brokers down, moved leaders and coordinators; each as a client meets it."""

from __future__ import annotations

import time
from itertools import pairwise, product, repeat
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from headrace.testing import MockBroker
from headrace.testing._faults import TRANSITIONS, FaultQueue, FaultQueues, Push
from headrace.testing.broker import MockBrokerError
from tests.testing.group_member import DEADLINE_S, GroupMember, commit_and_wait, poll_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    with MockBroker(topics={"orders": 2}) as broker:
        yield broker


@pytest.fixture
def two_brokers() -> Iterator[MockBroker]:
    with MockBroker(brokers=2, topics={"orders": 1}) as broker:
        yield broker


@pytest.fixture
def member(broker: MockBroker) -> Iterator[GroupMember]:
    with GroupMember(broker.client_settings("g"), "orders") as member:
        poll_until(lambda: len(member.assigned) == 2, member)
        yield member


def test_pushed_errors_answer_commits_in_order_and_by_name_or_number(
    broker: MockBroker, member: GroupMember
) -> None:
    broker.push_errors(
        "OffsetCommit", "REBALANCE_IN_PROGRESS", "NO_ERROR", KafkaError.GROUP_AUTHORIZATION_FAILED
    )

    answers = [commit_and_wait(member, 0, offset).error for offset in (1, 2, 3, 4)]
    assert answers == ["REBALANCE_IN_PROGRESS", None, "GROUP_AUTHORIZATION_FAILED", None]
    assert broker.committed("g", "orders") == {0: 4}


def test_clear_errors_ends_a_fault_that_was_meant_to_last(broker: MockBroker, member: GroupMember) -> None:
    broker.push_errors("OffsetCommit", *repeat("REBALANCE_IN_PROGRESS", 1000))
    assert commit_and_wait(member, 0, 1).error == "REBALANCE_IN_PROGRESS"

    broker.clear_errors()
    assert commit_and_wait(member, 0, 2).error is None


@pytest.mark.slow
def test_a_delayed_commit_is_answered_late_with_or_without_an_error(
    broker: MockBroker, member: GroupMember
) -> None:
    broker.push_delays("OffsetCommit", 0.3, ("REBALANCE_IN_PROGRESS", 0.3))

    for offset, error in ((1, None), (2, "REBALANCE_IN_PROGRESS")):
        sent_at = time.monotonic()
        answer = commit_and_wait(member, 0, offset)
        assert answer.error == error
        assert answer.at - sent_at >= 0.29


def test_on_one_broker_errors_after_delays_keep_their_turn(broker: MockBroker, member: GroupMember) -> None:
    broker.push_delays("OffsetCommit", ("REBALANCE_IN_PROGRESS", 0.01))
    broker.push_errors("OffsetCommit", "GROUP_AUTHORIZATION_FAILED")

    assert [commit_and_wait(member, 0, 1).error, commit_and_wait(member, 0, 2).error] == [
        "REBALANCE_IN_PROGRESS",
        "GROUP_AUTHORIZATION_FAILED",
    ]


def test_a_delay_that_would_hide_errors_is_refused_until_they_are_cleared(broker: MockBroker) -> None:
    broker.push_errors("OffsetCommit", "REBALANCE_IN_PROGRESS")
    with pytest.raises(
        MockBrokerError, match=r"would hide those left for ever; call clear_errors\('OffsetCommit'\)"
    ):
        broker.push_delays("OffsetCommit", 1.0)

    broker.clear_errors("OffsetCommit")
    broker.push_delays("OffsetCommit", 1.0)
    broker.push_errors("OffsetFetch", "REBALANCE_IN_PROGRESS")  # another API has queues of its own


def test_an_error_that_would_be_hidden_is_refused(two_brokers: MockBroker) -> None:
    two_brokers.push_errors("Produce", "NOT_LEADER_FOR_PARTITION", broker=2)

    with pytest.raises(MockBrokerError, match="hides errors for any broker for ever; name broker="):
        two_brokers.push_errors("Produce", "NOT_LEADER_FOR_PARTITION")


def test_pushing_nothing_leaves_the_queues_alone(broker: MockBroker) -> None:
    broker.push_delays("Produce")
    broker.push_errors("Produce", broker=1)

    broker.push_errors("Produce", "TOPIC_AUTHORIZATION_FAILED")
    with pytest.raises(MockBrokerError, match="TOPIC_AUTHORIZATION_FAILED"):
        broker.produce("orders", [(None, "x")], partition=0)


def test_clear_errors_admits_what_it_cannot_withdraw(broker: MockBroker) -> None:
    broker.push_delays("OffsetCommit", 0.5, 0.5)
    broker.push_errors("Produce", "TOPIC_AUTHORIZATION_FAILED")

    with pytest.raises(MockBrokerError, match="only used up; left are 2 of OffsetCommit"):
        broker.clear_errors()
    broker.produce("orders", [(None, "x")], partition=0)


@pytest.mark.parametrize(("queue", "push"), list(product(FaultQueue, Push)))
def test_no_sequence_of_pushes_ever_hides_a_fault(queue: FaultQueue, push: Push) -> None:
    hidden = (queue is FaultQueue.CLUSTER and push is Push.ONE_BROKER) or (
        queue is FaultQueue.BROKERS and push is Push.ANY_BROKER
    )
    assert (push not in TRANSITIONS[queue]) == hidden

    ways_there = {
        FaultQueue.NONE: (),
        FaultQueue.CLUSTER: (Push.ANY_BROKER,),
        FaultQueue.BROKERS: (Push.ONE_BROKER,),
    }
    queues = FaultQueues()
    for step in ways_there[queue]:
        queues.apply("test", "Fetch", step)
    assert queues.in_use("Fetch") is queue
    if hidden:
        with pytest.raises(MockBrokerError, match="for ever"):
            queues.apply("test", "Fetch", push)
        assert queues.in_use("Fetch") is queue
    else:
        assert queues.apply("test", "Fetch", push) is TRANSITIONS[queue][push]


def test_unknown_names_are_refused_with_the_known_ones(broker: MockBroker, two_brokers: MockBroker) -> None:
    with pytest.raises(
        MockBrokerError, match=r"no Kafka API named 'Commit'.*it has Produce, Fetch.*OffsetCommit"
    ):
        broker.push_errors("Commit", 1)
    with pytest.raises(MockBrokerError, match=r"no Kafka error named 'REBALANCING'.*REBALANCE_IN_PROGRESS"):
        broker.push_errors("OffsetCommit", "REBALANCING")
    with pytest.raises(MockBrokerError, match=r"no broker 2; there are \(1,\)"):
        broker.broker_down(2)
    with pytest.raises(MockBrokerError, match=r"name the broker: one of \(1, 2\)"):
        two_brokers.push_delays("Fetch", 0.1)


@pytest.mark.slow
def test_a_cut_connection_is_made_again_and_the_commit_with_it(
    broker: MockBroker, member: GroupMember
) -> None:
    broker.push_errors("Heartbeat", "_TRANSPORT")
    broker.track_requests()
    poll_until(lambda: len(broker.requests("Heartbeat")) >= 3, member)

    assert commit_and_wait(member, 0, 5).error is None


@pytest.mark.slow
def test_a_broker_that_was_down_comes_back_with_its_records_and_groups(
    broker: MockBroker, member: GroupMember
) -> None:
    broker.produce("orders", [(None, "before")], partition=0)
    broker.broker_down()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=0.1)

    broker.broker_up()
    broker.produce("orders", [(None, "after")], partition=0)
    poll_until(lambda: len(member.history.records) == 2, member)
    assert [value for _, _, value in member.history.records] == [b"before", b"after"]
    assert commit_and_wait(member, 0, 2).error is None


@pytest.mark.slow
def test_round_trip_delays_every_answer_until_it_ends(broker: MockBroker) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})

    def answer_s() -> float:
        asked_at = time.monotonic()
        admin.list_topics(timeout=DEADLINE_S)
        return time.monotonic() - asked_at

    answer_s()
    broker.round_trip(0.3)
    assert answer_s() >= 0.29
    broker.round_trip(0)
    poll_until(lambda: answer_s() < 0.29)


@pytest.mark.slow
def test_a_group_follows_its_coordinator(two_brokers: MockBroker) -> None:
    two_brokers.set_coordinator("g", 1)
    with GroupMember(two_brokers.client_settings("g"), "orders") as member:
        poll_until(lambda: len(member.assigned) == 1, member)
        assert commit_and_wait(member, 0, 1).error is None

        two_brokers.track_requests()
        two_brokers.set_coordinator("g", 2)
        poll_until(lambda: any(request.broker == 2 for request in two_brokers.requests("Heartbeat")), member)
        assert commit_and_wait(member, 0, 2).error is None
        assert {request.broker for request in two_brokers.requests("OffsetCommit")} == {2}
    assert two_brokers.committed("g", "orders") == {0: 2}


@pytest.mark.slow
def test_a_reader_follows_its_leader(two_brokers: MockBroker) -> None:
    two_brokers.set_leader("orders", 0, 1)
    two_brokers.produce("orders", [(None, "1")])
    settings = two_brokers.client_settings("g") | {"topic.metadata.refresh.interval.ms": 200}
    with GroupMember(settings, "orders") as member:
        poll_until(lambda: len(member.history.records) == 1, member)

        two_brokers.track_requests()
        two_brokers.set_leader("orders", 0, 2)
        two_brokers.produce("orders", [(None, "2")])
        poll_until(lambda: len(member.history.records) == 2, member)
        assert two_brokers.requests("Fetch")[-1].broker == 2


def test_a_partition_may_be_left_without_a_leader(two_brokers: MockBroker) -> None:
    two_brokers.set_leader("orders", 0, None)

    admin = AdminClient({"bootstrap.servers": two_brokers.bootstrap_servers, "log_level": 0})
    assert admin.list_topics(timeout=DEADLINE_S).topics["orders"].partitions[0].leader == -1


def test_an_api_taken_away_is_unsupported_for_clients_that_connect_later(broker: MockBroker) -> None:
    broker.api_version("OffsetFetch", -1, -1)

    with pytest.raises(MockBrokerError, match="_UNSUPPORTED_FEATURE"):
        broker.committed("g", "orders")
    with pytest.raises(MockBrokerError, match="expected 0 <= lo <= hi"):
        broker.api_version("OffsetFetch", 3, 1)


@pytest.mark.slow
def test_the_broker_sets_the_pace_of_kip_848_heartbeats(broker: MockBroker) -> None:
    broker.set_consumer_group_timing(heartbeat_interval_s=0.05, session_timeout_s=10)
    with GroupMember(broker.client_settings("g", protocol="consumer"), "orders") as member:
        poll_until(lambda: len(member.assigned) == 2, member)
        broker.track_requests()
        poll_until(lambda: len(broker.requests("ConsumerGroupHeartbeat")) >= 5, member)

    beats = [request.at for request in broker.requests("ConsumerGroupHeartbeat")[:5]]
    assert min(later - earlier for earlier, later in pairwise(beats)) < 0.2


def test_tracked_requests_tell_when_where_and_what(two_brokers: MockBroker) -> None:
    with pytest.raises(MockBrokerError, match=r"nothing is tracked yet; call track_requests\(\) first"):
        two_brokers.requests()
    started_at = time.monotonic()
    two_brokers.set_leader("orders", 0, 2)
    two_brokers.track_requests()
    two_brokers.produce("orders", [(None, "x")])

    (request,) = two_brokers.requests("Produce")
    assert (request.api, request.broker) == ("Produce", 2)
    assert started_at <= request.at <= time.monotonic()
    everything = two_brokers.requests()
    assert {"ApiVersions", "Metadata", "Produce"} <= {request.api for request in everything}
    assert [request.at for request in everything] == sorted(request.at for request in everything)

    two_brokers.track_requests()
    assert two_brokers.requests("Produce") == []
