"""Handlers that take too long: slower than the group's patience, blocking their event loop, or never coming back."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from headrace import App, Commit, ForcedStop, Record, Timeouts
from headrace._core import notices
from tests.kafka.witness import PROTOCOLS, Protocol, group_of, produce, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headrace._core.notices import Notice
    from tests.topics import Topics

PATIENCE_S = 6.0
SLOW_S = 7.5
MOVES = (
    notices.PartitionAssigned,
    notices.PartitionRevoked,
    notices.PartitionLost,
    notices.ConnectionRebuilt,
)

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("protocol", PROTOCOLS)]


def impatient(protocol: Protocol) -> Mapping[str, Any]:
    """A group that waits as little as may be: `max.poll.interval.ms` must not be below the session's timeout."""
    clocks = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500} if protocol == "classic" else {}
    return clocks | {"max.poll.interval.ms": int(PATIENCE_S * 1000)}


def eager_heartbeats(protocol: Protocol) -> Mapping[str, Any] | None:
    """Rebalances are heard of at once."""
    return {"heartbeat.interval.ms": 300} if protocol == "classic" else None


def test_handlers_slower_than_the_groups_patience_keep_membership(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    """One in a thread, and one that blocks its event loop: the owner polls on a thread of its own."""
    names = [topics.create(), topics.create()]
    for topic in names:
        produce(kafka, topic, [(b"slow", b""), (b"quick", b"")])
    handled: list[tuple[str, bytes | None, int]] = []
    moves: list[Notice] = []
    app = App(
        kafka, group_id, group_protocol=protocol, librdkafka=impatient(protocol), commit=Commit(every_s=0.2)
    )
    app.listen(lambda notice: moves.append(notice) if isinstance(notice, MOVES) else None)

    @app.subscribe(names[0])
    def in_thread(record: Record[Any, Any]) -> None:
        time.sleep(SLOW_S if record.raw_key == b"slow" else 0)
        handled.append((record.topic, record.raw_key, record.attempt))

    @app.subscribe(names[1])
    async def on_loop(record: Record[Any, Any]) -> None:
        await asyncio.sleep(0)
        time.sleep(SLOW_S if record.raw_key == b"slow" else 0)  # noqa: ASYNC251 - the mistake that is tested
        handled.append((record.topic, record.raw_key, record.attempt))

    with running(app), group_of(kafka, group_id) as group:
        wait_until(lambda: [group.committed(topic) for topic in names] == [2, 2], "all is committed")
    assert [type(notice) for notice in moves[:2]] == [notices.PartitionAssigned] * 2
    assert {type(notice) for notice in moves[2:]} == {notices.PartitionRevoked}, (
        "only the stop gave them back"
    )
    assert sorted(handled) == [(topic, key, 1) for topic in sorted(names) for key in (b"quick", b"slow")]


def test_a_hung_handler_stops_no_other_key_no_rebalance_and_no_stop(
    kafka: str, topics: Topics, group_id: str, protocol: Protocol
) -> None:
    """Other keys go on, a second member gets its share in time, and stop() names what it had to leave behind."""
    topic = topics.create(partitions=2)
    release = threading.Event()
    handled: list[bytes | None] = []

    def hang(record: Record[Any, Any]) -> None:
        if record.raw_key == b"hangs":
            release.wait()
        handled.append(record.raw_key)

    def pass_by(record: Record[Any, Any]) -> None:
        handled.append(record.raw_key)

    def member(handle: Callable[[Record[Any, Any]], None]) -> App:
        app = App(
            kafka,
            group_id,
            group_protocol=protocol,
            librdkafka=eager_heartbeats(protocol),
            commit=Commit(every_s=0.1),
            timeouts=Timeouts(drain_s=0.5, hung_after_s=0.5),
        )
        app.subscribe(topic, concurrency=8)(handle)
        return app

    hanging, other = member(hang), member(pass_by)
    hanging.start()
    try:
        for partition in range(2):
            records = [b"hangs", *(f"{partition}-{i}".encode() for i in range(100))]
            produce(kafka, topic, ((key, b"") for key in records), partition)
        wait_until(lambda: len(handled) == 200, "all other keys are handled")
        wait_until(lambda: has_told(hanging, "handler_hung"), "the hung handler is reported")
        with running(other), group_of(kafka, group_id) as group:
            wait_until(
                lambda: handled.count(b"hangs") == 1,
                "the other member gets its share, and the record with it",
            )
            began = time.monotonic()
            with pytest.raises(ForcedStop) as forced:
                hanging.stop(2.0)
            assert time.monotonic() - began < 6.0
            wait_until(
                lambda: [group.committed(topic, p) for p in range(2)] == [101, 101], "the other goes on"
            )
        assert any(topic in name for name in forced.value.abandoned)
        assert len(handled) == 202, "what was finished behind the hung handlers was not done again"
    finally:
        release.set()


def has_told(app: App, name: str) -> bool:
    """Whether the app told such a notice."""
    return any(notice.name == name for notice in app.notices())
