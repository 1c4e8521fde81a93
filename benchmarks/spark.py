"""What a read on Spark costs through Headrace's data source, beside Spark's own Kafka source, on a real Kafka.

    eval "$(scripts/kafka start | grep HEADRACE_KAFKA)"; .venv/bin/python benchmarks/spark.py

Fills a topic (8 partitions, 16-byte keys, 100-byte values), then has one local session with two tasks at a time read every
column of it into nothing, with each source in turn. Prints records/s of each round and the ratio of the medians: it matters;
absolute numbers are this machine's on this day. Bar: 0.8. Both sources are first compared by count and by a sum over all
columns. Spark comes from requirements/spark.lock, its own source through Maven.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import uuid
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests import spark_environment

PARTITIONS = 8
BAR = 0.8
SOURCES = ("headrace", "kafka")


def fill(servers: str, topic: str, records: int) -> None:
    producer = Producer(
        {"bootstrap.servers": servers, "linger.ms": 50, "queue.buffering.max.messages": 1_000_000}
    )
    value = os.urandom(100)
    for number in range(records):
        producer.produce(topic, value, b"%016d" % number, number % PARTITIONS)
        if number % 1000 == 0:
            producer.poll(0.05 if len(producer) > 500_000 else 0)
    assert producer.flush(300) == 0


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--records", type=int, default=5_000_000)
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    servers = os.environ["HEADRACE_KAFKA"]
    topic = f"spark-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)
    fill(servers, topic, given.records)
    options = {"kafka.bootstrap.servers": servers, "subscribe": topic}
    rates: dict[str, list[float]] = {source: [] for source in SOURCES}
    with (
        tempfile.TemporaryDirectory() as folder,
        spark_environment.session(
            Path(folder), master="local[2]", jars=spark_environment.own_source()
        ) as session,
    ):
        totals = {source: session.call("totals", format=source, **options) for source in SOURCES}
        assert totals["headrace"] == totals["kafka"], totals
        assert totals["kafka"][0] == str(given.records)
        for number in range(given.rounds):
            for source in SOURCES:
                rates[source].append(given.records / session.call("seconds", format=source, **options))
            print(f"round {number + 1}:", *(f"{s} {rates[s][-1]:,.0f}/s" for s in SOURCES), flush=True)
    admin.delete_topics([topic])[topic].result(30)
    medians = {source: statistics.median(found) for source, found in rates.items()}
    ratio = medians["headrace"] / medians["kafka"]
    print(*(f"{source}: median {rate:,.0f} records/s" for source, rate in medians.items()), sep="\n")
    print(f"ratio {ratio:.2f}; bar {BAR}: {'met' if ratio >= BAR else 'missed'}")
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
