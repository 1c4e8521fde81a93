"""Publishing snapshots: made whole by the owner, swapped in whole, read by anyone at any rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace._core.health import Vitals
from headrace._core.snapshot import EngineSnapshot
from headrace._core.states import AppState
from headrace._runtime.hot_keys import HotKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace._core.engine import Engine
    from headrace._runtime.connections_told import ConnectionSnapshot, ScalingSnapshot
    from headrace._runtime.rebalances import RebalanceSnapshot
    from headrace._runtime.vitals import VitalSigns
    from headrace.ports import Executor

PUBLISH_S = 0.25
"""How often a snapshot is made where it is cheap: four a second is more than any reader needs."""
PUBLISH_S_MAX = 2.0
"""How often at least, however dear it is: health must stay honest."""
PUBLISH_SHARE = 0.005
"""Of its time the owner spends so much on snapshots in the mean, within these bounds: 1,000 partitions take 3 ms each time."""


@dataclass(frozen=True, slots=True)
class OwnerSnapshot:
    """The owner thread of one connection: what it spent its time on, in seconds by activity, and its rebalances.

    statistics: librdkafka's own, as the JSON that it told last; empty unless `statistics.interval.ms` is set. hot_keys:
    the keys that most records had of late, by samples.
    """

    loop_s: tuple[tuple[str, float], ...] = ()
    rebalances: tuple[RebalanceSnapshot, ...] = ()
    statistics: str = field(default="", repr=False)
    hot_keys: HotKeys = field(default_factory=HotKeys)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An app at one moment. `as_of` is on the monotonic clock; `sequence` rises with each snapshot.

    state: see the table of states. engine: partitions, counters, subscriptions and commits of the connection. owner: of
    the thread that owns it. Where there may be several connections these are of all together, and `connections` has
    each, `scaling` what was decided about their number; else they are empty.
    """

    as_of: float = 0.0
    sequence: int = 0
    state: str = AppState.NEW.value
    engine: EngineSnapshot = field(default_factory=EngineSnapshot)
    owner: OwnerSnapshot = field(default_factory=OwnerSnapshot)
    connections: tuple[ConnectionSnapshot, ...] = ()
    scaling: ScalingSnapshot | None = None


class Publisher:
    """The latest snapshot, and the vital signs beside it. Owner thread publishes; anyone reads `latest` and `vitals`."""

    __slots__ = ("_clock", "_costs_s", "_engine", "_executors", "_signs", "latest", "vitals")

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
        # Of the last two: the smaller one counts, since waiting for the interpreter looks like work.
        self._costs_s = (0.0, 0.0)
        # Owner thread writes, whole; anyone reads.
        self.latest = Snapshot()
        self.vitals = Vitals()

    @property
    def pause_s(self) -> float:
        """How long the next snapshot is put off: longer where they are dear."""
        return max(PUBLISH_S, min(PUBLISH_S_MAX, min(self._costs_s) / PUBLISH_SHARE))

    def publish(self, state: AppState, *, force: bool = False) -> None:
        """Swap in a new snapshot if the last is old enough, or at once."""
        now = self._clock()
        if not force and now - self.latest.as_of < self.pause_s:
            return
        self.vitals = self._signs.read(now)
        busy = [executor.busy_workers() for executor in self._executors]
        engine, owner = self._engine.snapshot(busy, now, self.latest.engine), self._signs.told()
        self.latest = Snapshot(now, self.latest.sequence + 1, state.value, engine, owner)
        self._costs_s = (self._costs_s[1], self._clock() - now)
