"""The model broker's and its clients' settings, and the three ways a group shares partitions out.

Decides nothing but defaults. Invariant: immutable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

Protocol = Literal["eager", "cooperative", "kip848"]


@final
@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Times in virtual seconds. The defaults are Kafka's where those matter, and shorter where only waiting would differ."""

    session_timeout_s: float = 10.0
    """Of classic members and of KIP-848 groups."""
    heartbeat_interval_s: float = 3.0
    max_poll_interval_s: float = 30.0
    """Also the rebalance timeout, as with librdkafka."""
    first_rebalance_delay_s: float = 0.5
    """How long an empty classic group waits for more members."""
    latency_s: float = 0.005
    """The longest way of a request or a reply when nothing fails; the shortest is a tenth of it."""
    retry_backoff_s: float = 0.1
    coordinator_query_s: float = 0.5
    """Between two questions where the coordinator is."""
    metadata_max: int = 4096
    """Longest commit metadata, in characters."""
    commit_timeout_s: float = 45.0
    """How long a client tries to get one commit to a coordinator before it gives up."""
    fetch_wait_s: float = 0.5
    prefetch_records: int = 50
    """Records a client holds for one partition, fetched and not yet polled."""
    metadata_refresh_s: float = 5.0
    """Between two looks of a client at topics and partitions."""
