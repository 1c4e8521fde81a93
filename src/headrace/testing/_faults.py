"""Names to numbers for injected faults, and which of librdkafka's two queues a fault may go to.

librdkafka keeps a queue of errors per API for the cluster and, once a delay was ever pushed, another per broker that
hides the cluster's for good, even when empty. Invariant: no fault is ever put where it would be hidden.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, final

from headrace.testing._cluster import MockBrokerError

if TYPE_CHECKING:
    from collections.abc import Mapping

API_KEYS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "Produce": 0,
        "Fetch": 1,
        "ListOffsets": 2,
        "Metadata": 3,
        "OffsetCommit": 8,
        "OffsetFetch": 9,
        "FindCoordinator": 10,
        "JoinGroup": 11,
        "Heartbeat": 12,
        "LeaveGroup": 13,
        "SyncGroup": 14,
        "ApiVersions": 18,
        "InitProducerId": 22,
        "OffsetForLeaderEpoch": 23,
        "AddPartitionsToTxn": 24,
        "AddOffsetsToTxn": 25,
        "EndTxn": 26,
        "TxnOffsetCommit": 28,
        "ConsumerGroupHeartbeat": 68,
        "GetTelemetrySubscriptions": 71,
        "PushTelemetry": 72,
        "ShareGroupHeartbeat": 76,
        "ShareFetch": 78,
        "ShareAcknowledge": 79,
    }
)
"""Kafka's protocol APIs that the mock cluster answers, by Kafka's name for them."""

_API_NAMES: Final[Mapping[int, str]] = MappingProxyType({key: name for name, key in API_KEYS.items()})


def api_key(call: str, api: str) -> int:
    """The protocol's number of `api`; an unknown name is refused with the list of known ones."""
    try:
        return API_KEYS[api]
    except KeyError:
        known = ", ".join(API_KEYS)
        raise MockBrokerError(
            call, f"no Kafka API named {api!r} on the embedded broker; it has {known}"
        ) from None


def api_name(key: int) -> str:
    """Kafka's name of an API; one newer than this list is given by its number."""
    return _API_NAMES.get(key, f"Api{key}")


def error_code(call: str, code: int | str) -> int:
    """The number of an error given as number or as a name of `confluent_kafka.KafkaError`."""
    if isinstance(code, int):
        return code
    from confluent_kafka import KafkaError  # noqa: PLC0415  here, so that the pytest plugin loads no client library

    number = getattr(KafkaError, code, None) if code.isupper() else None
    if isinstance(number, int):
        return number
    known = ", ".join(name for name in dir(KafkaError) if name.isupper())
    raise MockBrokerError(call, f"no Kafka error named {code!r}; known are {known}")


class FaultQueue(Enum):
    """Where the faults of one API live."""

    NONE = "none"
    CLUSTER = "cluster"
    BROKERS = "brokers"


class Push(Enum):
    """What is asked of the queues of one API."""

    ANY_BROKER = "any broker"
    ONE_BROKER = "one broker"
    CLEAR = "clear"


# An absent pair is refused: the fault would be hidden, or would hide others. BROKERS is for ever, as librdkafka has it.
TRANSITIONS: Final[Mapping[FaultQueue, Mapping[Push, FaultQueue]]] = MappingProxyType(
    {
        FaultQueue.NONE: {
            Push.ANY_BROKER: FaultQueue.CLUSTER,
            Push.ONE_BROKER: FaultQueue.BROKERS,
            Push.CLEAR: FaultQueue.NONE,
        },
        FaultQueue.CLUSTER: {Push.ANY_BROKER: FaultQueue.CLUSTER, Push.CLEAR: FaultQueue.NONE},
        FaultQueue.BROKERS: {Push.ONE_BROKER: FaultQueue.BROKERS, Push.CLEAR: FaultQueue.BROKERS},
    }
)

_REFUSALS: Final[Mapping[FaultQueue, str]] = MappingProxyType(
    {
        FaultQueue.CLUSTER: (
            "{api} has errors for any broker, and a delay or an error for one broker would hide those left for ever; "
            "call clear_errors({api!r}) first"
        ),
        FaultQueue.BROKERS: (
            "{api} has had a delay or an error for one broker, which hides errors for any broker for ever; "
            "name broker= from now on"
        ),
    }
)


@final
class FaultQueues:
    """The queue in use, per API. Its owner calls it under a lock."""

    __slots__ = ("_in_use",)

    def __init__(self) -> None:
        self._in_use: dict[str, FaultQueue] = {}

    def in_use(self, api: str) -> FaultQueue:
        """Where the faults of `api` live now."""
        return self._in_use.get(api, FaultQueue.NONE)

    def apply(self, call: str, api: str, push: Push) -> FaultQueue:
        """Record `push` and return the queue it goes to; refuse it where it would hide a fault or be hidden."""
        current = self.in_use(api)
        after = TRANSITIONS[current].get(push)
        if after is None:
            raise MockBrokerError(call, _REFUSALS[current].format(api=api))
        self._in_use[api] = after
        return after
