"""The embedded broker as a Kafka: topics, records, groups, commits, retention; and the limits its docstring tells of."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, TopicPartition

from headrace.testing import MockBroker
from headrace.testing.broker import MockBrokerError
from tests.testing.group_member import DEADLINE_S, GroupMember, commit_and_wait, poll_until
from tests.testing.processes import open_resources

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOCOLS = ("classic", "consumer")
COOPERATIVE = {"partition.assignment.strategy": "cooperative-sticky"}


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    with MockBroker(topics={"orders": 4}) as broker:
        yield broker


def test_produce_places_by_key_and_says_where_each_record_went(broker: MockBroker) -> None:
    placed = broker.produce("orders", [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")])

    partitions = [partition for partition, _ in placed]
    assert partitions[0] == partitions[2] == partitions[3]
    assert [offset for partition, offset in placed if partition == partitions[0]] == sorted(
        offset for partition, offset in placed if partition == partitions[0]
    )
    assert sum(broker.end_offsets("orders").values()) == 4


@pytest.mark.slow
def test_produce_keeps_order_keys_and_headers_in_the_named_partition(broker: MockBroker) -> None:
    broker.produce(
        "orders", [(None, f"{n}", [("n", bytes([n])), ("none", None)]) for n in range(5)], partition=2
    )

    consumer = Consumer(broker.client_settings("g") | {"auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition("orders", 2, OFFSET_BEGINNING)])
    messages = consumer.consume(5, DEADLINE_S)
    consumer.close()
    assert [message.value() for message in messages] == [b"0", b"1", b"2", b"3", b"4"]
    assert messages[3].headers() == [("n", b"\x03"), ("none", None)]
    assert messages[3].key() is None


def test_produce_to_a_topic_that_does_not_exist_is_refused(broker: MockBroker) -> None:
    with pytest.raises(MockBrokerError, match=r"no topic 'order'; create it first.*orders"):
        broker.produce("order", [("a", "1")])


def test_produce_says_which_record_was_refused_and_why(broker: MockBroker) -> None:
    broker.push_errors("Produce", "TOPIC_AUTHORIZATION_FAILED")

    with pytest.raises(MockBrokerError, match=r"record 0.*TOPIC_AUTHORIZATION_FAILED"):
        broker.produce("orders", [(None, "1")], partition=0)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_group_consumes_and_commits_with_metadata(
    broker: MockBroker, protocol: Literal["classic", "consumer"]
) -> None:
    placed = broker.produce("orders", [(f"key-{n}", f"{n}") for n in range(40)])
    more = COOPERATIVE if protocol == "classic" else {}

    with GroupMember(broker.client_settings("g", protocol=protocol), "orders", **more) as member:
        poll_until(lambda: len(member.history.records) == 40, member)
        assert member.assigned == {0, 1, 2, 3}
        answer = commit_and_wait(member, 1, 7, metadata="a map")

    assert {(partition, offset) for partition, offset, _ in member.history.records} == set(placed)
    assert (answer.error, answer.offsets) == (None, {1: 7})
    assert broker.committed("g", "orders") == {1: 7}
    assert broker.committed_metadata("g", "orders") == {1: "a map"}
    assert broker.committed("another", "orders") == {}


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_second_member_takes_half_of_the_partitions(
    broker: MockBroker, protocol: Literal["classic", "consumer"]
) -> None:
    settings = broker.client_settings("g", protocol=protocol, session_timeout_s=1.5)
    more = COOPERATIVE if protocol == "classic" else {}

    with GroupMember(settings, "orders", **more) as first:
        poll_until(lambda: len(first.assigned) == 4, first)
        with GroupMember(settings, "orders", **more) as second:
            poll_until(lambda: len(first.assigned) == len(second.assigned) == 2, first, second)
            assert first.assigned | second.assigned == {0, 1, 2, 3}


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_committed_answers_inside_on_assign(
    broker: MockBroker, protocol: Literal["classic", "consumer"]
) -> None:
    settings = broker.client_settings("g", protocol=protocol)
    with GroupMember(settings, "orders") as member:
        poll_until(lambda: len(member.assigned) == 4, member)
        commit_and_wait(member, 3, 11, metadata="kept")

    with GroupMember(settings, "orders") as member:
        poll_until(lambda: len(member.assigned) == 4, member)

    assert member.history.committed_at_assign[3] == (11, "kept")
    assert member.history.committed_at_assign[0][0] < 0


def test_offsets_for_times_gives_both_ends_in_one_request_and_knows_no_timestamps(broker: MockBroker) -> None:
    broker.produce("orders", [(None, "x")] * 6, partition=0)
    broker.produce("orders", [(None, "x")] * 9, partition=3)
    broker.delete_records("orders", 3, 5)
    consumer = Consumer(broker.client_settings("g"))

    def ask(offset: int) -> list[int]:
        places = [TopicPartition("orders", partition, offset) for partition in range(4)]
        return [place.offset for place in consumer.offsets_for_times(places, timeout=DEADLINE_S)]

    broker.track_requests()
    assert ask(OFFSET_END) == [6, 0, 0, 9]
    assert ask(OFFSET_BEGINNING) == [0, 0, 0, 5]
    assert len(broker.requests("ListOffsets")) == 2
    assert ask(1) == [OFFSET_END] * 4
    consumer.close()


def test_delete_records_moves_the_start_and_strands_a_reader_behind_it(broker: MockBroker) -> None:
    broker.produce("orders", [(None, "x")] * 10, partition=0)
    broker.delete_records("orders", 0, 6)

    assert broker.start_offsets("orders") == {0: 6, 1: 0, 2: 0, 3: 0}
    assert broker.end_offsets("orders")[0] == 10
    consumer = Consumer(broker.client_settings("g") | {"auto.offset.reset": "error"})
    consumer.assign([TopicPartition("orders", 0, 2)])
    (message,) = consumer.consume(1, DEADLINE_S)
    consumer.close()
    error = message.error()
    assert error is not None
    assert error.name() == "_AUTO_OFFSET_RESET"


def test_delete_records_past_the_end_is_refused(broker: MockBroker) -> None:
    with pytest.raises(MockBrokerError, match="OFFSET_OUT_OF_RANGE"):
        broker.delete_records("orders", 0, 1)


@pytest.mark.slow
def test_a_partition_forgets_what_exceeds_five_mebibytes(broker: MockBroker) -> None:
    for _ in range(7):
        broker.produce("orders", [(None, bytes(900_000))], partition=0)

    assert broker.start_offsets("orders")[0] > 0
    assert broker.end_offsets("orders")[0] == 7


def test_a_deleted_topic_is_gone_and_may_be_made_anew(broker: MockBroker) -> None:
    broker.produce("orders", [(None, "x")], partition=0)
    broker.delete_topic("orders")

    with pytest.raises(MockBrokerError, match="no topic 'orders'"):
        broker.end_offsets("orders")
    broker.create_topic("orders", 1)
    assert broker.end_offsets("orders") == {0: 0}


@pytest.mark.parametrize(
    ("partitions", "replication", "problem"),
    [
        (0, 1, "partitions must be at least 1"),
        (1, 2, "replication must be 1 to 1"),
        (1, 0, "replication must be"),
    ],
)
def test_create_topic_refuses_what_no_cluster_could_have(
    broker: MockBroker, partitions: int, replication: int, problem: str
) -> None:
    with pytest.raises(MockBrokerError, match=problem):
        broker.create_topic("new", partitions, replication)


def test_create_topic_refuses_a_topic_that_exists(broker: MockBroker) -> None:
    with pytest.raises(MockBrokerError, match="TOPIC_ALREADY_EXISTS"):
        broker.create_topic("orders", 4)


def test_a_broker_that_cannot_be_had_is_refused_in_words() -> None:
    with pytest.raises(MockBrokerError, match="brokers must be 1 to 100, got 0"):
        MockBroker(0)
    with pytest.raises(MockBrokerError, match="rebalance_delay_s must be 0 to 3600 seconds"):
        MockBroker(rebalance_delay_s=-1)
    with pytest.raises(MockBrokerError, match=r"heartbeat_interval_s must be 0\.001 to 3600 seconds"):
        MockBroker(heartbeat_interval_s=0)
    with pytest.raises(MockBrokerError, match="t: partitions must be at least 1"):
        MockBroker(topics={"t": 0})


def test_close_is_idempotent_and_later_calls_say_that_it_is_closed(broker: MockBroker) -> None:
    broker.close()
    broker.close()

    calls = (
        broker.broker_up,
        broker.requests,
        lambda: broker.create_topic("t", 1),
        lambda: broker.end_offsets("orders"),
    )
    for call in calls:
        with pytest.raises(MockBrokerError, match="the broker is closed"):
            call()
    assert repr(broker) == "<MockBroker closed>"


def test_a_broker_left_open_warns_and_is_closed_when_collected() -> None:
    broker = MockBroker()

    with pytest.warns(ResourceWarning, match="was not closed"):
        del broker


def test_a_forked_child_neither_commands_nor_ends_its_parents_broker(broker: MockBroker) -> None:
    child = os.fork()
    if child == 0:  # pytest must not run on in here, whatever happens
        refused = False
        try:
            broker.create_topic("forked", 1)
        except MockBrokerError as error:
            refused = "may only be its client" in error.problem
        finally:
            broker.close()
            os._exit(0 if refused else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert broker.end_offsets("orders") == {0: 0, 1: 0, 2: 0, 3: 0}


@pytest.mark.slow
def test_twenty_open_close_cycles_leak_neither_threads_nor_descriptors() -> None:
    def cycle() -> None:
        with MockBroker(brokers=2, topics={"t": 2}) as broker:
            broker.produce("t", [("k", "v")])

    def settled() -> bool:
        threads, descriptors = open_resources()
        return threads <= threads_before and descriptors <= descriptors_before

    cycle()  # what is loaded once stays loaded
    threads_before, descriptors_before = open_resources()
    for _ in range(20):
        cycle()
    poll_until(settled)
