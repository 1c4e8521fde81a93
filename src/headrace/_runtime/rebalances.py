"""How many rebalances there were, how they began, and how long they took.

Decides when one begins and ends, from what callbacks tell. Refuses to guess: librdkafka does not tell when a rebalance
began that only brings partitions, so such a one has no duration.

Owner thread only; `RebalanceSnapshot` is for any thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Cause = Literal["joined", "revoked", "lost", "assigned"]
CAUSES: tuple[Cause, ...] = ("joined", "revoked", "lost", "assigned")
"""joined: this member came, or came again. revoked, lost: partitions went first. assigned: partitions only came."""


@dataclass(frozen=True, slots=True)
class RebalanceSnapshot:
    """Rebalances that began in one way, since the app started.

    cause: "joined", "revoked", "lost", or "assigned" for those that only brought partitions, or none. total_s: how long
    they took together, None for "assigned", of which nobody tells when they began.
    """

    cause: str
    count: int
    total_s: float | None


class Rebalances:
    """The rebalances of one app. Owner thread only."""

    __slots__ = ("_cause", "_counts", "_since", "_totals_s")

    def __init__(self) -> None:
        self._counts: dict[Cause, int] = dict.fromkeys(CAUSES, 0)
        self._totals_s: dict[Cause, float] = dict.fromkeys(CAUSES, 0.0)
        self._cause: Cause | None = None
        self._since = 0.0

    def began(self, cause: Cause, now: float) -> None:
        """One begins so, unless one is under way: what comes then is part of it."""
        if self._cause is None:
            self._cause, self._since = cause, now

    def ended(self, now: float) -> None:
        """The one that is under way ended; without one, partitions just came."""
        cause = self._cause or "assigned"
        self._counts[cause] += 1
        if self._cause is not None:
            self._totals_s[cause] += now - self._since
        self._cause = None

    def dropped(self) -> None:
        """The connection is closed: how the one under way would have ended is not known."""
        self._cause = None

    def snapshot(self) -> tuple[RebalanceSnapshot, ...]:
        """Freeze it."""
        return tuple(
            RebalanceSnapshot(
                cause, self._counts[cause], None if cause == "assigned" else self._totals_s[cause]
            )
            for cause in CAUSES
        )
