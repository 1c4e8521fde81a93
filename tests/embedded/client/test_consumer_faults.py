"""What the consumer says when brokers fail it: every wait is bounded, every error has its name."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from headrace._client.consumer import KafkaClient
from headrace.errors import BrokerUnreachable, TopicMissing
from headrace.ports import CommitNotSent, CommitRequest
from tests.embedded.client.support import joined, poll_until, settings_for

if TYPE_CHECKING:
    from headrace.testing.broker import MockBroker

COMMIT = [CommitRequest("orders", 0, 10, "map"), CommitRequest("orders", 1, 20, "map")]


@pytest.mark.parametrize(
    "code",
    [
        "REBALANCE_IN_PROGRESS",
        "GROUP_AUTHORIZATION_FAILED",
        "OFFSET_METADATA_TOO_LARGE",
        "UNKNOWN_MEMBER_ID",
        "ILLEGAL_GENERATION",
        "UNSTABLE_OFFSET_COMMIT",
        "GROUP_MAX_SIZE_REACHED",
        "TOPIC_AUTHORIZATION_FAILED",
    ],
)
def test_a_refused_commit_names_the_code_for_each_partition(
    broker: MockBroker, group_id: str, code: str
) -> None:
    client, listener = joined(broker, group_id)
    broker.push_errors("OffsetCommit", code)
    client.commit(COMMIT)
    poll_until(client, lambda: bool(listener.commits))
    assert [(r.partition, r.offset, r.error) for r in listener.commits] == [(0, 10, code), (1, 20, code)]
    assert client.close(5.0)


@pytest.mark.parametrize("code", ["STALE_MEMBER_EPOCH", "UNKNOWN_MEMBER_ID", "FENCED_MEMBER_EPOCH"])
def test_a_refused_commit_under_kip848(broker: MockBroker, group_id: str, code: str) -> None:
    client, listener = joined(broker, group_id, "kip848")
    broker.push_errors("OffsetCommit", code)
    client.commit(COMMIT)
    poll_until(client, lambda: bool(listener.commits))
    assert {r.error for r in listener.commits} == {code}
    assert client.close(5.0)


@pytest.mark.parametrize(
    "code", ["COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR", "REQUEST_TIMED_OUT", "_TRANSPORT"]
)
def test_what_librdkafka_repeats_by_itself_is_written_in_the_end(
    broker: MockBroker, group_id: str, code: str
) -> None:
    client, listener = joined(broker, group_id)
    broker.push_errors("OffsetCommit", code)
    client.commit(COMMIT)
    poll_until(client, lambda: bool(listener.commits))
    assert {r.error for r in listener.commits} == {None}
    assert client.close(5.0)


@pytest.mark.parametrize(
    "code", ["COORDINATOR_LOAD_IN_PROGRESS", "REQUEST_TIMED_OUT", "UNKNOWN_TOPIC_OR_PART"]
)
def test_what_persists_is_named_in_the_end(broker: MockBroker, group_id: str, code: str) -> None:
    client, listener = joined(broker, group_id)
    broker.push_errors("OffsetCommit", *[code] * 4)
    client.commit(COMMIT)
    poll_until(client, lambda: bool(listener.commits))
    assert {r.error for r in listener.commits} == {code}
    broker.clear_errors()
    assert client.close(5.0)


@pytest.mark.parametrize("code", ["ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID"])
def test_the_group_forgets_us_and_gives_everything_again(
    broker: MockBroker, group_id: str, code: str
) -> None:
    client, listener = joined(broker, group_id)
    broker.push_errors("OffsetCommit", code)
    client.commit(COMMIT)
    poll_until(client, lambda: listener.calls() == ["assign", "lost", "assign"])
    assert client.close(5.0)


@pytest.mark.parametrize("instance_id", [None, "worker"])
def test_a_fenced_member_is_told_why(broker: MockBroker, group_id: str, instance_id: str | None) -> None:
    """A fatal error kills the client; confluent-kafka raises it out of a poll, and the client's code must survive it."""
    client, listener = joined(broker, group_id, instance_id=instance_id)
    broker.push_errors("OffsetCommit", "FENCED_INSTANCE_ID")
    client.commit(COMMIT)
    taken = listener.taken
    poll_until(client, lambda: any(f.kind == "fenced" for f in taken.faults), taken)
    assert {f.code for f in taken.faults if f.kind == "fenced"} == {"FENCED_INSTANCE_ID"}
    started = time.monotonic()
    client.close(2.0)
    assert time.monotonic() - started < 3.0


def test_commit_outlives_a_broker_that_comes_back(broker: MockBroker, group_id: str) -> None:
    client, listener = joined(broker, group_id)
    broker.broker_down()
    started = time.monotonic()
    client.commit(COMMIT)
    assert time.monotonic() - started < 0.1
    taken = listener.taken
    up_at = time.monotonic() + 0.5
    poll_until(client, lambda: time.monotonic() > up_at, taken)
    assert not listener.commits
    broker.broker_up()
    poll_until(client, lambda: bool(listener.commits), taken)
    assert {r.error for r in listener.commits} == {None}
    codes = [f.code for f in taken.faults]
    assert "_ALL_BROKERS_DOWN" in codes or "_TRANSPORT" in codes
    assert len(codes) == len(set(codes)), "an outage's reports are thinned out"
    assert all(f.kind == "log" for f in taken.faults)
    assert client.close(5.0)


def test_close_is_bounded_with_an_unanswered_commit_and_no_broker(broker: MockBroker, group_id: str) -> None:
    client, listener = joined(broker, group_id)
    broker.broker_down()
    client.commit(COMMIT)
    started = time.monotonic()
    assert client.close(1.0) is False
    assert 0.9 < time.monotonic() - started < 1.5
    assert listener.calls() == ["assign", "revoke"]  # heard on this thread, in time
    told = list(listener.told), list(listener.commits)
    assert client.close(1.0) is True  # a second call has nothing to do
    broker.broker_up()
    time.sleep(0.3)
    assert (listener.told, listener.commits) == told  # nothing is heard from the thread that was left behind


def test_close_is_quick_without_an_open_commit_even_with_no_broker(broker: MockBroker, group_id: str) -> None:
    client, listener = joined(broker, group_id)
    broker.broker_down()
    started = time.monotonic()
    assert client.close(5.0) is True
    assert time.monotonic() - started < 0.5
    assert listener.calls() == ["assign", "revoke"]


def test_a_commit_sent_while_closing_is_confirmed(broker: MockBroker, group_id: str) -> None:
    client, listener = joined(broker, group_id)
    listener.during = lambda call: client.commit(COMMIT) if call == "revoke" else None
    assert client.close(5.0)
    assert {(r.partition, r.error) for r in listener.commits} == {(0, None), (1, None)}
    assert broker.committed(group_id, "orders") == {0: 10, 1: 20}
    with pytest.raises(CommitNotSent) as refused:
        client.commit(COMMIT)
    assert refused.value.code == "_STATE"


def test_committed_that_cannot_be_read_is_none_in_time(broker: MockBroker, group_id: str) -> None:
    client, _ = joined(broker, group_id)
    broker.broker_down()
    started = time.monotonic()
    assert client.committed([("orders", 0)], 0.5) is None
    assert client.resolve({("orders", 0): "earliest"}, 0.5) is None
    assert client.earliest(("orders", 0), 0.5) is None
    assert time.monotonic() - started < 2.5
    assert client.close(5.0)


def test_a_refusal_to_show_committed_offsets_is_a_fault(broker: MockBroker, group_id: str) -> None:
    client, listener = joined(broker, group_id)
    broker.push_errors("OffsetFetch", "GROUP_AUTHORIZATION_FAILED")
    assert client.committed([("orders", 0)], 2.0) is None
    taken = listener.taken
    poll_until(client, lambda: bool(taken.faults), taken)
    assert taken.faults[0].kind == "not_authorized"
    assert client.close(5.0)


def test_no_broker_at_start_is_said_in_time_with_address_and_cause(group_id: str) -> None:
    client = KafkaClient(settings_for("127.0.0.1:1", group_id))
    started = time.monotonic()
    with pytest.raises(BrokerUnreachable) as unreachable:
        client.check(["orders"], 0.6)
    assert 0.5 < time.monotonic() - started < 1.5
    assert unreachable.value.bootstrap_servers == "127.0.0.1:1"
    assert "refused" in str(unreachable.value)
    assert client.close(2.0)


def test_a_name_that_does_not_resolve_is_said(group_id: str) -> None:
    client = KafkaClient(settings_for("no-such-host.invalid:9092", group_id))
    with pytest.raises(BrokerUnreachable, match=r"no-such-host\.invalid.*resolve"):
        client.check(["orders"], 0.6)
    started = time.monotonic()
    client.close(0.5)  # the resolver of the C library may hold it up: left behind then
    assert time.monotonic() - started < 1.0


def test_a_broker_that_comes_up_late_is_found(broker: MockBroker, group_id: str) -> None:
    client = KafkaClient(settings_for(broker.bootstrap_servers, group_id))
    broker.broker_down()
    with pytest.raises(BrokerUnreachable):
        client.check(["orders"], 0.3)
    broker.broker_up()
    client.check(["orders"], 5.0)
    assert client.close(2.0)


def test_missing_topics_are_named_together(broker: MockBroker, group_id: str) -> None:
    client = KafkaClient(settings_for(broker.bootstrap_servers, group_id))
    with pytest.raises(TopicMissing) as missing:
        client.check(["orders", "nowhere", "^pattern", "neither"], 5.0)
    assert missing.value.topics == ("nowhere", "neither")
    assert client.close(2.0)
