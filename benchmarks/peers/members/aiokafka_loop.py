"""The hand-written loop on aiokafka: `getmany`, the handlers of the batch, then one commit.

Handlers that wait run together, as `gather` makes easy: the order of keys within a batch is given up, and the batch waits
for its slowest record.
"""

from __future__ import annotations

import asyncio
import time

from aiokafka import AIOKafkaConsumer
from meter import Eyes, Tally, given_job, watch


async def run() -> None:  # noqa: C901 - one loop, as such loops are written
    job = given_job()
    consumer = AIOKafkaConsumer(
        job.topic,
        bootstrap_servers=job.servers,
        group_id=job.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    tally = Tally()
    watch(job, lambda: tally.count)
    eyes = Eyes(job) if job.mode in ("latency", "journal") else None
    work_s = job.work_ms / 1000
    together = job.handler == "async" and work_s > 0

    async def wait() -> None:
        await asyncio.sleep(work_s)
        tally.count += 1

    while True:
        found = await consumer.getmany(timeout_ms=200, max_records=job.concurrency if together else 500)
        for records in found.values():
            if eyes is not None:
                for record in records:
                    eyes.see(record.partition, record.offset, record.key, record.timestamp)
            elif not together:
                for record in records:
                    record.value  # noqa: B018 - what the raw loop touches, too
                    if work_s:
                        time.sleep(work_s)  # noqa: ASYNC251 - the cell asks for work that blocks
                    tally.count += 1
        if together:
            await asyncio.gather(*(wait() for records in found.values() for _ in records))
        if found:
            await consumer.commit()


if __name__ == "__main__":
    asyncio.run(run())
