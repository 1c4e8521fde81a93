"""The reporters and the offset watch of one running app: made, started and stopped together.

Decides how often the broker is asked. Invariant: of the app only `snapshot` and `health` are called, which never wait.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from headrace.observe.offsets import OffsetWatch, Question
from headrace.observe.reporting import Reporters, Source
from headrace.observe.views import View

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace._client.settings import ConnectionSettings
    from headrace._core.health import Health
    from headrace._runtime.snapshots import Snapshot
    from headrace.observe.metrics import Gauge
    from headrace.observe.offsets import Asks
    from headrace.observe.settings import Reporting
    from headrace.observe.states import ReporterState
    from headrace.ports import TopicPartition

STOP_S = 2.0
"""What reporters get, all together, for a last report and to close. Who takes longer is left behind."""
ASK_EVERY_MIN_S = 1.0


class Attached:
    """What watches one app. `start` once; the rest from any thread."""

    def __init__(
        self,
        connection: ConnectionSettings,
        snapshot: Callable[[], Snapshot],
        health: Callable[[], Health],
        reporters: Sequence[Reporting],
        gauges: Sequence[Gauge],
    ) -> None:
        self._connection = connection
        self._snapshot = snapshot
        self._health = health
        isolation = connection.librdkafka.get("isolation.level", "read_committed")
        self._offsets = OffsetWatch(
            Question(isolation != "read_uncommitted"),
            self._observer,
            self._places,
            max(ASK_EVERY_MIN_S, min((one.every_s for one in reporters), default=ASK_EVERY_MIN_S)),
        )
        self._source = Source(connection.group_id, self._view, tuple(gauges))
        self._reporters = Reporters(reporters, self._source)
        self._any = bool(reporters)
        # The thread that starts the app writes; whoever waits for its end reads.
        self._started = False
        # Guards the two below: an app may be started while another thread begins to ask.
        self._lock = threading.Lock()
        self._running = False
        self._asked = self._any

    def start(self) -> None:
        """Begin; returns at once. Without reporters, and nobody who asks, there is nothing to begin."""
        with self._lock:
            self._running = True
            if self._asked:
                self._offsets.start()
        if self._any:
            self._reporters.start()
            self._started = True

    def source(self) -> Source:
        """What reports are made of, for those who ask when they like; from now on the broker's offsets are watched."""
        with self._lock:
            if self._running and not self._asked:
                self._offsets.start()
            self._asked = True
        return self._source

    def request_stop(self) -> None:
        """The app is over: let each reporter make a last report; returns at once."""
        self._reporters.request_stop()
        self._offsets.request_stop()

    def join(self) -> None:
        """Wait until all have made their last report, `STOP_S` at most."""
        if self._started:
            self._reporters.join(STOP_S)

    def states(self) -> tuple[ReporterState, ...]:
        """How each reporter fares."""
        return self._reporters.states()

    def _view(self) -> View:
        # The snapshot is taken before the moment: its age is then never negative.
        snapshot, health = self._snapshot(), self._health()
        return View(
            snapshot,
            health,
            time.monotonic(),
            self._offsets.of,
            self._offsets.age_s,
            self._reporters.states(),
        )

    def _places(self) -> list[TopicPartition]:
        return [(part.topic, part.partition) for part in self._snapshot().engine.partitions]

    def _observer(self) -> Asks:
        from headrace._client.watching import Watcher  # noqa: PLC0415 - loads the client library

        return Watcher(self._connection)
