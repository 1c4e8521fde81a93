"""Quix Streams: a data frame over the topic with one `update`, at-least-once, which is its default.

One thread, record after record; offsets are stored after each record and committed every five seconds, its default.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

from meter import Eyes, Tally, given_job, watch
from quixstreams import Application, message_context


def main() -> None:
    job = given_job()
    app = Application(
        broker_address=job.servers,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        processing_guarantee="at-least-once",
        loglevel="ERROR",
        state_dir=tempfile.mkdtemp(),
        consumer_extra_config={"fetch.queue.backoff.ms": 10},
    )
    tally = Tally()
    eyes = Eyes(job) if job.mode in ("latency", "journal") else None
    work_s = job.work_ms / 1000

    def see(_value: Any, key: bytes | None, timestamp_ms: int, _headers: Any) -> None:
        assert eyes is not None
        context = message_context()
        eyes.see(context.partition, context.offset, key, timestamp_ms)
        if work_s:
            time.sleep(work_s)

    def handle(_value: Any) -> None:
        if work_s:
            time.sleep(work_s)
        tally.count += 1

    topic = app.topic(job.topic, value_deserializer="bytes", key_deserializer="bytes")
    frame = app.dataframe(topic)
    if eyes is None:
        frame.update(handle)
    else:
        frame.update(see, metadata=True)
    watch(job, lambda: tally.count)
    app.run()


if __name__ == "__main__":
    main()
