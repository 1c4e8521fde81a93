"""How an app begins and ends: from threads, from event loops, from handlers and by signals; and what it says then."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import pytest

from headrace import (
    AppState,
    AppStateError,
    BrokerUnreachable,
    ConfigError,
    ForcedStop,
    HandlerStopped,
    InternalFailure,
    RecordFailed,
    RetryPolicy,
    WouldDeadlock,
)
from headrace._core.notices import StateChanged
from headrace.app import App
from headrace.config import Timeouts
from tests.embedded.runtime.support import (
    Seen,
    app_on,
    committed_to_the_end,
    places,
    records,
    running,
    start_and_wait,
    told,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from headrace import Record
    from headrace.testing.broker import MockBroker

pytestmark = pytest.mark.slow

NOWHERE = "127.0.0.1:1"


def test_a_stopped_app_has_handled_and_committed_what_it_took(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    app = app_on(broker, group_id, commit_every_s=30.0)
    app.subscribe("orders")(seen.handler())
    broker.produce("orders", records(100))
    states = [app.state]
    app.start()
    states.append(app.state)
    until(lambda: len(seen.ends) == 100)
    app.stop()
    assert [*states, app.state] == [AppState.NEW, AppState.RUNNING, AppState.STOPPED]
    assert committed_to_the_end(broker, group_id)
    assert set(seen.handled()) == places(broker)


def test_one_record_per_life_is_committed_once_each(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    for number in range(3):
        broker.produce("orders", records(1), partition=0)
        app = app_on(broker, group_id, commit_every_s=30.0)
        app.subscribe("orders")(seen.handler())
        with running(app):
            until(lambda: len(seen.ends) == number + 1)  # noqa: B023 - called at once
        assert broker.committed(group_id, "orders")[0] == number + 1
    assert [start.offset for start in seen.starts] == [0, 1, 2]


def test_nothing_starts_after_the_stop_began_and_what_ran_is_committed(
    broker: MockBroker, group_id: str
) -> None:
    seen = Seen()
    release = threading.Event()
    app = app_on(broker, group_id)

    @app.subscribe("orders", order_by="none", concurrency=4)
    def handle(record: Record[Any, Any]) -> None:
        start = seen.begin(record)
        release.wait()
        seen.end(start)

    broker.produce("orders", records(500), partition=0)
    app.start()
    until(lambda: len(seen.starts) == 4)
    app.request_stop()
    until(lambda: app.state is AppState.DRAINING)
    broker.produce("orders", records(10), partition=1)
    release.set()
    app.wait()
    # A handler may have been claimed just as the stop began; no more than one for each worker.
    assert len(seen.starts) <= 8
    assert broker.committed(group_id, "orders")[0] == seen.prefix()[0]
    successor = app_on(broker, group_id)
    successor.subscribe("orders")(seen.handler())
    with running(successor):
        until(lambda: committed_to_the_end(broker, group_id))
    assert set(seen.handled()) == places(broker)
    assert max(seen.handled().values()) == 1


def test_stopping_twice_or_unstarted_does_nothing(broker: MockBroker, group_id: str) -> None:
    app = app_on(broker, group_id)
    app.subscribe("orders")(Seen().handler())
    app.stop()
    app.start()
    app.stop()
    app.stop()
    app.request_stop()
    assert app.state is AppState.STOPPED


def test_an_app_runs_once_and_only_with_something_to_do(broker: MockBroker, group_id: str) -> None:
    app = app_on(broker, group_id)
    with pytest.raises(ConfigError, match="subscriptions"):
        app.start()
    app.subscribe("orders")(Seen().handler())
    with running(app):
        with pytest.raises(AppStateError, match="runs once"):
            app.start()
        with pytest.raises(AppStateError):
            app.subscribe("other")(Seen().handler())
    with pytest.raises(AppStateError):
        app.start()


def test_a_stop_asked_for_before_the_start_is_heard(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    app = app_on(broker, group_id)
    app.subscribe("orders")(seen.handler())
    broker.produce("orders", records(10))
    app.request_stop()
    app.start()
    app.wait()
    assert app.state is AppState.STOPPED
    assert not seen.starts


@pytest.mark.parametrize("connect_s", [None, 30.0])
def test_a_stop_during_the_start_is_heard(group_id: str, connect_s: float | None) -> None:
    app = App(NOWHERE, group_id, timeouts=Timeouts(connect_s=connect_s, stop_s=3.0))
    app.subscribe("orders")(Seen().handler())
    starter = threading.Thread(target=app.start, daemon=True)
    starter.start()
    until(lambda: app.state is AppState.STARTING)
    began = time.monotonic()
    app.stop()
    assert time.monotonic() - began < 5.0
    starter.join(5.0)
    assert not starter.is_alive()
    assert app.state is AppState.STOPPED


def test_no_broker_is_a_typed_error_of_the_start(group_id: str) -> None:
    app = App(NOWHERE, group_id, timeouts=Timeouts(connect_s=0.3))
    app.subscribe("orders")(Seen().handler())
    with pytest.raises(BrokerUnreachable) as raised:
        app.start()
    assert raised.value.bootstrap_servers == NOWHERE
    assert app.state is AppState.FAILED


def test_a_setting_that_only_the_client_refuses_is_a_typed_error_of_the_start(
    broker: MockBroker, group_id: str
) -> None:
    app = app_on(broker, group_id, librdkafka={"session.timeout.ms": "long"})
    app.subscribe("orders")(Seen().handler())
    with pytest.raises(ConfigError, match="session"):
        app.start()


def test_wait_raises_what_a_record_ended_it_with(broker: MockBroker, group_id: str) -> None:
    app = app_on(broker, group_id)

    @app.subscribe("orders", retry=RetryPolicy(attempts_max=2, backoff_initial_s=0.01))
    def handle(record: Record[Any, Any]) -> None:
        raise ValueError("never")

    broker.produce("orders", records(5))
    with pytest.raises(RecordFailed) as raised:
        start_and_wait(app)
    assert raised.value.attempts == 2
    assert isinstance(raised.value.__cause__, ValueError)
    assert app.state is AppState.FAILED
    with pytest.raises(RecordFailed):
        app.wait()
    with pytest.raises(RecordFailed):
        app.stop()
    assert not any(broker.committed(group_id, "orders").values())


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("in_loop", [False, True], ids=["thread", "loop"])
def test_an_error_of_the_interpreter_stops_the_app_and_finishes_nothing(
    broker: MockBroker, group_id: str, error: type[BaseException], in_loop: bool
) -> None:
    app = app_on(broker, group_id)

    def handle(record: Record[Any, Any]) -> None:
        raise error("over")

    async def handle_async(record: Record[Any, Any]) -> None:
        raise error("over")

    app.subscribe("orders")(handle_async if in_loop else handle)
    broker.produce("orders", records(1))
    with pytest.raises(HandlerStopped) as raised:
        start_and_wait(app)
    assert isinstance(raised.value.__cause__, error)
    assert not any(broker.committed(group_id, "orders").values())


@pytest.mark.parametrize("in_loop", [False, True], ids=["thread", "loop"])
def test_a_handler_may_ask_for_the_stop(broker: MockBroker, group_id: str, in_loop: bool) -> None:
    seen = Seen()
    app = app_on(broker, group_id)

    def handle(record: Record[Any, Any]) -> None:
        seen.handle(record)
        app.request_stop()

    async def handle_async(record: Record[Any, Any]) -> None:
        handle(record)

    app.subscribe("orders")(handle_async if in_loop else handle)
    broker.produce("orders", records(1))
    app.start()
    app.wait()
    assert committed_to_the_end(broker, group_id)


def test_async_with_runs_handlers_on_a_loop_of_its_own(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    loops: set[asyncio.AbstractEventLoop] = set()
    app = app_on(broker, group_id)

    @app.subscribe("orders")
    async def handle(record: Record[Any, Any]) -> None:
        await asyncio.sleep(0.001)
        loops.add(asyncio.get_running_loop())
        seen.handle(record)

    async def host() -> None:
        async with app:
            await _until(lambda: len(seen.ends) == 50)
        assert asyncio.get_running_loop() not in loops

    broker.produce("orders", records(50))
    asyncio.run(host())
    assert len(loops) == 1
    assert committed_to_the_end(broker, group_id)


def test_async_with_may_lend_the_callers_loop(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    app = app_on(broker, group_id, loop="caller")
    here: list[bool] = []

    @app.subscribe("orders")
    async def handle(record: Record[Any, Any]) -> None:
        await asyncio.sleep(0.001)
        here.append(asyncio.get_running_loop() is loop_of_host[0])
        seen.handle(record)

    loop_of_host: list[asyncio.AbstractEventLoop] = []

    async def host() -> None:
        loop_of_host.append(asyncio.get_running_loop())
        async with app:
            await _until(lambda: len(seen.ends) == 50)
            with pytest.raises(WouldDeadlock):
                app.stop()
            with pytest.raises(WouldDeadlock):
                app.start()

    broker.produce("orders", records(50))
    asyncio.run(host())
    assert all(here)
    assert committed_to_the_end(broker, group_id)


def test_the_callers_loop_needs_a_caller(broker: MockBroker, group_id: str) -> None:
    app = app_on(broker, group_id, loop="caller")
    app.subscribe("orders")(Seen().handler())
    with pytest.raises(ConfigError, match="async with"):
        app.start()


def test_awaiting_the_end_raises_what_ended_it(broker: MockBroker, group_id: str) -> None:
    app = app_on(broker, group_id)

    @app.subscribe("orders", retry=RetryPolicy(attempts_max=1))
    async def handle(record: Record[Any, Any]) -> None:
        raise ValueError("never")

    async def host() -> None:
        async with app:
            await app.wait()

    broker.produce("orders", records(1))
    with pytest.raises(RecordFailed):
        asyncio.run(host())


def test_a_start_that_fails_leaves_async_with_at_once(group_id: str) -> None:
    app = App(NOWHERE, group_id, timeouts=Timeouts(connect_s=0.3))
    app.subscribe("orders")(Seen().handler())

    async def host() -> None:
        async with app:
            raise AssertionError("entered")

    with pytest.raises(BrokerUnreachable):
        asyncio.run(host())


def test_a_host_that_is_cancelled_while_it_enters_leaves_nothing_running(group_id: str) -> None:
    app = App(NOWHERE, group_id, timeouts=Timeouts(connect_s=30.0, stop_s=2.0))
    app.subscribe("orders")(Seen().handler())

    async def host() -> None:
        async with app:
            raise AssertionError("entered")

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(host(), 0.3)

    began = time.monotonic()
    asyncio.run(impatient())
    app.wait()
    assert time.monotonic() - began < 6.0
    assert app.state is AppState.STOPPED


def test_blocking_calls_on_the_handlers_loop_are_refused(broker: MockBroker, group_id: str) -> None:
    app = app_on(broker, group_id)
    refused: list[str] = []

    @app.subscribe("orders")
    async def handle(record: Record[Any, Any]) -> None:
        for call in (app.stop, app.start):
            try:
                call()
            except WouldDeadlock as error:
                refused.append(error.call)

    broker.produce("orders", records(1))
    with running(app):
        until(lambda: len(refused) == 2)
    assert refused == ["stop()", "start()"]


def test_a_handler_that_never_ends_does_not_hold_up_the_stop(broker: MockBroker, group_id: str) -> None:
    seen = Seen()
    release = threading.Event()
    app = app_on(broker, group_id, stop_s=1.5)

    @app.subscribe("orders")
    def hangs(record: Record[Any, Any]) -> None:
        start = seen.begin(record)
        if record.offset == 0 and record.partition == 0:
            release.wait()
        seen.end(start)

    for partition in range(2):
        broker.produce("orders", records(10, keys=10), partition=partition)
    app.start()
    until(lambda: len(seen.ends) == 19)
    began = time.monotonic()
    with pytest.raises(ForcedStop) as raised:
        app.stop()
    assert time.monotonic() - began < 6.0
    assert "offset" in str(raised.value) or "@0" in str(raised.value)
    assert broker.committed(group_id, "orders") == {0: 0, 1: 10}
    release.set()
    # What it finished beyond the head is in the commit: a successor handles the head alone.
    second = app_on(broker, group_id)
    again = Seen()
    second.subscribe("orders")(again.handler())
    with running(second):
        until(lambda: committed_to_the_end(broker, group_id))
    assert set(again.handled()) == {(0, 0)}


def test_an_async_handler_that_never_ends_is_cancelled_by_the_stop(broker: MockBroker, group_id: str) -> None:
    app = app_on(broker, group_id, stop_s=1.5)
    cancelled = threading.Event()

    @app.subscribe("orders")
    async def hangs(record: Record[Any, Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    broker.produce("orders", records(1))
    app.start()
    until(lambda: any(p.in_flight for p in app.snapshot().engine.partitions))
    with pytest.raises(ForcedStop):
        app.stop()
    assert cancelled.wait(5.0)
    assert not any(broker.committed(group_id, "orders").values())


def test_a_hung_handler_is_told_of_with_its_stack(broker: MockBroker, group_id: str) -> None:
    release = threading.Event()
    app = app_on(broker, group_id, timeouts=Timeouts(hung_after_s=0.2, stop_s=5.0))

    @app.subscribe("orders")
    def naps(record: Record[Any, Any]) -> None:
        release.wait()

    broker.produce("orders", records(1))
    with running(app):
        (hung,) = until(lambda: told(app, "handler_hung"))
        release.set()
    assert "release.wait()" in str(hung.facts()["stack"])


PROGRAM = textwrap.dedent(
    """
    import sys, threading, time
    from headrace import App, Commit, ForcedStop, Timeouts

    app = App(sys.argv[1], sys.argv[2], librdkafka={"fetch.wait.max.ms": 10, "log_level": 0},
              commit=Commit(every_s=30), timeouts=Timeouts(stop_s=float(sys.argv[4])))

    @app.subscribe("orders")
    def handle(record):
        sys.stdout.write(f"handled {record.partition} {record.offset}\\n")
        sys.stdout.flush()
        if sys.argv[3] == "hangs":
            threading.Event().wait()

    try:
        app.run()
    except ForcedStop as forced:
        print("forced", str(forced).partition(";")[0], flush=True)
        sys.exit(3)
    print("stopped", flush=True)
    """
)


@contextmanager
def _program(
    broker: MockBroker, group_id: str, how: str, stop_s: float
) -> Generator[tuple[subprocess.Popen[str], IO[str]]]:
    command = [sys.executable, "-c", PROGRAM, broker.bootstrap_servers, group_id, how, str(stop_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            yield program, program.stdout
        finally:
            program.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_drains_and_commits(broker: MockBroker, group_id: str, number: int) -> None:
    broker.produce("orders", records(10))
    with _program(broker, group_id, "works", 10.0) as (program, lines):
        handled = [lines.readline() for _ in range(10)]
        assert all(line.startswith("handled") for line in handled), handled
        program.send_signal(number)
        out, _ = program.communicate(timeout=15)
    assert program.returncode == 0
    assert out == "stopped\n"
    assert committed_to_the_end(broker, group_id)


def test_two_signals_give_up_what_hangs(broker: MockBroker, group_id: str) -> None:
    broker.produce("orders", records(1))
    with _program(broker, group_id, "hangs", 60.0) as (program, lines):
        assert lines.readline().startswith("handled")
        began = time.monotonic()
        program.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(0.3)
        program.send_signal(signal.SIGINT)
        out, _ = program.communicate(timeout=20)
    assert program.returncode == 3
    assert out == "forced stopped at once, as asked\n"
    # Of which the client's close takes most; what hangs is not waited for again.
    assert time.monotonic() - began < 10.0, (
        "a second signal that is not heard waits for half of the stop's 60 s"
    )
    assert not any(broker.committed(group_id, "orders").values())


def test_a_bug_in_the_loop_ends_the_app_soon_and_commits_nothing_more(
    broker: MockBroker, group_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing could drain without the loop; what it says is finished may be wrong. The group is left all the same."""
    begun, release = threading.Event(), threading.Event()
    app = app_on(broker, group_id, commit_every_s=30.0, stop_s=30.0, protocol="consumer")

    @app.subscribe("orders")
    def handle(record: Record[Any, Any]) -> None:
        if record.offset == 3:
            begun.set()
            release.wait()

    def breaks(*_: object) -> None:
        raise AssertionError("a bug")

    broker.produce("orders", records(4, keys=1), partition=0)
    app.start()
    assert begun.wait(15)
    monkeypatch.setattr("headrace._runtime.watch.Watch.look", breaks)
    began = time.monotonic()
    with pytest.raises(InternalFailure, match="a bug"):
        app.wait()
    assert time.monotonic() - began < 9.0
    release.set()
    assert not any(broker.committed(group_id, "orders").values())
    assert [notice.reason for notice in app.notices() if isinstance(notice, StateChanged)][-3:] == [
        "not drained",
        "unconfirmed",
        "closed",
    ]
    assert not [notice for notice in app.notices() if notice.name == "client_fault"]


async def _until(condition: Any) -> None:
    for _ in range(1500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen in 15 s")
