"""What the owner loop spends its time on: polling, deciding, performing, waiting, and the rest.

Decides nothing. Invariant: every moment since the loop began is counted once, under what was going on in it, however
deep calls are nested: a rebalance callback inside a poll counts as what it does itself.

Owner thread only; the totals are copied into snapshots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

E = TypeVar("E")
F = TypeVar("F")
R = TypeVar("R")

Activity = Literal["poll", "step", "perform", "idle", "rest"]
ACTIVITIES: tuple[Activity, ...] = ("poll", "step", "perform", "idle", "rest")
"""poll: in the client, without waiting. step: the engine decides. perform: what it decided is done. idle: waiting for
records or results. rest: all else, such as looking after slow handlers and making snapshots."""


class Spending:
    """The time of one owner loop, by activity. Owner thread only."""

    __slots__ = ("_clock", "_doing", "_since", "_spent")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._spent: dict[Activity, float] = dict.fromkeys(ACTIVITIES, 0.0)
        self._doing: Activity = "rest"
        self._since: float | None = None

    def step(self, decide: Callable[[E, float], Sequence[F]], perform: Callable[[F], None], event: E) -> None:
        """Decide at this moment what follows from an event, and perform it."""
        before, now = self._doing, self._clock()
        self._pass(now)
        self._doing = "step"
        try:
            effects = decide(event, now)
            if effects:
                self._turn_to("perform")
                for effect in effects:
                    perform(effect)
        finally:
            self._turn_to(before)

    def poll(self, poll: Callable[[int, float], R], records_max: int, timeout_s: float) -> R:
        """Make a poll: one that may wait counts as waiting."""
        before = self._doing
        self._turn_to("idle" if timeout_s > 0 else "poll")
        try:
            return poll(records_max, timeout_s)
        finally:
            self._turn_to(before)

    def wait(self, take: Callable[[float], R], timeout_s: float) -> R:
        """Take what there is, waiting so long for it."""
        before = self._doing
        self._turn_to("idle")
        try:
            return take(timeout_s)
        finally:
            self._turn_to(before)

    def totals(self) -> tuple[tuple[str, float], ...]:
        """Seconds by activity, up to now."""
        self._turn_to(self._doing)
        return tuple(self._spent.items())

    def _turn_to(self, activity: Activity) -> None:
        self._pass(self._clock())
        self._doing = activity

    def _pass(self, now: float) -> None:
        if self._since is not None:
            self._spent[self._doing] += now - self._since
        self._since = now
