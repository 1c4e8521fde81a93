"""What librdkafka's own statistics tell, as far as metrics want it.

Decides what is read of a text that may be megabytes: all but the topics, and of these only the partitions that are ours,
which are cut out before anything is parsed. Invariants: read when a report is made, never on the owner thread; what the
text does not tell is unknown.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

from headrace.observe.metrics import Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.observe.metrics import Value
    from headrace.ports import TopicPartition

NOT_TOLD = Unknown("librdkafka's statistics do not tell")
_TOPICS, _GROUP = '"topics":', '"cgrp":'
_TOPIC = re.compile(r'"topic":"([A-Za-z0-9._-]+)", "age":')
_PARTITION = re.compile(r'"partition":(\d+),[^{}]*?"fetchq_cnt":(\d+), "fetchq_size":(\d+)')


class ClientStatistics:
    """One text of statistics. Parsed at the first question. For one thread: each report makes its own."""

    __slots__ = ("_client", "_prefetched", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._client: Mapping[str, Any] | None = None
        self._prefetched: dict[TopicPartition, tuple[int, int]] | None = None

    def __bool__(self) -> bool:
        return bool(self._text)

    def number(self, *path: str, scale: float = 1.0) -> Value:
        """A number of the client as a whole, by its names from outside in."""
        found: Any = self._of_client()
        for name in path:
            found = cast("Mapping[str, Any]", found).get(name) if isinstance(found, dict) else None
        return found * scale if isinstance(found, int | float) else NOT_TOLD

    def brokers(self) -> list[Mapping[str, Any]]:
        """The brokers that the client knows by their number: not the names it was given to begin with."""
        found = self._of_client().get("brokers")
        if not isinstance(found, dict):
            return []
        known = cast("Mapping[str, Mapping[str, Any]]", found).values()
        return [broker for broker in known if broker.get("nodeid", -1) >= 0]

    def prefetched(self, topic: str, partition: int) -> tuple[int, int] | None:
        """Records and bytes of a partition that were fetched and not polled yet."""
        if self._prefetched is None:
            self._prefetched = self._partitions()
        return self._prefetched.get((topic, partition))

    def _of_client(self) -> Mapping[str, Any]:
        if self._client is None:
            self._client = self._parsed()
        return self._client

    def _parsed(self) -> Mapping[str, Any]:
        text = self._text
        begin = text.find(_TOPICS)
        end = text.rfind(_GROUP)
        if 0 <= begin < end:
            text = text[:begin] + text[end:]
        found: Any = json.loads(text)
        return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}

    def _partitions(self) -> dict[TopicPartition, tuple[int, int]]:
        text = self._text
        found: dict[TopicPartition, tuple[int, int]] = {}
        topics = list(_TOPIC.finditer(text, max(0, text.find(_TOPICS))))
        ends = [topic.start() for topic in topics[1:]] + [len(text)]
        for topic, end in zip(topics, ends, strict=True):
            for number, records, size in _PARTITION.findall(text, topic.end(), end):
                found[topic[1], int(number)] = (int(records), int(size))
        return found


def brokers_up(statistics: ClientStatistics) -> Value:
    """How many brokers the client has a connection to."""
    brokers = statistics.brokers()
    return sum(broker.get("state") == "UP" for broker in brokers) if brokers else NOT_TOLD


def disconnects(statistics: ClientStatistics) -> Value:
    """How often a connection to one of them was lost."""
    brokers = statistics.brokers()
    return sum(int(broker.get("disconnects", 0)) for broker in brokers) if brokers else NOT_TOLD


def round_trip_s(statistics: ClientStatistics) -> Value:
    """The slowest broker's 99th percentile."""
    found = [broker["rtt"]["p99"] for broker in statistics.brokers() if broker.get("rtt", {}).get("cnt")]
    return max(found) / 1e6 if found else Unknown("no broker answered lately")
