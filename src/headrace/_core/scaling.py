"""Whether an app should have one connection more, one fewer, or stay as it is: a pure policy, with a reason for each answer.

Decides from one immutable view and the time given, by the first rule of `RULES` that applies. Refuses to know how a
connection is made or closed, and what happens in a foreign broker: a connection is settled by its own membership alone.

Invariants: at most one change at a time, and none within `cooldown_s` of the last one; none without a sample of every
connection taken after it; never below `min` or above `max`; what asks for one more and what asks for one fewer cannot
both be true of one view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GrowWhen = Literal["fetching", "partitions"]
"""fetching: when fetching is what holds the handlers up. partitions: whenever a connection has more than one partition."""

Change = Literal[-1, 0, 1]

PRESSED_COOLDOWNS = 0.5
"""How long fetching must have been what holds the handlers up: longer than one slow answer of a broker."""
SPARE_COOLDOWNS = 10.0
"""How long one connection fewer must have been enough: to close one is cheap to put off, and opening it again is not."""
SETTLED_COOLDOWNS = 0.5
"""How long the last rebalance must be over: a rolling restart makes one after the other."""
SETTLED_MIN_S = 4.0
"""And this long at least: a cooperative rebalance gives a new member nothing in its first round, and then its share. Longer
than brokers wait for the first members of a group (`group.initial.rebalance.delay.ms`)."""
IDLE_MIN_S = 30.0
"""How long one without a partition must be settled where there are enough for all: its share may be on its way, slowly, or
an assignor gives it nothing."""
NO_GAIN_COOLDOWNS = 60.0
"""How long one more is not tried again after the last one brought nothing."""
GAIN_MIN = 1.05
"""What counts as gain: less is noise."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the user allows, see `headrace.config.Connections`."""

    min: int
    max: int
    cooldown_s: float
    fair: bool = True
    grow_when: GrowWhen = "fetching"


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """One connection, as sampled at `sampled_at`.

    settled_since: since when it is joined with no rebalance, None while it is not. failing: its connect or its group fails
    again and again. The age of what was sampled is reckoned to the moment of the decision, not to that of the sample.
    """

    number: int
    sampled_at: float
    settled_since: float | None
    partitions: int
    failing: bool = False


@dataclass(frozen=True, slots=True)
class GroupView:
    """The whole group: partitions of all its topics, and processes that have members in it, this one included."""

    partitions: int
    processes: int


@dataclass(frozen=True, slots=True)
class View:
    """All connections of one app, at one moment.

    changed_at: when their number was last changed; last_change: by how much. pressed_since: since when fetching holds the
    handlers up and the lag does not go away. spare_since: since when one connection fewer would be enough. gain: total
    rate since the last change over that before it, None if it is not known.
    """

    bounds: Bounds
    connections: tuple[ConnectionView, ...]
    group: GroupView | None = None
    changed_at: float | None = None
    last_change: Change = 0
    pressed_since: float | None = None
    spare_since: float | None = None
    gain: float | None = None
    stopping: bool = False

    @property
    def count(self) -> int:
        """How many connections there are, failing ones included."""
        return len(self.connections)


Why = Literal[
    "stopping",
    "cooling_down",
    "below_min",
    "above_max",
    "fixed_number",
    "no_fresh_sample",
    "unsettled",
    "idle",
    "beyond_fair_share",
    "spare",
    "at_max",
    "failing",
    "one_partition_each",
    "group_unknown",
    "at_fair_share",
    "many_partitions",
    "not_fetch_bound",
    "no_gain",
    "fetch_bound",
]
"""Why the number changes, or why it does not; `MEANINGS` says each in words."""

MEANINGS: Mapping[Why, str] = {
    "stopping": "the app stops",
    "cooling_down": "the last change is too recent",
    "below_min": "there are fewer than min",
    "above_max": "there are more than max",
    "fixed_number": "min and max are one number",
    "no_fresh_sample": "not every connection has told of itself since the last change",
    "unsettled": "the group is rebalancing, or was a moment ago",
    "idle": "one connection has no partition",
    "beyond_fair_share": "there are more than partitions over processes",
    "spare": "one fewer has long been enough",
    "at_max": "there are as many as max",
    "failing": "a connection fails: one more would fail too",
    "one_partition_each": "no connection has more than one partition to give away",
    "group_unknown": "the group cannot be described, so its fair share is not known",
    "at_fair_share": "one more would be more than partitions over processes",
    "many_partitions": "a connection has more than one partition",
    "not_fetch_bound": "fetching does not hold the handlers up",
    "no_gain": "the last one more brought nothing",
    "fetch_bound": "fetching holds the handlers up",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, and why. `number`: the connection to close, if one is to be."""

    change: Change
    why: Why
    number: int | None = None

    @property
    def meaning(self) -> str:
        """The reason in words."""
        return MEANINGS[self.why]


def decide(view: View, now: float) -> Decision:
    """What the first rule says that applies; if nothing stands in the way of one more, and fetching calls for it: one more."""
    at = _At(view, now)
    for rule in RULES:
        if rule.applies(at):
            return Decision(rule.change, rule.why, _to_close(view) if rule.change < 0 else None)
    return Decision(1, "fetch_bound")


def fair_share(group: GroupView) -> int:
    """How many connections each process of the group may have so that none takes what another should get."""
    return max(1, group.partitions // max(1, group.processes))


def _to_close(view: View) -> int | None:
    """A failing one, else the one with the fewest partitions; of those the youngest: the least is moved and drained.

    Number 0 never, if there is another: the app's own thread runs it.
    """
    if not view.connections:
        return None
    others = [each for each in view.connections if each.number] or view.connections
    return min(others, key=lambda each: (not each.failing, each.partitions, -each.number)).number


@dataclass(frozen=True, slots=True)
class _At:
    """A view and the moment at which it is judged."""

    view: View
    now: float

    def within(self, cooldowns: float) -> bool:
        """Whether the last change is more recent than so many cooldowns."""
        changed_at = self.view.changed_at
        return changed_at is not None and self.now - changed_at < self.view.bounds.cooldown_s * cooldowns

    def lasts(self, since: float | None, cooldowns: float) -> bool:
        """Whether it has been so for that long."""
        return since is not None and self.now - since >= self.view.bounds.cooldown_s * cooldowns

    @property
    def sound(self) -> tuple[ConnectionView, ...]:
        """The connections that do not fail: one that does neither blocks the others nor counts as idle."""
        return tuple(each for each in self.view.connections if not each.failing)

    def stale(self) -> bool:
        """Whether some connection has told nothing since the last change."""
        changed_at = self.view.changed_at
        return changed_at is not None and any(each.sampled_at <= changed_at for each in self.sound)

    def unsettled(self) -> bool:
        """Whether some connection is in a rebalance, or was a moment ago."""
        for_s = max(self.view.bounds.cooldown_s * SETTLED_COOLDOWNS, SETTLED_MIN_S)
        return any(each.settled_since is None or self.now - each.settled_since < for_s for each in self.sound)

    def idle(self) -> bool:
        """Whether some connection has nothing, and will get nothing."""
        idle = [each.settled_since for each in self.sound if not each.partitions]
        if sum(each.partitions for each in self.sound) < len(self.sound):
            return bool(idle)
        for_s = max(self.view.bounds.cooldown_s, IDLE_MIN_S)
        return any(since is not None and self.now - since >= for_s for since in idle)

    def shrinkable(self) -> bool:
        """Whether one fewer is allowed."""
        return self.view.count > self.view.bounds.min

    def above_share(self, count: int) -> bool:
        """Whether so many are more than this process should have."""
        view = self.view
        return view.bounds.fair and view.group is not None and count > fair_share(view.group)

    def spare(self) -> bool:
        """Whether one fewer has long been enough. Who asked for one per partition is not asked about the load."""
        view = self.view
        grown_by_load = view.bounds.grow_when == "fetching" and view.pressed_since is None
        return grown_by_load and self.lasts(view.spare_since, SPARE_COOLDOWNS)

    def gained_nothing(self) -> bool:
        """Whether the last one more, not long ago, brought nothing."""
        view = self.view
        in_vain = view.last_change > 0 and view.gain is not None and view.gain < GAIN_MIN
        return in_vain and self.within(NO_GAIN_COOLDOWNS)


@dataclass(frozen=True, slots=True)
class Rule:
    """A reason, what it leads to, and when it applies."""

    why: Why
    change: Change
    applies: Callable[[_At], bool]


RULES: tuple[Rule, ...] = (
    Rule("stopping", 0, lambda at: at.view.stopping),
    Rule("cooling_down", 0, lambda at: at.within(1.0)),
    # These two alone ask for no sample: what is outside the bounds is wrong whatever the load.
    Rule("below_min", 1, lambda at: at.view.count < at.view.bounds.min),
    Rule("above_max", -1, lambda at: at.view.count > at.view.bounds.max),
    Rule("fixed_number", 0, lambda at: at.view.bounds.min == at.view.bounds.max),
    Rule("no_fresh_sample", 0, lambda at: at.stale()),
    Rule("unsettled", 0, lambda at: at.unsettled()),
    Rule("idle", -1, lambda at: at.shrinkable() and at.idle()),
    Rule("beyond_fair_share", -1, lambda at: at.shrinkable() and at.above_share(at.view.count)),
    Rule("spare", -1, lambda at: at.shrinkable() and at.spare()),
    Rule("at_max", 0, lambda at: at.view.count >= at.view.bounds.max),
    Rule("failing", 0, lambda at: len(at.sound) < at.view.count),
    Rule("one_partition_each", 0, lambda at: all(each.partitions <= 1 for each in at.sound)),
    Rule("group_unknown", 0, lambda at: at.view.bounds.fair and at.view.group is None),
    Rule("at_fair_share", 0, lambda at: at.above_share(at.view.count + 1)),
    Rule("many_partitions", 1, lambda at: at.view.bounds.grow_when == "partitions"),
    Rule("not_fetch_bound", 0, lambda at: not at.lasts(at.view.pressed_since, PRESSED_COOLDOWNS)),
    Rule("no_gain", 0, lambda at: at.gained_nothing()),
)
"""In order: the first that applies decides. Nothing left: `fetch_bound`, one more."""
