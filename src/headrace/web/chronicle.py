"""What an app told and how much it did over the last minutes: what a page shows to somebody who opens it only now.

Decides what is kept, and for how long. Refuses to judge. Invariant: what is kept is bounded, and a thread that tells waits
for nothing longer than a copy of it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._core.notices import Notice

EVENTS_MAX = 120
FAILURES_MAX = 40
STACKS_MAX = 5
SAMPLES_MAX = 300
MERGED_S = 1.0
"""Notices of one name within so long are one event with a count: a rebalance of 512 partitions is one line."""
FAILURES = frozenset({"record_retried", "record_skipped", "record_dead_lettered", "dead_letter_refused"})
STACK_FIELDS = ("stacks", "stack")


@dataclass(frozen=True, slots=True)
class Told:
    """Notices of one name that came together: the first of them, when, and how many. `at` is in seconds since 1970."""

    at: float
    notice: Notice
    count: int = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """How far an app was at one moment. lag: None if unknown."""

    at: float
    finished: int
    failed: int
    lag: int | None
    in_flight: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Account:
    """A copy of all that is kept, oldest first. stacks: notices that hold where threads stood."""

    events: tuple[Told, ...]
    failures: tuple[Told, ...]
    stacks: tuple[Told, ...]
    samples: tuple[Sample, ...]


class Chronicle:
    """Keeps it. `note` is called on any thread that tells, `sample` by the server's; `account` by any."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Guards all below; held for no longer than a copy takes.
        self._lock = threading.Lock()
        self._events: deque[Told] = deque(maxlen=EVENTS_MAX)
        self._stacks: deque[Told] = deque(maxlen=STACKS_MAX)
        self._failures: OrderedDict[tuple[str, ...], Told] = OrderedDict()
        self._samples: deque[Sample] = deque(maxlen=SAMPLES_MAX)

    def note(self, notice: Notice) -> None:
        """A listener of notices."""
        at = self._clock()
        with self._lock:
            if notice.name in FAILURES:
                self._note_failure(at, notice)
                return
            if any(getattr(notice, field, "") for field in STACK_FIELDS):
                self._stacks.append(Told(at, notice))
            last = self._events[-1] if self._events else None
            if last is not None and last.notice.name == notice.name and at - last.at < MERGED_S:
                self._events[-1] = replace(last, count=last.count + 1)
            else:
                self._events.append(Told(at, notice))

    def sample(self, sample: Sample) -> None:
        """Keep how far the app is."""
        with self._lock:
            self._samples.append(sample)

    def account(self) -> Account:
        """All of it."""
        with self._lock:
            return Account(
                tuple(self._events),
                tuple(self._failures.values()),
                tuple(self._stacks),
                tuple(self._samples),
            )

    def _note_failure(self, at: float, notice: Notice) -> None:
        """Failures are kept by what failed and how, the newest of each: a key that fails for ever is one line."""
        error = str(getattr(notice, "error", getattr(notice, "reason", "")))
        key = (notice.name, str(getattr(notice, "topic", "")), error.partition(":")[0][:100])
        before = self._failures.pop(key, None)
        self._failures[key] = Told(at, notice, 1 if before is None else before.count + 1)
        if len(self._failures) > FAILURES_MAX:
            self._failures.popitem(last=False)
