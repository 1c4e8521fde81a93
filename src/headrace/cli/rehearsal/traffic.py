"""The producer of a rehearsal: samples, over and over, at a steady rate, within what the embedded broker keeps.

Invariant: a record counts as produced when the broker has acknowledged it, and not before.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Final

from headrace._client.producer import KafkaProducer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace._client.settings import ConnectionSettings
    from headrace.cli.rehearsal.samples import Sample

TICK_S: Final = 0.02
FLUSH_S: Final = 15.0
UNDER_WAY_MAX: Final = 2000
"""While the broker is away no more is added: what it cannot take must not pile up."""


class Traffic:
    """One thread that produces. `bytes_max`: beyond it the broker would forget the oldest records."""

    def __init__(
        self, samples: Sequence[Sample], rate: float, bytes_max: int, connection: ConnectionSettings
    ) -> None:
        self._samples = samples
        self._rate = rate
        self._bytes_max = bytes_max
        self._producer = KafkaProducer(connection)
        self._stop = threading.Event()
        # Guards the counts.
        self._lock = threading.Lock()
        self._sent = self._acknowledged = self._refused = 0
        self.cut_short = False
        self._thread = threading.Thread(target=self._run, name="rehearsal-traffic", daemon=True)

    def start(self) -> None:
        """Begin to produce."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait until what was sent is acknowledged."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(FLUSH_S + 5.0)

    @property
    def acknowledged(self) -> int:
        """Records that the broker has."""
        with self._lock:
            return self._acknowledged

    @property
    def refused(self) -> int:
        """Records that it did not acknowledge."""
        with self._lock:
            return self._refused

    def _run(self) -> None:
        samples = itertools.cycle(self._samples)
        began, held = time.monotonic(), 0
        while not self._stop.is_set() and held < self._bytes_max:
            due = int((time.monotonic() - began) * self._rate) + 1
            while self._sent < due and self._under_way() < UNDER_WAY_MAX and held < self._bytes_max:
                sample = next(samples)
                held += sample.size + 100
                self._sent += 1
                self._producer.produce(
                    sample.topic, sample.value, sample.key, sample.headers, None, self._done
                )
            self._stop.wait(TICK_S)
        self.cut_short = held >= self._bytes_max
        self._stop.wait()
        self._producer.close(FLUSH_S)

    def _under_way(self) -> int:
        with self._lock:
            return self._sent - self._acknowledged - self._refused

    def _done(self, error: Exception | None) -> None:
        with self._lock:
            if error is None:
                self._acknowledged += 1
            else:
                self._refused += 1
