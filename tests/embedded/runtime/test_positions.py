"""Positions and what an app reads: seek, pause and resume, starts, several subscriptions, and patterns."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal

import pytest

from headrace import ConfigError, OffsetUnavailable
from tests.embedded.runtime.support import (
    Seen,
    app_on,
    assigned,
    committed_to_the_end,
    records,
    running,
    start_and_wait,
    told,
    until,
)

if TYPE_CHECKING:
    from headrace import Record
    from headrace.testing.broker import MockBroker

pytestmark = pytest.mark.slow

BOTH = {("orders", 0), ("orders", 1)}


@pytest.mark.parametrize(("to", "again"), [(5, 5), ("earliest", 0)])
def test_a_seek_back_handles_records_again(
    broker: MockBroker, group_id: str, to: int | Literal["earliest"], again: int
) -> None:
    seen = Seen()
    app = app_on(broker, group_id)
    app.subscribe("orders")(seen.handler())
    broker.produce("orders", records(20), partition=0)
    broker.produce("orders", records(20), partition=1)
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id))
        app.seek("orders", 0, to)
        until(lambda: len(seen.ends) == 40 + 20 - again)
        until(lambda: committed_to_the_end(broker, group_id))
    assert {place for place, count in seen.handled().items() if count == 2} == {
        (0, offset) for offset in range(again, 20)
    }


def test_a_seek_ahead_skips_what_waits_and_commits_its_target(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    first = threading.Event()
    release = threading.Event()
    app = app_on(broker, group_id)

    @app.subscribe("orders", order_by="partition")
    def handle(record: Record[Any, Any]) -> None:
        start = seen.begin(record)
        if record.offset == 0:
            first.set()
            release.wait()
        seen.end(start)

    broker.produce("orders", records(20), partition=0)
    with running(app):
        assert first.wait(10.0)
        app.seek("orders", 0, 15)
        until(lambda: told(app, "partition_sought"))
        until(lambda: broker.committed(group_id, "orders").get(0) == 15)
        # The handler of before still runs; what comes after it in its lane waits.
        assert len(seen.starts) == 1
        release.set()
        until(lambda: committed_to_the_end(broker, group_id))
    assert [start.offset for start in seen.starts] == [0, 15, 16, 17, 18, 19]
    assert not seen.overlaps


def test_a_seek_that_cannot_be_meant_is_refused(broker: MockBroker, group_id: str) -> None:
    app = app_on(broker, group_id)
    app.subscribe("orders")(Seen().handler())
    with running(app):
        for nonsense in (-1, "middle", True):
            with pytest.raises(ConfigError):
                app.seek("orders", 0, nonsense)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        app.seek("orders", 7, 0)
        app.seek("unheard", 0, 0)
        until(lambda: assigned(app) == BOTH)
    assert not told(app, "partition_sought")


@pytest.mark.parametrize(
    "nonsense", ["orders", ("orders",), ("orders", -1), ("orders", True), ("orders", "0")]
)
def test_a_pause_that_cannot_be_meant_is_refused(broker: MockBroker, group_id: str, nonsense: Any) -> None:
    app = app_on(broker, group_id)
    for move in (app.pause, app.resume):
        with pytest.raises(ConfigError, match=r"expected a pair \(topic, partition\)"):
            move(nonsense)


def test_a_paused_partition_waits_through_rebalances_until_it_is_resumed(
    broker: MockBroker, group_id: str
) -> None:
    seen = Seen()
    app = app_on(broker, group_id)
    app.subscribe("orders")(seen.handler())
    with running(app):
        until(lambda: assigned(app) == BOTH)
        app.pause(("orders", 0))
        until(lambda: any(p.paused for p in app.snapshot().engine.partitions))
        for partition in range(2):
            broker.produce("orders", records(10), partition=partition)
        until(lambda: len(seen.ends) == 10)
        broker.push_errors("Heartbeat", "UNKNOWN_MEMBER_ID")
        until(lambda: len(told(app, "partition_assigned")) == 4)
        broker.produce("orders", records(10), partition=1)
        until(lambda: len(seen.handled()) == 20)
        assert {partition for partition, _ in seen.handled()} == {1}
        app.resume(("orders", 0))
        until(lambda: committed_to_the_end(broker, group_id))
    assert len(seen.handled()) == 30


def test_what_runs_when_a_partition_is_paused_ends_and_is_committed(
    broker: MockBroker, group_id: str
) -> None:
    seen = Seen()
    release = threading.Event()
    app = app_on(broker, group_id)

    @app.subscribe("orders")
    def handle(record: Record[Any, Any]) -> None:
        start = seen.begin(record)
        release.wait()
        seen.end(start)

    broker.produce("orders", records(3, keys=3), partition=0)
    with running(app):
        until(lambda: len(seen.starts) == 3)
        app.pause(("orders", 0))
        until(lambda: any(p.paused for p in app.snapshot().engine.partitions))
        release.set()
        until(lambda: committed_to_the_end(broker, group_id))


def test_an_idle_partition_that_starts_at_the_end_keeps_its_place(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    broker.produce("orders", records(10), partition=0)
    for _ in range(2):
        app = app_on(broker, group_id)
        app.subscribe("orders", start_if_no_offset="latest")(seen.handler())
        with running(app):
            until(lambda: assigned(app) == BOTH)  # noqa: B023 - called at once
            until(lambda: committed_to_the_end(broker, group_id))
        # While nobody is there; a partition resolved anew would skip these.
        broker.produce("orders", records(5), partition=1)
    assert sorted(seen.handled()) == [(1, offset) for offset in range(5)]


def test_no_offset_may_be_an_error(broker: MockBroker, group_id: str) -> None:
    app = app_on(broker, group_id)
    app.subscribe("orders", start_if_no_offset="error")(Seen().handler())
    with pytest.raises(OffsetUnavailable) as raised:
        start_and_wait(app)
    assert raised.value.setting == "start_if_no_offset"


@pytest.mark.parametrize("policy", ["stop", "earliest", "latest"])
def test_an_offset_that_is_gone_follows_the_policy(
    broker: MockBroker, group_id: str, policy: Literal["stop", "earliest", "latest"]
) -> None:
    seen = Seen()
    broker.produce("orders", records(5), partition=0)
    first = app_on(broker, group_id)
    first.subscribe("orders")(seen.handler())
    with running(first):
        until(lambda: committed_to_the_end(broker, group_id))
    for _ in range(15):  # One batch each: the embedded broker forgets whole batches.
        broker.produce("orders", records(1), partition=0)
    broker.delete_records("orders", 0, 12)
    app = app_on(broker, group_id)
    app.subscribe("orders", on_out_of_range=policy)(seen.handler())
    if policy == "stop":
        with pytest.raises(OffsetUnavailable) as raised:
            start_and_wait(app)
        assert raised.value.offset == 5
        assert raised.value.setting == "on_out_of_range"
        return
    app.start()
    until(lambda: told(app, "offset_out_of_range"))
    until(lambda: committed_to_the_end(broker, group_id))
    broker.produce("orders", records(1), partition=0)
    until(lambda: (0, 20) in seen.handled())
    app.stop()
    again = sorted(offset for _, offset in seen.handled() if offset >= 5)
    assert again == (list(range(12, 21)) if policy == "earliest" else [20])


def test_each_subscription_handles_its_own_topics(broker: MockBroker, group_id: str) -> None:
    seen, others = Seen(), Seen()
    app = app_on(broker, group_id)
    app.subscribe("orders")(seen.handler())

    @app.subscribe("other")
    async def handle(record: Record[Any, Any]) -> None:
        others.handle(record)

    broker.produce("orders", records(10))
    broker.produce("other", records(10))
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id))
        until(lambda: committed_to_the_end(broker, group_id, "other"))
    assert {start.topic for start in seen.starts} == {"orders"}
    assert {start.topic for start in others.starts} == {"other"}
    assert len(seen.ends) == len(others.ends) == 10


def test_a_topic_belongs_to_one_subscription(broker: MockBroker, group_id: str) -> None:
    app = app_on(broker, group_id)
    app.subscribe("orders")(Seen().handler())
    app.subscribe("other", "orders")(Seen().handler())
    with pytest.raises(ConfigError, match="orders"):
        app.start()
    assert app.state.value == "new"


def test_a_pattern_matches_whole_names_and_no_dead_letters(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    for name in ("eu-orders", "us-orders", "us-orders-old", "all-orders"):
        broker.create_topic(name, 1)
        broker.produce(name, records(3))
    app = app_on(broker, group_id)
    app.subscribe(pattern="[a-z]+-orders", dead_letter="all-orders")(seen.handler())
    with running(app):
        until(lambda: len(seen.ends) == 6)
        until(lambda: committed_to_the_end(broker, group_id, "us-orders"))
        assert assigned(app) == {("eu-orders", 0), ("us-orders", 0)}
    assert {start.topic for start in seen.starts} == {"eu-orders", "us-orders"}


def test_patterns_that_overlap_are_a_typed_error_when_it_shows(broker: MockBroker, group_id: str) -> None:
    app = app_on(broker, group_id)
    app.subscribe(pattern="ord.*")(Seen().handler())
    app.subscribe(pattern=".*ers")(Seen().handler())
    with pytest.raises(ConfigError, match="orders"):
        start_and_wait(app)


def test_a_topic_that_appears_later_is_found_by_the_pattern(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    app = app_on(broker, group_id, librdkafka={"topic.metadata.refresh.interval.ms": 200})
    app.subscribe(pattern="late.*")(seen.handler())
    with running(app):
        broker.create_topic("late-orders", 1)
        broker.produce("late-orders", records(5))
        until(lambda: len(seen.ends) == 5)
        until(lambda: committed_to_the_end(broker, group_id, "late-orders"))
