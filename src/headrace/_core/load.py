"""What the load of an app's connections says about their number: samples taken in, and what has been so since when.

Decides only whether fetching holds the handlers up, and whether one connection fewer would do; what follows from that
is `_core.scaling`'s. Invariant: what asks for more and what asks for fewer are never both set, and a moment is kept as
long as every sample since says the same. One thread only, the one that decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

STARVED = 0.6
"""The share of a span in which workers wanted records that the broker had: above it, fetching is what takes the time."""
DRAINS_SOON_S = 300.0
"""A lag that is gone so soon is no reason for one more connection: it would come when the work is done."""
CAUGHT_UP_S = 5.0
"""A lag of so many seconds of work is none: records are always on their way."""
SPARE_SHARE = 0.5
"""One connection fewer is enough if it would be half busy: the other half is what a load rises by before one more joins."""
FORGETS = 0.2
"""How much a new measure of what a connection can fetch counts against the old one."""


@dataclass(frozen=True, slots=True)
class LoadSample:
    """One connection over the span since its last sample.

    rate: records finished a second. starved: share of the span in which its workers could take more and there was lag.
    lag: records in the broker that were not fetched, None if not known.
    """

    rate: float
    starved: float
    lag: int | None


class Load:
    """The load of all connections of one app. See the module's docstring."""

    __slots__ = ("_capacity", "_lag", "_lag_at", "_rate", "_rate_before", "pressed_since", "spare_since")

    def __init__(self) -> None:
        self.pressed_since: float | None = None
        self.spare_since: float | None = None
        # What one connection fetched a second when fetching was what held it up.
        self._capacity: float | None = None
        self._lag: int | None = None
        self._lag_at = 0.0
        self._rate: float | None = None
        self._rate_before: float | None = None

    @property
    def gain(self) -> float | None:
        """Total rate now over that before the last change."""
        if self._rate is None or not self._rate_before:
            return None
        return self._rate / self._rate_before

    def changed(self) -> None:
        """The number of connections was changed: what was measured before says nothing about now."""
        self._rate_before, self._rate = self._rate, None
        self._lag = None
        self.pressed_since = self.spare_since = None

    def observe(self, samples: Sequence[LoadSample], now: float) -> None:
        """Take in one sample of each connection."""
        if not samples or any(sample.lag is None for sample in samples):
            self._lag = None
            self.pressed_since = self.spare_since = None
            return
        rate, lag = sum(sample.rate for sample in samples), sum(sample.lag or 0 for sample in samples)
        self._rate = rate if self._rate is None else self._rate + FORGETS * (rate - self._rate)
        for sample in samples:
            if sample.starved >= STARVED and sample.rate > 0:
                known = sample.rate if self._capacity is None else self._capacity
                self._capacity = known + FORGETS * (sample.rate - known)
        pressed = max(sample.starved for sample in samples) >= STARVED and not self._drains_soon(
            lag, rate, now
        )
        self._lag, self._lag_at = lag, now
        spare = not pressed and self._has_spare(len(samples), rate, lag)
        self.pressed_since = _since(self.pressed_since, now, holds=pressed)
        self.spare_since = _since(self.spare_since, now, holds=spare)

    def _drains_soon(self, lag: int, rate: float, now: float) -> bool:
        """Whether the lag is gone soon at the pace since the last sample."""
        if lag <= rate * CAUGHT_UP_S:
            return True
        if self._lag is None or now <= self._lag_at or lag >= self._lag:
            return False
        return lag * (now - self._lag_at) <= (self._lag - lag) * DRAINS_SOON_S

    def _has_spare(self, count: int, rate: float, lag: int) -> bool:
        if self._capacity is None:
            return False
        caught_up = lag <= max(rate, 1.0) * CAUGHT_UP_S
        return caught_up and rate <= (count - 1) * self._capacity * SPARE_SHARE


def _since(before: float | None, now: float, *, holds: bool) -> float | None:
    if not holds:
        return None
    return now if before is None else before
