"""Members that harm their group or themselves, on a real Kafka: one that never polls, and an owner that is held up too long."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from headrace import App, Commit, ForcedStop, Record, RetryLater
from headrace._core.notices import Notice, RecordRetried
from tests.kafka.witness import PROTOCOLS, Protocol, group_of, produce, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from tests.topics import Topics

pytestmark = pytest.mark.slow

SESSION_MS = 1500
HELD_S = 3.0
"""Longer than `max.poll.interval.ms`, which must not be below the session's timeout."""
STOP_S = 1.5
SOON_S = 3.0


def clocks(protocol: Protocol, max_poll_ms: int) -> Mapping[str, Any]:
    """A group that hears soon of what happens."""
    times: dict[str, Any] = {"max.poll.interval.ms": max_poll_ms, "log_level": 0}
    if protocol == "classic":
        times |= {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 200}
    return times


def member(kafka: str, group_id: str, protocol: Protocol, max_poll_ms: int = 60_000, **settings: Any) -> App:
    """One app of the group."""
    settings.setdefault("commit", Commit(every_s=0.1))
    return App(kafka, group_id, group_protocol=protocol, librdkafka=clocks(protocol, max_poll_ms), **settings)


@contextmanager
def one_that_never_polls(kafka: str, group_id: str, topic: str, protocol: Protocol) -> Generator[None]:
    """It joins in the background of its client, and answers no rebalance: the group waits for it, or gives it what nobody reads."""
    config: dict[str, Any] = {
        "bootstrap.servers": kafka,
        "group.id": group_id,
        "group.protocol": protocol,
        "enable.auto.commit": False,
        **clocks(protocol, 60_000),
    }
    if protocol == "classic":
        config["partition.assignment.strategy"] = "cooperative-sticky"
    consumer = Consumer(config)

    def ignore(_consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        """With callbacks, a rebalance waits for a poll."""

    consumer.subscribe([topic], on_assign=ignore, on_revoke=ignore)
    try:
        yield
    finally:
        consumer.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_member_that_never_polls_holds_up_no_stop(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    """One app works on, one never gets a partition, one has a handler that hangs: all stop in time and say what they left."""
    topic = topics.create(partitions=4)
    release = threading.Event()
    handled: list[bytes] = []
    app = member(kafka, group_id, protocol)

    @app.subscribe(topic)
    def handle(record: Record[Any, Any]) -> None:
        if record.raw_key == b"hangs":
            release.wait()
        handled.append(record.raw_key or b"")

    late = member(kafka, group_id, protocol)
    late.subscribe(topic)(handle)
    app.start()
    try:
        produce(kafka, topic, ((b"before-%d" % i, b"") for i in range(20)))
        wait_until(lambda: len(handled) == 20, "it works")
        with one_that_never_polls(kafka, group_id, topic, protocol), group_of(kafka, group_id) as group:
            wait_until(lambda: len(app.snapshot().engine.partitions) < 4, "the group makes room for it")
            kept = sorted(p.partition for p in app.snapshot().engine.partitions)
            for partition in kept:
                produce(kafka, topic, ((b"after-%d-%d" % (partition, i), b"") for i in range(5)), partition)
            wait_until(lambda: len(handled) == 20 + 5 * len(kept), "what it kept goes on")
            late.start()
            time.sleep(0.5)  # It has asked to join by now, and waits for the one that does not answer.
            # A classic member cannot leave while it waits to join: librdkafka would try for five seconds.
            assert took_s(late, STOP_S) < STOP_S + SOON_S
            produce(kafka, topic, [(b"hangs", b""), *((b"more-%d" % i, b"") for i in range(5))], kept[0])
            wait_until(lambda: len(handled) == 25 + 5 * len(kept), "others than the one that hangs")
            began = time.monotonic()
            with pytest.raises(ForcedStop) as forced:
                app.stop(STOP_S)
            assert time.monotonic() - began < STOP_S + SOON_S
            (named,) = forced.value.abandoned
            assert f"{topic}[{kept[0]}]" in named
            (said,) = [n.facts()["reason"] for n in app.notices() if n.facts().get("state") == "closing"]
            for partition in kept[1:]:
                # Classic: behind the member's own question to join, which the broker holds, no commit of it is heard.
                written = group.committed(topic, partition) == group.ends(topic, partition)[1]
                assert written or (protocol, said) == ("classic", "unconfirmed")
    finally:
        release.set()
        app.request_stop(hard=True)


def took_s(app: App, timeout_s: float) -> float:
    """How long its clean stop takes."""
    began = time.monotonic()
    app.stop(timeout_s)
    return time.monotonic() - began


class Held:
    """A listener that holds the owner thread when told to: the mistake that costs a member its membership."""

    def __init__(self, app: App) -> None:
        self.times = 0
        self.wanted = threading.Event()
        app.listen(self.hear)

    def again(self, before: int) -> bool:
        """Whether it has held the owner since."""
        return self.times > before

    def hear(self, notice: Notice) -> None:
        if isinstance(notice, RecordRetried) and self.wanted.is_set():
            self.wanted.clear()
            self.times += 1
            time.sleep(HELD_S)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_was_committed_before_the_group_gave_up_is_not_repeated_and_the_rest_is(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    """An owner held up beyond the poll interval: it is told of the loss, joins again, and begins where the group stands."""
    topic = topics.create()
    app = member(kafka, group_id, protocol, SESSION_MS, commit=Commit(every_s=60.0, every_records=10))
    held = Held(app)
    tries: list[Record[Any, Any]] = []
    lost: list[tuple[tuple[str, int], ...]] = []
    app.on_lost(lost.append)

    @app.subscribe(topic, order_by="partition", ack="manual")
    def handle(record: Record[Any, Any]) -> None:
        tries.append(record)
        if record.raw_key == b"holds" and not held.times:
            held.wanted.set()
            raise RetryLater(60.0)
        assert record.ack()

    with running(app), group_of(kafka, group_id) as group:
        produce(kafka, topic, ((b"early", b"") for _ in range(10)))
        wait_until(lambda: group.committed(topic) == 10, "the first ten are committed")
        produce(kafka, topic, [*[(b"late", b"")] * 5, (b"holds", b"")])
        wait_until(lambda: len(tries) == 22, "what was not committed comes again")
    assert [record.offset for record in tries] == [*range(16), *range(10, 16)]
    first, second = tries[0].epoch, tries[-1].epoch
    assert first < second
    assert [record.epoch for record in tries] == [first] * 16 + [second] * 6
    assert lost == [((topic, 0),)]
    assert not any(record.ack() for record in tries[:16]), "they are another assignment's"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_commit_at_the_very_moment_of_loss_is_never_taken_for_written(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    """Handlers end while the owner is held up; what they finished is committed before it hears that a peer has it now."""
    topic = topics.create(partitions=2)
    app, peer = member(kafka, group_id, protocol, SESSION_MS), member(kafka, group_id, protocol)
    held = Held(app)
    handled: dict[str, list[tuple[int, int]]] = {"app": [], "peer": []}

    @app.subscribe(topic, concurrency=4)
    def handle(record: Record[Any, Any]) -> None:
        if record.raw_key == b"holds" and not held.times:
            held.wanted.set()
            raise RetryLater(60.0)
        wait_until(lambda: held.times > 0, "the owner is held up")
        time.sleep(HELD_S / 3)
        handled["app"].append((record.partition, record.offset))

    @peer.subscribe(topic)
    def take_over(record: Record[Any, Any]) -> None:
        handled["peer"].append((record.partition, record.offset))

    with running(app), running(peer), group_of(kafka, group_id) as group:
        wait_until(
            lambda: [len(each.snapshot().engine.partitions) for each in (app, peer)] == [1, 1], "they share"
        )
        (mine,) = {p.partition for p in app.snapshot().engine.partitions}
        produce(kafka, topic, [(b"slow", b""), (b"holds", b"")], mine)
        wait_until(lambda: handled["app"][:1] == [(mine, 0)], "it is handled, and its owner lost")
        wait_until(lambda: group.committed(topic, mine) == 2, "whoever has it now commits it")
        wait_until(lambda: len(app.snapshot().engine.partitions) == 1, "the member is back")
    assert held.times == 1
    if handled["peer"]:
        # Two keys: their order is nobody's promise.
        assert handled["app"] == [(mine, 0)]
        assert sorted(handled["peer"]) == [(mine, 0), (mine, 1)]
    else:
        # A peer hears at its next heartbeat, seconds later, of what is free: the member itself may be back before.
        assert protocol == "consumer"
        assert set(handled["app"]) == {(mine, 0), (mine, 1)}


def test_a_static_member_that_fenced_its_former_self_joins_again(
    kafka: str, topics: Topics, group_id: str
) -> None:
    """Held up beyond the poll interval it joins anew under its own instance id; what its former self commits is refused.

    librdkafka calls that refusal fatal. It was no other member, so the app goes on with a new client.
    """
    topic = topics.create()
    app = member(kafka, group_id, "classic", SESSION_MS, instance_id="one")
    held = Held(app)
    handled: list[int] = []

    @app.subscribe(topic, concurrency=4)
    def handle(record: Record[Any, Any]) -> None:
        if record.raw_key == b"holds" and record.offset not in handled:
            handled.append(record.offset)
            held.wanted.set()
            raise RetryLater(0.1)
        time.sleep(HELD_S / 3)
        handled.append(record.offset)

    with running(app), group_of(kafka, group_id) as group:
        for _ in range(2):  # The second is fenced, nearly always; the first seldom.
            before = held.times
            produce(kafka, topic, [(b"slow", b""), (b"holds", b""), (b"other", b"")])
            wait_until(partial(held.again, before), "the owner is held up")
            wait_until(lambda: group.committed(topic) == group.ends(topic)[1], "all of it is committed")
        told = [notice.name for notice in app.notices()]
    assert set(handled) == set(range(6))
    assert "app_failed" not in told
