"""What a pool needs of a Kafka client, as Protocols, and the real one behind them.

Decides which client is opened; refuses to know when. Invariant: importing this loads no client library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace._client.settings import ConnectionSettings
    from headrace.records import Source


class PooledConsumer(Protocol):
    """One consumer of one partition. Never called by two threads at once."""

    @property
    def position(self) -> int | None:
        """The next offset, or None before it was placed. Cheap; never raises."""
        ...

    @property
    def trouble(self) -> str:
        """What the client last complained of, without secrets."""
        ...

    def place(self, offset: int) -> bool:
        """Stand at this offset; False if it did already."""
        ...

    def consume(self, records_max: int, timeout_s: float, end: int | None) -> Sequence[Source]:
        """Records below `end`; waits for the first only."""
        ...

    def watermarks(self, timeout_s: float) -> tuple[int, int] | None:
        """First and next offset of the partition, if a broker says so in time."""
        ...

    def close(self) -> None:
        """Free it."""
        ...

    def abandon(self) -> None:
        """In the child of a fork: see that it is never freed, nor called."""
        ...


class Connect(Protocol):
    """Opens a consumer of one partition, placed nowhere yet."""

    def __call__(
        self, settings: ConnectionSettings, topic: str, partition: int, queue_bytes: int, /
    ) -> PooledConsumer:
        """Open one. Raises Headrace's errors, such as `ConfigError`."""
        ...


def connect(settings: ConnectionSettings, topic: str, partition: int, queue_bytes: int, /) -> PooledConsumer:
    """A consumer of librdkafka's."""
    from headrace._client.partition_consumer import PartitionConsumer  # noqa: PLC0415 - see the module's invariant

    return PartitionConsumer(settings, topic, partition, queue_bytes)
