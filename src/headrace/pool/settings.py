"""How many consumers a pool may hold, for how long, and what each may hold in memory.

Decides the limits and their defaults; refuses to know Kafka. Invariant: values that contradict one another are refused
when they are made.
"""

from __future__ import annotations

from dataclasses import dataclass

from headrace.config import require_count, require_range
from headrace.errors import ConfigError


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Limits of a `ConsumerPool`. Immutable.

    consumers_soft_max: above this many, idle consumers make room, oldest first; it is passed when all are in use.
    consumers_hard_max: never more than this many at once. A lease then waits; `PoolExhausted` if in vain.
    cached_per_key_max: consumers of one key that are kept when they come back. Further ones at once are private.
    wait_timeout_s: how long a lease waits for room under the hard limit.
    idle_timeout_s: an idle consumer is closed once it has been idle for longer; None keeps it.
    idle_check_s: how often a thread of the pool looks for such; None makes no thread, and you call `evict_idle`.
    prefetch_bytes_max: bytes each consumer may fetch ahead, in use or idle.
    """

    # One per partition of a wide topic; each is a few threads and sockets.
    consumers_soft_max: int = 64
    # Room for a private consumer beside every cached one, far below the 1024 open files of a usual process.
    consumers_hard_max: int = 128
    # One who reads a partition alone needs one; two at once are rare.
    cached_per_key_max: int = 1
    wait_timeout_s: float = 30.0
    # Brokers drop idle connections after ten minutes.
    idle_timeout_s: float | None = 300.0
    idle_check_s: float | None = 30.0
    # 64 consumers hold 256 MiB at most; a fast reader is not slower with this than with more.
    prefetch_bytes_max: int = 4 * 1024 * 1024

    def __post_init__(self) -> None:
        # confluent-kafka takes a thread-local key per client, of which Linux gives a process 1024.
        require_count("consumers_soft_max", self.consumers_soft_max, 1, 1000)
        require_count("consumers_hard_max", self.consumers_hard_max, 1, 1000)
        require_count("cached_per_key_max", self.cached_per_key_max, 1, 1000)
        require_range("wait_timeout_s", self.wait_timeout_s, 0, 86_400)
        # A limit that is not positive would mean never to some and at once to others: None says never.
        if self.idle_timeout_s is not None:
            require_range("idle_timeout_s", self.idle_timeout_s, 0.001, 86_400)
        if self.idle_check_s is not None:
            require_range("idle_check_s", self.idle_check_s, 0.001, 86_400)
        require_count("prefetch_bytes_max", self.prefetch_bytes_max, 1024, 1 << 30)
        if self.consumers_soft_max > self.consumers_hard_max:
            raise ConfigError(
                "consumers_soft_max",
                self.consumers_soft_max,
                f"at most consumers_hard_max ({self.consumers_hard_max})",
            )
