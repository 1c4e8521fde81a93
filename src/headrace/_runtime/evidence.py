"""Where threads stand: the stacks that go with a report of something stuck.

Reads the interpreter's frames; changes nothing, and waits for nothing. Any thread.
"""

from __future__ import annotations

import sys
import threading
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.ports import Executor, TopicPartition

STACK_CHARS_MAX = 4000
HANDLERS_MAX = 3
"""Handlers of one partition whose stacks are shown: they mostly stand at the same place."""
THREADS_MAX = 8


def shortened(stack: str) -> str:
    """Its end, where the thread stands."""
    return stack[-STACK_CHARS_MAX:]


def stack_of_thread(ident: int | None) -> str:
    """The stack of one thread of this process; empty if it is gone."""
    frame = None if ident is None else sys._current_frames().get(ident)
    return "" if frame is None else shortened("".join(traceback.format_stack(frame)))


def stacks_for(executors: Sequence[Executor], partition: TopicPartition, loop_thread: int | None) -> str:
    """Where the handlers of a partition stand; if none runs, where the threads stand that should run one."""
    found = [
        f"{running.name} on offset {running.record.offset}:\n{stack}"
        for executor in executors
        for running in executor.running()
        if (running.record.topic, running.record.partition) == partition
        and (stack := executor.stack_of(running)) is not None
    ][:HANDLERS_MAX]
    if not found:
        threads = [
            thread
            for thread in threading.enumerate()
            if (thread.name.startswith("headrace-") or thread.ident == loop_thread)
            and thread is not threading.current_thread()
        ]
        found = [f"{thread.name}:\n{stack_of_thread(thread.ident)}" for thread in threads[:THREADS_MAX]]
    return shortened("\n".join(found))
