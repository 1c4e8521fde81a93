"""Connections that only remember what was asked of them, for tests of what opens, closes and looks at them."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from headrace import Connections, Timeouts
from headrace._core.health import Vitals
from headrace._core.snapshot import CountersSnapshot, EngineSnapshot, PartitionSnapshot
from headrace._core.states import AppState
from headrace._runtime.snapshots import Snapshot
from headrace._runtime.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from headrace._core.notices import Notice

WAIT_S = 10.0
PART = PartitionSnapshot("orders", 0, 1, "running", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, None, 0, None, ())


def until(condition: Callable[[], object]) -> None:
    """Wait for it."""
    give_up_at = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


class FakeOwner:
    """Runs until it is asked to stop, or told to end by the test."""

    def __init__(self) -> None:
        self.running, self.ended = threading.Event(), threading.Event()
        self.stop_asked, self.stop_hard = threading.Event(), threading.Event()
        self.stop_timeout_s, self.ends_by = 5.0, 0.0
        self.fatal: Exception | None = None
        self.state = AppState.NEW
        self.snapshots = SimpleNamespace(latest=Snapshot(), vitals=Vitals())
        self.stops: list[tuple[bool, float | None]] = []
        self.may_end = threading.Event()
        self.may_end.set()

    def run(self) -> None:
        """The body of its thread."""
        self.state = AppState.RUNNING
        self.running.set()
        self.stop_asked.wait(WAIT_S)
        self.may_end.wait(WAIT_S)
        self.state = AppState.STOPPED
        self.ended.set()

    def request_stop(self, *, hard: bool = False, timeout_s: float | None = None) -> None:
        """As the real one."""
        self.stops.append((hard, timeout_s))
        self.stop_asked.set()

    def fail(self, error: Exception) -> None:
        """End with it."""
        self.fatal = error
        self.stop_asked.set()

    def tell(
        self, *parts: PartitionSnapshot, finished: int = 0, as_of: float = 0.0, vitals: Vitals | None = None
    ) -> None:
        """Publish."""
        engine = EngineSnapshot(partitions=parts, counters=CountersSnapshot(finished=finished))
        sequence = self.snapshots.latest.sequence + 1
        self.snapshots.latest = Snapshot(as_of, sequence, self.state.value, engine)
        self.snapshots.vitals = vitals or Vitals()


class FakeLink:
    """As `link.Link`, with a `FakeOwner`."""

    def __init__(self, number: int, _shared: object = None, inbox: Any = None) -> None:
        self.number = number
        self.inbox = inbox if inbox is not None else Inbox()
        self.owner = FakeOwner()
        self.shares: list[int] = []
        self.closed = False

    def share(self, connections: int) -> None:
        """Remember it."""
        self.shares.append(connections)

    def close_executors(self, _slice_s: Callable[[], float]) -> None:
        """Remember it."""
        self.closed = True


class Inbox:
    """What was put into it."""

    def __init__(self) -> None:
        self.items: list[object] = []

    def put(self, item: object) -> None:
        """Remember it."""
        self.items.append(item)


class Scene:
    """What an app's connections share, on a clock that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, connections: Connections | None = None) -> None:
        self.now = 100.0
        self.told: list[Notice] = []
        self.ends: list[Exception] = []
        self.links: list[FakeLink] = []
        self.tracker = Tracker(lambda _change: True, lambda: None)
        self.watchdogs: list[FakeWatchdog] = []
        self.watchdogs_start = True
        self.when_inbox: Callable[[], object] = lambda: None
        self.lead: Any = FakeLink(0)
        scene = self

        def link(number: int, shared: object, inbox: object) -> FakeLink:
            scene.links.append(FakeLink(number, shared, inbox))
            return scene.links[-1]

        def watchdog(*args: Any) -> FakeWatchdog:
            scene.watchdogs.append(FakeWatchdog(args[3], starts=scene.watchdogs_start))
            return scene.watchdogs[-1]

        def make_inbox() -> Inbox:
            scene.when_inbox()
            return Inbox()

        monkeypatch.setattr("headrace._runtime.roster.Link", link)
        monkeypatch.setattr("headrace._runtime.roster.Watchdog", watchdog)
        self.shared: Any = SimpleNamespace(
            surroundings=SimpleNamespace(clock=lambda: scene.now, make_inbox=make_inbox),
            settings=SimpleNamespace(
                timeouts=Timeouts(), on_stall="report", connections=connections or Connections(max=4)
            ),
            tracker=self.tracker,
            tell=self.told.append,
        )

    def named(self, name: str) -> list[Any]:
        """What was told under this name."""
        return [notice for notice in list(self.told) if notice.name == name]


class FakeWatchdog:
    """Starts, or cannot; the test says when it gives the connection up."""

    def __init__(self, abandon: Callable[[], None], *, starts: bool) -> None:
        self.abandon = abandon
        self._starts = starts

    def start(self) -> None:
        """As where the process can have no more threads."""
        if not self._starts:
            raise RuntimeError("can't start new thread")


def part(partition: int, **facts: Any) -> PartitionSnapshot:
    """One partition, with these facts."""
    return replace(PART, partition=partition, **facts)
