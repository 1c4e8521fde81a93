"""The parts of one app, put together, started and taken apart in order.

One thread, the owner's, enters the lifespans, runs the connection, and afterwards closes executors, lifespans,
producer and hooks. Decides no more than that order. Invariant: `over` is set at the end, whatever happened.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from headrace._core.events import PauseAsked, QuietAsked, QuietEnded, ResumeAsked
from headrace._core.routing import Routing
from headrace._core.states import AppState
from headrace._execute.scope import note_produced
from headrace._runtime.deliveries import Delivery
from headrace._runtime.executors import refuse_what_cannot_be_shared
from headrace._runtime.hooks import Hooks
from headrace._runtime.inbox import MoveAsked
from headrace._runtime.lifespans import Lifespans
from headrace._runtime.link import THE_FIRST, Link, Shared
from headrace._runtime.snapshots import Snapshot
from headrace._runtime.surroundings import kafka
from headrace._runtime.telling import Teller
from headrace._runtime.tracker import Tracker
from headrace._runtime.vitals import health_of
from headrace._runtime.watchdog import Watchdog
from headrace.errors import (
    AppStateError,
    ConfigError,
    FatalError,
    InternalFailure,
)

if TYPE_CHECKING:
    import asyncio
    import logging
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from headrace._client.settings import ConnectionSettings
    from headrace._core.health import Health
    from headrace._execute.handler_loop import HandlerLoop
    from headrace._runtime.owner import Owner
    from headrace._runtime.settings import AppSettings
    from headrace._runtime.siblings import Siblings
    from headrace._runtime.surroundings import Surroundings
    from headrace.config import Commit
    from headrace.ports import Producer, TopicPartition
    from headrace.subscriptions import SubscriptionSettings

CLOSE_SLICE_S = 2.0
"""What each part may take, at most, to close after the connection is closed."""
CLOSE_SLICE_MIN_S = 0.1
"""What each part gets when the stop budget is spent: idle workers and loops need no more to end in order."""
HARD_SLICE_S = 0.5
"""What lifespans and the producer get in a hard stop; workers and loops get no more than the least."""


class Assembly:
    """One app's parts. Methods may be called from any thread; `start` once."""

    def __init__(
        self,
        settings: AppSettings,
        connection: ConnectionSettings,
        logger: logging.Logger,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._logger = logger
        self._surroundings = surroundings or kafka(connection)
        self.teller = Teller(logger)
        self.hooks = Hooks(
            self.teller.tell, settings.timeouts.hook_s, self.handlers_loop, self._surroundings.clock
        )
        self.tracker = Tracker(self.hooks.offer_change, self.hooks.change_dropped)
        # Written before the start, read afterwards.
        self.lifespans = Lifespans()
        self.worker_resource: Callable[..., Any] | None = None
        self._inbox = self._surroundings.make_inbox()
        self._producer: Producer | None = None
        self._link: Link | None = None
        self._siblings: Siblings | None = None
        # Asked for before the start: connections that come later must hear of it too. Written under the lock.
        self._asked_early: list[PauseAsked | ResumeAsked | QuietAsked | QuietEnded] = []
        self._asking = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own_loop: HandlerLoop | None = None
        self._owner: Owner | None = None
        self._watchdog: Watchdog | None = None
        self._stop_before_start = threading.Event()
        self.over = threading.Event()
        # Guards the callbacks against being registered while they are called.
        self._over_lock = threading.Lock()
        self._when_over: list[Callable[[], None]] = []

    def renewed(self, surroundings: Surroundings, commit: Commit) -> Assembly:
        """The same parts, not yet started, in other surroundings: lifespans, hooks, resource and listeners are kept."""
        other = Assembly(replace(self._settings, commit=commit), self._connection, self._logger, surroundings)
        other.lifespans.take_over(self.lifespans)
        other.hooks.take_over(self.hooks)
        other.teller.take_over(self.teller)
        other.worker_resource = self.worker_resource
        return other

    # Starting

    @property
    def began(self) -> bool:
        """Whether the app was started, ever."""
        return self._owner is not None

    def check(self, subscriptions: Sequence[tuple[SubscriptionSettings, Callable[..., Any]]]) -> None:
        """Raise what a start would refuse before it connects; starts and keeps nothing."""
        from headrace._client.acceptance import check_accepted

        only = [settings for settings, _ in subscriptions]
        Routing(only)
        refuse_what_cannot_be_shared(only, self._settings.connections.max)
        for settings, handler in subscriptions:
            if settings.run_in == "processes":
                from headrace._execute.processes import check_importable

                check_importable(settings, handler, self.worker_resource)
        check_accepted(self._connection)

    def start(
        self,
        subscriptions: Sequence[tuple[SubscriptionSettings, Callable[..., Any]]],
        loop: asyncio.AbstractEventLoop | None,
        jitter: Callable[[], float],
        app: object,
    ) -> None:
        """Build everything and start the owner thread. Does no network I/O.

        Raises what the settings cannot mean, and `RuntimeError` where the process can have no more threads: nothing is left then.
        """
        only = [settings for settings, _ in subscriptions]
        refuse_what_cannot_be_shared(only, self._settings.connections.max)
        self._producer = self._surroundings.make_producer()
        self._loop = self._handler_loop(only, loop)
        try:
            shared = self._shared(subscriptions, jitter)
            self._link = link = Link(THE_FIRST, shared, self._inbox)
        except BaseException:
            if self._own_loop is not None:
                self._own_loop.stop(CLOSE_SLICE_S)
            raise
        if self._settings.connections.max > 1:
            # Before the owner, whose presence says that the app began; no request may come in between.
            with self._asking:
                self._siblings = self._make_siblings(link, shared)
        self._owner = link.owner
        if self._stop_before_start.is_set():
            self._owner.request_stop()
        self._app = app
        thread = threading.Thread(target=self._run, name="headrace-owner", daemon=True)
        self._watchdog = Watchdog(
            self._owner,
            thread,
            self.teller.tell,
            self._let_go,
            self._settings.timeouts,
            self._settings.on_stall,
        )
        try:
            if self._siblings is not None:
                self._siblings.start()
            thread.start()
            self._watchdog.start()
        except RuntimeError:
            self._take_back(thread)
            raise

    def _take_back(self, thread: threading.Thread) -> None:
        """One of the threads could not be had: what began ends, before anything was consumed as a rule."""
        self.request_stop(hard=True)
        if thread.ident is None:
            self._take_apart()
        else:
            thread.join(self._settings.timeouts.stop_s + 5 * CLOSE_SLICE_S)

    def wait_started(self) -> None:
        """Block until the group is joined; raises what prevented it."""
        owner = self._owner
        assert owner is not None
        owner.running.wait()
        if self._owner is not None and owner.ended.is_set():
            self.over.wait(self._settings.timeouts.stop_s + 5 * CLOSE_SLICE_S)
            self.raise_if_failed()

    # Stopping

    def request_stop(self, *, hard: bool = False, timeout_s: float | None = None) -> None:
        """Begin to stop; does nothing on an app that is over."""
        if self._owner is None:
            self._stop_before_start.set()
        else:
            self._owner.request_stop(hard=hard, timeout_s=timeout_s)
            if self._siblings is not None:
                self._siblings.request_stop(hard=hard, timeout_s=timeout_s)

    def stop_requested(self) -> bool:
        """Whether a stop was asked for already."""
        return self._owner is not None and self._owner.stop_asked.is_set()

    def fatal(self) -> FatalError | ConfigError | None:
        """What ended the app, if it was not a stop."""
        return None if self._owner is None else self._owner.fatal

    def raise_if_failed(self) -> None:
        """Raise what ended the app, if it was not a stop."""
        if (fatal := self.fatal()) is not None:
            raise fatal

    def when_over(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, on any thread, when the app is over; at once if it is."""
        with self._over_lock:
            if not self.over.is_set():
                self._when_over.append(callback)
                return
        callback()

    # While it runs

    def state(self) -> AppState:
        """Where the app is in its life."""
        if self._owner is None:
            return AppState.NEW
        if self._siblings is None or self.over.is_set():
            return self._owner.state
        from headrace._runtime.merging import together_in

        return AppState(together_in(self._siblings.states()))

    def snapshot(self) -> Snapshot:
        """The latest snapshot."""
        if self._owner is None:
            return Snapshot()
        if self._siblings is None:
            return self._owner.snapshots.latest
        return self._siblings.snapshot()

    def health(self) -> Health:
        """The verdict of this moment."""
        judged = partial(
            health_of,
            over=self.over.is_set(),
            hook=self.hooks.running(),
            clock=self._surroundings.clock,
            timeouts=self._settings.timeouts,
            commit=self._settings.commit,
        )
        return judged(self._owner) if self._siblings is None else self._siblings.health(judged)

    def handlers_loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that `async` handlers run on, if there is one."""
        return self._loop

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        partition: int | None,
    ) -> Delivery:
        """Produce a record, on behalf of the record whose handler this is called in, if it is."""
        from headrace._execute.process_wire import in_process_worker

        if in_process_worker():
            raise AppStateError("produce()", "in a worker process", "run this handler on threads or asyncio")
        if self._producer is None or self.over.is_set():
            raise AppStateError("produce()", self.state().value, "start the app first")
        delivery = Delivery()
        produced = note_produced()

        def done(error: Exception | None) -> None:
            delivery.settle(error)
            if produced is not None:
                produced.acknowledged(error)

        self._producer.produce(topic, value, key, headers, partition, done)
        return delivery

    def seek(self, partition: TopicPartition, to: int | str | datetime) -> None:
        """Pass a seek on to the owner."""
        asked = MoveAsked(partition, to)
        if self._siblings is None:
            self._inbox.put(asked)
        else:
            self._siblings.seek(asked)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Pass a pause on to the owner."""
        self._ask(PauseAsked(tuple(partitions)))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Pass a resume on to the owner."""
        self._ask(ResumeAsked(tuple(partitions)))

    def quiet(self, *, on: bool) -> None:
        """Pass the beginning of quiet, or its end, on to the owner."""
        self._ask(QuietAsked() if on else QuietEnded())

    def _ask(self, item: PauseAsked | ResumeAsked | QuietAsked | QuietEnded) -> None:
        with self._asking:
            if self._siblings is None:
                if not self.began:
                    self._asked_early.append(item)
                self._inbox.put(item)
                return
        self._siblings.ask(item)

    # The owner thread

    def _run(self) -> None:
        owner = self._owner
        assert owner is not None
        try:
            self.hooks.start()
            self.lifespans.enter(self._app, self.handlers_loop())
        except FatalError as error:
            owner.give_up(error)
        except BaseException as error:  # noqa: BLE001 - must end as a typed reason, never in silence
            owner.give_up(InternalFailure("the owner thread", error))
        try:
            # Also with a reason to stop already: it alone tells those who wait that the app is over.
            owner.run()
        finally:
            self._take_apart()

    def _take_apart(self) -> None:
        """Each part bounded and on its own: one that fails to close must not keep the next from closing."""
        for name, close in (
            ("other connections", self._close_siblings),
            ("executors", self._close_executors),
            ("lifespans", lambda: self.lifespans.leave(self._slice_s())),
            ("producer", lambda: self._producer and self._producer.close(self._slice_s())),
            (
                "handlers' loop",
                lambda: self._own_loop and self._own_loop.stop(self._slice_s(CLOSE_SLICE_MIN_S)),
            ),
            ("hooks", lambda: self.hooks.stop(self._slice_s())),
        ):
            try:
                close()
            except BaseException as error:  # noqa: BLE001 - see above
                assert self._owner is not None
                self._owner.give_up(InternalFailure(f"closing the {name}", error))
        self._let_go()

    def _let_go(self) -> None:
        """It is over: those who wait go on. The owner thread, or the watchdog where that one never will."""
        if self._watchdog is not None:
            self._watchdog.stop()
        self.tracker.gone(THE_FIRST)
        with self._over_lock:
            self.over.set()
            callbacks, self._when_over = self._when_over, []
        for callback in callbacks:
            try:
                callback()
            except RuntimeError:
                continue  # The loop that waited is closed: nobody waits any more.

    def _slice_s(self, hard_s: float = HARD_SLICE_S) -> float:
        """What the next part may take to close: of what is left of the stop budget, and a little in any case."""
        assert self._owner is not None
        if self._owner.stop_hard.is_set():
            return hard_s
        return max(CLOSE_SLICE_MIN_S, min(CLOSE_SLICE_S, self._owner.ends_by - self._surroundings.clock()))

    def _shared(
        self,
        subscriptions: Sequence[tuple[SubscriptionSettings, Callable[..., Any]]],
        jitter: Callable[[], float],
    ) -> Shared:
        assert self._producer is not None
        return Shared(
            settings=self._settings,
            connection=self._connection,
            surroundings=self._surroundings,
            subscriptions=subscriptions,
            hooks=self.hooks,
            tracker=self.tracker,
            tell=self.teller.tell,
            producer=self._producer,
            loop=self._loop,
            loop_error=self._loop_error,
            worker_resource=self.worker_resource,
            jitter=jitter,
        )

    def _make_siblings(self, lead: Link, shared: Shared) -> Siblings:
        from headrace._runtime.siblings import Siblings

        return Siblings(lead, shared, self._surroundings.make_lookout, self._give_up, self._asked_early)

    def _give_up(self, error: FatalError | ConfigError) -> None:
        assert self._owner is not None
        self._owner.give_up(error)

    def _close_siblings(self) -> None:
        if self._siblings is not None and self._owner is not None:
            left_s = self._owner.ends_by - self._surroundings.clock()
            # Their own thread has, as a rule; a listener may be what keeps it.
            self._siblings.request_stop(hard=self._owner.stop_hard.is_set())
            self._siblings.join(max(CLOSE_SLICE_S, left_s))

    def _close_executors(self) -> None:
        if self._link is not None:
            self._link.close_executors(lambda: self._slice_s(CLOSE_SLICE_MIN_S))

    def _handler_loop(
        self, subscriptions: Sequence[SubscriptionSettings], callers: asyncio.AbstractEventLoop | None
    ) -> asyncio.AbstractEventLoop | None:
        """The caller's loop if there is one, else a loop of our own if anything needs it."""
        if callers is not None:
            return callers
        if not self.lifespans.need_loop() and all(settings.run_in != "asyncio" for settings in subscriptions):
            return None
        from headrace._execute.handler_loop import HandlerLoop

        self._own_loop = HandlerLoop()
        self._own_loop.start()
        return self._own_loop.loop

    def _loop_error(self) -> BaseException | None:
        return None if self._own_loop is None else self._own_loop.error
