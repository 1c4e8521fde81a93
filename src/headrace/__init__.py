"""Headrace: a Kafka consumer runtime for Python.

Keyed parallelism inside a partition, commits of only what is finished, rebalances that neither lose nor wedge.
Public is what this module and `headrace.testing` export.
"""

from headrace._core.assignments import Assignments, AssignmentsChange, Holding
from headrace._core.durations import DurationsSnapshot
from headrace._core.health import Health, Reason
from headrace._core.notices import Notice
from headrace._core.snapshot import (
    CountersSnapshot,
    EngineSnapshot,
    FailureSnapshot,
    PartitionSnapshot,
    SubscriptionSnapshot,
)
from headrace._core.states import AppState
from headrace._execute.scope import current_worker_resource as worker_resource
from headrace._runtime.connections_told import ConnectionSnapshot, ScalingSnapshot
from headrace._runtime.deliveries import Delivery
from headrace._runtime.hot_keys import HotKey, HotKeys
from headrace._runtime.rebalances import RebalanceSnapshot
from headrace._runtime.snapshots import OwnerSnapshot, Snapshot
from headrace.app import App
from headrace.config import Batching, Budgets, Commit, Connections, RetryPolicy, Timeouts
from headrace.errors import (
    AppStateError,
    BrokerUnreachable,
    ClientFailed,
    ConcurrentAccess,
    ConfigError,
    DeadLetterFailed,
    DecodeFailed,
    ExtraMissing,
    FatalError,
    Fenced,
    ForcedStop,
    HandlerError,
    HandlerStopped,
    HandlerTimeout,
    HeadraceError,
    InternalFailure,
    LifespanFailed,
    LoopEnded,
    NotAuthorized,
    OffsetsMissing,
    OffsetUnavailable,
    ProduceFailed,
    ReadStalled,
    RecordFailed,
    RecordsLost,
    Stalled,
    TopicMissing,
    TopicRemade,
    WorkerDied,
    WorkersFailed,
    WouldDeadlock,
)
from headrace.observe.ownership import guard
from headrace.outcomes import Reject, RetryLater
from headrace.ranges.reading import read
from headrace.records import Batch, Record

__all__ = [
    "App",
    "AppState",
    "AppStateError",
    "Assignments",
    "AssignmentsChange",
    "Batch",
    "Batching",
    "BrokerUnreachable",
    "Budgets",
    "ClientFailed",
    "Commit",
    "ConcurrentAccess",
    "ConfigError",
    "ConnectionSnapshot",
    "Connections",
    "CountersSnapshot",
    "DeadLetterFailed",
    "DecodeFailed",
    "Delivery",
    "DurationsSnapshot",
    "EngineSnapshot",
    "ExtraMissing",
    "FailureSnapshot",
    "FatalError",
    "Fenced",
    "ForcedStop",
    "HandlerError",
    "HandlerStopped",
    "HandlerTimeout",
    "HeadraceError",
    "Health",
    "Holding",
    "HotKey",
    "HotKeys",
    "InternalFailure",
    "LifespanFailed",
    "LoopEnded",
    "NotAuthorized",
    "Notice",
    "OffsetUnavailable",
    "OffsetsMissing",
    "OwnerSnapshot",
    "PartitionSnapshot",
    "ProduceFailed",
    "ReadStalled",
    "Reason",
    "RebalanceSnapshot",
    "Record",
    "RecordFailed",
    "RecordsLost",
    "Reject",
    "RetryLater",
    "RetryPolicy",
    "ScalingSnapshot",
    "Snapshot",
    "Stalled",
    "SubscriptionSnapshot",
    "Timeouts",
    "TopicMissing",
    "TopicRemade",
    "WorkerDied",
    "WorkersFailed",
    "WouldDeadlock",
    "guard",
    "read",
    "worker_resource",
]
