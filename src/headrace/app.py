"""`App`: what a user writes against, and the assembly of the runtime behind it.

Decides how the parts are put together, started and stopped; what happens to records is decided in `_core`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from headrace._client.settings import checked_librdkafka
from headrace._runtime.assembly import Assembly
from headrace._runtime.completion import Completion
from headrace._runtime.handlers import check_handler, name_of, resolve_kind, with_timeout_checked
from headrace._runtime.positions import require_place
from headrace._runtime.process import ended_by_signals, own_process, refuse_while_loading
from headrace._runtime.settings import AppSettings, connection_of
from headrace.config import (
    Batching,
    Budgets,
    Commit,
    Connections,
    RetryPolicy,
    Timeouts,
    known_names,
    require_function,
    require_partitions,
)
from headrace.errors import AppStateError, ConfigError, WouldDeadlock
from headrace.observe.attached import Attached
from headrace.observe.settings import checked_gauges, checked_reporters
from headrace.observe.tracing import Tracing, carried, checked_tracing, traced
from headrace.subscriptions import SubscriptionSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    from headrace._core.assignments import Assignments
    from headrace._core.health import Health
    from headrace._core.notices import Notice
    from headrace._core.states import AppState
    from headrace._runtime.deliveries import Delivery
    from headrace._runtime.snapshots import Snapshot
    from headrace.config import OnStall
    from headrace.observe.metrics import Gauge
    from headrace.observe.reporting import Reporter
    from headrace.observe.settings import Reporting
    from headrace.observe.states import ReporterState
    from headrace.ports import TopicPartition
    from headrace.records import Record

F = TypeVar("F", bound="Callable[..., Any]")


class App:
    """A Kafka consumer group member that runs your handlers.

    bootstrap_servers, group_id: as Kafka's.
    librdkafka: any client setting (TLS, SASL, callbacks), except those that Headrace owns, which are refused by name.
    group_protocol: "classic" (cooperative-sticky) or "consumer" (KIP-848, brokers from 4.0).
    instance_id: makes this a static member (KIP-345): a restart within the session timeout moves no partitions, and
        stopping does not leave the group.
    commit, budgets, timeouts: see `Commit`, `Budgets`, `Timeouts`.
    on_stall: what is done, beside reporting it, about a partition that is stuck (see `Timeouts.stalled_after_s`): "report"
        does no more, "rejoin" makes the connection anew, "exit" ends the app with `Stalled`; so also if the owner
        thread itself is blocked, where to join again is not possible.
    reporters: what metrics are passed on to while the app runs: each a reporter, a `headrace.observe.Reporting`, or a mapping
        as in a file, such as `{"type": "console", "every_s": 10}`. They cannot disturb the app.
    connections: how many connections to Kafka, see `Connections`; several share `concurrency` and `workers` evenly.
    gauges: numbers of your own, reported beside Headrace's.
    tracing: make a span of OpenTelemetry around each handler call, see `headrace.observe.Tracing`; None makes none.
    loop: where `async` handlers run: "own", a loop on a thread of its own, or "caller", the loop of `async with app`.

    Making an app does no I/O. An app runs once. All methods may be called from any thread unless they say otherwise.
    Raises `ConfigError` for a setting that cannot be meant.
    """

    @known_names("App")
    def __init__(
        self,
        bootstrap_servers: str,
        group_id: str,
        *,
        librdkafka: Mapping[str, Any] | None = None,
        group_protocol: Literal["classic", "consumer"] = "classic",
        instance_id: str | None = None,
        commit: Commit | None = None,
        budgets: Budgets | None = None,
        timeouts: Timeouts | None = None,
        loop: Literal["own", "caller"] = "own",
        on_stall: OnStall = "report",
        reporters: Sequence[Reporter | Reporting | Mapping[str, Any]] = (),
        gauges: Sequence[Gauge] = (),
        tracing: Tracing | None = None,
        connections: Connections | None = None,
    ) -> None:
        self.settings = AppSettings(
            bootstrap_servers,
            group_id,
            {} if librdkafka is None else checked_librdkafka(librdkafka),
            group_protocol,
            instance_id,
            Commit() if commit is None else commit,
            Budgets() if budgets is None else budgets,
            Timeouts() if timeouts is None else timeouts,
            loop,
            on_stall,
            checked_reporters(reporters),
            checked_gauges(gauges),
            checked_tracing(tracing),
            Connections() if connections is None else connections,
        )
        self._connection = connection_of(self.settings)
        self._subscriptions: list[tuple[SubscriptionSettings, Callable[..., Any]]] = []
        # Guards the step from "not started" to "started"; everything later belongs to the assembly.
        self._lock = threading.Lock()
        self._assembly = Assembly(self.settings, self._connection, logging.getLogger("headrace"))
        self._attached = Attached(
            self._connection, self.snapshot, self.health, checked_reporters(self.settings.reporters), gauges
        )

    # What to consume

    @known_names("@app.subscribe")
    def subscribe(
        self,
        *topics: str,
        pattern: str | None = None,
        order_by: Literal["key", "partition", "none"] = "key",
        concurrency: int = 64,
        workers: int | None = None,
        run_in: Literal["auto", "threads", "asyncio", "processes"] = "auto",
        batch: Batching | None = None,
        retry: RetryPolicy | None = None,
        dead_letter: str | None = None,
        on_exhausted: Literal["dead_letter", "stop", "skip"] | None = None,
        on_dead_letter_failure: Literal["wait", "stop"] = "wait",
        timeout_s: float | None = None,
        start_if_no_offset: Literal["earliest", "latest", "error"] | datetime = "earliest",
        on_out_of_range: Literal["stop", "earliest", "latest"] = "stop",
        guarantee: Literal["at_least_once", "at_most_once", "none"] = "at_least_once",
        ack: Literal["on_return", "manual"] = "on_return",
        key_decoder: Callable[[bytes], Any] | None = None,
        value_decoder: Callable[[bytes], Any] | None = None,
        filter: Callable[[Record[Any, Any]], bool] | None = None,  # noqa: A002 - the word users expect
    ) -> Callable[[F], F]:
        """Register a handler; returns it unchanged.

        topics or pattern: names, or one Python regular expression that must match whole names; topics that appear
            later are found. A topic belongs to one subscription.
        order_by: "key" runs one record of a key at a time, in order; "partition" one record of a partition; "none" any.
        concurrency: handlers running at once. workers: how many threads or processes (default: as many threads as
            `concurrency`, at most 64; usable CPUs for processes).
        run_in: "auto" runs `async def` on an event loop and `def` on threads; "processes" is for CPU-bound handlers.
        batch: hand over a `Batch` of records of one partition instead of one `Record`.
        retry, dead_letter, on_exhausted: what happens to a record whose handler raises, see `RetryPolicy`. After the
            last try: produced to the topic `dead_letter` if one is named, else the app stops; or as `on_exhausted` says.
        on_dead_letter_failure: when a dead letter can never be written: "wait" (its key waits) or "stop".
        timeout_s: cancel an `async` handler, or end the worker process, after so long; counts as a failure.
        start_if_no_offset: where a partition without a committed offset begins.
        on_out_of_range: what to do when the offset to continue at does not exist any more.
        guarantee: "at_least_once"; "at_most_once" commits before it starts a record and never retries; "none" commits
            positions on a timer.
        ack: "manual" finishes a record when `record.ack()` is called, not when its handler returns.
        key_decoder, value_decoder: called with the bytes (never None) where the handler runs; one that raises gives the
            record up at once.
        filter: called with the decoded record; False finishes it without the handler.
        """
        settings = SubscriptionSettings(
            name="",
            topics=topics,
            pattern=pattern,
            order_by=order_by,
            concurrency=concurrency,
            workers=workers,
            run_in=run_in,
            batch=batch,
            retry=RetryPolicy() if retry is None else retry,
            dead_letter=dead_letter,
            on_exhausted=on_exhausted,
            on_dead_letter_failure=on_dead_letter_failure,
            timeout_s=timeout_s,
            start_if_no_offset=start_if_no_offset,
            on_out_of_range=on_out_of_range,
            guarantee=guarantee,
            ack=ack,
            key_decoder=key_decoder,
            value_decoder=value_decoder,
            filter=filter,
        )
        return partial(self._register, settings)

    @property
    def subscriptions(self) -> tuple[SubscriptionSettings, ...]:
        """What was subscribed, in order."""
        return tuple(settings for settings, _ in self._subscriptions)

    @property
    def handlers(self) -> tuple[Callable[..., Any], ...]:
        """The handlers, in the order of `subscriptions`."""
        return tuple(handler for _, handler in self._subscriptions)

    # Hooks and resources

    def on_assigned(self, hook: F) -> F:
        """Call `hook` with the partitions, as (topic, partition) pairs, after they were assigned."""
        return self._add_hook("assigned", hook)

    def on_revoked(self, hook: F) -> F:
        """Call `hook` with the partitions after they were drained, committed and given back."""
        return self._add_hook("revoked", hook)

    def on_lost(self, hook: F) -> F:
        """Call `hook` with partitions that were taken without asking."""
        return self._add_hook("lost", hook)

    def on_assignments(self, hook: F) -> F:
        """Call `hook` with an `AssignmentsChange` after every change of what is held, in order: seeks too, and the end."""
        return self._add_hook("assignments", hook)

    def lifespan(self, manager: F) -> F:
        """Enter this context manager (a function of the app, sync or async) before the first record, leave it after the last."""
        self._not_started("lifespan()")
        require_function("lifespan", manager)
        self._assembly.lifespans.append(manager)
        return manager

    def worker_resource(self, manager: F) -> F:
        """Enter this context manager once in every worker (thread, event loop, process); see `headrace.worker_resource()`."""
        self._not_started("worker_resource()")
        require_function("worker_resource", manager)
        if self._assembly.worker_resource is not None:
            raise ConfigError(
                "worker_resource", manager, "one per app; combine them with contextlib.ExitStack"
            )
        self._assembly.worker_resource = manager
        return manager

    # Running

    def run(self) -> None:
        """Start, and run until stopped. The first SIGINT or SIGTERM drains, the second stops hard. Main thread only.

        Raises what `wait` raises. Restores the signal handlers it found. The process is taken to be the app's own: its
        garbage collector is tuned for it (see `headrace._runtime.process`).
        """
        if threading.current_thread() is not threading.main_thread():
            raise AppStateError(
                "run()", "not on the main thread", "use start() and wait() there: signals cannot be heard"
            )
        own_process()
        with ended_by_signals(lambda: self.request_stop(hard=self._assembly.stop_requested())):
            self.start()
            self.wait()

    def start(self) -> None:
        """Connect, join the group, begin to consume. Returns when joined; blocks up to `Timeouts.connect_s`.

        Raises `BrokerUnreachable`, `TopicMissing`, `NotAuthorized`, `ConfigError`; the app is over then. Raises
        `WouldDeadlock` on the event loop that the handlers would run on.
        """
        self._refuse_on_handlers_loop("start()", "async with app")
        self._begin(None)
        self._assembly.wait_started()

    def stop(self, timeout_s: float | None = None) -> None:
        """Stop intake, drain, commit, leave, close; bounded by `timeout_s` (default `Timeouts.stop_s`).

        Does nothing on an app that was never started or is over. Raises what ended the app, `ForcedStop` if handlers
        had to be abandoned.
        """
        self._refuse_on_handlers_loop("stop()", "await app.wait() after app.request_stop()")
        if not self._assembly.began:
            return
        self.request_stop(timeout_s=timeout_s)
        self.wait()

    def request_stop(self, *, hard: bool = False, timeout_s: float | None = None) -> None:
        """Begin to stop and return at once; callable from anywhere, handlers and signal handlers included."""
        self._assembly.request_stop(hard=hard, timeout_s=timeout_s)

    def wait(self) -> Completion:
        """Wait until the app is over; raises the `FatalError` (or `ConfigError`) that ended it, if one did.

        Without a running event loop in this thread it blocks. With one it returns at once: `await app.wait()`. Raises
        `AppStateError` on an app that was never started: nothing would ever end that wait.
        """
        if not self._assembly.began:
            raise AppStateError("wait()", self.state.value, "start the app first")
        completion = Completion(self._assembly)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._block(completion)
        return completion

    def _block(self, completion: Completion) -> None:
        try:
            completion.block()
        finally:
            if self._assembly.over.is_set():
                self._attached.join()

    async def __aenter__(self) -> Self:
        self._begin(asyncio.get_running_loop() if self.settings.loop == "caller" else None)
        try:
            await asyncio.to_thread(self._assembly.wait_started)
        except BaseException:
            self.request_stop(hard=True)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.request_stop()
        try:
            await self.wait()
        finally:
            await asyncio.to_thread(self._attached.join)

    # While it runs

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        partition: int | None = None,
    ) -> Delivery:
        """Produce one record; never blocks. Called in a handler, its record is finished only after the acknowledgement.

        The returned `Delivery` may be awaited or ignored. A delivery that fails fails the record. Raises
        `AppStateError` if the app does not run.
        """
        return self._assembly.produce(topic, value, key, carried(self.settings, headers), partition)

    def seek(self, topic: str, partition: int, to: int | Literal["earliest", "latest"] | datetime) -> None:
        """Continue one of our partitions at an offset, an end, or the first record at or after a moment; commits that place."""
        require_place("seek", to)
        self._assembly.seek((topic, partition), to)

    def pause(self, *partitions: TopicPartition) -> None:
        """Take no more records of these (topic, partition) pairs until `resume`; holds across rebalances."""
        require_partitions("pause", partitions)
        self._assembly.pause(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        """Undo `pause`."""
        require_partitions("resume", partitions)
        self._assembly.resume(partitions)

    def quiet(self) -> None:
        """Stay in the group and take nothing new: what runs ends and is committed, what waits is kept; `state` tells when.

        Partitions that come are kept quiet too. Ends with `unquiet`, or with a stop. Returns at once.
        """
        self._assembly.quiet(on=True)

    def unquiet(self) -> None:
        """Undo `quiet`: go on with what waits, and take in again."""
        self._assembly.quiet(on=False)

    def assignments(self) -> Assignments:
        """What is held now: an immutable value, swapped whole inside the rebalance; costs nothing to call."""
        return self._assembly.tracker.latest

    def snapshot(self) -> Snapshot:
        """The latest snapshot: immutable, made whole by the owner thread, four times a second where that is cheap; costs nothing to call."""
        return self._assembly.snapshot()

    @property
    def state(self) -> AppState:
        """Where the app is in its life."""
        return self._assembly.state()

    def health(self) -> Health:
        """Whether the app is well, judged by progress: a verdict with typed reasons. Never waits, never asks Kafka."""
        return self._assembly.health()

    def reporters(self) -> tuple[ReporterState, ...]:
        """How each reporter fares: reports made, failed and skipped, and the last error. Never waits."""
        return self._attached.states()

    def notices(self) -> tuple[Notice, ...]:
        """The last notices, oldest first: what the log says, typed."""
        return self._assembly.teller.recent()

    def listen(self, listener: Callable[[Notice], None]) -> None:
        """Call `listener` with every notice, on the runtime's threads: it must be quick and thread-safe."""
        require_function("listen", listener)
        self._assembly.teller.listen(listener)

    def _register(self, given: SubscriptionSettings, handler: F) -> F:
        settings = replace(given, name=name_of(handler))
        check_handler(handler, settings)
        settings = with_timeout_checked(settings, resolve_kind(handler, settings))
        self._not_started("subscribe()")
        self._subscriptions.append((settings, handler))
        return handler

    def _begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        refuse_while_loading()
        with self._lock:
            self._require_subscriptions()
            if self.settings.loop == "caller" and loop is None:
                raise ConfigError("loop", "caller", "'own', unless the app is entered by `async with app`")
            if self._assembly.began:
                raise AppStateError("start", self.state.value, "an app runs once; make a new one")
            self._assembly.start(traced(self.settings, self._subscriptions), loop, random.random, self)
            self._attached.start()
            self._assembly.when_over(self._attached.request_stop)

    def _require_subscriptions(self) -> None:
        if not self._subscriptions:
            raise ConfigError("subscriptions", (), "at least one @app.subscribe(...)")

    def _add_hook(self, kind: str, hook: F) -> F:
        self._not_started(f"on_{kind}()")
        require_function(f"on_{kind}", hook)
        self._assembly.hooks.add(kind, hook)
        return hook

    def _not_started(self, call: str) -> None:
        if self._assembly.began:
            raise AppStateError(call, self.state.value, "call it before the app starts")

    def _refuse_on_handlers_loop(self, call: str, instead: str) -> None:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self.settings.loop == "caller" or running is self._assembly.handlers_loop():
            raise WouldDeadlock(call, instead)

    def __repr__(self) -> str:
        return f"<App {self.settings.group_id} at {self.settings.bootstrap_servers}, {self.state.value}, pid {os.getpid()}>"
