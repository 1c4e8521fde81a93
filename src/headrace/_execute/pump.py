"""A pump: a task that awaits an `async def` handler for one record of a claim list after the other.

Holds what is known of one; `pumping` decides. Threads: the loop writes, under the lock of `pumping` where it says so.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Any

from headrace._execute.invocation import without_our_frame
from headrace._execute.scope import Scope
from headrace.errors import HandlerTimeout

if TYPE_CHECKING:
    from types import FrameType

    from headrace._execute.invocation import Tally
    from headrace._execute.task_chunk import TaskChunk
    from headrace.records import Record


class Pump:
    """One pump. `start` is the index of the first record of its burst that was not reported yet; under the lock."""

    __slots__ = (
        "chunk",
        "filtered",
        "filtered_reported",
        "name",
        "record",
        "rest",
        "scope",
        "since",
        "start",
        "suspended",
        "task",
        "timed_out",
        "timer",
    )

    task: asyncio.Task[None]
    chunk: TaskChunk

    def __init__(self, name: str, resource: object) -> None:
        self.name = name
        self.scope = Scope(resource)
        self.start = 0
        self.filtered = 0
        self.filtered_reported = 0
        self.since = 0.0
        self.suspended = False
        # Of a batch, its first; else set when the handler suspends.
        self.record: Record[Any, Any] | None = None
        # What must wait for the suspended record: the rest of its lane.
        self.rest: TaskChunk | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.timed_out = False

    def current(self) -> Record[Any, Any] | None:
        """Return the record its handler is on. Under the lock."""
        if self.record is not None:
            return self.record
        claimed = self.chunk.claimed()
        return self.chunk.records[claimed - 1] if claimed else None

    def report(self, end: int, tally: Tally) -> None:
        """Add the successes of its burst up to `end`. Under the lock."""
        if end > self.start:
            done = self.chunk.records[self.start : end]
            self.start = end
            tally.succeeded += done
            filtered = min(self.filtered - self.filtered_reported, len(done))
            self.filtered_reported += filtered
            tally.filtered += filtered

    def report_done(self, tally: Tally) -> None:
        """Add all that ended before its current record. Under the lock; any thread."""
        self.report(self.chunk.claimed() - 1, tally)

    def meaning(self, error: BaseException, timeout_s: float | None) -> BaseException:
        """Return what its handler's error stands for: the cancellation at `timeout_s` is a timeout, any other is itself."""
        if not self.timed_out or timeout_s is None or not isinstance(error, asyncio.CancelledError):
            return error
        timeout = HandlerTimeout(timeout_s)
        timeout.__cause__ = without_our_frame(error)
        return timeout

    def stack(self) -> str:
        """Return where its suspended handler waits: the frames of the coroutines that await each other. Any thread."""
        lines: list[str] = []
        waiting: Any = self.task.get_coro()
        while waiting is not None:
            frame, following = _frame_of(waiting)
            if frame is None:
                lines.append(f"  waits for {waiting!r}\n")
                break
            lines += traceback.format_list(traceback.StackSummary.extract([(frame, frame.f_lineno)]))
            waiting = following
        return "".join(lines)


def _frame_of(waiting: Any) -> tuple[FrameType | None, Any]:
    """Return the frame of a coroutine or generator, and what it waits for."""
    for frame, following in (
        ("cr_frame", "cr_await"),
        ("gi_frame", "gi_yieldfrom"),
        ("ag_frame", "ag_await"),
    ):
        if hasattr(waiting, frame):
            return getattr(waiting, frame), getattr(waiting, following)
    return None, None
