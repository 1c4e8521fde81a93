"""Every commit that a broker accepted, read from the log where it keeps them.

Decides how the records of `__consumer_offsets` are read; refuses to judge. Invariant: each accepted commit of a watched
group becomes one line, in the log's order, with the time at which the broker took it. (Asking a group what it has
committed would show samples only.)
"""

from __future__ import annotations

import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition

from headrace._core.offset_map import Replay, decode
from tests.chaos.cluster import OFFSETS_PARTITIONS, OFFSETS_TOPIC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Message

    from tests.members.ledger import Ledger

COMMIT_KEYS = (0, 1)
CLASSIC_GROUP_KEY = 2
KIP848_GROUP_KEY = 3
CAUGHT_UP_WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Committed:
    """One accepted commit."""

    group: str
    topic: str
    partition: int
    offset: int
    leader_epoch: int
    metadata: str

    def beyond(self) -> list[int]:
        """What its map calls finished."""
        if not self.metadata:
            return []
        epoch = self.leader_epoch if self.leader_epoch >= 0 else None
        found = decode(self.metadata, committed=self.offset, leader_epoch=epoch)
        return [] if isinstance(found, Replay) else list(found)


@dataclass(frozen=True, slots=True)
class Generation:
    """A group has a new generation, or, with KIP-848, a new epoch."""

    group: str
    number: int


def read(key: bytes, value: bytes | None) -> Committed | Generation | None:
    """What one record says; None for what is of no interest, deletions included."""
    if value is None:
        return None
    (kind,) = struct.unpack_from(">h", key)
    group, at = _string(key, 2)
    if kind in COMMIT_KEYS:
        topic, at = _string(key, at)
        (partition,) = struct.unpack_from(">i", key, at)
        version, offset = struct.unpack_from(">hq", value)
        epoch, at = (struct.unpack_from(">i", value, 10)[0], 14) if version >= 3 else (-1, 10)
        metadata, _ = _string(value, at, compact=version >= 4)
        return Committed(group, topic, partition, offset, epoch, metadata)
    if kind == CLASSIC_GROUP_KEY:
        (version,) = struct.unpack_from(">h", value)
        _, at = _string(value, 2, compact=version >= 4)
        return Generation(group, struct.unpack_from(">i", value, at)[0])
    if kind == KIP848_GROUP_KEY:
        return Generation(group, struct.unpack_from(">i", value, 2)[0])
    return None


def _string(data: bytes, at: int, *, compact: bool = False) -> tuple[str, int]:
    """A string of Kafka's and the place behind it; a compact one begins with its length + 1 as a varint."""
    if not compact:
        (length,) = struct.unpack_from(">h", data, at)
        at += 2
    else:
        length, shift = -1, 0
        while True:
            byte, at = data[at], at + 1
            length += (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
    end = at + max(length, 0)
    return data[at:end].decode(), end


class OffsetsLog:
    """Follows the log on a thread of its own, from its start, and writes to the ledgers of the watched groups."""

    def __init__(self, bootstrap_servers: str, ledgers: Mapping[str, Ledger]) -> None:
        self._ledgers = dict(ledgers)
        self._servers = bootstrap_servers
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "chaos-nobody",
                "enable.auto.commit": False,
                "log_level": 0,
                "reconnect.backoff.max.ms": 500,
            }
        )
        self._ended = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._follow, name="chaos-offsets", daemon=True)
        # The ledger's clock is the machine's monotonic one; the broker gives the time of day.
        self._monotonic_less_wall = time.monotonic() - time.time()

    def start(self) -> None:
        """Begin."""
        self._consumer.assign([TopicPartition(OFFSETS_TOPIC, n, 0) for n in range(OFFSETS_PARTITIONS)])
        self._thread.start()

    def close(self) -> None:
        """Read on to the end that the log has now, then end."""
        self._ended.set()
        self._thread.join(CAUGHT_UP_WAIT_S + 5.0)
        assert not self._thread.is_alive(), "the reader of the log of commits hangs"
        self._consumer.close()
        if self._failure is not None:
            raise self._failure

    def _follow(self) -> None:
        try:
            self._read_all()
        except Exception as error:  # noqa: BLE001 # raised by `close`: without the log there is no judgement
            self._failure = error

    def _read_all(self) -> None:
        while not self._ended.is_set():
            self._take(0.2)
        deadline = time.monotonic() + CAUGHT_UP_WAIT_S
        ends = {
            n: self._consumer.get_watermark_offsets(TopicPartition(OFFSETS_TOPIC, n), timeout=10.0)[1]
            for n in range(OFFSETS_PARTITIONS)
        }
        while (
            any(max(p.offset, 0) < ends[p.partition] for p in self._positions())
            and time.monotonic() < deadline
        ):
            self._take(0.2)
        if time.monotonic() >= deadline:
            raise TimeoutError("the log of commits could not be read to its end")

    def _positions(self) -> list[TopicPartition]:
        asked = [TopicPartition(OFFSETS_TOPIC, n) for n in range(OFFSETS_PARTITIONS)]
        return self._consumer.position(asked)

    def _take(self, timeout_s: float) -> None:
        message = self._consumer.poll(timeout_s)
        if message is None or message.error() is not None:
            return
        key, value = message.key(), message.value()
        found = read(key, value if isinstance(value, bytes) else None) if isinstance(key, bytes) else None
        ledger = None if found is None else self._ledgers.get(found.group)
        if ledger is None:
            return
        wall = _wall_of(message)
        at = wall + self._monotonic_less_wall
        if isinstance(found, Committed):
            beyond = ",".join(map(str, found.beyond()))
            place = {"topic": found.topic, "partition": found.partition, "offset": found.offset}
            ledger.write("committed", **place, detail=beyond, at=at, wall=wall)
        elif isinstance(found, Generation):
            ledger.write("generation", offset=found.number, at=at, wall=wall)


def _wall_of(message: Message) -> float:
    return message.timestamp()[1] / 1000
