"""Topics of one test on a real broker: made with the settings the test needs, deleted after it.

Refuses to know what is written to them. Invariant: `create` returns only when the broker's metadata show the topic,
so that the first produce or subscribe cannot meet "unknown topic".
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka.admin import AdminClient, NewTopic

if TYPE_CHECKING:
    from collections.abc import Mapping

WAIT_S = 15.0


class Topics:
    """Creates topics under one prefix and deletes them together."""

    def __init__(self, bootstrap_servers: str, *, prefix: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers})
        self._prefix = prefix
        self._created: list[str] = []

    def create(
        self, *, partitions: int = 1, config: Mapping[str, str] | None = None, suffix: str = ""
    ) -> str:
        """Create one topic and return its name. The config is the topic's, as in `{"cleanup.policy": "compact"}`."""
        name = f"{self._prefix}{suffix or f'-{len(self._created)}'}"
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(config or {}))
        self._admin.create_topics([new], request_timeout=WAIT_S)[name].result(WAIT_S)
        self._created.append(name)
        deadline = time.monotonic() + WAIT_S
        while not self._is_visible(name, partitions):
            assert time.monotonic() < deadline, f"the broker does not show topic {name}"
            time.sleep(0.02)
        return name

    def delete_all(self) -> None:
        """Delete what `create` made. A topic that is gone already is no error: tests delete topics too."""
        if self._created:
            for deleted in self._admin.delete_topics(self._created, request_timeout=WAIT_S).values():
                deleted.exception(WAIT_S)

    def _is_visible(self, name: str, partitions: int) -> bool:
        topic = self._admin.list_topics(name, timeout=WAIT_S).topics[name]
        return topic.error is None and sum(p.leader >= 0 for p in topic.partitions.values()) == partitions
