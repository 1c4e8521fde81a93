"""What a dead letter looks like: the record as it was, and headers that say where it came from and why.

A dead letter may repeat after a crash; topic, partition and offset in its headers let a reader tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.records import Record

PREFIX = "headrace-"
TOPIC = PREFIX + "original-topic"
PARTITION = PREFIX + "original-partition"
OFFSET = PREFIX + "original-offset"
TIMESTAMP = PREFIX + "original-timestamp-ms"
GROUP = PREFIX + "group"
ATTEMPTS = PREFIX + "attempts"
ERROR_TYPE = PREFIX + "error-type"
ERROR_MESSAGE = PREFIX + "error-message"
MESSAGE_CHARS_MAX = 1000
"""A record must not become too large for its dead-letter topic because of a long message."""


def headers_of(
    record: Record[Any, Any], error: BaseException, group_id: str
) -> list[tuple[str, bytes | None]]:
    """The record's own headers, then ours. Ours of an earlier round are replaced."""
    kept = [(name, value) for name, value in record.headers if not name.startswith(PREFIX)]
    timestamp_ms = record.timestamp_ms
    ours = {
        TOPIC: record.topic,
        PARTITION: str(record.partition),
        OFFSET: str(record.offset),
        TIMESTAMP: "" if timestamp_ms is None else str(timestamp_ms),
        GROUP: group_id,
        ATTEMPTS: str(record.attempt),
        ERROR_TYPE: f"{type(error).__module__}.{type(error).__qualname__}",
        ERROR_MESSAGE: str(error)[:MESSAGE_CHARS_MAX],
    }
    return [*kept, *((name, text.encode("utf-8", "replace")) for name, text in ours.items())]
