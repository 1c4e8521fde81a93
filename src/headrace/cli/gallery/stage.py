"""What every act needs: bounded waits, a load, readers at full speed, and an app made quick for the embedded broker.

Decides how long anything may take; refuses to know what an act shows. Invariant: no wait is without a bound, and no
thread started here outlives its `with` block, unless it hangs in a call of the client: then it is a daemon.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from headrace import App, Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType

    from headrace import Commit
    from headrace.testing.broker import MockBroker

LOOK_S: Final = 0.02
JOIN_S: Final = 5.0
_OURS: Final = ("bootstrap.servers", "group.protocol")  # arguments of App


@dataclass(frozen=True, slots=True)
class Stage:
    """Where an act is played.

    tell: says what happens, as it happens. patience_s: the longest wait for what must happen: then the act admits that
    the naive form did not fail, or that Headrace was not done.
    """

    tell: Callable[[str], None]
    patience_s: float


def until(condition: Callable[[], object], timeout_s: float) -> bool:
    """Wait until it is true; False if it was not in time."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(LOOK_S)
    return True


def make_app(
    broker: MockBroker, group_id: str, commit: Commit, protocol: Literal["classic", "consumer"] = "classic"
) -> App:
    """An app with what makes any client quick on the embedded broker, and nothing else out of the ordinary."""
    client: dict[str, Any] = dict(broker.client_settings(protocol=protocol))
    for name in _OURS:
        client.pop(name, None)
    return App(
        broker.bootstrap_servers,
        group_id,
        librdkafka=client,
        group_protocol=protocol,
        commit=commit,
        timeouts=Timeouts(connect_s=10.0, drain_s=2.0, stop_s=5.0),
    )


@contextmanager
def running(app: App) -> Generator[None]:
    """An app that runs within the block. One that ended by itself, or that has to be forced, raises."""
    try:
        app.start()
        yield
    finally:
        app.stop()


class Background:
    """One function on a thread of its own, told to end by an event, for the length of a `with` block."""

    def __init__(self, work: Callable[[threading.Event], None], name: str) -> None:
        self._leaving = threading.Event()
        self._work = work
        # The thread writes, once; others read.
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"failures-{name}", daemon=True)

    def _run(self) -> None:
        try:
            self._work(self._leaving)
        except Exception as error:  # noqa: BLE001 - what ended it is a fact of the act
            self.error = error

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._thread.is_alive()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Tell it to end, and wait for that, though not for ever. Idempotent."""
        self._leaving.set()
        self._thread.join(JOIN_S)


class Traffic(Background):
    """A steady trickle of records: `records` of them ten times a second, by turns to each partition."""

    def __init__(self, broker: MockBroker, topic: str, partitions: int, records: int) -> None:
        super().__init__(self._produce, "traffic")
        self._broker, self._topic, self._partitions, self._records = broker, topic, partitions, records
        # Its thread writes; others read.
        self.produced = 0

    def _produce(self, leaving: threading.Event) -> None:
        turn = 0
        while not leaving.wait(0.1):
            numbers = range(self.produced, self.produced + self._records)
            records = [(b"key-%d" % (number % 20), b"%d" % number) for number in numbers]
            self._broker.produce(self._topic, records, partition=turn % self._partitions)
            self.produced += self._records
            turn += 1


@dataclass(slots=True)
class Reading:
    """What one reader did. Its thread writes; others read after its end."""

    count: int = 0
    longest_s: float = 0.0
    errors: list[str] = field(default_factory=list[str])


class Readers:
    """Threads that call one function as fast as they can, or once every `pause_s`, and time each call.

    A call that raises is counted, and ends its thread if `stop_at_error`. A call that has not returned when somebody
    looks counts with the time it has taken so far: a wait without end must not pass for a short one.
    """

    def __init__(
        self,
        read: Callable[[], object],
        threads: int = 1,
        pause_s: float = 0.0,
        *,
        stop_at_error: bool = False,
    ) -> None:
        self._read, self._pause_s, self._stop_at_error = read, pause_s, stop_at_error
        self._readings = [Reading() for _ in range(threads)]
        # When the call now running began, None between two. Each thread writes its own.
        self._since: list[float | None] = [None] * threads
        self._threads = [Background(partial(self._run, index), f"reader-{index}") for index in range(threads)]
        self._began_at = 0.0
        self.elapsed_s = 0.0

    def _run(self, index: int, leaving: threading.Event) -> None:
        reading, read, clock = self._readings[index], self._read, time.monotonic
        while not leaving.is_set():
            began_at = self._since[index] = clock()
            try:
                read()
                reading.count += 1
            except Exception as error:  # noqa: BLE001 - what a reader meets is a fact of the act
                reading.errors.append(f"{type(error).__name__}: {error}")
            self._since[index] = None
            reading.longest_s = max(reading.longest_s, clock() - began_at)
            if reading.errors and self._stop_at_error:
                return
            if self._pause_s:
                leaving.wait(self._pause_s)

    @property
    def count(self) -> int:
        """Calls that returned."""
        return sum(reading.count for reading in self._readings)

    @property
    def longest_s(self) -> float:
        """The longest call, also if it has not returned yet."""
        now = time.monotonic()
        waiting = [now - since for since in self._since if since is not None]
        return max([*waiting, *(reading.longest_s for reading in self._readings)])

    @property
    def errors(self) -> list[str]:
        """What calls raised."""
        return [error for reading in self._readings for error in reading.errors]

    def __enter__(self) -> Self:
        self._began_at = time.monotonic()
        for thread in self._threads:
            thread.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.elapsed_s = time.monotonic() - self._began_at
        for thread in self._threads:
            thread.__exit__(kind, error, traceback)
