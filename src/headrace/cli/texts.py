"""How records and tables are written to a terminal.

Invariant: no byte of a record reaches the terminal as a control character; whoever writes a topic must not steer the
reader's screen.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace._client.reading import Stored
    from headrace.ranges import StoredRecord


def printable(raw: bytes | None, chars_max: int | None = None) -> str:
    """Bytes as one line of text; None, which is not empty, as "null"."""
    if raw is None:
        return "null"
    text = raw.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    if chars_max is not None and len(text) > chars_max:
        return text[: chars_max - 1] + "…"
    return text


def as_json(record: Stored | StoredRecord) -> dict[str, Any]:
    """A record for programs: text where it is UTF-8, else {"base64": ...}."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": _json_value(record.key),
        "value": _json_value(record.value),
        "headers": [[name, _json_value(value)] for name, value in record.headers],
    }


def moment(timestamp_ms: int | None) -> str:
    """A timestamp in UTC, to the millisecond."""
    if timestamp_ms is None:
        return "-"
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")


def columns(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table as lines: numbers to the right, text to the left, the last column as long as it is."""
    table = [[str(cell) for cell in row] for row in (titles, *rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(titles))]
    numeric = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(titles))]
    lines = (
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in table
    )
    return "\n".join(lines)


def _json_value(raw: bytes | None) -> Any:
    if raw is None:
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode("ascii")}


def _is_number(cell: object) -> bool:
    return isinstance(cell, int) or cell == "-" or str(cell).replace(",", "").isdigit()
