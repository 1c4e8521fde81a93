"""What Kafka's error codes mean here: one table per use, each row with its reason.

Decides by code alone: `KafkaError.retriable()` answers False for nearly all of these. Refuses to know what is done about
a row. What a refused commit calls for is the engine's business (`_core.refusals`). Invariant: every code has a row or the stated default of its use, so no error is without a meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

ConsumeKind = Literal[
    "ignore", "log", "offset_out_of_range", "topic_missing", "not_authorized", "fenced", "rebuild", "fatal"
]
ProduceKind = Literal[
    "transient", "permanent", "rebuild"
]  # rebuild: this producer is finished, a new one may do it
RequestKind = Literal["retry", "topic_missing", "not_authorized", "fatal"]


@dataclass(frozen=True, slots=True)
class Row:
    """One code in one use: what it asks of us, and why."""

    kind: str
    why: str


_UNSETTLED = "the group is moving; the assignment it settles on decides"
_ELSEWHERE = "the group's coordinator is loading, moving or away; it comes back"
_UNANSWERED = "nobody knows whether it was done; commits and look-ups may be repeated"
_ACL = "the broker knows who we are and refuses; only an operator can change that"
_STATIC = "another member runs under our instance id; two would fence each other for ever"

CONSUME: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "_PARTITION_EOF": Row("ignore", "the end of a partition is no event here"),
        "_AUTO_OFFSET_RESET": Row(
            "offset_out_of_range", "the client has no valid offset and, as told, does not choose one"
        ),
        "OFFSET_OUT_OF_RANGE": Row(
            "offset_out_of_range", "retention passed our offset, or the topic was made anew"
        ),
        "_LOG_TRUNCATION": Row(
            "offset_out_of_range", "the log was cut below our offset by an unclean election"
        ),
        "UNKNOWN_TOPIC_OR_PART": Row("topic_missing", "the topic or partition does not exist (any more)"),
        "_UNKNOWN_TOPIC": Row("topic_missing", "the topic does not exist (any more)"),
        "_UNKNOWN_PARTITION": Row("topic_missing", "the partition does not exist (any more)"),
        "UNKNOWN_TOPIC_ID": Row("log", "the topic was made anew; the client asks for its new id"),
        "TOPIC_EXCEPTION": Row("topic_missing", "the topic's name is not a valid one"),
        "TOPIC_AUTHORIZATION_FAILED": Row("not_authorized", _ACL),
        "GROUP_AUTHORIZATION_FAILED": Row("not_authorized", _ACL),
        "CLUSTER_AUTHORIZATION_FAILED": Row("not_authorized", _ACL),
        "FENCED_INSTANCE_ID": Row("fenced", _STATIC),
        "UNRELEASED_INSTANCE_ID": Row(
            "rebuild", "the predecessor has not left yet; a later member is let in"
        ),
        "GROUP_MAX_SIZE_REACHED": Row("fenced", "the group is full by group.max.size; it will not take us"),
        "INCONSISTENT_GROUP_PROTOCOL": Row(
            "fenced", "the others share no assignment strategy or protocol with us"
        ),
        "UNSUPPORTED_ASSIGNOR": Row("fenced", "the group's broker does not know group.remote.assignor"),
        "INVALID_SESSION_TIMEOUT": Row("fatal", "the broker's limits exclude our session.timeout.ms"),
        "INVALID_REGULAR_EXPRESSION": Row("fatal", "the broker does not accept the subscription's pattern"),
        "INVALID_GROUP_ID": Row("fatal", "no broker will ever accept this group id"),
        "INVALID_REQUEST": Row(
            "rebuild", "the group refuses what the client sent; a new member starts clean"
        ),
        "_MAX_POLL_EXCEEDED": Row(
            "log", "we polled too late and left; the client joins again by itself, on_lost tells"
        ),
        "_FATAL": Row("rebuild", "this client is dead by a cause that has no row of its own"),
        "UNSUPPORTED_VERSION": Row("fatal", "the broker is too old for what is asked"),
        "_UNSUPPORTED_FEATURE": Row("fatal", "the broker is too old for what is asked"),
        "FENCED_MEMBER_EPOCH": Row("log", "the client joins again by itself, on_lost tells"),
        "STALE_MEMBER_EPOCH": Row("log", "the next heartbeat mends it"),
        "UNKNOWN_MEMBER_ID": Row("log", "the client joins again by itself"),
        "ILLEGAL_GENERATION": Row("log", "the client joins again by itself"),
        "REBALANCE_IN_PROGRESS": Row("log", _UNSETTLED),
        "COORDINATOR_LOAD_IN_PROGRESS": Row("log", _ELSEWHERE),
        "COORDINATOR_NOT_AVAILABLE": Row("log", _ELSEWHERE),
        "NOT_COORDINATOR": Row("log", _ELSEWHERE),
        "_TRANSPORT": Row("log", "one connection broke; the client makes a new one"),
        "_ALL_BROKERS_DOWN": Row("log", "no connection is left; the client keeps trying"),
        "_RESOLVE": Row("log", "a host name does not resolve now; the client keeps trying"),
        "_SSL": Row(
            "log", "a handshake failed; certificates may be rotating, and the start has seen one work"
        ),
        "_AUTHENTICATION": Row("log", "credentials may be rotating; the start has seen them work"),
        "SASL_AUTHENTICATION_FAILED": Row("log", "credentials may be rotating; the start has seen them work"),
        "_TIMED_OUT": Row("log", "the client repeats what it asked"),
        "_BAD_MSG": Row("log", "a damaged response is fetched again"),
        "_BAD_COMPRESSION": Row(
            "log", "a batch that does not unpack; the partition stands still and health shows it"
        ),
        "INVALID_MSG": Row(
            "log", "a batch with a wrong checksum; the partition stands still and health shows it"
        ),
        "INVALID_RECORD": Row(
            "log", "a batch the broker cannot serve; the partition stands still and health shows it"
        ),
    }
)
"""An error found among the records, or told by the client's error callback."""

PRODUCE: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "MSG_SIZE_TOO_LARGE": Row("permanent", "this record is above message.max.bytes and does not shrink"),
        "INVALID_MSG_SIZE": Row("permanent", "this record is above message.max.bytes and does not shrink"),
        "RECORD_LIST_TOO_LARGE": Row("permanent", "this record's batch is above the broker's segment size"),
        "TOPIC_AUTHORIZATION_FAILED": Row("permanent", _ACL),
        "CLUSTER_AUTHORIZATION_FAILED": Row("permanent", _ACL),
        "UNKNOWN_TOPIC_OR_PART": Row(
            "permanent", "the topic or partition does not exist; Headrace creates none"
        ),
        "_UNKNOWN_TOPIC": Row("permanent", "the topic does not exist; Headrace creates none"),
        "_UNKNOWN_PARTITION": Row("permanent", "the partition does not exist"),
        "TOPIC_EXCEPTION": Row("permanent", "the topic's name is not a valid one"),
        "INVALID_MSG": Row("permanent", "a compacted topic takes no record without a key"),
        "INVALID_RECORD": Row("permanent", "the broker's validation rejects this record"),
        "INVALID_TIMESTAMP": Row("permanent", "the topic's bounds exclude this record's timestamp"),
        "INVALID_REQUIRED_ACKS": Row("permanent", "the broker does not know acks=all: no Kafka of today"),
        "UNSUPPORTED_FOR_MESSAGE_FORMAT": Row("permanent", "the topic's record format has no headers"),
        "POLICY_VIOLATION": Row("permanent", "a policy of the broker rejects this record"),
        "_INVALID_ARG": Row("permanent", "the client cannot express this record"),
        "_TIMED_OUT": Row("transient", "no broker took it in time"),
        "_MSG_TIMED_OUT": Row("transient", "no broker took it within delivery.timeout.ms"),
        "_TIMED_OUT_QUEUE": Row("transient", "no broker took it within delivery.timeout.ms"),
        "REQUEST_TIMED_OUT": Row("transient", "the replicas did not answer in time"),
        "NOT_ENOUGH_REPLICAS": Row("transient", "fewer replicas than min.insync.replicas; they come back"),
        "NOT_ENOUGH_REPLICAS_AFTER_APPEND": Row(
            "transient", "stored, but on too few replicas; the copy may repeat"
        ),
        "NOT_LEADER_FOR_PARTITION": Row("transient", "the leader moved"),
        "LEADER_NOT_AVAILABLE": Row("transient", "the leader moves"),
        "KAFKA_STORAGE_ERROR": Row("transient", "a disk of the leader failed; another broker takes over"),
        "_TRANSPORT": Row("transient", "the connection broke"),
        "_ALL_BROKERS_DOWN": Row("transient", "no broker is reachable"),
        "_QUEUE_FULL": Row("transient", "more was produced than brokers take"),
        "_PURGE_QUEUE": Row("transient", "the producer was closed before it was sent"),
        "_PURGE_INFLIGHT": Row("transient", "the producer was closed before it was answered"),
        "_DESTROY": Row("transient", "the producer was closed before it was answered"),
        "_AUTHENTICATION": Row("transient", "credentials may be rotating"),
        "_FATAL": Row("rebuild", "this idempotent producer cannot go on; a new one can"),
        "_FENCED": Row("rebuild", "this idempotent producer cannot go on; a new one can"),
        "OUT_OF_ORDER_SEQUENCE_NUMBER": Row(
            "rebuild", "the broker and this producer disagree on what was sent"
        ),
        "UNKNOWN_PRODUCER_ID": Row("rebuild", "the broker forgot this producer"),
        "INVALID_PRODUCER_EPOCH": Row("rebuild", "the broker gave this producer's id to another one"),
        "INVALID_PRODUCER_ID_MAPPING": Row("rebuild", "the broker forgot this producer"),
        "_GAPLESS_GUARANTEE": Row("rebuild", "the client can no longer promise order"),
    }
)
"""A delivery's answer."""

REQUEST: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "UNKNOWN_TOPIC_OR_PART": Row("topic_missing", "the topic or partition does not exist (any more)"),
        "_UNKNOWN_TOPIC": Row("topic_missing", "the topic does not exist (any more)"),
        "_UNKNOWN_PARTITION": Row("topic_missing", "the partition does not exist (any more)"),
        "TOPIC_EXCEPTION": Row("topic_missing", "the topic's name is not a valid one"),
        "TOPIC_AUTHORIZATION_FAILED": Row("not_authorized", _ACL),
        "GROUP_AUTHORIZATION_FAILED": Row("not_authorized", _ACL),
        "CLUSTER_AUTHORIZATION_FAILED": Row("not_authorized", _ACL),
        "SASL_AUTHENTICATION_FAILED": Row(
            "not_authorized", "the credentials are wrong; at start nothing has seen them work"
        ),
        "_AUTHENTICATION": Row(
            "not_authorized", "the credentials are wrong; at start nothing has seen them work"
        ),
        "UNSUPPORTED_VERSION": Row("fatal", "the broker is too old for what is asked"),
        "_UNSUPPORTED_FEATURE": Row("fatal", "the broker is too old for what is asked"),
        "INVALID_GROUP_ID": Row("fatal", "no broker will ever accept this group id"),
        "FENCED_INSTANCE_ID": Row("fatal", _STATIC),
        "_FATAL": Row("fatal", "the client is dead; its cause comes with the next poll"),
    }
)
"""A question: metadata, committed offsets, offset look-ups, the observer's and the command line's."""

_CONSUME_DEFAULT = Row(
    "log", "unknown: the client repeats by itself what it can, and health watches for standstill"
)
_PRODUCE_DEFAULT = Row("transient", "unknown: to wait and try again loses nothing")
_REQUEST_DEFAULT = Row("retry", "unknown: to ask again costs nothing")


def consume_row(code: str) -> Row:
    """What an error beside the records asks for; the kinds are those of `ports.Fault`."""
    return CONSUME.get(code, _CONSUME_DEFAULT)


def produce_row(code: str) -> Row:
    """What a failed delivery asks for; the kinds are `ProduceKind`."""
    return PRODUCE.get(code, _PRODUCE_DEFAULT)


def request_row(code: str) -> Row:
    """What a failed question asks for; the kinds are `RequestKind`."""
    return REQUEST.get(code, _REQUEST_DEFAULT)


def fatal_row(code: str) -> Row:
    """What the *cause* of a fatal client error asks for. Any cause with no row of its own leaves only a new connection."""
    row = CONSUME.get(code)
    if row is None or row.kind in {"ignore", "log"}:
        return CONSUME["_FATAL"]
    return row
