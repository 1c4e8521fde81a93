"""An app on Kafka in memory, with limits short enough to wait for, and a client that can be made to misbehave."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from headrace import App, Commit, Timeouts
from headrace._runtime.surroundings import Surroundings
from headrace.elsewhere import started_elsewhere
from headrace.testing.memory_client import MemoryClient
from headrace.testing.memory_kafka import MemoryKafka, MemoryProducer, RawRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from headrace import Health
    from headrace._core.notices import Notice
    from headrace._runtime.assembly import Assembly
    from headrace.ports import Client, Polled, TopicPartition

QUICK = Timeouts(
    drain_s=0.2, stop_s=2.0, hung_after_s=0.3, stalled_after_s=0.4, blocked_after_s=0.3, rebalance_s=0.3
)
CALM = replace(QUICK, blocked_after_s=30.0)
"""A machine that is busy with other things for a third of a second makes no owner blocked."""
WAIT_S = 10.0


class Moody:
    """A `MemoryClient` that may keep records of some partitions back, or not return from a poll."""

    def __init__(self, kafka: MemoryKafka) -> None:
        self.inner = MemoryClient(kafka)
        # Any thread writes; the owner reads.
        self.mute: set[TopicPartition] = set()
        self.before_poll: Callable[[], object] = lambda: None
        self.committed_answers = True
        self.resolve_answers = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        """Records of muted partitions are kept back: the position does not pass them."""
        self.before_poll()
        polled = self.inner.poll(records_max, timeout_s)
        for topic, partition, records in polled.groups:
            if (topic, partition) in self.mute:
                self.inner.seek((topic, partition), records[0].offset() or 0, 0.0)
                polled.count -= len(records)
        polled.groups = [group for group in polled.groups if group[:2] not in self.mute]
        return polled

    def resolve(self, wanted: Any, timeout_s: float) -> Any:
        """None while no broker answers."""
        return self.inner.resolve(wanted, timeout_s) if self.resolve_answers else None

    def committed(self, partitions: Any, timeout_s: float) -> Any:
        """None while the group does not answer."""
        return self.inner.committed(partitions, timeout_s) if self.committed_answers else None


class Stage:
    """One app while it runs."""

    def __init__(self, app: App, kafka: MemoryKafka) -> None:
        self.app = app
        self.kafka = kafka
        self.clients: list[Moody] = []
        self.told: list[Notice] = []
        self.assembly = cast("Assembly", None)

    @property
    def client(self) -> Moody:
        """The newest client: there is another after each rebuilding."""
        return self.clients[-1]

    def make_client(self, _number: int) -> Client:
        """For the owner."""
        self.clients.append(Moody(self.kafka))
        return cast("Client", self.clients[-1])

    def produce(self, count: int = 1, partition: int = 0, key: bytes | None = None) -> None:
        """Records of one partition."""
        for _ in range(count):
            self.kafka.append(RawRecord("orders", key, b"x", partition=partition))

    def until(self, condition: Callable[[], object], what: str = "it") -> None:
        """Wait for it."""
        give_up_at = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < give_up_at, f"{what} did not happen: {self.app.health()}, {self.told}"
            time.sleep(0.01)

    def reasons(self) -> set[str]:
        """Names of the reasons there are now."""
        return {reason.name for reason in self.app.health().reasons}

    def red(self, reason: str) -> Health:
        """Wait until health has this reason; the health that has it."""
        found = self.app.health()

        def has_it() -> bool:
            nonlocal found
            found = self.app.health()
            return reason in {one.name for one in found.reasons}

        self.until(has_it, f"the reason {reason}")
        return found

    def green(self) -> None:
        """Wait until all is well."""
        found = self.app.health()

        def is_well() -> bool:
            nonlocal found
            found = self.app.health()
            return found.verdict == "ok"

        self.until(is_well, "health")
        assert found.live
        assert found.ready

    def named(self, name: str) -> list[Notice]:
        """What was told under this name."""
        return [notice for notice in list(self.told) if notice.name == name]


@contextmanager
def playing(
    handler: Callable[[Any], Any],
    *,
    topics: int = 2,
    timeouts: Timeouts = CALM,
    subscribe: dict[str, Any] | None = None,
    hooks: dict[str, Callable[[Any], Any]] | None = None,
    **settings: Any,
) -> Generator[Stage]:
    """The app runs within the block."""
    commit = Commit(every_s=0.02, backoff_initial_s=0.01, backoff_max_s=0.05, alert_after_s=0.3)
    app = App("memory", "group", timeouts=timeouts, commit=commit, **settings)
    app.subscribe("orders", **(subscribe or {}))(handler)
    for kind, hook in (hooks or {}).items():
        getattr(app, kind)(hook)
    kafka = MemoryKafka({"orders": topics})
    stage = Stage(app, kafka)
    surroundings = Surroundings(stage.make_client, lambda: MemoryProducer(kafka), poll_idle_s=0.02)
    with started_elsewhere(app, surroundings, commit, stage.told.append) as assembly:
        stage.assembly = assembly
        assembly.wait_started()
        # It runs before its first poll; what is revoked before that was never given.
        stage.until(lambda: len(assembly.snapshot().engine.partitions) == topics, "the assignment")
        yield stage
