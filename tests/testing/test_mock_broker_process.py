"""The broker in a process of its own: the same broker, and an end with its parent however that comes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from headrace.testing import MockBrokerProcess
from headrace.testing.broker import MockBrokerError
from tests.testing.group_member import GroupMember, commit_and_wait, poll_until
from tests.testing.processes import children, is_running, open_resources

if TYPE_CHECKING:
    from collections.abc import Iterator

CONSUMER = """
import sys
from confluent_kafka import Consumer

consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": "g", "auto.offset.reset": "earliest"})
consumer.subscribe(["orders"])
messages = consumer.consume(3, 15)
consumer.commit(message=messages[-1], asynchronous=False)
consumer.close()
print(*(message.value().decode() for message in messages))
"""

OWNER = """
import sys, time
from headrace.testing import MockBrokerProcess

broker = MockBrokerProcess()
print(broker.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[MockBrokerProcess]:
    """One process for the tests that leave it as it was; each uses a topic of its own."""
    with MockBrokerProcess(brokers=2) as broker:
        yield broker


@pytest.mark.slow
def test_another_process_consumes_and_commits(shared: MockBrokerProcess) -> None:
    shared.create_topic("orders", 1)
    shared.produce("orders", [(None, value) for value in ("a", "b", "c")])

    command = [sys.executable, "-c", CONSUMER, shared.bootstrap_servers]
    assert subprocess.run(command, check=True, capture_output=True, timeout=30).stdout == b"a b c\n"
    assert shared.committed("g", "orders") == {0: 3}


@pytest.mark.slow
def test_every_command_reaches_the_child(shared: MockBrokerProcess) -> None:
    shared.create_topic("faults", 1, replication=2)
    shared.produce("faults", [(None, "x")] * 3)
    shared.delete_records("faults", 0, 2)
    assert shared.start_offsets("faults") == {0: 2}
    shared.set_leader("faults", 0, 2)
    shared.set_coordinator("faults-group", 2)
    shared.set_consumer_group_timing(heartbeat_interval_s=0.2, session_timeout_s=30)
    shared.api_version("ShareFetch", -1, -1)
    shared.round_trip(0.01, broker=1)
    shared.round_trip(0)
    shared.broker_down(1)
    shared.broker_up()

    with GroupMember(shared.client_settings("faults-group"), "faults") as member:
        poll_until(lambda: len(member.history.records) == 1, member)
        shared.push_errors("OffsetCommit", "REBALANCE_IN_PROGRESS")
        shared.track_requests()
        assert commit_and_wait(member, 0, 3).error == "REBALANCE_IN_PROGRESS"
        shared.clear_errors("OffsetCommit")
        shared.push_delays("OffsetCommit", ("ILLEGAL_GENERATION", 0.01), broker=2)
        assert commit_and_wait(member, 0, 3).error == "ILLEGAL_GENERATION"
        assert [request.broker for request in shared.requests("OffsetCommit")] == [2, 2]
    shared.untrack_requests()
    shared.delete_topic("faults")


def test_what_the_child_refuses_is_raised_here(shared: MockBrokerProcess) -> None:
    shared.create_topic("once", 1)

    with pytest.raises(MockBrokerError, match="TOPIC_ALREADY_EXISTS") as caught:
        shared.create_topic("once", 1)
    assert caught.value.call == "create_topic"


@pytest.mark.slow
def test_close_ends_the_child_and_leaks_no_descriptor() -> None:
    _, descriptors_before = open_resources()
    broker = MockBrokerProcess()
    pid = broker.pid
    broker.close()
    broker.close()

    assert not is_running(pid)
    assert open_resources()[1] <= descriptors_before
    with pytest.raises(MockBrokerError, match="the broker is closed"):
        broker.create_topic("t", 1)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_the_broker_dies_with_its_parent(end: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert is_running(pid)
        owner.send_signal(end)
        owner.wait(10)
    poll_until(lambda: not is_running(pid))


@pytest.mark.slow
def test_a_killed_broker_is_reported_with_its_exit_code() -> None:
    with MockBrokerProcess() as broker:
        broker.kill()
        with pytest.raises(MockBrokerError, match="ended with exit code -9"):
            broker.create_topic("t", 1)
        with pytest.raises(MockBrokerError, match="the broker is closed"):
            broker.create_topic("t", 1)


@pytest.mark.slow
def test_members_with_different_first_assignors_cost_the_child_and_not_the_test() -> None:
    with MockBrokerProcess(topics={"t": 1}, rebalance_delay_s=0.3) as broker:
        settings = broker.client_settings("g")
        with (
            GroupMember(settings, "t", **{"partition.assignment.strategy": "range"}) as one,
            GroupMember(settings, "t", **{"partition.assignment.strategy": "roundrobin"}) as other,
        ):
            poll_until(lambda: not is_running(broker.pid), one, other)
        with pytest.raises(MockBrokerError, match="exit code -6"):
            broker.broker_up()


@pytest.mark.slow
def test_a_start_that_takes_too_long_is_given_up_and_leaves_nothing_behind() -> None:
    children_before = children()
    started_at = time.monotonic()

    with pytest.raises(MockBrokerError, match=r"did not answer within 0.001 s and was killed"):
        MockBrokerProcess(start_timeout_s=0.001)
    assert time.monotonic() - started_at < 5
    assert children() == children_before
