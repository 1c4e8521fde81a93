"""Whole apps with two connections on Kafka in memory: how they start, are told of, and end as one."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from headrace import App, AppState, Commit, ConfigError, Connections
from headrace._core.events import PauseAsked
from headrace._runtime.surroundings import Surroundings
from headrace._runtime.watch import Watch
from headrace.elsewhere import check_before_start, started_elsewhere
from headrace.observe import Tracing
from headrace.testing.memory_kafka import MemoryKafka, MemoryProducer
from tests.unit.runtime.stage import QUICK, Stage
from tests.unit.runtime.test_questions import Slow

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from headrace._runtime.assembly import Assembly
    from headrace._runtime.siblings import Siblings
    from headrace.ports import Client

pytestmark = pytest.mark.slow

TWO = Connections(min=1, max=2, start=2, cooldown_s=0.4)


def nothing(_record: Any) -> None:
    """A handler that worker processes can import."""


class Double(Stage):
    """A stage whose connections share the partitions: the first has the even ones, the second the odd ones."""

    def make_client(self, number: int) -> Client:
        """For the owner."""
        client = super().make_client(number)
        self.client.inner._taken_away.update(("orders", other) for other in range(4) if other % 2 != number)
        return client


@contextmanager
def playing(
    handler: Callable[[Any], Any], connections: Connections = TWO, lookout: Slow | None = None
) -> Generator[Double]:
    """The app runs within the block; both connections have joined."""
    commit = Commit(every_s=0.02)
    app = App("memory", "group", timeouts=QUICK, commit=commit, connections=connections)
    app.subscribe("orders", concurrency=8)(handler)
    kafka = MemoryKafka({"orders": 4})
    stage = Double(app, kafka)
    surroundings = Surroundings(
        stage.make_client,
        lambda: MemoryProducer(kafka),
        poll_idle_s=0.02,
        make_lookout=None if lookout is None else lambda: lookout,
    )
    with started_elsewhere(app, surroundings, commit, stage.told.append) as assembly:
        stage.assembly = assembly
        assembly.wait_started()
        stage.until(lambda: len(app.assignments().partitions()) == 4, "holding all")
        yield stage


def second() -> threading.Thread | None:
    """The thread of the second connection, while there is one."""
    return next((each for each in threading.enumerate() if each.name == "headrace-owner-1"), None)


def test_no_handler_starts_after_a_stop_however_slow_the_cluster_answers() -> None:
    lookout = Slow()
    begun: list[int] = []

    def handle(record: Any) -> None:
        begun.append(record.partition)
        time.sleep(0.01)

    with playing(handle, lookout=lookout) as stage:
        for partition in range(4):
            stage.produce(500, partition)
        stage.until(lambda: lookout.asked and {*begun} == {0, 1, 2, 3}, "work")
        stage.app.stop(timeout_s=1.5)
        assert not lookout.may_answer.is_set()
        assert second() is None, "its owner is over, and nothing else starts handlers of its partitions"
        assert stage.app.state is AppState.STOPPED
        lookout.may_answer.set()


def test_the_app_is_over_when_its_last_connection_is() -> None:
    release, held = threading.Event(), threading.Event()

    def handle(_record: Any) -> None:
        held.set()
        release.wait(10)

    with playing(handle) as stage:
        stage.produce(1, partition=1)
        stage.until(held.is_set, "the handler")
        stage.app.request_stop()
        owner = stage.assembly._owner
        assert owner is not None
        stage.until(owner.ended.is_set, "the end of the first")
        assert stage.app.state.value == "closing"
        assert stage.app.health().verdict == "stopping"
        assert stage.app.snapshot().state == "closing"
        release.set()
        stage.until(stage.assembly.over.is_set, "the end")
        assert stage.app.state.value == "stopped"
        assert stage.app.health().verdict == "ended"
    assert stage.kafka.committed([("orders", 1)])[0].offset == 1


def test_threads_say_of_which_connection_they_are() -> None:
    names: dict[int, str] = {}

    def handle(record: Any) -> None:
        names[record.partition] = threading.current_thread().name

    with playing(handle) as stage:
        stage.produce(1, partition=0)
        stage.produce(1, partition=1)
        stage.until(lambda: len(names) == 2)
    assert "@" not in names[0]
    assert names[1].rpartition("-")[0] == names[0].rpartition("-")[0] + "@1"


@pytest.mark.parametrize("tells", [True, False])
def test_a_blocked_loop_is_seen_by_all_and_told_of_by_one(*, tells: bool) -> None:
    told: list[Any] = []
    since: list[float | None] = [100.0]

    def look(_now: float) -> float | None:
        return since[0]

    beat: Any = SimpleNamespace(look=look, tells=tells, thread_ident=None)
    parts: Any = SimpleNamespace(timeouts=QUICK, loop_beat=beat, tell=told.append, executors=[])
    signs: Any = SimpleNamespace(loop_silent_since=None)
    watch = Watch(parts, signs)
    watch._look_at_loop(101.0)
    assert signs.loop_silent_since == 100.0
    since[0] = None
    watch._look_at_loop(102.0)
    assert signs.loop_silent_since is None
    assert [notice.name for notice in told] == ["loop_blocked", "loop_resumed"] * tells


def test_of_several_connections_the_first_tells_of_the_loop() -> None:
    async def handle(_record: Any) -> None:
        pass

    with playing(handle) as stage:
        links = cast("Any", stage.assembly._siblings)._roster.standing.links
        assert [link.owner._parts.loop_beat.tells for link in links] == [True, False]


def test_what_is_asked_while_the_app_starts_reaches_connections_to_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from headrace._runtime import assembly as module

    made = module.Assembly._make_siblings
    asking: list[threading.Thread] = []

    def make(assembly: Assembly, *args: Any) -> Siblings:
        siblings = made(assembly, *args)
        # Another thread asks just after what had been asked was handed over.
        asking.append(threading.Thread(target=assembly.pause, args=([("orders", 1)],)))
        asking[0].start()
        asking[0].join(0.2)
        return siblings

    monkeypatch.setattr(module.Assembly, "_make_siblings", make)
    seen: list[int] = []
    with playing(lambda record: seen.append(record.partition)) as stage:
        asking[0].join()
        roster = cast("Any", stage.assembly._siblings)._roster
        assert roster._paused == {("orders", 1)}
        for partition in range(4):
            stage.produce(1, partition)
        stage.until(lambda: len(seen) == 3)
        assert sorted(seen) == [0, 2, 3]
        assert PauseAsked((("orders", 1),)) not in stage.assembly._asked_early


@pytest.mark.parametrize(
    ("subscribe", "settings", "words"),
    [
        ({"run_in": "processes"}, {"connections": Connections(max=4)}, r"Connections\.max"),
        ({"concurrency": 2}, {"connections": Connections(max=4)}, r"Connections\.max"),
        ({"workers": 3}, {"connections": Connections(max=4)}, r"Connections\.max"),
    ],
)
def test_a_check_refuses_what_connections_cannot_share(
    subscribe: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    app = App("localhost:9", "group", **settings)
    app.subscribe("orders", **subscribe)(nothing)
    with pytest.raises(ConfigError, match=words):
        check_before_start(app)


def test_a_check_refuses_a_provider_that_worker_processes_cannot_have() -> None:
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    app = App("localhost:9", "group", tracing=Tracing(trace.TracerProvider()))
    app.subscribe("orders", run_in="processes")(nothing)
    with pytest.raises(ConfigError, match=r"Tracing\.provider"):
        check_before_start(app)
