"""The records of a rehearsal: the user's own, as `headrace tail --form json` writes them, or made up.

Decides which topics there are to be. Refuses to send anything.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from headrace.cli.exits import Unusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from headrace.subscriptions import SubscriptionSettings

KEYS: Final = 50
MADE_UP: Final = 1000
SAMPLES_MAX: Final = 100_000
"""As many as a rehearsal can hold in memory, whatever the file."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One record to send."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.key or b"") + len(self.value or b"")


def from_file(path: Path) -> list[Sample]:
    """Samples of a file with a JSON object per line; raises `Unusable` naming the line."""
    samples: list[Sample] = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    samples.append(_sample(line, f"{path}, line {number}"))
                if len(samples) >= SAMPLES_MAX:
                    break
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"cannot read the records of {path}: {error}") from None
    if not samples:
        raise Unusable(f"{path} holds no record")
    return samples


def made_up(topics: Sequence[str]) -> list[Sample]:
    """Samples for those who gave none: a small JSON object each, fifty keys."""
    return [
        Sample(topic, f"key-{number % KEYS}".encode(), json.dumps({"number": number}).encode())
        for number in range(MADE_UP)
        for topic in topics
    ]


def topics_of(subscriptions: Iterable[SubscriptionSettings], samples: Sequence[Sample]) -> dict[str, int]:
    """Each topic of the rehearsal, and the index of its subscription; raises `Unusable` where there is none to be had."""
    found: dict[str, int] = {}
    for index, settings in enumerate(subscriptions):
        found |= dict.fromkeys(settings.topics, index)
        if settings.pattern is not None:
            matching = {each.topic for each in samples if re.fullmatch(settings.pattern, each.topic)}
            if not matching:
                raise Unusable(
                    f"{settings.name} subscribes to the pattern {settings.pattern!r}: "
                    "give --records with records of topics that it matches"
                )
            found |= dict.fromkeys(sorted(matching), index)
    strangers = sorted({each.topic for each in samples} - found.keys())
    if strangers:
        raise Unusable(
            f"--records has records of {', '.join(strangers)}, which the app does not subscribe to"
        )
    return found


def _sample(line: str, where: str) -> Sample:
    try:
        loaded: Any = json.loads(line)
    except ValueError as error:
        raise Unusable(f"{where}: not a JSON object: {error}") from None
    if not isinstance(loaded, dict):
        raise Unusable(f"{where}: not a JSON object")
    fields = cast("dict[str, Any]", loaded)
    topic = fields.get("topic")
    if not isinstance(topic, str) or not topic:
        raise Unusable(f'{where}: no "topic"')
    headers: list[Any] = fields.get("headers") or []
    try:
        return Sample(
            topic,
            _bytes(fields.get("key")),
            _bytes(fields.get("value")),
            tuple((str(name), _bytes(value)) for name, value in headers),
        )
    except (TypeError, ValueError, KeyError) as error:
        raise Unusable(
            f"{where}: key, value and headers are text, null or {{'base64': ...}}: {error}"
        ) from None


def _bytes(value: Any) -> bytes | None:
    match value:
        case None:
            return None
        case str():
            return value.encode()
        case {"base64": str(text)}:
            return base64.b64decode(text, validate=True)
        case _:
            raise ValueError(f"got {type(value).__name__}")
