"""Publishing snapshots: made whole by the owner, swapped in whole, read by anyone at any rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace._core.health import Vitals
from headrace._core.snapshot import EngineSnapshot
from headrace._core.states import AppState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace._core.engine import Engine
    from headrace._runtime.rebalances import RebalanceSnapshot
    from headrace._runtime.vitals import VitalSigns
    from headrace.ports import Executor

PUBLISH_S = 0.25
"""How often a snapshot is made: four a second is more than any reader needs, and costs 2 microseconds a partition."""


@dataclass(frozen=True, slots=True)
class OwnerSnapshot:
    """The owner thread of one connection: what it spent its time on, in seconds by activity, and its rebalances.

    statistics: librdkafka's own, as the JSON that it told last; empty unless `statistics.interval.ms` is set.
    """

    loop_s: tuple[tuple[str, float], ...] = ()
    rebalances: tuple[RebalanceSnapshot, ...] = ()
    statistics: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An app at one moment. `as_of` is on the monotonic clock; `sequence` rises with each snapshot.

    state: see the table of states. engine: partitions, counters, subscriptions and commits of the connection. owner: of
    the thread that owns it.
    """

    as_of: float = 0.0
    sequence: int = 0
    state: str = AppState.NEW.value
    engine: EngineSnapshot = field(default_factory=EngineSnapshot)
    owner: OwnerSnapshot = field(default_factory=OwnerSnapshot)


class Publisher:
    """The latest snapshot, and the vital signs beside it. Owner thread publishes; anyone reads `latest` and `vitals`."""

    __slots__ = ("_clock", "_engine", "_executors", "_signs", "latest", "vitals")

    def __init__(
        self,
        engine: Engine,
        executors: Sequence[Executor],
        clock: Callable[[], float],
        signs: VitalSigns,
    ) -> None:
        self._signs = signs
        self._engine = engine
        self._executors = executors
        self._clock = clock
        # Owner thread writes, whole; anyone reads.
        self.latest = Snapshot()
        self.vitals = Vitals()

    def publish(self, state: AppState, *, force: bool = False) -> None:
        """Swap in a new snapshot if the last is old enough, or at once."""
        now = self._clock()
        if not force and now - self.latest.as_of < PUBLISH_S:
            return
        self.vitals = self._signs.read(now)
        busy = [executor.busy_workers() for executor in self._executors]
        engine, owner = self._engine.snapshot(busy, now), self._signs.told()
        self.latest = Snapshot(now, self.latest.sequence + 1, state.value, engine, owner)
