"""A member of a group as FastStream 0.5.3 makes it: run by test_faststream.py in an environment of its own.

Prints a line of JSON ten times a second: records handled, whether the one consuming task has ended and by what, and the
partitions that the client still holds. Ends when stdin closes.
Arguments: bootstrap servers, topic, group, "manual" or "auto", seconds of work for a record.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from faststream.kafka import KafkaBroker  # pyright: ignore[reportMissingImports]


async def main(servers: str, topic: str, group: str, commit: str, work_s: float) -> None:
    """Consume until stdin closes."""
    broker: Any = KafkaBroker(servers, logger=None)
    handled = 0

    async def handle(body: str) -> None:
        nonlocal handled
        await asyncio.sleep(work_s)
        handled += 1

    broker.subscriber(
        topic,
        group_id=group,
        auto_commit=commit == "auto",
        auto_offset_reset="earliest",
        session_timeout_ms=6000,
        heartbeat_interval_ms=200,
    )(handle)
    ending = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    async with broker:
        await broker.start()
        (subscriber,) = broker._subscribers.values()
        while not ending.done():
            task: asyncio.Task[None] = subscriber.task
            state = {
                "handled": handled,
                "ended_by": type(task.exception()).__name__ if task.done() else None,
                "held": len(subscriber.consumer.assignment()),
            }
            sys.stdout.write(json.dumps(state) + "\n")
            sys.stdout.flush()
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    _, servers, topic, group, commit, work_s = sys.argv
    asyncio.run(main(servers, topic, group, commit, float(work_s)))
