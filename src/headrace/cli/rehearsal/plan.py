"""What a member of a rehearsal must know, and the names of the acts; values that pass between processes as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Final, Literal

GROUP: Final = "rehearsal"


class Act(Enum):
    """What happens in a rehearsal, in this order; the value is told to the user."""

    ALONE = "one member works alone"
    JOIN = "a second member joins: partitions move"
    REFUSED = "commits are refused, again and again"
    LEAVE = "the second member leaves while commits are refused"
    SLOW = "the broker is slow: every answer takes longer"
    AWAY = "the broker is away, and comes back"
    KILL = "a second member joins and is killed (kill -9)"
    RESTART = "the first member stops, and a new one takes over"
    LAST = "the last records are handled and committed"


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """One member process: which app, which broker, where its ledger is."""

    target: str
    bootstrap_servers: str
    ledger: str
    member: str
    stop_s: float
    client: dict[str, str | int | float | bool] = field(default_factory=dict[str, "str | int | float | bool"])
    debug: bool = False

    def to_json(self) -> str:
        """As an argument for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> MemberPlan:
        """The reverse of `to_json`."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """One topic of the app, as the verdict must know it."""

    name: str
    order_by: Literal["key", "partition", "none"]
    batch: bool
    guarantee: str
    dead_letter: str | None
