"""When more connections pay, and when they do not: the same records through 1, 2 and 4 connections of one app.

    .venv/bin/python benchmarks/connections.py [--rounds 5] [--case NAME...]

Starts two Kafka nodes of its own (as tests/chaos does), fills a topic for each case, and reads each with
`App(connections=Connections(min=n, max=n))`, a fresh group each time. The numbers of connections take turns within a round,
and what is printed is the median of their ratios to one connection in the same round: what else the machine does then
falls on all alike. The clock starts when every connection holds its partitions and nothing was fetched yet.

Cases: small records, plain; large records compressed by gzip and by zstd, which the client decompresses on one thread for
each broker of each connection; and plain ones over a link that delays every byte, as brokers far away do: once with as
much under way as the client asks for, once with no more on each TCP connection than Kafka's brokers keep for it by default
(`socket.send.buffer.bytes`), so that none is faster than that for each round trip, whatever the link could carry.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).parents[1]))

from confluent_kafka import Producer

from headrace import App, Batch, Batching, Connections
from tests.chaos.cluster import Cluster
from tests.chaos.reaper import Reaper
from tests.topics import Topics

PARTITIONS = 8
NUMBERS = (1, 2, 4)
CHUNK_BYTES = 262_144
DELAY_S = 0.02
# A broker's default of 102,400; Linux takes twice what it is asked for, part of it for itself: the most that can be.
SEND_BUFFER_BYTES = 204_800
WAIT_S = 180.0


@dataclass(frozen=True, slots=True)
class Case:
    """way: how the members reach the brokers."""

    name: str
    compression: str
    value_bytes: int
    records: int
    way: Literal["direct", "far", "far_narrow"] = "direct"


CASES = (
    Case("small, plain", "none", 100, 400_000),
    Case("large, gzip", "gzip", 100_000, 6_000),
    Case("large, zstd", "zstd", 100_000, 12_000),
    Case("1 kB, plain, 20 ms away", "none", 1_000, 60_000, "far"),
    Case("1 kB, plain, 20 ms away, brokers' default send buffer", "none", 1_000, 60_000, "far_narrow"),
)


def values_of(case: Case) -> list[bytes]:
    """Text such as services write, which a codec makes a fourth to a tenth of."""
    draw = random.Random(1)  # noqa: S311 - the same text each time
    words = [bytes(draw.choices(b"abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 9))) for _ in range(2000)]
    found: list[bytes] = []
    for number in range(16):
        parts = [b'{"number": %d, "text": "' % number]
        size = len(parts[0])
        while size < case.value_bytes:
            parts.append(b"%s %d " % (draw.choice(words), draw.randrange(1000)))
            size += len(parts[-1])
        found.append(b"".join(parts)[: case.value_bytes])
    return found


def fill(servers: str, topic: str, case: Case) -> None:
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "compression.type": case.compression,
            "linger.ms": 50,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    values = values_of(case)
    for number in range(case.records):
        while True:
            try:
                producer.produce(topic, values[number % len(values)], partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(WAIT_S) == 0, "the brokers did not take all records"


@dataclass(frozen=True, slots=True)
class Reading:
    """One way through a topic. cpu_s: of the whole process, the client's threads included."""

    seconds: float
    cpu_s: float


def read(servers: str, topic: str, records: int, connections: int) -> Reading:
    app = App(servers, f"bench-{uuid.uuid4().hex}", connections=Connections(min=connections, max=connections))
    done = threading.Event()
    lock = threading.Lock()
    seen = 0

    @app.subscribe(topic, order_by="none", concurrency=8, batch=Batching(records_max=500))
    def take(batch: Batch[bytes, bytes]) -> None:
        nonlocal seen
        with lock:
            seen += len(batch)
            if seen >= records:
                done.set()

    app.quiet()
    app.start()
    try:
        give_up_at = time.monotonic() + WAIT_S
        while holders(app) != connections:
            assert time.monotonic() < give_up_at, (
                f"{holders(app)} of {connections} connections hold something"
            )
            time.sleep(0.05)
        time.sleep(1.0)  # a rebalance that follows at once
        began, cpu = time.perf_counter(), time.process_time()
        app.unquiet()
        assert done.wait(WAIT_S), f"{seen} of {records} came"
        return Reading(time.perf_counter() - began, time.process_time() - cpu)
    finally:
        app.stop()


def holders(app: App) -> int:
    """Connections that hold a partition, once all are held."""
    held = [holding for holdings in app.assignments().topics.values() for holding in holdings.values()]
    return len({holding.connection for holding in held}) if len(held) == PARTITIONS else 0


# ---- The slow link: bytes in order, each as late as a distance makes them


class Window:
    """How much may be under way on one TCP connection: what was sent counts until word of its arrival can be back."""

    def __init__(self, bytes_max: int | None) -> None:
        self._bytes_max = bytes_max
        self._sent: deque[tuple[float, int]] = deque()
        self._under_way = 0

    async def room(self) -> int:
        """How many bytes may be sent now, waiting until it is one at least."""
        if self._bytes_max is None:
            return CHUNK_BYTES
        while True:
            while self._sent and self._sent[0][0] <= time.monotonic():
                self._under_way -= self._sent.popleft()[1]
            if self._under_way < self._bytes_max:
                return min(CHUNK_BYTES, self._bytes_max - self._under_way)
            await asyncio.sleep(max(0.0, self._sent[0][0] - time.monotonic()))

    def send(self, size: int) -> None:
        if self._bytes_max is None:
            return
        self._sent.append((time.monotonic() + 2 * DELAY_S, size))
        self._under_way += size


async def read_ahead(
    reader: asyncio.StreamReader, due: asyncio.Queue[tuple[float, bytes]], window: Window
) -> None:
    data = b"-"
    while data:
        data = await reader.read(await window.room())
        window.send(len(data))
        await due.put((time.monotonic() + DELAY_S, data))


async def pass_on(due: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    at, data = await due.get()
    while data:
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        writer.write(data)
        await writer.drain()
        at, data = await due.get()
    writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bytes_max: int | None) -> None:
    due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=4096)
    await asyncio.gather(read_ahead(reader, due, Window(bytes_max)), pass_on(due, writer))


async def relay(routes: list[tuple[int, int]], bytes_max: int | None) -> None:
    def acceptor(to: int) -> Any:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to)
            with suppress(OSError):  # a client that is gone
                await asyncio.gather(pump(reader, far_writer, None), pump(far_reader, writer, bytes_max))
            for end in (writer, far_writer):
                end.close()

        return accept

    for here, there in routes:
        await asyncio.start_server(acceptor(there), "127.0.0.1", here)
    print("listening", flush=True)
    # With whoever started it: it holds the other end of stdin.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def start_relay(stack: ExitStack, cluster: Cluster, way: str) -> None:
    """In a process of its own: it must not take the interpreter from what is measured."""
    routes = [f"{node.proxied}:{node.upstream}" for node in cluster.nodes]
    process = subprocess.Popen(
        [sys.executable, __file__, "--relay", way, *routes], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    stack.callback(process.wait, 10)
    stack.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == b"listening\n"


def measure(case: Case, cluster: Cluster, topics: Topics, rounds: int) -> None:
    with ExitStack() as stack:
        if case.way != "direct":
            start_relay(stack, cluster, case.way)
        read_in_turns(case, cluster, topics, rounds)


def read_in_turns(case: Case, cluster: Cluster, topics: Topics, rounds: int) -> None:
    topic = topics.create(partitions=PARTITIONS, config={"max.message.bytes": "10000000"})
    fill(cluster.direct, topic, case)
    servers = cluster.direct if case.way == "direct" else cluster.proxied
    found: dict[int, list[Reading]] = {number: [] for number in NUMBERS}
    read(servers, topic, case.records, 1)  # what the brokers have to read from disk, they have
    for turn in range(rounds):
        order = NUMBERS if turn % 2 == 0 else NUMBERS[::-1]
        for number in order:
            found[number].append(read(servers, topic, case.records, number))
    bytes_mb = case.records * case.value_bytes / 1e6
    print(f"{case.name} ({case.records:,} records, {bytes_mb:,.0f} MB)")
    for number in NUMBERS:
        seconds = [one.seconds for one in found[number]]
        faster = [alone.seconds / one.seconds for alone, one in zip(found[1], found[number], strict=True)]
        dearer = [one.cpu_s / alone.cpu_s for alone, one in zip(found[1], found[number], strict=True)]
        print(
            f"  {number} connections  {bytes_mb / statistics.median(seconds):8,.0f} MB/s"
            f"  x{statistics.median(faster):4.2f} ({min(faster):4.2f} to {max(faster):4.2f})"
            f"  CPU x{statistics.median(dearer):4.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", nargs="*", default=[case.name for case in CASES])
    parser.add_argument("--share", type=float, default=1.0, help="of the records, for a slow machine")
    parser.add_argument("--relay", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.relay:
        way, *pairs = given.relay
        routes = [(int(a), int(b)) for a, b in (pair.split(":") for pair in pairs)]
        asyncio.run(relay(routes, SEND_BUFFER_BYTES if way == "far_narrow" else None))
        return
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        reaper = Reaper()
        stack.callback(reaper.close)
        cluster = Cluster(folder, reaper, WAIT_S)
        stack.callback(cluster.stop)
        cluster.start()
        topics = Topics(cluster.direct, prefix="connections")
        for case in CASES:
            if case.name in given.case:
                smaller = replace(case, records=int(case.records * given.share))
                measure(smaller, cluster, topics, given.rounds)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
