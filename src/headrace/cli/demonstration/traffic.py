"""The producer of a demonstration: keyed records at a steady rate, and which of them the broker acknowledged.

Invariant: a record counts as produced when the broker has acknowledged it, and not before.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from headrace._client.producer import KafkaProducer
from headrace.cli.demonstration.plan import PARTITIONS, TOPIC, key_of, partition_of, value_of

if TYPE_CHECKING:
    from headrace._client.settings import ConnectionSettings
    from headrace.cli.demonstration.plan import Plan

TICK_S = 0.02
FLUSH_S = 10.0


class Traffic:
    """One thread that produces the plan's records over the plan's time."""

    def __init__(self, plan: Plan, connection: ConnectionSettings) -> None:
        self._plan = plan
        self._producer = KafkaProducer(connection)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._acknowledged: list[int] = []
        self._per_partition = [0] * PARTITIONS
        self._refused = 0
        self._thread = threading.Thread(target=self._run, name="demo-traffic", daemon=True)

    def start(self) -> None:
        """Begin to produce."""
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether all was produced and acknowledged, or refused."""
        return not self._thread.is_alive()

    def acknowledged(self) -> list[int]:
        """The numbers of the records that the broker has."""
        with self._lock:
            return list(self._acknowledged)

    def ends(self) -> list[int]:
        """How many records of each partition the broker has."""
        with self._lock:
            return list(self._per_partition)

    @property
    def refused(self) -> int:
        """Records that the broker did not acknowledge."""
        with self._lock:
            return self._refused

    def stop(self) -> None:
        """End early, and wait until what was sent is acknowledged."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(FLUSH_S + 5.0)

    def _run(self) -> None:
        plan, began, number = self._plan, time.monotonic(), 0
        while number < plan.records and not self._stop.is_set():
            due = min(plan.records, int((time.monotonic() - began) / plan.seconds * plan.records) + 1)
            for each in range(number, due):
                self._produce(each)
            number = due
            self._stop.wait(TICK_S)
        self._producer.close(FLUSH_S)

    def _produce(self, number: int) -> None:
        def done(error: Exception | None) -> None:
            with self._lock:
                if error is None:
                    self._acknowledged.append(number)
                    self._per_partition[partition_of(number)] += 1
                else:
                    self._refused += 1

        self._producer.produce(TOPIC, value_of(number), key_of(number), (), partition_of(number), done)
