"""librdkafka's log lines and error reports, thinned out and free of secrets.

A broker that is down makes sixty reports a second. Decides which are passed on; refuses to know what they mean.
Invariant: a call from C never raises here, for an exception there would end the poll and lose its records.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._client.settings import Scrubber

QUIET_S = 10.0
"""How long one class of message stays quiet after it was passed on. An outage then costs six lines a minute."""

_CLASSES_MAX = 1000


class RateLimit:
    """Lets one of each class through per `QUIET_S` and counts the rest. One thread at a time."""

    __slots__ = ("_clock", "_seen")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[object, tuple[float, int]] = {}

    def admit(self, kind: object) -> int | None:
        """None: keep quiet. Otherwise pass it on, and say that so many were kept back since the last one."""
        now = self._clock()
        last_at, kept_back = self._seen.get(kind, (float("-inf"), 0))
        if now - last_at < QUIET_S:
            self._seen[kind] = (last_at, kept_back + 1)
            return None
        if len(self._seen) >= _CLASSES_MAX:
            self._seen.clear()
        self._seen[kind] = (now, 0)
        return kept_back


class ClientLog:
    """What confluent-kafka takes for a logger: it calls `log(level, format, facility, client, text)`, nothing else."""

    __slots__ = ("_limit", "_logger", "_scrub")

    def __init__(self, clock: Callable[[], float], scrub: Scrubber) -> None:
        self._limit = RateLimit(clock)
        self._logger = logging.getLogger("headrace.librdkafka")
        self._scrub = scrub

    def log(self, level: int, _form: str, facility: str, client: str, text: str) -> None:
        """Pass one line on, unless its facility and level were heard of just now."""
        with contextlib.suppress(Exception):  # see the module's invariant
            if not self._logger.isEnabledFor(level):
                return
            # Debug is asked for on purpose and useless in samples.
            kept_back = 0 if level <= logging.DEBUG else self._limit.admit((facility, level))
            if kept_back is None:
                return
            more = f" ({kept_back} like it since)" if kept_back else ""
            self._logger.log(level, "%s %s: %s%s", client, facility, self._scrub(text), more)
