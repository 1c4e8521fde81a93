"""FastStream, acknowledging each record after its handler: `AckPolicy.NACK_ON_ERROR`, on confluent-kafka or on aiokafka.

Its default for Kafka is to acknowledge first, which is at most once. On confluent-kafka `max_workers` above one is offered with
that only, so one record is handled at a time and committed before the next. On aiokafka it is a consumer of the group for
each worker: one for each partition, where rates are measured.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from faststream import AckPolicy, FastStream
from meter import Eyes, Tally, given_job, watch

PARTITIONS = 8


def main() -> None:  # noqa: C901 - one handler for each kind of cell
    job = given_job()
    if job.options["client"] == "confluent":
        from faststream.confluent import KafkaBroker, KafkaMessage
    else:
        from faststream.kafka import KafkaBroker, KafkaMessage  # type: ignore[assignment]

    broker: Any = KafkaBroker(job.servers, logger=None)
    tally = Tally()
    eyes = Eyes(job) if job.mode in ("latency", "journal") else None
    work_s = job.work_ms / 1000
    subscription: dict[str, Any] = {
        "group_id": job.group,
        "auto_offset_reset": "earliest",
        "ack_policy": AckPolicy.NACK_ON_ERROR,
        **job.options.get("subscription", {}),
    }
    if job.handler == "batch":
        subscription |= {"batch": True, "max_records": 500}
    elif job.mode == "rate" and job.options["client"] == "aiokafka":
        subscription["max_workers"] = PARTITIONS

    if job.handler == "batch":

        @broker.subscriber(job.topic, **subscription)
        async def handle_many(body: list[bytes]) -> None:
            tally.count += len(body)

    elif eyes is not None:

        @broker.subscriber(job.topic, **subscription)
        async def see(_body: bytes, message: KafkaMessage) -> None:
            raw: Any = message.raw_message
            if job.options["client"] == "confluent":
                eyes.see(raw.partition(), raw.offset(), raw.key(), raw.timestamp()[1])
            else:
                eyes.see(raw.partition, raw.offset, raw.key, raw.timestamp)
            if work_s:
                await asyncio.sleep(work_s)

    elif job.handler == "async":

        @broker.subscriber(job.topic, **subscription)
        async def handle_async(_body: bytes) -> None:
            if work_s:
                await asyncio.sleep(work_s)
            tally.count += 1

    else:

        @broker.subscriber(job.topic, **subscription)
        def handle(_body: bytes) -> None:
            if work_s:
                time.sleep(work_s)
            tally.add()

    app = FastStream(broker, logger=None)

    @app.after_startup
    async def begin() -> None:
        watch(job, lambda: tally.count)

    logging.disable(logging.WARNING)
    asyncio.run(app.run())  # stops cleanly at SIGTERM


if __name__ == "__main__":
    main()
