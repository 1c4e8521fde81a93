"""What may go wrong in a simulation: one frozen struct, each fault a named probability, count or duration.

Decides how often; refuses to know how: the model of Kafka, the members and the workers do that. Invariant: all zero is a
world without faults, and a drawn struct is the same for the same `Choices`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from headrace.testing.simulation.choices import Choices


@final
@dataclass(frozen=True, slots=True)
class Faults:
    """Probabilities are per request or per event, 0 to 1. Counts are of a whole run, at drawn moments."""

    # Of the network; drawn anew for every request.
    request_lost: float = 0.0
    """The connection breaks before the broker reads the request."""
    reply_lost: float = 0.0
    """The broker did what was asked, and the connection breaks before it says so."""
    request_slow: float = 0.0
    """A request takes up to `slow_s`."""
    slow_s: float = 0.0

    # Of the broker, for commits and questions
    commit_refused: float = 0.0
    """A commit is refused with a code of a healthy group, such as REBALANCE_IN_PROGRESS; nothing is written."""
    commit_partly_refused: float = 0.0
    """One partition of a commit is refused and the others are written; the client tells the refusal of all."""
    metadata_refused: float = 0.0
    """A commit with metadata is refused as OFFSET_METADATA_TOO_LARGE."""
    commit_slow: float = 0.0
    """A commit takes up to `slow_s`."""
    commit_reply_lost: float = 0.0
    """A commit is written and its reply is lost; the client sends it again."""
    coordinator_loading: float = 0.0
    """The coordinator answers COORDINATOR_LOAD_IN_PROGRESS."""
    not_coordinator: float = 0.0
    """The coordinator answers NOT_COORDINATOR: the client asks where it is."""
    lookup_unanswered: float = 0.0
    """A question for committed offsets, or for offsets by rule, is not answered in time."""
    fetch_slow: float = 0.0
    """A fetch takes up to `slow_s`."""

    # Group
    heartbeat_lost: float = 0.0
    """A heartbeat does not arrive."""
    member_forgotten: float = 0.0
    """The coordinator answers a heartbeat or a commit with UNKNOWN_MEMBER_ID, and has forgotten the member."""
    generation_refused: float = 0.0
    """The coordinator answers a heartbeat or a commit with ILLEGAL_GENERATION, or fences the epoch under KIP-848."""

    # The broker's world: how often in a run, at drawn moments
    broker_restarts: int = 0
    broker_down_s: float = 0.0
    """How long a restart lasts, at most."""
    coordinator_moves: int = 0
    partitions_added: int = 0
    topics_recreated: int = 0
    retentions: int = 0
    """Records below a drawn offset are removed."""
    compactions: int = 0
    """Records that a later one of the same key replaces are removed."""
    hostile_members: int = 0
    """Members that join and never poll: the group waits for them until it gives up."""
    rebalances: int = 0
    """Members that join and leave again."""

    @classmethod
    def none(cls) -> Faults:
        """A world in which nothing fails."""
        return cls()

    @classmethod
    def drawn(cls, choices: Choices, intensity: float = 1.0) -> Faults:
        """A few faults of different kinds, each of a drawn strength; `intensity` scales how many kinds there are."""
        drawn: dict[str, Any] = {}
        for each in fields(cls):
            most = MOST.get(each.name)
            if most is None or not choices.chance(f"fault {each.name}", min(1.0, 0.2 * intensity)):
                continue
            if isinstance(most, int):
                drawn[each.name] = 1 + choices.index(f"count {each.name}", most)
            else:
                drawn[each.name] = round(choices.between(f"strength {each.name}", 0.0, most), 4)
        drawn["slow_s"] = round(choices.between("slow_s", 0.1, 8.0), 3)
        drawn["broker_down_s"] = round(choices.between("broker_down_s", 0.1, 20.0), 3)
        return cls(**drawn)

    def without(self, name: str) -> Faults:
        """The same without one fault."""
        return replace(self, **{name: type(getattr(self, name))(0)})

    def active(self) -> tuple[str, ...]:
        """The names of those that are not zero, durations aside."""
        return tuple(
            each.name for each in fields(self) if not each.name.endswith("_s") and getattr(self, each.name)
        )


MOST: Final[dict[str, float | int]] = {
    "request_lost": 0.1,
    "reply_lost": 0.1,
    "request_slow": 0.2,
    "commit_refused": 0.5,
    "commit_partly_refused": 0.3,
    "metadata_refused": 0.3,
    "commit_slow": 0.5,
    "commit_reply_lost": 0.3,
    "coordinator_loading": 0.2,
    "not_coordinator": 0.2,
    "lookup_unanswered": 0.5,
    "fetch_slow": 0.3,
    "heartbeat_lost": 0.3,
    "member_forgotten": 0.05,
    "generation_refused": 0.05,
    "broker_restarts": 2,
    "coordinator_moves": 2,
    "partitions_added": 2,
    "topics_recreated": 1,
    "retentions": 2,
    "compactions": 2,
    "hostile_members": 1,
    "rebalances": 3,
}
"""What `drawn` goes up to: above it a run shows little but the fault itself."""
