"""What a bounded read into Arrow costs beside a careful hand-written loop, Ray Data and Daft, on a real Kafka.

    eval "$(scripts/kafka start | grep HEADRACE_KAFKA)"; .venv/bin/python benchmarks/read.py

Fills a topic (8 partitions, 16-byte keys, 100-byte values), then reads all of it into Arrow batches with all columns, each
contender in a process of its own, interleaved with the loop: `hand` is one consumer, `consume(10_000)`, a list for each
column, librdkafka tuned as Headrace tunes it. `hand-default` is the same with librdkafka's own settings, `hand-nogc` the same without
Python's garbage collector. With `--peers` `ray` and `daft` as well, each as it comes and `-tuned`, from an environment of their
own (requirements/readers.lock, installed into .tools/). Prints records/s, CPU microseconds per record (of all processes), the
most memory, and rate and CPU as ratios to `hand` of the same round. Ratios matter; absolute numbers are this machine's on this
day. Bars (medians of the rounds): `headrace` with one thread does at least 1.0 times the records of `hand` per second of CPU,
and `headrace-threads` at least twice the records per second of `ray` and `daft`, tuned or not. What is in memory beyond
`memory_bytes_max` is below 512 MB in every round: `--records 50_000_000 --only headrace-threads` is for that. Every contender
checks that it read everything.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
PARTITIONS = 8
BAR = 1.0
PEERS_BAR = 2.0
PEERS = ("ray", "ray-tuned", "daft", "daft-tuned")
BUDGET_MB = 128  # what headrace.read takes for memory_bytes_max by itself
BEYOND_MB = 512
TOOLS = Path(os.environ.get("HEADRACE_TOOLS") or ROOT / ".tools")
LOCK = ROOT / "requirements" / "readers.lock"
TUNED = {
    "fetch.queue.backoff.ms": 10,
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 65_536,
}


def used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def hand(servers: str, topic: str, settings: dict[str, Any]) -> int:
    import pyarrow as pa
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": uuid.uuid4().hex,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            **settings,
        }
    )
    ends = {
        p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in range(PARTITIONS)
    }
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    left = sum(ends.values())
    rows = 0
    header = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
    while left > 0:
        messages = consumer.consume(10_000, 0.05)
        if not messages:
            continue
        stamps = [m.timestamp() for m in messages]
        batch = pa.RecordBatch.from_arrays(
            [
                pa.array([m.key() for m in messages], pa.binary()),
                pa.array([m.value() for m in messages], pa.binary()),
                pa.array([m.topic() for m in messages], pa.string()).dictionary_encode(),
                pa.array([m.partition() for m in messages], pa.int32()),
                pa.array([m.offset() for m in messages], pa.int64()),
                pa.array([ms for _, ms in stamps], pa.timestamp("ms", tz="UTC")),
                pa.array([kind for kind, _ in stamps], pa.int8()),
                pa.array([m.headers() for m in messages], header),
            ],
            names=["key", "value", "topic", "partition", "offset", "timestamp", "timestamp_type", "headers"],
        )
        rows += batch.num_rows
        left -= batch.num_rows
    consumer.close()
    return rows


def without_collector(servers: str, topic: str) -> int:
    gc.disable()
    return hand(servers, topic, TUNED)


def headrace(servers: str, topic: str, **how: Any) -> int:
    from headrace import read

    return sum(batch.num_rows for batch in read(topic, bootstrap_servers=servers, **how))


def records(servers: str, topic: str) -> int:
    from headrace import read

    return sum(1 for _ in read(topic, bootstrap_servers=servers, as_="records", parallelism=1))


CONTENDERS: dict[str, Callable[[str, str], int]] = {
    "hand": lambda servers, topic: hand(servers, topic, TUNED),
    "hand-default": lambda servers, topic: hand(servers, topic, {}),
    "hand-nogc": without_collector,
    "headrace": lambda servers, topic: headrace(servers, topic, parallelism=1),
    "headrace-threads": headrace,
    "headrace-values": lambda servers, topic: headrace(servers, topic, parallelism=1, columns=["value"]),
    "headrace-records": records,
}


def child(name: str, servers: str, topic: str, expected: int) -> None:
    # Imports are not counted: what is measured is reading.
    for module in ("confluent_kafka.admin", "pyarrow", "headrace.ranges.fetching"):
        importlib.import_module(module)
    began, cpu = time.perf_counter(), used_s()
    rows = CONTENDERS[name](servers, topic)
    wall_s, cpu_s = time.perf_counter() - began, used_s() - cpu
    assert rows == expected, f"{name} read {rows} of {expected}"
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"per_s": rows / wall_s, "cpu_us": cpu_s / rows * 1e6, "peak_mb": peak_mb}))


def interpreter() -> Path:
    """Python with the peers, and all that this one has."""
    digest = hashlib.sha256(LOCK.read_bytes() + sys.executable.encode()).hexdigest()[:16]
    folder = TOOLS / f"readers-{digest}"
    python, done = folder / "bin" / "python", folder / "done"
    if not done.exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)], check=True)
        install = [*uv, "pip", "install", "-q", "--python", str(python), "--require-hashes", "-r", str(LOCK)]
        subprocess.run(install, check=True, timeout=600)
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "beside.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        done.touch()
    return python


def measured_peer(name: str, servers: str, topic: str, count: int) -> dict[str, float]:
    command = [str(interpreter()), str(ROOT / "benchmarks" / "read_peers.py"), name, servers, topic]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    if done.returncode:
        sys.exit(f"{name} failed: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["rows"] == count, f"{name} read {found['rows']} of {count}"
    return {
        "per_s": count / found["wall_s"],
        "cpu_us": found["cpu_s"] / count * 1e6,
        "peak_mb": found["peak_mb"],
    }


def measured(name: str, servers: str, topic: str, count: int) -> dict[str, float]:
    if name in PEERS:
        return measured_peer(name, servers, topic, count)
    command = [sys.executable, __file__, "--child", name, "--topic", topic, "--records", str(count)]
    done = subprocess.run(
        command,
        env=os.environ | {"HEADRACE_KAFKA": servers},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=1800,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def fill(servers: str, count: int) -> str:
    from confluent_kafka.admin import AdminClient, NewTopic

    topic = f"read-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, num_partitions=PARTITIONS, replication_factor=1)])[topic].result(30)
    command = [sys.executable, "-m", "tests.full.fill_topic", servers, topic, str(PARTITIONS), str(count)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=3600)
    return topic


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    options.add_argument("--records", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", nargs="*", choices=[*CONTENDERS, *PEERS], default=list(CONTENDERS))
    options.add_argument("--peers", action="store_true")
    options.add_argument("--topic")
    options.add_argument("--child", choices=CONTENDERS)
    given = options.parse_args()
    servers = os.environ.get("HEADRACE_KAFKA", "localhost:9092")
    if given.child:
        child(given.child, servers, given.topic, given.records)
        return 0
    topic = given.topic or fill(servers, given.records)
    print(
        f"{given.records:,} records of {PARTITIONS} partitions, {given.rounds} rounds, topic {topic}",
        flush=True,
    )
    names = [*given.only, *(name for name in PEERS if given.peers and name not in given.only)]
    return judged(
        [in_one_round(number, names, servers, topic, given.records) for number in range(given.rounds)]
    )


def in_one_round(
    number: int, names: list[str], servers: str, topic: str, count: int
) -> dict[str, dict[str, float]]:
    base = measured("hand", servers, topic, count)
    found: dict[str, dict[str, float]] = {}
    for name in names:
        one = base if name == "hand" else measured(name, servers, topic, count)
        one["rate"], one["per_cpu"] = one["per_s"] / base["per_s"], base["cpu_us"] / one["cpu_us"]
        found[name] = one
        print(
            f"{number + 1}  {name:17}  {one['per_s']:12,.0f}/s  {one['cpu_us']:6.2f} us CPU  "
            f"{one['peak_mb']:6.0f} MB  x{one['rate']:.2f} rate  x{one['per_cpu']:.2f} per CPU",
            flush=True,
        )
    return found


def judged(rounds: list[dict[str, dict[str, float]]]) -> int:
    def median(name: str, what: str) -> float:
        return statistics.median(one[name][what] for one in rounds)

    held: dict[str, bool] = {}
    for name in rounds[0]:
        print(f"median  {name:17}  x{median(name, 'rate'):.2f} rate  x{median(name, 'per_cpu'):.2f} per CPU")
    if "headrace" in rounds[0]:
        held[f"headrace at least x{BAR} of hand per CPU"] = median("headrace", "per_cpu") >= BAR
    for peer in (name for name in rounds[0] if name in PEERS and "headrace-threads" in rounds[0]):
        ratio = statistics.median(one["headrace-threads"]["per_s"] / one[peer]["per_s"] for one in rounds)
        per_cpu = statistics.median(one[peer]["cpu_us"] / one["headrace-threads"]["cpu_us"] for one in rounds)
        told = f"headrace-threads at least x{PEERS_BAR} of {peer}: x{ratio:.1f} rate (x{per_cpu:.1f} per CPU)"
        held[told] = ratio >= PEERS_BAR
    for name in rounds[0].keys() & {"headrace", "headrace-threads"}:
        beyond = max(one[name]["peak_mb"] for one in rounds) - BUDGET_MB
        held[f"{name} at most {BEYOND_MB} MB beyond its budget: {beyond:.0f} MB"] = beyond <= BEYOND_MB
    for bar, is_held in held.items():
        print(f"bar: {bar}: {'held' if is_held else 'MISSED'}")
    return int(not all(held.values()))


if __name__ == "__main__":
    sys.exit(main())
