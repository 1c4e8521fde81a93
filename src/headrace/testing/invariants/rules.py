"""What a judge holds a history against: what was promised per topic, the bounds on time and memory, and a violation.

Decides nothing; refuses to know how a promise is checked. Invariant: all of these are values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

if TYPE_CHECKING:
    from headrace.subscriptions import Guarantee, OrderBy

Promise = Literal["S1", "S2", "S3", "S4", "S5", "S7", "L1", "L2", "L3", "L4", "L5", "L6"]
"""The promises of `docs/guarantees.md`."""


@final
@dataclass(frozen=True, slots=True)
class TopicRules:
    """What was promised for one topic, by its subscription's settings.

    retry_after_s: the least time between a try that raised and the next.
    ends_after_retention: `on_out_of_range="latest"`, so that records may be passed over once retention removed others.
    starts_at_end: `start_if_no_offset="latest"`, so that what was there before the group's first start is not promised.
    """

    order_by: OrderBy = "key"
    guarantee: Guarantee = "at_least_once"
    starts_at_end: bool = False
    retry_after_s: float = 0.0
    ends_after_retention: bool = False


@final
@dataclass(frozen=True, slots=True)
class Bounds:
    """How long and how much at most, in virtual seconds, records and bytes.

    drain_s, stop_s, commit_timeout_s, max_poll_interval_s: as they were set.
    callback_s: how long a rebalance callback may take.
    stop_slack_s: how long after `stop_s` a stop may end: what is done in one step is not cut short.
    turns_per_s: loop turns of a member that has nothing to do.
    bytes_held: of unfinished records of one member; what one poll brings may come on top of its budget.
    errors_expected: names of the errors that the world gave a reason for; any other end of a member is a violation.
    """

    drain_s: float = 10.0
    stop_s: float = 25.0
    commit_timeout_s: float = 10.0
    max_poll_interval_s: float = 300.0
    callback_s: float = 25.0
    stop_slack_s: float = 5.0
    turns_per_s: float = 400.0
    bytes_held: int = 1 << 62
    errors_expected: frozenset[str] = frozenset()


@final
@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken: which, when (virtual seconds), and what shows it."""

    promise: Promise
    now: float
    facts: str

    def __str__(self) -> str:
        return f"{self.promise} broken at {self.now:.4f} s: {self.facts}"


@final
class PromiseBroken(Exception):
    """Raised by whoever wants a run to end at its first violation."""

    def __init__(self, violation: Violation) -> None:
        self.violation = violation
        super().__init__(str(violation))
