"""Fill a topic with small records, in a process of its own: what a producer leaves in memory must not be measured.

Usage: python -m tests.full.fill_topic BOOTSTRAP_SERVERS TOPIC PARTITIONS RECORDS
Record n has a key of ten thousand, a value of 100 bytes, and goes to partition n modulo PARTITIONS.
"""

from __future__ import annotations

import sys

from confluent_kafka import Producer

KEYS = 10_007
VALUE = b"v" * 100
SETTINGS: dict[str, str | int | float | bool] = {
    "compression.type": "lz4",
    "linger.ms": 20,
    "batch.num.messages": 50_000,
    "batch.size": 1_000_000,
    "queue.buffering.max.messages": 500_000,
}


def main(address: str, topic: str, partitions: int, records: int) -> int:
    """Return the number of records that were not written."""
    producer = Producer({"bootstrap.servers": address, **SETTINGS})
    for number in range(records):
        key = b"k%d" % (number % KEYS)
        while True:
            try:
                producer.produce(topic, VALUE, key, partition=number % partitions)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 1000 == 0:
            producer.poll(0)
    return producer.flush(60)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
