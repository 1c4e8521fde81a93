"""Lives of an app, from start to stop, in each way that a life can go: what tests of leaks repeat.

Decides which ways there are. Refuses to measure. Invariant: each life is a new app in a group of its own, and has ended
when the function returns.
"""

from __future__ import annotations

import socket
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from headrace import App, BrokerUnreachable, Commit, RetryPolicy, Timeouts, TopicMissing

if TYPE_CHECKING:
    from headrace import Record
    from headrace.testing import MockBrokerProcess

RECORDS = 20
WAIT_S = 15.0


def prepare(broker: MockBrokerProcess) -> None:
    """Topics and records that all lives use."""
    broker.create_topic("orders", 4)
    broker.create_topic("orders.dead", 1)
    broker.produce("orders", [(b"k%d" % number, b"v") for number in range(RECORDS)])


def life_with_threads(broker: MockBrokerProcess, number: int) -> None:
    """A `def` handler; every tenth record fails and becomes a dead letter."""
    seen = _Seen()
    app = _app(broker.bootstrap_servers, f"threads-{number}")

    @app.subscribe(
        "orders",
        workers=4,
        dead_letter="orders.dead",
        retry=RetryPolicy(attempts_max=2, backoff_initial_s=0.01),
    )
    def handle(record: Record) -> None:
        seen.note(record)
        if record.raw_key == b"k10":
            raise ValueError

    _live(app, seen)


def life_with_a_loop(broker: MockBrokerProcess, number: int) -> None:
    """An `async def` handler that produces."""
    seen = _Seen()
    app = _app(broker.bootstrap_servers, f"loop-{number}")

    @app.subscribe("orders")
    async def handle(record: Record) -> None:
        seen.note(record)
        if record.raw_key == b"k0":
            app.produce("orders.dead", b"produced")

    _live(app, seen)


def life_with_processes(broker: MockBrokerProcess, number: int) -> None:
    """A handler on two worker processes."""
    app = _app(broker.bootstrap_servers, f"processes-{number}")
    app.subscribe("orders", run_in="processes", workers=2)(handle_nothing)
    app.start()
    finished = threading.Event()
    while app.snapshot().engine.counters.finished < RECORDS:
        assert not finished.wait(0.02)
    app.stop()


def life_without_a_broker(broker: MockBrokerProcess, number: int) -> None:
    """A start that fails: nobody listens at the address."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        app = _app(address, f"unreachable-{number}", connect_s=0.2)
        app.subscribe("orders")(handle_nothing)
        with pytest.raises(BrokerUnreachable):
            app.start()


def life_without_its_topic(broker: MockBrokerProcess, number: int) -> None:
    """A start that fails: the topic does not exist."""
    app = _app(broker.bootstrap_servers, f"missing-{number}")
    app.subscribe("payments")(handle_nothing)
    with pytest.raises(TopicMissing):
        app.start()


def handle_nothing(record: Record) -> None:
    """A handler that worker processes can import."""


class _Seen:
    """Counts the records that were seen."""

    def __init__(self) -> None:
        self._keys: set[bytes | None] = set()
        self._lock = threading.Lock()
        self.all = threading.Event()

    def note(self, record: Record) -> None:
        with self._lock:
            self._keys.add(record.raw_key)
            if len(self._keys) == RECORDS:
                self.all.set()


def _app(address: str, group_id: str, *, connect_s: float = 10.0) -> App:
    client: dict[str, Any] = {"fetch.wait.max.ms": 10}
    return App(
        address,
        group_id,
        librdkafka=client,
        commit=Commit(every_s=0.05),
        timeouts=Timeouts(connect_s=connect_s, stop_s=10.0),
    )


def _live(app: App, seen: _Seen) -> None:
    app.start()
    assert seen.all.wait(WAIT_S), app.snapshot()
    app.stop()
