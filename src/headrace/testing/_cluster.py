"""What an embedded cluster can be told, in the numbers librdkafka wants, and the one error all of it raises.

It refuses to know where the cluster lives: `_mock_api` drives one in this process, `broker_process` one in a child.
Invariant: every argument and result survives JSON, so both behave alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, final

from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ALL_BROKERS = -1
"""Stands for every broker in `set_broker_down`, `set_broker_up` and `set_round_trip`; as the leader of a partition it means none."""

Bytes: TypeAlias = "bytes | str | None"
NewRecord: TypeAlias = "tuple[Bytes, Bytes] | tuple[Bytes, Bytes, Iterable[tuple[str, Bytes]]]"
"""A record to produce: (key, value) or (key, value, headers)."""


@final
class MockBrokerError(HeadraceError):
    """The embedded broker refused a call, is closed, or died. `problem` says what to change."""

    def __init__(self, call: str, problem: str) -> None:
        self.call = call
        self.problem = problem
        super().__init__(f"{call}: {problem}")


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What is fixed, or first set, when a cluster starts."""

    brokers: int
    rebalance_delay_ms: int
    heartbeat_interval_ms: int
    session_timeout_ms: int


class ClusterControl(Protocol):
    """The commands. Each returns once the cluster has obeyed, or raises `MockBrokerError`."""

    @property
    def bootstrap_servers(self) -> str: ...

    def create_topic(self, topic: str, partitions: int, replication: int) -> None: ...

    def delete_topic(self, topic: str) -> None: ...

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None: ...

    def push_errors(self, api_key: int, codes: Sequence[int]) -> None:
        """Append to the cluster's queue of `api_key`, which every broker without a queue of its own draws from."""
        ...

    def push_broker_errors(self, broker: int, api_key: int, faults: Sequence[tuple[int, int]]) -> None:
        """Append (code, delay in ms) to the broker's own queue, which hides the cluster's for ever after."""
        ...

    def pending_broker_errors(self, broker: int, api_key: int) -> int: ...

    def clear_errors(self, api_key: int) -> None:
        """Empty the cluster's queue. A broker's own queue cannot be emptied."""
        ...

    def set_broker_down(self, broker: int) -> None: ...

    def set_broker_up(self, broker: int) -> None: ...

    def set_round_trip(self, broker: int, delay_ms: int) -> None: ...

    def set_leader(self, topic: str, partition: int, broker: int) -> None: ...

    def set_coordinator(self, group: str, broker: int) -> None: ...

    def set_api_version(self, api_key: int, version_min: int, version_max: int) -> None: ...

    def set_consumer_group_timing(self, heartbeat_interval_ms: int, session_timeout_ms: int) -> None: ...

    def start_tracking(self) -> None: ...

    def stop_tracking(self) -> None: ...

    def requests(self) -> list[tuple[int, int, int]]:
        """(microseconds on the monotonic clock, broker, api key) of each tracked request, oldest first."""
        ...

    def close(self) -> None: ...
