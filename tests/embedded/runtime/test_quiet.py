"""`app.quiet()`: still a member of the group, and nothing new is started, until `unquiet`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from headrace import AppState
from tests.embedded.runtime.support import Seen, app_on, committed_to_the_end, records, running, until

if TYPE_CHECKING:
    from headrace import Record
    from headrace.testing.broker import MockBroker

pytestmark = pytest.mark.slow


def test_what_runs_ends_and_is_committed_nothing_new_starts_and_all_goes_on_afterwards(
    broker: MockBroker,
) -> None:
    seen, release, entered = Seen(), threading.Event(), threading.Event()
    app = app_on(broker, "quiet")

    @app.subscribe("orders", concurrency=2, workers=2)
    def handle(record: Record[Any, Any]) -> None:
        start = seen.begin(record)
        entered.set()
        release.wait()
        seen.end(start)

    for partition in range(2):
        broker.produce("orders", records(20), partition=partition)
    with running(app):
        assert entered.wait(15)
        app.quiet()
        until(lambda: app.state is AppState.QUIETING)
        release.set()
        until(lambda: app.state is AppState.QUIET)
        until(lambda: app.snapshot().state == "quiet")  # It is told of a moment after it is so.
        begun = len(seen.starts)
        assert begun <= 2
        counters = app.snapshot().engine.counters
        assert (counters.succeeded, counters.abandoned) == (begun, 0)
        # Records that come meanwhile, and time in which they could be started: polls go on, and so does the group.
        sequence = app.snapshot().sequence
        until(lambda: app.snapshot().sequence > sequence + 3)
        assert len(seen.starts) == begun
        assert app.assignments().partitions() == (("orders", 0), ("orders", 1))
        assert app.health().verdict == "ok"
        app.unquiet()
        until(lambda: app.state is AppState.RUNNING)
        until(lambda: committed_to_the_end(broker, "quiet"))
    assert sum(seen.handled().values()) == 40
    assert max(seen.handled().values()) == 1


def test_an_app_that_is_quiet_before_it_starts_begins_when_told(broker: MockBroker) -> None:
    seen = Seen()
    app = app_on(broker, "begins-quiet")
    app.subscribe("orders")(seen.handler())
    broker.produce("orders", records(5), partition=0)
    app.quiet()
    with running(app):
        until(lambda: app.state is AppState.QUIET)
        until(lambda: len(app.assignments().partitions()) == 2)
        sequence = app.snapshot().sequence
        until(lambda: app.snapshot().sequence > sequence + 2)
        assert seen.starts == []
        app.unquiet()
        until(lambda: committed_to_the_end(broker, "begins-quiet"))
    assert sum(seen.handled().values()) == 5


def test_a_quiet_member_gives_partitions_up_and_takes_those_that_come_quietly(broker: MockBroker) -> None:
    seen, other_seen = Seen(), Seen()
    app, other = app_on(broker, "shared"), app_on(broker, "shared")
    app.subscribe("orders")(seen.handler())
    other.subscribe("orders")(other_seen.handler())
    with running(app):
        app.quiet()
        until(lambda: app.state is AppState.QUIET)
        until(lambda: len(app.assignments().partitions()) == 2)
        with running(other):
            until(lambda: len(other.assignments().partitions()) == len(app.assignments().partitions()) == 1)
            ((_, partition),) = other.assignments().partitions()
            broker.produce("orders", records(5), partition=partition)
            until(lambda: broker.committed("shared", "orders").get(partition) == 5)
        until(lambda: len(app.assignments().partitions()) == 2)
        assert app.state is AppState.QUIET
        broker.produce("orders", records(5, first=5), partition=partition)
        sequence = app.snapshot().sequence
        until(lambda: app.snapshot().sequence > sequence + 2)
        assert seen.starts == []
        app.unquiet()
        until(lambda: committed_to_the_end(broker, "shared"))
    assert sum(seen.handled().values()) == 5


def test_a_stop_ends_quiet_without_starting_anything(broker: MockBroker) -> None:
    seen = Seen()
    app = app_on(broker, "stopped")
    app.subscribe("orders")(seen.handler())
    broker.produce("orders", records(5), partition=0)
    app.quiet()
    with running(app):
        until(lambda: app.state is AppState.QUIET)
        app.stop()
        assert app.state is AppState.STOPPED
    assert seen.starts == []
