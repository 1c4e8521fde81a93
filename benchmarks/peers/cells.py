"""The cells of the benchmark: what work, on what records, in what order. One table.

Decides what is asked of contenders; refuses to know who they are. Invariant: a cell says all that its numbers depend on,
but for the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Handler = Literal["def", "async", "batch", "cpu"]
Mode = Literal["rate", "latency", "idle"]

LOOPS = ("raw", "raw-default", "librdkafka-c")
PYTHON_PEERS = (
    "faststream-confluent",
    "faststream-aiokafka",
    "arroyo",
    "quix",
    "faust",
    "kafka-python",
    "aiokafka",
)
JAVA_KEY = ("pc-key", "pc-key-tuned", "pc-fork-key-tuned")
JAVA_FREE = ("pc-unordered", "pc-unordered-tuned", "pc-fork-unordered-tuned")
EVERYONE = (*LOOPS, "headrace", *PYTHON_PEERS, *JAVA_KEY, *JAVA_FREE)
NEAREST = ("raw", "headrace", "pc-key-tuned")
OURS = ("raw", "headrace")
PINNED = "headrace-one-core"


@dataclass(frozen=True, slots=True)
class Shape:
    """Records of a topic. keys: how many, in turns; hot_share: of all records, those of the first key.

    records: so many that the raw loop takes seconds; what it had fetched before the clocks began is then a small part.
    """

    records: int = 4_000_000
    partitions: int = 8
    keys: int = 10_007
    hot_share: float = 0.0
    value_bytes: int = 100
    codec: str = "none"

    @property
    def name(self) -> str:
        """A topic's name: the same shape is filled once."""
        hot = f"-hot{self.hot_share:g}" if self.hot_share else ""
        return f"bench-{self.partitions}p-{self.keys}k{hot}-{self.value_bytes}b-{self.codec}-{self.records}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing to measure.

    concurrency, workers: 0 leaves them at the contender's default. seconds: how long is measured at most. rate_per_s: in
    "latency", how fast records come while it is measured; the share of the hot key is the shape's. failing: of records,
    those whose first try raises.
    """

    name: str
    title: str
    handler: Handler = "def"
    work_ms: float = 0.0
    order: str = "key"
    concurrency: int = 0
    workers: int = 0
    shape: Shape = Shape()
    seconds: float = 6.0
    mode: Mode = "rate"
    rate_per_s: int = 0
    failing: float = 0.0
    contenders: tuple[str, ...] = NEAREST


CELLS = (
    Cell("def-0", "`def`, 0 ms", contenders=(*EVERYONE, PINNED)),
    Cell("async-0", "`async def`, 0 ms", handler="async", contenders=("raw", "headrace", PINNED, "faststream-confluent", "faststream-aiokafka", "faust")),
    Cell("batch-0", "batches of up to 500, 0 ms", handler="batch", contenders=("raw", "headrace", PINNED, "faststream-confluent", "faststream-aiokafka")),
    Cell("await-1", "1 ms awaited, concurrency 1,000", "async", 1.0, concurrency=1000, contenders=("headrace", *PYTHON_PEERS, "pc-key-tuned")),
    Cell("await-10", "10 ms awaited, concurrency 1,000", "async", 10.0, concurrency=1000, contenders=("raw", "headrace", *PYTHON_PEERS, *JAVA_KEY, *JAVA_FREE)),
    Cell("await-100", "100 ms awaited, concurrency 10,000", "async", 100.0, concurrency=10_000, contenders=("headrace", "arroyo", "aiokafka", "pc-key-tuned", "pc-unordered-tuned")),
    Cell("block-1", "1 ms blocking, 200 threads", "def", 1.0, concurrency=200, workers=200, contenders=("headrace", "arroyo", "pc-key-tuned")),
    Cell("block-10", "10 ms blocking, 200 threads", "def", 10.0, concurrency=200, workers=200, contenders=("raw", "headrace", "arroyo", "faststream-confluent", "pc-key-tuned", "pc-unordered-tuned")),
    Cell("block-100", "100 ms blocking, 200 threads", "def", 100.0, concurrency=200, workers=200, contenders=("headrace", "arroyo", "pc-key-tuned")),
    Cell("cpu-1", "1 ms of CPU, 2 processes", "cpu", 1.0, workers=2, contenders=("bare-processes", "headrace", "arroyo")),
    Cell("order-partition", "`def`, 0 ms, order by partition", order="partition", contenders=OURS),
    Cell("order-none", "`def`, 0 ms, no order", order="none", contenders=(*OURS, "pc-unordered-tuned")),
    Cell("partitions-1", "`def`, 0 ms, 1 partition", shape=Shape(partitions=1)),
    Cell("partitions-64", "`def`, 0 ms, 64 partitions", shape=Shape(partitions=64)),
    Cell("keys-1", "`def`, 0 ms, 1 key", shape=Shape(keys=1)),
    Cell("keys-hot", "`def`, 0 ms, one key has 90%", shape=Shape(hot_share=0.9)),
    Cell("keys-1m", "`def`, 0 ms, 64 partitions, 1,000,000 keys", shape=Shape(partitions=64, keys=1_000_000)),
    Cell("value-1k", "`def`, 0 ms, values of 1 kB", shape=Shape(2_000_000, value_bytes=1000)),
    Cell("value-100k", "`def`, 0 ms, values of 100 kB", shape=Shape(24_000, value_bytes=100_000)),
    Cell("failing-1", "`def`, 0 ms, 1% fail at first", failing=0.01, contenders=("headrace", "pc-key-tuned")),
    Cell("lz4", "`def`, 0 ms, topic compressed with lz4", shape=Shape(codec="lz4"), contenders=OURS),
    Cell("zstd", "`def`, 0 ms, topic compressed with zstd", shape=Shape(codec="zstd"), contenders=OURS),
    Cell("latency", "100 records/s, age at the handler's start", mode="latency", rate_per_s=100, seconds=10, contenders=("raw", "headrace", *PYTHON_PEERS, "pc-key")),
    Cell("cool", "200 records/s of many keys, 1 ms awaited", "async", 1.0, mode="latency", rate_per_s=200, concurrency=1000, seconds=10, contenders=("headrace",)),
    Cell("hot", "the same beside 1,800 records/s of one key", "async", 1.0, mode="latency", rate_per_s=2000, concurrency=1000, seconds=10, shape=Shape(hot_share=0.9), contenders=("headrace",)),
    Cell("idle", "joined, no records", mode="idle", seconds=10, contenders=("raw", "headrace", *PYTHON_PEERS, "pc-key")),
)  # fmt: skip


def cell_named(name: str) -> Cell:
    """Raises `SystemExit` that lists what there is."""
    for cell in CELLS:
        if cell.name == name:
            return cell
    raise SystemExit(f"no cell {name!r}; there are: {', '.join(cell.name for cell in CELLS)}")
