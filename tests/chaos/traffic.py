"""Records produced in bursts while a run goes on, each written down once the broker acknowledged it.

Decides keys and rhythm by a seed; refuses to know who reads. Invariant: after `close` every record that was handed to
the producer is acknowledged and written down, or `unacknowledged` is not empty.
"""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from confluent_kafka import Producer

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

    from tests.members.ledger import Ledger

BURST_EVERY_S = 0.5
KEYS = 60
FLUSH_S = 60.0


class Traffic:
    """Produces on a thread of its own until closed."""

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        ledger: Ledger,
        seed: int,
        rate: float,
        every_s: float = BURST_EVERY_S,
        keys: int = KEYS,
    ) -> None:
        """`rate`: records a second, in the mean, in bursts `every_s` apart."""
        self.unacknowledged: list[str] = []
        self._topic = topic
        self._ledger = ledger
        self._chance = random.Random(seed)  # noqa: S311 # a seed has to repeat it
        self._every_s = every_s
        self._keys = keys
        self._per_burst = rate * every_s
        self._ended = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "client.id": "chaos-producer",
                "enable.idempotence": True,
                "linger.ms": 2,
                # A partition that was added is produced to as soon as it is seen.
                "topic.metadata.refresh.interval.ms": 2000,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        self._thread = threading.Thread(target=self._produce, name="chaos-traffic", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End, and wait for the acknowledgements."""
        self._ended.set()
        self._thread.join(FLUSH_S)
        left = self._producer.flush(FLUSH_S)
        if left:
            self.unacknowledged.append(f"{left} records without an answer")

    def _produce(self) -> None:
        number = 0
        while not self._ended.wait(self._every_s):
            for _ in range(int(self._chance.uniform(0.2, 1.8) * self._per_burst)):
                number += 1
                self._producer.produce(
                    self._topic, key=self._key(), value=b"%d" % number, on_delivery=self._acknowledged
                )
            self._producer.poll(0)

    def _key(self) -> bytes | None:
        """A tenth has one key, a twentieth none."""
        drawn = self._chance.random()
        if drawn < 0.05:
            return None
        return b"key-hot" if drawn < 0.15 else b"key-%d" % self._chance.randrange(self._keys)

    def _acknowledged(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.unacknowledged.append(str(error))
            return
        key = message.key()
        self._ledger.write(
            "acked",
            topic=message.topic(),
            partition=message.partition(),
            offset=message.offset(),
            key=key.decode() if isinstance(key, bytes) else key,
        )
