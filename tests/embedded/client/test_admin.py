"""The observer's questions, on the embedded broker, which answers fewer of them than a real one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from headrace._client.admin import Observer
from headrace._client.lag import PartitionLag
from headrace._client.settings import ConnectionSettings
from headrace.errors import BrokerUnreachable, TopicMissing
from headrace.ports import CommitRequest
from tests.embedded.client.support import joined, poll_until

if TYPE_CHECKING:
    from headrace.testing.broker import MockBroker


@pytest.fixture
def observer(broker: MockBroker) -> Observer:
    """An observer of the test's broker."""
    return Observer(ConnectionSettings(broker.bootstrap_servers, "observer"))


def test_cluster_and_topics(observer: Observer, broker: MockBroker) -> None:
    cluster = observer.cluster(5.0)
    assert [f"{b.host}:{b.port}" for b in cluster.brokers] == [broker.bootstrap_servers]
    assert cluster.id
    assert observer.topics(5.0) == {"orders": 3, "other": 1}


def test_lag_counts_from_the_commit_or_the_start(
    observer: Observer, broker: MockBroker, group_id: str
) -> None:
    client, listener = joined(broker, group_id)
    client.commit([CommitRequest("orders", 0, 40)])
    poll_until(client, lambda: bool(listener.commits))
    assert client.close(5.0)
    broker.delete_records("orders", 1, 25)
    lag = observer.lag(group_id, ["orders"], 5.0)
    assert lag == [
        PartitionLag("orders", 0, 40, 0, 100),
        PartitionLag("orders", 1, None, 25, 100),
        PartitionLag("orders", 2, None, 0, 100),
    ]
    assert [partition.lag for partition in lag] == [60, 75, 100]


def test_an_unknown_topic_is_named(observer: Observer) -> None:
    with pytest.raises(TopicMissing, match="nowhere"):
        observer.lag("group", ["nowhere"], 5.0)


def test_no_broker_is_said_in_time() -> None:
    observer = Observer(ConnectionSettings("127.0.0.1:1", "observer"))
    started = time.monotonic()
    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:1"):
        observer.topics(0.5)
    assert time.monotonic() - started < 1.5
