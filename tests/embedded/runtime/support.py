"""Apps made quick for the embedded broker, and a memory of what their handlers saw that no part of Headrace shares."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from headrace import App, Commit, Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from headrace import Record, Snapshot
    from headrace._core.notices import Notice
    from headrace.testing.broker import MockBroker

WAIT_S = 15.0
"""How long a test waits for what must happen: far longer than it takes, for machines that are busy."""
LOOK_S = 0.01

Place = tuple[int, int]
T = TypeVar("T")


def until(condition: Callable[[], T], what: str = "it", timeout_s: float = WAIT_S) -> T:
    """Wait until `condition` is true and return what it said; fails after `timeout_s`."""
    give_up_at = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < give_up_at, f"{what} did not happen in {timeout_s:g} s"
        time.sleep(LOOK_S)
    return answer


def start_and_wait(app: App) -> None:
    """For one that is to fail: the failure may be there before the start is over, and the start raises it then."""
    app.start()
    app.wait()


def app_on(
    broker: MockBroker,
    group_id: str,
    *,
    protocol: Literal["classic", "consumer"] = "classic",
    commit_every_s: float = 0.05,
    commit_timeout_s: float = 2.0,
    stop_s: float = 8.0,
    drain_s: float = 5.0,
    librdkafka: dict[str, Any] | None = None,
    **settings: Any,
) -> App:
    """An app on the embedded broker that commits twenty times a second and retries soon."""
    client: dict[str, Any] = {**broker.client_settings(protocol=protocol)}
    for owned in ("bootstrap.servers", "group.protocol"):
        client.pop(owned, None)
    commit = Commit(
        every_s=commit_every_s, timeout_s=commit_timeout_s, backoff_initial_s=0.02, backoff_max_s=0.2
    )
    return App(
        broker.bootstrap_servers,
        group_id,
        librdkafka=client | (librdkafka or {}),
        group_protocol=protocol,
        commit=settings.pop("commit", commit),
        timeouts=settings.pop("timeouts", Timeouts(connect_s=10, drain_s=drain_s, stop_s=stop_s, hook_s=0.2)),
        **settings,
    )


@contextmanager
def running(*apps: App) -> Generator[None]:
    """Apps that run within the block and are stopped after it; after a failure hard, so that the failure is shown."""
    try:
        for app in apps:
            app.start()
        yield
    except BaseException:
        for app in apps:
            app.request_stop(hard=True, timeout_s=1.0)
        raise
    for app in apps:
        app.stop()


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a handler, and its end as far as there was one."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    attempt: int
    who: str
    number: int


class Seen:
    """What handlers saw. Any thread writes; it judges order and overlap by itself, as it is told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.starts: list[Start] = []
        self.ends: list[Start] = []
        self.running: Counter[Any] = Counter()
        self.most_at_once: Counter[Any] = Counter()
        self.overlaps: list[Start] = []

    def begin(self, record: Record[Any, Any], who: str = "") -> Start:
        """A handler starts."""
        with self._lock:
            start = Start(
                record.topic,
                record.partition,
                record.offset,
                record.raw_key,
                record.attempt,
                who,
                len(self.starts),
            )
            self.starts.append(start)
            for what in ("all", ("partition", start.topic, start.partition), self._lane(start)):
                self.running[what] += 1
                self.most_at_once[what] = max(self.most_at_once[what], self.running[what])
            if start.key is not None and self.running[self._lane(start)] > 1:
                self.overlaps.append(start)
            return start

    def end(self, start: Start, *, handled: bool = True) -> None:
        """It ends."""
        with self._lock:
            if handled:
                self.ends.append(start)
            for what in ("all", ("partition", start.topic, start.partition), self._lane(start)):
                self.running[what] -= 1

    def handle(self, record: Record[Any, Any], who: str = "") -> None:
        """A handler that only remembers."""
        self.end(self.begin(record, who))

    def handler(self, who: str = "") -> Callable[[Record[Any, Any]], None]:
        """`handle` as a function of its own: a subscription's name is its handler's."""

        def remember(record: Record[Any, Any]) -> None:
            self.handle(record, who)

        return remember

    def handled(self, topic: str = "orders") -> Counter[Place]:
        """How often each (partition, offset) of a topic was handled to the end."""
        with self._lock:
            return Counter((end.partition, end.offset) for end in self.ends if end.topic == topic)

    def prefix(self, topic: str = "orders") -> Counter[int]:
        """Per partition, the first offset not handled: no commit may be beyond it."""
        handled = self.handled(topic)
        first: Counter[int] = Counter()
        for partition in {partition for partition, _ in handled}:
            while (partition, first[partition]) in handled:
                first[partition] += 1
        return first

    def lanes(self, topic: str = "orders") -> dict[tuple[int, bytes | None], list[int]]:
        """The offsets of each key in the order in which they were first started."""
        lanes: dict[tuple[int, bytes | None], list[int]] = {}
        with self._lock:
            for start in self.starts:
                lane = lanes.setdefault((start.partition, start.key), [])
                if start.topic == topic and start.offset not in lane:
                    lane.append(start.offset)
        return lanes

    @staticmethod
    def _lane(start: Start) -> Any:
        return (start.topic, start.partition, start.key)


def records(count: int, keys: int = 5, first: int = 0) -> list[tuple[bytes, bytes]]:
    """Records whose values are numbers and whose keys take turns."""
    return [(b"key-%d" % (n % keys), b"%d" % n) for n in range(first, first + count)]


def places(broker: MockBroker, topic: str = "orders") -> set[Place]:
    """Every (partition, offset) that the broker holds."""
    return {
        (partition, offset) for partition, end in broker.end_offsets(topic).items() for offset in range(end)
    }


def committed_to_the_end(broker: MockBroker, group_id: str, topic: str = "orders") -> bool:
    """Whether the broker, asked by a client of our own, holds a commit at the end of each partition with records."""
    ends = {partition: end for partition, end in broker.end_offsets(topic).items() if end}
    committed = broker.committed(group_id, topic)
    return all(committed.get(partition) == end for partition, end in ends.items())


def told(app: App, kind: type[Notice] | str) -> list[Notice]:
    """The notices of one kind."""
    return [
        notice
        for notice in app.notices()
        if (notice.name == kind if isinstance(kind, str) else isinstance(notice, kind))
    ]


def assigned(app: App) -> set[tuple[str, int]]:
    """The partitions an app works on now."""
    return {(p.topic, p.partition) for p in app.snapshot().engine.partitions}


def adds_up(snapshot: Snapshot) -> bool:
    """Conservation: nothing fetched is anywhere but in one of the counts."""
    unfinished = 0
    for p in snapshot.engine.partitions:
        pending = p.waiting + p.in_flight + p.parked + p.held + p.settling + p.unacked
        if p.delivered != p.finished + pending:
            return False
        unfinished += pending
    counts = snapshot.engine.counters
    return counts.fetched == counts.finished + counts.dropped + unfinished


def in_order(offsets: Sequence[int]) -> bool:
    """Whether offsets rise."""
    return all(a < b for a, b in pairwise(offsets))
