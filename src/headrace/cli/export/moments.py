"""Moments on the command line: "1h30m", "now", "earliest", "2026-11-01T12:00Z".

Decides how a start or end is written; refuses to know what offsets it means.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from headrace.cli.exits import Unusable

if TYPE_CHECKING:
    from headrace.ranges.bounds import Bound

_UNITS: Final = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def moment(text: str, option: str) -> Bound:
    """The bound that a text means. Raises `Unusable`, which names the option."""
    word = text.strip()
    if word in {"now", "latest"}:
        return "latest"
    if word == "earliest":
        return "earliest"
    span = _SPAN.fullmatch(word)
    if span and word:
        seconds = sum(int(n or 0) * unit for n, unit in zip(span.groups(), _UNITS.values(), strict=True))
        try:
            return timedelta(seconds=seconds)
        except OverflowError:
            raise Unusable(f"{option} {text}: so long ago there was nothing") from None
    try:
        found = datetime.fromisoformat(word)
    except ValueError:
        raise Unusable(
            f"{option} {text}: write so long ago, as 90s, 15m, 1h30m or 2d; a moment, as 2026-11-01T12:00Z; "
            "earliest; or now"
        ) from None
    if found.tzinfo is None:
        raise Unusable(
            f"{option} {text}: say in which time zone, as 2026-11-01T12:00Z or 2026-11-01T12:00+02:00"
        )
    return found
