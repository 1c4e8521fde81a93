"""What a refused commit calls for, by Kafka's code: one table, each row with its reason.

Decides by the code's name alone, since the client's own "retriable" flag is False for nearly all of these. Whatever the
row, the offsets stay dirty until they are confirmed. Invariant: a code without a row has the stated default.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class CommitAction(Enum):
    """What a refused commit calls for."""

    RETRY = "retry"
    RETRY_OR_REBUILD = "retry; rebuild the connection if no rebalance follows within a session timeout"
    RETRY_WITHOUT_MAP = "retry without the offset map"
    TOPIC_MISSING = "retry topic by topic; stop if one stays refused"
    FENCED = "stop: another member took this identity"
    NOT_AUTHORIZED = "stop: the broker refuses this principal"
    FATAL = "stop: nothing will make it accepted"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One code: what it calls for, and why."""

    action: CommitAction
    why: str


REFUSALS: Final[Mapping[str, Refusal]] = MappingProxyType(
    {
        "REBALANCE_IN_PROGRESS": Refusal(
            CommitAction.RETRY, "the group is moving; the assignment it settles on decides"
        ),
        "ILLEGAL_GENERATION": Refusal(
            CommitAction.RETRY_OR_REBUILD,
            "seen in healthy cooperative rebalances; without a rebalance we are no member any more",
        ),
        "UNKNOWN_MEMBER_ID": Refusal(
            CommitAction.RETRY_OR_REBUILD,
            "classic: a rejoin follows; KIP-848: the assignment does not even change",
        ),
        "STALE_MEMBER_EPOCH": Refusal(
            CommitAction.RETRY_OR_REBUILD,
            "KIP-848: our epoch is behind by a heartbeat; for long, the member is lost to the group",
        ),
        "FENCED_MEMBER_EPOCH": Refusal(
            CommitAction.RETRY_OR_REBUILD,
            "KIP-848: the group gave our partitions away; on_lost follows, or a rebuild must",
        ),
        "UNRELEASED_INSTANCE_ID": Refusal(
            CommitAction.RETRY_OR_REBUILD,
            "the predecessor with our instance id has not left yet; it does or times out",
        ),
        "_MAX_POLL_EXCEEDED": Refusal(
            CommitAction.RETRY_OR_REBUILD,
            "we left the group by polling too late; the next poll joins again and calls on_lost",
        ),
        "COORDINATOR_LOAD_IN_PROGRESS": Refusal(
            CommitAction.RETRY, "the group's coordinator is loading, moving or away; it comes back"
        ),
        "COORDINATOR_NOT_AVAILABLE": Refusal(
            CommitAction.RETRY, "the group's coordinator is loading, moving or away; it comes back"
        ),
        "NOT_COORDINATOR": Refusal(
            CommitAction.RETRY, "the group's coordinator is loading, moving or away; it comes back"
        ),
        "_WAIT_COORD": Refusal(
            CommitAction.RETRY, "the group's coordinator is loading, moving or away; it comes back"
        ),
        "UNSTABLE_OFFSET_COMMIT": Refusal(
            CommitAction.RETRY, "a transaction on this group is still open; it ends"
        ),
        "REQUEST_TIMED_OUT": Refusal(
            CommitAction.RETRY, "nobody knows whether it was done; commits and look-ups may be repeated"
        ),
        "_TIMED_OUT": Refusal(
            CommitAction.RETRY, "nobody knows whether it was done; commits and look-ups may be repeated"
        ),
        "_TIMED_OUT_QUEUE": Refusal(CommitAction.RETRY, "it was never sent: the connection was busy or away"),
        "_MSG_TIMED_OUT": Refusal(
            CommitAction.RETRY, "nobody knows whether it was done; commits and look-ups may be repeated"
        ),
        "_TRANSPORT": Refusal(CommitAction.RETRY, "the connection broke; the client makes a new one"),
        "_ALL_BROKERS_DOWN": Refusal(CommitAction.RETRY, "no connection is left; the client keeps trying"),
        "_DESTROY": Refusal(
            CommitAction.RETRY, "the client is closing; what is dirty is another connection's to send"
        ),
        "_DESTROY_BROKER": Refusal(CommitAction.RETRY, "the client dropped a broker that left the cluster"),
        "_NO_OFFSET": Refusal(CommitAction.RETRY, "nothing in it was newer than what the client sent before"),
        "_ASSIGNMENT_LOST": Refusal(CommitAction.RETRY, "on_lost follows and decides"),
        "_STATE": Refusal(CommitAction.RETRY, "the client is between two groups' states, or closed"),
        "NETWORK_EXCEPTION": Refusal(CommitAction.RETRY, "the broker lost its own connections"),
        "BROKER_NOT_AVAILABLE": Refusal(
            CommitAction.RETRY, "the group's coordinator is loading, moving or away; it comes back"
        ),
        "NOT_ENOUGH_REPLICAS": Refusal(
            CommitAction.RETRY, "the offsets topic lacks replicas; they come back"
        ),
        "KAFKA_STORAGE_ERROR": Refusal(
            CommitAction.RETRY, "a disk of the coordinator failed; another broker takes over"
        ),
        "THROTTLING_QUOTA_EXCEEDED": Refusal(CommitAction.RETRY, "slower, then it is accepted"),
        "OFFSET_METADATA_TOO_LARGE": Refusal(
            CommitAction.RETRY_WITHOUT_MAP,
            "the broker's limit is below ours; the map only spares repeats, the offset matters",
        ),
        "UNKNOWN_TOPIC_OR_PART": Refusal(
            CommitAction.TOPIC_MISSING,
            "deleted, or a broker with old metadata; only the others may be certain of their commits",
        ),
        "UNKNOWN_TOPIC_ID": Refusal(
            CommitAction.TOPIC_MISSING, "deleted or made anew; a look at the topic tells"
        ),
        "FENCED_INSTANCE_ID": Refusal(
            CommitAction.FENCED,
            "another member runs under our instance id; two would fence each other for ever",
        ),
        "GROUP_MAX_SIZE_REACHED": Refusal(
            CommitAction.FENCED, "the group is full by group.max.size; it will not take us"
        ),
        "INCONSISTENT_GROUP_PROTOCOL": Refusal(
            CommitAction.FENCED, "the others share no assignment strategy or protocol with us"
        ),
        "GROUP_AUTHORIZATION_FAILED": Refusal(
            CommitAction.NOT_AUTHORIZED,
            "the broker knows who we are and refuses; only an operator can change that",
        ),
        "TOPIC_AUTHORIZATION_FAILED": Refusal(
            CommitAction.NOT_AUTHORIZED,
            "the broker knows who we are and refuses; only an operator can change that",
        ),
        "CLUSTER_AUTHORIZATION_FAILED": Refusal(
            CommitAction.NOT_AUTHORIZED,
            "the broker knows who we are and refuses; only an operator can change that",
        ),
        "SASL_AUTHENTICATION_FAILED": Refusal(
            CommitAction.RETRY, "credentials may be rotating; the start has seen them work"
        ),
        "_AUTHENTICATION": Refusal(
            CommitAction.RETRY, "credentials may be rotating; the start has seen them work"
        ),
        "INVALID_COMMIT_OFFSET_SIZE": Refusal(
            CommitAction.RETRY_WITHOUT_MAP, "the commit's record is too large; without maps it is small"
        ),
        "INVALID_GROUP_ID": Refusal(CommitAction.FATAL, "no broker will ever accept this group id"),
        "GROUP_ID_NOT_FOUND": Refusal(
            CommitAction.RETRY_OR_REBUILD, "the group was deleted under us; a new member makes it again"
        ),
        "UNSUPPORTED_VERSION": Refusal(CommitAction.FATAL, "the broker is too old for the group protocol"),
        "_UNSUPPORTED_FEATURE": Refusal(CommitAction.FATAL, "the broker is too old for the group protocol"),
        "_FATAL": Refusal(CommitAction.FATAL, "the client is dead; its cause comes with the next poll"),
        "_FENCED": Refusal(
            CommitAction.FENCED,
            "another member runs under our instance id; two would fence each other for ever",
        ),
    }
)

UNKNOWN: Final = Refusal(
    CommitAction.RETRY_OR_REBUILD,
    "unknown: what was refused is still dirty, and a new connection may do better",
)


def refusal_of(code: str) -> Refusal:
    """What this code calls for."""
    return REFUSALS.get(code, UNKNOWN)
