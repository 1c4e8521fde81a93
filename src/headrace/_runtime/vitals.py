"""Vital signs: what the owner notes of its own life, and the verdict that any thread may ask for.

The owner notes moments as they pass and publishes them whole with each snapshot; `health_of` puts them together with
what is known elsewhere and lets `_core.health` judge. Never touches the client.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from headrace._core.health import STORM_REBALANCES, Facts, Limits, Vitals, judge
from headrace._core.states import AppState
from headrace._runtime.hot_keys import KeySampler
from headrace._runtime.rebalances import Rebalances
from headrace._runtime.snapshots import OwnerSnapshot
from headrace._runtime.spending import Spending

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._core.engine import Engine
    from headrace._core.health import Health, Hung
    from headrace._core.stalls import Stall
    from headrace._runtime.beginnings import Beginnings
    from headrace._runtime.owner import Owner
    from headrace._runtime.rebalances import Cause
    from headrace.config import Commit, Timeouts
    from headrace.ports import Polled

BROKERS_DOWN = "_ALL_BROKERS_DOWN"


class VitalSigns:
    """The signs of one connection. The owner thread writes; anyone reads `turned_at`."""

    __slots__ = (
        "_beginnings",
        "_clock",
        "_confirmed",
        "_dirty_since",
        "_engine",
        "_follows_revokes",
        "_joined",
        "_keys",
        "_poll_interval_s",
        "_polled_at",
        "_rebalance_since",
        "_rebalances",
        "_rebuild",
        "_rebuilds",
        "_starts_since",
        "_statistics",
        "brokers_away_since",
        "hung",
        "loop_silent_since",
        "rebalanced",
        "spending",
        "stalls",
        "turned_at",
    )

    def __init__(
        self, clock: Callable[[], float], group_protocol: str, engine: Engine, beginnings: Beginnings
    ) -> None:
        self._clock = clock
        self._engine = engine
        self._beginnings = beginnings
        # Under KIP-848 no callback follows a revoke, nor a join that gives nothing: an end that never comes is not waited for.
        self._follows_revokes = group_protocol == "classic"
        # Owner thread writes; the watchdog and `health_of` read. None until the first turn.
        self.turned_at: float | None = None
        # What the watch found.
        self.hung: tuple[Hung, ...] = ()
        self.stalls: tuple[Stall, ...] = ()
        self.loop_silent_since: float | None = None
        self.brokers_away_since: float | None = None
        self._joined = False
        self._polled_at: float | None = None
        self._poll_interval_s = 300.0
        self._rebalance_since: float | None = None
        self._rebalances: deque[float] = deque(maxlen=STORM_REBALANCES)
        self._rebuild: tuple[str, float] | None = None
        self._rebuilds = 0
        self._starts_since: float | None = None
        self._dirty_since: float | None = None
        self._confirmed = 0
        self._statistics = ""
        self._keys = KeySampler(clock())
        self.spending = Spending(clock)
        self.rebalanced = Rebalances()

    def turned(self) -> None:
        """The loop came by again."""
        self.turned_at = self._clock()

    def joining(self, max_poll_interval_s: float) -> None:
        """The group is being joined, for the first time or again."""
        self._rebuild = None
        self._poll_interval_s = max_poll_interval_s
        self._polled_at = self._clock()
        if self._follows_revokes:
            self._rebalance_since = self._polled_at
            self.rebalanced.began("joined", self._polled_at)

    def rebuilding(self, reason: str, count: int) -> None:
        """The connection is closed, to be made anew."""
        self._rebuild = (reason, self._clock())
        self._rebuilds = count
        self._rebalance_since = None
        self.rebalanced.dropped()
        self._statistics = ""
        self.brokers_away_since = None

    def assigned(self) -> None:
        """A rebalance ended."""
        self._joined = True
        self._rebalance_since = None
        self.brokers_away_since = None
        self._count_rebalance()

    def leaving(self, cause: Cause) -> None:
        """A revoke or a loss began."""
        now = self._clock()
        if self._rebalance_since is None:
            self._rebalance_since = now
        self.rebalanced.began(cause, now)
        self.brokers_away_since = None

    def left(self) -> None:
        """It is over; in a classic group the rebalance is not."""
        if not self._follows_revokes:
            self._rebalance_since = None
            self._count_rebalance()

    def _count_rebalance(self) -> None:
        now = self._clock()
        self._rebalances.append(now)
        self.rebalanced.ended(now)

    def polled(self, polled: Polled, now: float) -> None:
        """What a poll brought."""
        self._polled_at = now
        if polled.count:
            self.brokers_away_since = None
            self._keys.polled(polled, now)
        if polled.statistics is not None:
            self._statistics = polled.statistics
        for fault in polled.faults:
            if fault.code == BROKERS_DOWN and self.brokers_away_since is None:
                self.brokers_away_since = now

    def poll_age_s(self, now: float) -> float | None:
        """How long ago Kafka was polled."""
        return None if self._polled_at is None else now - self._polled_at

    def told(self) -> OwnerSnapshot:
        """What the owner's metrics are made of."""
        keys = self._keys.told(self._clock())
        return OwnerSnapshot(self.spending.totals(), self.rebalanced.snapshot(), self._statistics, keys)

    def read(self, now: float) -> Vitals:
        """All of it, as one value."""
        engine, waiting = self._engine, self._beginnings.waiting
        uncommitted_since = self._uncommitted(now)
        if not waiting:
            self._starts_since = None
        elif self._starts_since is None:
            self._starts_since = now
        return Vitals(
            as_of=now,
            polled_at=self._polled_at,
            max_poll_interval_s=self._poll_interval_s,
            joined=self._joined,
            hung=self.hung,
            stalls=self.stalls,
            # An episode of partitions that went, with nothing left to commit, is nobody's concern any more.
            refused=engine.refusals() if uncommitted_since is not None else None,
            uncommitted_since=uncommitted_since,
            starts=tuple(sorted(waiting)),
            starts_since=self._starts_since,
            rebalance_since=self._rebalance_since,
            rebalances=tuple(self._rebalances),
            rebuild=self._rebuild,
            rebuilds=self._rebuilds,
            brokers_away_since=self.brokers_away_since,
            loop_silent_since=self.loop_silent_since,
        )

    def _uncommitted(self, now: float) -> float | None:
        """Since when something finished is uncommitted while nothing was confirmed."""
        confirmed = self._engine.commits_confirmed()
        if not self._engine.dirty():
            self._dirty_since = None
        elif self._dirty_since is None or confirmed != self._confirmed:
            self._dirty_since = now
        self._confirmed = confirmed
        return self._dirty_since


def health_of(
    owner: Owner | None,
    *,
    over: bool,
    hook: tuple[str, float] | None,
    clock: Callable[[], float],
    timeouts: Timeouts,
    commit: Commit,
) -> Health:
    """Any thread: the verdict of this moment. `over`: whether those who wait were let go already."""
    limits = Limits(
        timeouts.stalled_after_s,
        timeouts.blocked_after_s,
        timeouts.rebalance_s,
        timeouts.hung_after_s,
        commit.alert_after_s,
    )
    now = clock()
    if owner is None:
        return judge(Facts(AppState.NEW, Vitals(), (), now, None, None, None, None), limits, now)
    state, fatal = owner.state, owner.fatal
    if over and state not in (AppState.STOPPED, AppState.FAILED):
        state = AppState.FAILED  # The owner thread was abandoned: nothing moves its state any more.
    elif state is AppState.NEW:
        state = AppState.STARTING  # Lifespans are being entered.
    snapshot, vitals = owner.snapshots.latest, owner.snapshots.vitals
    age_s = snapshot.engine.commit_confirmed_age_s
    facts = Facts(
        state=state,
        vitals=vitals,
        partitions=snapshot.engine.partitions,
        snapshot_at=snapshot.as_of,
        confirmed_at=None if age_s is None else snapshot.as_of - age_s,
        turned_at=owner.signs.turned_at,
        hook=hook,
        error=None if fatal is None else (type(fatal).__name__, str(fatal)),
    )
    return judge(facts, limits, now)
