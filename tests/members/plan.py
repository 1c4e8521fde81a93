"""What a member process is told: one value that travels as its command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Plan:
    """One member: whom it joins, where it writes, how its handler behaves.

    slow_ms: handlers take 0 to so many milliseconds, a number that the record alone decides.
    keeps_values: what the handler read is written down with its end.
    librdkafka, subscribe, timeouts, connections: passed on to `App`, `App.subscribe`, `Timeouts` and `Connections`.
    names_connections: each connection writes to the ledger under a name of its own, `name/number`.
    restless: connections come and go without need, as long as the group is settled.
    """

    name: str
    bootstrap_servers: str
    group_id: str
    topics: tuple[str, ...]
    ledger: str
    protocol: Literal["classic", "consumer"] = "classic"
    instance_id: str | None = None
    run_in: Literal["threads", "asyncio"] = "threads"
    slow_ms: int = 0
    keeps_values: bool = False
    commit_every_s: float = 1.0
    librdkafka: dict[str, Any] | None = None
    subscribe: dict[str, Any] | None = None
    timeouts: dict[str, Any] | None = None
    connections: dict[str, Any] | None = None
    names_connections: bool = False
    restless: bool = False

    def to_argument(self) -> str:
        """As one argument of a command."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, text: str) -> Plan:
        """Back again."""
        told = json.loads(text)
        return cls(**(told | {"topics": tuple(told["topics"])}))

    @property
    def ledger_path(self) -> Path:
        return Path(self.ledger)
