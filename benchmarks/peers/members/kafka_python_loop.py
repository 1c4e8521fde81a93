"""The hand-written loop on kafka-python: `poll`, the work record after record, then one commit."""

from __future__ import annotations

import time

from kafka import KafkaConsumer
from meter import Eyes, Tally, given_job, watch


def main() -> None:
    job = given_job()
    consumer = KafkaConsumer(
        job.topic,
        bootstrap_servers=job.servers,
        group_id=job.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    tally = Tally()
    watch(job, lambda: tally.count)
    eyes = Eyes(job) if job.mode in ("latency", "journal") else None
    work_s = job.work_ms / 1000
    while True:
        found = consumer.poll(timeout_ms=200, max_records=500)
        for records in found.values():
            for record in records:
                if eyes is not None:
                    eyes.see(record.partition, record.offset, record.key, record.timestamp)
                if work_s:
                    time.sleep(work_s)
                tally.count += 1
        if found:
            consumer.commit()


if __name__ == "__main__":
    main()
