"""One connection of an app: its engine, executors and owner, made together and closed together.

Decides nothing but how they are joined. What all connections share (producer, loop, hooks, the tracker) comes from
outside and is never closed here. Invariant: no link touches what belongs to another; all they have in common is safe
for any thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from headrace._core.connection_notices import ConnectionMoved
from headrace._core.engine import Engine
from headrace._core.events import DeadLettered, ShareSet
from headrace._core.notices import AppFailed, StateChanged
from headrace._core.tenure import Tenure
from headrace._core.workload import Capacity
from headrace._runtime.dead_letters import headers_of
from headrace._runtime.executors import make_executor, worker_count
from headrace._runtime.inbox import AckAsked
from headrace._runtime.loop_beat import LoopBeat
from headrace._runtime.owner import Owner
from headrace._runtime.parts import Parts
from headrace.errors import AppStateError, ProduceFailed, WorkersFailed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from headrace._client.settings import ConnectionSettings
    from headrace._core.effects import ProduceDeadLetter
    from headrace._core.notices import Notice
    from headrace._runtime.hooks import Hooks
    from headrace._runtime.inbox import Inbox
    from headrace._runtime.settings import AppSettings
    from headrace._runtime.surroundings import Surroundings
    from headrace._runtime.tracker import Tracker
    from headrace.ports import Executor, Producer
    from headrace.records import Record
    from headrace.subscriptions import SubscriptionSettings


THE_FIRST = 0
"""The number of the connection that every app has, and whose thread runs the app."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all connections of an app share: made once, before the first of them. `jitter`: numbers in [0, 1)."""

    settings: AppSettings
    connection: ConnectionSettings
    surroundings: Surroundings
    subscriptions: Sequence[tuple[SubscriptionSettings, Callable[..., Any]]]
    hooks: Hooks
    tracker: Tracker
    tell: Callable[[Notice], None]
    producer: Producer
    loop: asyncio.AbstractEventLoop | None
    loop_error: Callable[[], BaseException | None]
    worker_resource: Callable[..., Any] | None
    jitter: Callable[[], float]


class Link:
    """One connection. Made on the thread that starts it; `owner.run` is the body of its own thread."""

    def __init__(self, number: int, shared: Shared, inbox: Inbox) -> None:
        """Raises what the settings cannot mean; does no network I/O, and leaves nothing behind where it raises."""
        self.number = number
        self.inbox = inbox
        self.executors: list[Executor] = []
        self._shared = shared
        self._only = [settings for settings, _ in shared.subscriptions]
        engine = Engine(
            self._only,
            [Capacity(settings.run_in, worker_count(settings)) for settings in self._only],  # type: ignore[arg-type] # never "auto" here
            commit=shared.settings.commit,
            budgets=shared.settings.budgets,
            rebuild_after_s=shared.connection.milliseconds("session.timeout.ms", 45_000),
            acknowledge=self._acknowledge,
            jitter=shared.jitter,
        )
        try:
            self._make_executors()
        except BaseException:
            self.close_executors(lambda: 0.1)
            raise
        self.owner = Owner(self._parts(engine))

    def share(self, connections: int) -> None:
        """Any thread: so many connections share what the subscriptions may run at once."""
        for executor in self.executors:
            executor.share(connections)
        self.inbox.put(ShareSet(connections))

    def close_executors(self, slice_s: Callable[[], float]) -> None:
        """End the workers, each executor within its slice."""
        for executor in self.executors:
            executor.close(slice_s())

    def _parts(self, engine: Engine) -> Parts:
        shared, settings = self._shared, self._shared.settings
        letters = [each.dead_letter for each in self._only if each.dead_letter]
        return Parts(
            make_client=partial(shared.surroundings.make_client, self.number),
            engine=engine,
            executors=self.executors,
            subscriptions=self._only,
            topics=_names_for_librdkafka(self._only),
            check_topics=[topic for each in self._only for topic in each.topics] + letters,
            produce_dead_letter=self._produce_dead_letter,
            on_rebalance=shared.hooks.call,
            inbox=self.inbox,
            tell=shared.tell if self.number == THE_FIRST else self._tell,
            clock=shared.surroundings.clock,
            timeouts=settings.timeouts,
            commit=settings.commit,
            poll_idle_s=shared.surroundings.poll_idle_s,
            group_protocol=settings.group_protocol,
            on_stall=settings.on_stall,
            loop_beat=None if shared.loop is None else self._beat(shared.loop),
            on_holdings=partial(shared.tracker.changed, self.number),
        )

    def _beat(self, loop: asyncio.AbstractEventLoop) -> LoopBeat:
        return LoopBeat(loop, self._shared.loop_error, tells=self.number == THE_FIRST)

    def _tell(self, notice: Notice) -> None:
        """What moves or ends this connection does not move or end the app; whoever opened it tells of its end."""
        match notice:
            case StateChanged(previous, state, reason):
                self._shared.tell(ConnectionMoved(self.number, previous, state, reason))
            case AppFailed():
                pass
            case _:
                self._shared.tell(notice)

    def _make_executors(self) -> None:
        shared = self._shared
        for index, (settings, handler) in enumerate(shared.subscriptions):
            # Threads are named after the subscription: those of two connections must be told apart.
            named = settings.name if self.number == THE_FIRST else f"{settings.name}@{self.number}"
            self.executors.append(
                make_executor(
                    index,
                    replace(settings, name=named),
                    handler,
                    self.inbox.put,
                    shared.loop,
                    shared.worker_resource,
                    self._workers_broke,
                    shared.surroundings.clock,
                )
            )

    def _acknowledge(self, record: Record[Any, Any]) -> bool:
        tenure = cast(Tenure, record._tenure)
        if self._only[tenure.subscription].ack != "manual":
            raise AppStateError("record.ack()", "on_return", "set ack='manual' on this subscription")
        self.inbox.put(AckAsked(record))
        return tenure.open

    def _produce_dead_letter(self, effect: ProduceDeadLetter) -> None:
        record, topic = effect.record, self._only[effect.subscription].dead_letter
        assert topic is not None, "a verdict of DeadLetter needs a topic"

        def done(error: Exception | None) -> None:
            permanent = isinstance(error, ProduceFailed) and error.permanent
            self.inbox.put(DeadLettered(record, error, permanent))

        headers = headers_of(record, effect.error, self._shared.settings.group_id)
        self._shared.producer.produce(topic, record.raw_value, record.raw_key, headers, None, done)

    def _workers_broke(self, subscription: str, error: BaseException) -> None:
        self.owner.give_up(WorkersFailed(subscription, error))


def _names_for_librdkafka(subscriptions: Sequence[SubscriptionSettings]) -> list[str]:
    """Topic names, and patterns with the ^ that makes librdkafka take them for such.

    librdkafka's dialect (POSIX extended) decides what is joined, Python's what is ours: a pattern should stay within
    what both understand alike.
    """
    names: list[str] = []
    for settings in subscriptions:
        names += settings.topics
        if settings.pattern is not None:
            names.append(f"^({settings.pattern})$")
    return names
