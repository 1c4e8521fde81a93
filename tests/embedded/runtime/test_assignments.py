"""What an app says it holds, through rebalances, seeks and stops, read by many threads without pause."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from headrace.testing.broker import MockBroker
from tests.embedded.runtime.support import app_on, running, until

if TYPE_CHECKING:
    from headrace import App, Assignments, AssignmentsChange, Record

pytestmark = pytest.mark.slow

BOTH = (("orders", 0), ("orders", 1))
READERS = 8
REBALANCES = 6


def reading_app(broker: MockBroker, group_id: str, **settings: Any) -> App:
    """An app that reads `orders` and does nothing with it."""
    app = app_on(broker, group_id, **settings)

    @app.subscribe("orders")
    def handle(record: Record[Any, Any]) -> None:
        """It is enough that it was read."""

    return app


def test_it_follows_an_app_from_its_start_through_a_seek_to_its_end(broker: MockBroker) -> None:
    app = reading_app(broker, "follows")
    changes: list[AssignmentsChange] = []
    app.on_assignments(changes.append)
    assert app.assignments().partitions() == ()
    with running(app):
        until(lambda: app.assignments().partitions() == BOTH)
        before = app.assignments().holding("orders", 1)
        app.seek("orders", 1, 0)
        until(lambda: app.assignments().holding("orders", 1) != before)
        after = app.assignments().holding("orders", 1)
        assert before is not None
        assert after is not None
        assert after.epoch > before.epoch
        assert (after.connection, after.generation) == (0, 1)
        assert after.since >= before.since
    assert app.assignments().partitions() == ()
    assert app.assignments().generation("orders", 0) == 1
    assert {change.reason for change in changes} == {"assigned", "sought", "revoked"}
    numbers = [change.assignments.sequence for change in changes]
    assert numbers == list(range(1, len(numbers) + 1))
    assert changes[-1].assignments is app.assignments()


def test_two_apps_that_read_one_topic_stay_apart(broker: MockBroker) -> None:
    one, other = (reading_app(broker, group) for group in ("one", "other"))
    with running(one, other):
        until(lambda: one.assignments().partitions() == other.assignments().partitions() == BOTH)
        one.stop()
        assert one.assignments().partitions() == ()
        assert other.assignments().partitions() == BOTH


def test_an_abandoned_connection_holds_nothing(broker: MockBroker) -> None:
    """A hard stop asks nobody; what was held is gone all the same."""
    app = reading_app(broker, "abandoned")
    with running(app):
        until(lambda: app.assignments().partitions() == BOTH)
        app.request_stop(hard=True)
        app.wait()
        assert app.assignments().partitions() == ()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_readers_at_full_speed_through_rebalances_see_whole_views_only(protocol: Any) -> None:
    """A second member comes and goes; eight threads read views, snapshots and health of the one that stays."""
    with MockBroker(topics={"orders": 6}) as broker:
        app = reading_app(broker, "hammered", protocol=protocol)
        torn: list[str] = []
        over = threading.Event()
        kept: dict[int, tuple[Assignments, str]] = {}
        changes: list[AssignmentsChange] = []
        app.on_assignments(changes.append)

        def read() -> None:
            last = 0
            while not over.is_set():
                view = app.assignments()
                app.snapshot()
                app.health()
                if view.sequence < last:
                    torn.append(f"{view.sequence} after {last}")
                last = view.sequence
                said = repr(view)
                if kept.setdefault(last, (view, said))[1] != said:
                    torn.append(f"{last} has changed")
                torn.extend(f"{last}: {at}" for at in view.topics.get("orders", {}).values() if at.connection)

        with running(app):
            until(lambda: len(app.assignments().partitions()) == 6)
            readers = [threading.Thread(target=caught, args=(read, torn)) for _ in range(READERS)]
            for thread in readers:
                thread.start()
            try:
                while len(changes) < REBALANCES:
                    # Under KIP-848 the mock may keep what a member had that left: then it is enough to have come.
                    other = reading_app(broker, "hammered", protocol=protocol)
                    seen = len(changes)
                    with running(other):
                        until(partial(moved, changes, seen, other))
                    if protocol == "consumer":
                        break
                    until(lambda: len(app.assignments().partitions()) == 6)
            finally:
                over.set()
                for thread in readers:
                    thread.join()
        assert torn == []
        assert all(repr(view) == said for view, said in kept.values())
        assert app.assignments().partitions() == ()
        assert changes[-1].assignments is app.assignments()
        for partition in range(6):
            opened = [c.assignments.holding(*at) for c in changes for at in c.opened if at[1] == partition]
            epochs = [at.epoch for at in opened if at is not None]
            assert len(epochs) == len(opened) > 0
            assert epochs == sorted(set(epochs))


def moved(changes: list[AssignmentsChange], seen: int, other: App) -> bool:
    """Whether the one lost something, or the other got something."""
    return len(changes) > seen or bool(other.assignments().partitions())


def caught(work: Any, errors: list[str]) -> None:
    """Run to the end; what is raised is a finding."""
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - whatever a reader meets counts
        errors.append(repr(error))
