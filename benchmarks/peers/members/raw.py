"""The hand-written loop on confluent-kafka: the ceiling of what Python can do with it, and unsafe.

One thread; `consume(500)` and then the work, record after record. Commits nothing, but in a handover, where it commits
after each batch.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, KafkaException
from meter import Eyes, Tally, given_job, watch


def main() -> None:
    job = given_job()
    consumer = Consumer(
        {
            "bootstrap.servers": job.servers,
            "group.id": job.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            **job.options.get("librdkafka", {}),
        }
    )
    consumer.subscribe([job.topic])
    tally = Tally()
    watch(job, lambda: tally.count)
    eyes = Eyes(job) if job.mode in ("latency", "journal") else None
    work_s = job.work_ms / 1000
    while True:
        messages = consumer.consume(500, 0.2) if eyes is None else at_once(consumer)
        if eyes is not None:
            for message in messages:
                eyes.see(message.partition(), message.offset(), message.key(), message.timestamp()[1])
                if work_s:
                    time.sleep(work_s)
            if messages and job.mode == "journal":
                # Refused while the group rebalances; the records may come again.
                with suppress(KafkaException):
                    consumer.commit(asynchronous=False)
            continue
        for message in messages:
            message.key()
            message.value()
            message.offset()
            message.partition()
            if work_s:
                time.sleep(work_s)
                tally.count += 1
        if not work_s:
            tally.count += len(messages)


def at_once(consumer: Consumer) -> list[Any]:
    """What is there, without waiting for more: `consume` would wait for all that it is asked for."""
    first = consumer.poll(0.2)
    return [] if first is None else [first, *consumer.consume(99, 0)]


if __name__ == "__main__":
    main()
