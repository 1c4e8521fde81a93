"""What surrounds handlers: hooks, lifespans, resources of workers, records they produce, context variables."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from headrace import (
    AppStateError,
    LifespanFailed,
    ProduceFailed,
    RetryPolicy,
    worker_resource,
)
from tests.embedded.runtime import process_handlers
from tests.embedded.runtime.support import (
    Seen,
    app_on,
    assigned,
    committed_to_the_end,
    records,
    running,
    told,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    from headrace import App, Delivery, Record
    from headrace.testing.broker import MockBroker

pytestmark = pytest.mark.slow

BOTH = {("orders", 0), ("orders", 1)}


def test_hooks_hear_of_partitions_that_come_and_go(broker: MockBroker, group_id: str) -> None:
    app = app_on(broker, group_id)
    app.subscribe("orders")(Seen().handler())
    heard: list[tuple[str, tuple[tuple[str, int], ...]]] = []
    loops: list[asyncio.AbstractEventLoop] = []

    @app.on_assigned
    def came(partitions: tuple[tuple[str, int], ...]) -> None:
        heard.append(("assigned", partitions))

    @app.on_revoked
    async def went(partitions: tuple[tuple[str, int], ...]) -> None:
        loops.append(asyncio.get_running_loop())
        heard.append(("revoked", partitions))

    @app.on_lost
    def lost(partitions: tuple[tuple[str, int], ...]) -> None:
        heard.append(("lost", partitions))

    with running(app):
        until(lambda: heard)
        broker.push_errors("Heartbeat", "UNKNOWN_MEMBER_ID")
        until(lambda: len(heard) == 3)
    assert [kind for kind, _ in heard] == ["assigned", "lost", "assigned", "revoked"]
    assert all(set(partitions) == BOTH for _, partitions in heard)
    assert loops


def test_a_hook_that_raises_or_overruns_is_told_of_and_delays_nothing(
    broker: MockBroker, group_id: str
) -> None:
    seen = Seen()
    release = threading.Event()
    app = app_on(broker, group_id)
    app.subscribe("orders")(seen.handler())

    @app.on_assigned
    def raises(partitions: tuple[tuple[str, int], ...]) -> None:
        raise ValueError("mine")

    @app.on_assigned
    def overruns(partitions: tuple[tuple[str, int], ...]) -> None:
        release.wait()

    broker.produce("orders", records(20))
    with running(app):
        until(lambda: len(seen.ends) == 20)
        until(lambda: len(told(app, "hook_overran")) == 2)
        until(lambda: committed_to_the_end(broker, group_id))
        release.set()
    problems = [str(notice) for notice in told(app, "hook_overran")]
    assert any("ValueError: mine" in text and "raises" in text for text in problems)
    assert any("overruns" in text and "0.2 s" in text for text in problems)


def test_lifespans_surround_all_handlers_in_order(broker: MockBroker, group_id: str) -> None:
    events: list[str] = []
    app = app_on(broker, group_id)

    @app.lifespan
    @contextmanager
    def outer(of: App) -> Generator[None]:
        assert of is app
        events.append("outer enters")
        yield
        events.append("outer leaves")

    @app.lifespan
    @asynccontextmanager
    async def inner() -> AsyncGenerator[None]:
        loop = asyncio.get_running_loop()
        events.append("inner enters")
        yield
        assert asyncio.get_running_loop() is loop
        events.append("inner leaves")

    @app.subscribe("orders")
    def handle(record: Record[Any, Any]) -> None:
        events.append("handled")

    broker.produce("orders", records(1))
    with running(app):
        until(lambda: "handled" in events)
    assert events == ["outer enters", "inner enters", "handled", "inner leaves", "outer leaves"]


def test_a_lifespan_that_raises_is_a_typed_error_of_the_start(broker: MockBroker, group_id: str) -> None:
    left: list[bool] = []
    seen = Seen()
    app = app_on(broker, group_id)
    app.subscribe("orders")(seen.handler())

    @app.lifespan
    @contextmanager
    def fine() -> Generator[None]:
        yield
        left.append(True)

    @app.lifespan
    @contextmanager
    def broken() -> Generator[None]:
        if not seen.starts:
            raise ConnectionError("no database")
        yield

    broker.produce("orders", records(1))
    with pytest.raises(LifespanFailed, match="no database"):
        app.start()
    assert left == [True]
    assert not seen.starts


def test_each_thread_has_a_resource_of_its_own(broker: MockBroker, group_id: str) -> None:
    entered: list[int] = []
    left: list[int] = []
    used: set[tuple[int, int]] = set()
    app = app_on(broker, group_id)

    @app.worker_resource
    @contextmanager
    def connection() -> Generator[int]:
        entered.append(threading.get_ident())
        yield threading.get_ident()
        left.append(threading.get_ident())

    both = threading.Barrier(2)

    @app.subscribe("orders", workers=2, concurrency=2)
    def handle(record: Record[Any, Any]) -> None:
        used.add((worker_resource(), threading.get_ident()))
        if record.offset == 0:
            both.wait(10.0)

    for partition in range(2):
        broker.produce("orders", records(10), partition=partition)
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id))
    assert len(used) == 2
    assert all(mine == thread for mine, thread in used)
    assert sorted(entered) == sorted(left) == sorted(thread for _, thread in used)


def test_the_loop_has_one_resource(broker: MockBroker, group_id: str) -> None:
    events: list[str] = []
    app = app_on(broker, group_id)

    @app.worker_resource
    @asynccontextmanager
    async def session() -> AsyncGenerator[str]:
        events.append("entered")
        yield "session"
        events.append("left")

    @app.subscribe("orders")
    async def handle(record: Record[Any, Any]) -> None:
        events.append(worker_resource())

    broker.produce("orders", records(3))
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id))
    assert events == ["entered", "session", "session", "session", "left"]


def test_each_process_has_a_resource_of_its_own(
    broker: MockBroker, group_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv(process_handlers.LOG, str(log))
    app = app_on(broker, group_id)
    app.worker_resource(process_handlers.resource)
    app.subscribe("orders", run_in="processes", workers=2)(process_handlers.use_resource)
    for partition in range(2):
        broker.produce("orders", records(20), partition=partition)
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id), timeout_s=30.0)
    lines = [line.split() for line in log.read_text().splitlines()]
    used = [line for line in lines if line[0] == "used"]
    assert len(used) == 40
    assert all(resource == pid for _, resource, pid in used)


def test_a_record_waits_for_what_its_handler_produced(broker: MockBroker, group_id: str) -> None:
    app = app_on(broker, group_id)
    handled = threading.Event()

    @app.subscribe("orders")
    def handle(record: Record[Any, Any]) -> None:
        app.produce("other", record.raw_value, key=record.raw_key)
        handled.set()

    broker.create_topic("unused", 1)
    broker.produce("orders", records(1), partition=0)
    broker.push_delays("Produce", 1.0)
    with running(app):
        assert handled.wait(10.0)
        partition = until(lambda: [p for p in app.snapshot().engine.partitions if p.settling])
        assert partition[0].committable == 0
        assert not broker.committed(group_id, "orders").get(0)
        until(lambda: committed_to_the_end(broker, group_id))
    assert broker.end_offsets("other") == {0: 1}


@pytest.mark.parametrize("in_loop", [False, True], ids=["thread", "loop"])
@pytest.mark.parametrize(("code", "attempts"), [("UNKNOWN", [1, 2]), ("MSG_SIZE_TOO_LARGE", [1])])
def test_a_record_whose_output_is_refused_is_tried_again_where_that_can_help(
    broker: MockBroker, group_id: str, in_loop: bool, code: str, attempts: list[int]
) -> None:
    seen = Seen()
    deliveries: list[Delivery] = []
    app = app_on(broker, group_id)

    def handle(record: Record[Any, Any]) -> None:
        start = seen.begin(record)
        deliveries.append(app.produce("other", record.raw_value))
        seen.end(start)

    async def handle_async(record: Record[Any, Any]) -> None:
        handle(record)

    retry = RetryPolicy(attempts_max=3, backoff_initial_s=0.01)
    app.subscribe("orders", retry=retry, on_exhausted="skip")(handle_async if in_loop else handle)
    broker.produce("orders", records(1), partition=0)
    broker.push_errors("Produce", code)
    with running(app):
        until(lambda: committed_to_the_end(broker, group_id))
    assert [start.attempt for start in seen.starts] == attempts
    with pytest.raises(ProduceFailed, match=code):
        deliveries[0].result(0)
    for delivery in deliveries[1:]:
        delivery.result(0)


def test_produce_needs_an_app_that_runs(broker: MockBroker, group_id: str) -> None:
    app = app_on(broker, group_id)
    app.subscribe("orders")(Seen().handler())
    with pytest.raises(AppStateError):
        app.produce("other", b"value")
    with running(app):
        app.produce("other", b"value", key=b"key", headers=[("a", None)]).result(10.0)
    with pytest.raises(AppStateError):
        app.produce("other", b"value")
    assert broker.end_offsets("other") == {0: 1}


@pytest.mark.parametrize("in_loop", [False, True], ids=["thread", "loop"])
def test_context_variables_do_not_leak_between_records(
    broker: MockBroker, group_id: str, in_loop: bool
) -> None:
    current: contextvars.ContextVar[int] = contextvars.ContextVar("current", default=-1)
    leaked: list[int] = []
    seen = Seen()
    app = app_on(broker, group_id)

    def look(record: Record[Any, Any]) -> None:
        if current.get() != -1:
            leaked.append(current.get())
        current.set(record.offset)

    def handle(record: Record[Any, Any]) -> None:
        look(record)
        seen.handle(record)

    async def handle_async(record: Record[Any, Any]) -> None:
        look(record)
        if record.offset % 3 == 0:
            await asyncio.sleep(0)
        if current.get() != record.offset:
            leaked.append(current.get())
        seen.handle(record)

    app.subscribe("orders")(handle_async if in_loop else handle)
    broker.produce("orders", records(200))
    with running(app):
        until(lambda: len(seen.ends) == 200)
    assert not leaked


def test_listeners_that_raise_are_no_concern_of_the_app(
    broker: MockBroker, group_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_on(broker, group_id)
    app.subscribe("orders")(Seen().handler())

    def broken(notice: object) -> None:
        raise ValueError("mine")

    app.listen(broken)
    with running(app):
        until(lambda: assigned(app) == BOTH)
    assert "a listener of notices raised" in caplog.text
