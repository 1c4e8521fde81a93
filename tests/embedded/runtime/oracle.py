"""A consumer group on a broker of its own, and the oracle that watches it from outside.

The oracle knows what handlers saw and what the broker answers to a client of ours; it asks Headrace only for what it
claims, to hold that against the broker.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from confluent_kafka import Consumer, TopicPartition

from tests.embedded.runtime.support import Place, Seen, app_on, records, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from headrace import App, Record
    from headrace.testing.broker import MockBroker

GROUP = "billing"
ASK_S = 5.0
LOOK_S = 0.03
"""Between two looks: each is a question to the broker, and many groups are watched at once."""
EVENTUALLY_S = 30.0
"""Longer than librdkafka's own retries of a commit, some of which take eight seconds."""


class Group:
    """Members of one group that read `orders`. As a context manager it ends them when the test fails."""

    def __init__(
        self, broker: MockBroker, protocol: Literal["classic", "consumer"] = "classic", stop_s: float = 6.0
    ) -> None:
        self.broker = broker
        self.protocol: Literal["classic", "consumer"] = protocol
        self.stop_s = stop_s
        self.seen = Seen()
        self.apps: list[App] = []
        self.held: Counter[int] = Counter()
        self.produced: set[Place] = set()
        self.partitions = sorted(broker.end_offsets("orders"))
        # One client for all questions: an admin client for each would cost more than all that is tested.
        self._asks = Consumer(broker.client_settings(GROUP, protocol=protocol))
        broker.track_requests()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            for app in self.apps:
                app.request_stop(hard=True, timeout_s=0.5)
        self._asks.close()

    def make(self, commit_every_s: float = 0.05, **settings: Any) -> App:
        """One more app, without a handler yet."""
        app = app_on(
            self.broker,
            GROUP,
            protocol=self.protocol,
            commit_every_s=commit_every_s,
            stop_s=self.stop_s,
            drain_s=settings.pop("drain_s", 2.0),
            **settings,
        )
        self.apps.append(app)
        return app

    def start(
        self,
        commit_every_s: float = 0.05,
        ack: Literal["on_return", "manual"] = "on_return",
        before: Callable[[], object] = lambda: None,
        **settings: Any,
    ) -> App:
        """One more member. Its handlers call `before`, remember the record, and acknowledge it if they must."""
        app = self.make(commit_every_s, **settings)
        remember = self.seen.handler(f"app-{len(self.apps)}")

        def handle(record: Record[Any, Any]) -> None:
            before()
            remember(record)
            if ack == "manual":
                record.ack()

        app.subscribe("orders", ack=ack)(handle)
        app.start()
        return app

    def produce(self, count: int) -> None:
        """So many records for each partition."""
        for partition in self.partitions:
            self.produced.update(self.broker.produce("orders", records(count), partition=partition))

    def committed(self) -> dict[int, int]:
        """What the broker holds for the group."""
        asked = [TopicPartition("orders", partition) for partition in self.partitions]
        return {p.partition: p.offset for p in self._asks.committed(asked, ASK_S) if p.offset >= 0}

    def requests(self, api: str) -> int:
        """How many requests came since they were tracked."""
        return len(self.broker.requests(api))

    def eventually(self, condition: Callable[[], object], what: str) -> None:
        """Wait, and look at each step."""

        def looked() -> object:
            self.look()
            time.sleep(LOOK_S)
            return condition()

        until(looked, what, EVENTUALLY_S)

    def look(self) -> None:
        """Hold what is claimed against what the broker holds, and that against what was handled."""
        # In this order: claims and commits only grow, and so does what was handled.
        claims = [
            (p.partition, p.committed or 0) for app in self.apps for p in app.snapshot().engine.partitions
        ]
        held = self.committed()
        prefix = self.seen.prefix()
        for partition, offset in held.items():
            assert offset <= prefix[partition], f"{offset} committed, {prefix[partition]} is not handled"
            assert offset >= self.held[partition], f"{offset} committed after {self.held[partition]}"
            self.held[partition] = offset
        for partition, offset in claims:
            assert offset <= held.get(partition, 0), f"{offset} is not committed"

    def all_handled(self) -> bool:
        """Whether every record that the broker holds was handled."""
        return self.produced == set(self.seen.handled())

    def all_committed(self) -> bool:
        """Whether the broker holds a commit at the end of each partition."""
        ends = Counter(partition for partition, _ in self.produced)
        return self.committed() == {partition: end for partition, end in ends.items() if end}

    def each_has(self, partitions: int, *apps: App) -> bool:
        """Whether each of the apps has so many partitions."""
        return all(len(app.snapshot().engine.partitions) == partitions for app in apps)

    def no_duplicates(self) -> bool:
        """Whether nothing was handled twice."""
        return max(self.seen.handled().values()) == 1

    def finish(self) -> None:
        """Whatever is left is handled by one more member if need be; then everything is handled and committed."""
        if not self.all_committed():
            successor = self.start()
            self.eventually(self.all_committed, "the successor's commit")
            successor.stop()
        assert self.all_handled()
        self.look()
