"""Faust (faust-streaming): an agent over the topic, values taken raw, each event acknowledged after its turn of the loop.

`concurrency` above one would give up the order inside a partition, and no cell that asks Faust does without.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
import time
from typing import Any

import faust
from meter import Eyes, Tally, given_job, watch


def main() -> None:
    job = given_job()
    app = faust.App(
        job.group,
        broker=f"kafka://{job.servers}",
        store="memory://",
        datadir=tempfile.mkdtemp(),
        topic_disable_leader=True,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        value_serializer="raw",
        key_serializer="raw",
    )
    topic = app.topic(job.topic, value_type=bytes, key_type=bytes)
    tally = Tally()
    eyes = Eyes(job) if job.mode in ("latency", "journal") else None
    work_s = job.work_ms / 1000

    @app.agent(topic)
    async def handle(stream: Any) -> None:
        async for event in stream.events():
            if eyes is not None:
                message = event.message
                eyes.see(message.partition, message.offset, message.key, message.timestamp * 1000)
            if work_s:
                if job.handler == "async":
                    await asyncio.sleep(work_s)
                else:
                    time.sleep(work_s)  # noqa: ASYNC251 - the cell asks for work that blocks
            tally.count += 1

    watch(job, lambda: tally.count)
    logging.disable(logging.WARNING)
    sys.argv = [sys.argv[0], "worker", "-l", "error", "--without-web"]
    app.main()


if __name__ == "__main__":
    main()
