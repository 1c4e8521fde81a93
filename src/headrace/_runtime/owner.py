"""The owner loop of one connection: polls, steps the engine, performs what it decides, and nothing else.

Everything that touches the Kafka client or the engine happens here, on one thread. Rebalance callbacks run on it too,
inside `poll`: the owner then keeps stepping the engine until the revoked partitions are drained or the deadline passes.
Every wait is bounded. Refuses to decide anything about records, commits or partitions.

Fields without a note are the owner thread's alone.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from headrace._core import events, notices
from headrace._core.quiet import quiet_trigger
from headrace._core.states import APP_TRANSITIONS, JOINED, AppState, AppTrigger, advance
from headrace._runtime.beginnings import Beginnings
from headrace._runtime.connection import Connection, rebuild_pause_s
from headrace._runtime.faults import Faults
from headrace._runtime.inbox import AckAsked, MoveAsked, Wake
from headrace._runtime.parts import POLL_IDLE_S
from headrace._runtime.performer import Performer
from headrace._runtime.positions import Positions
from headrace._runtime.snapshots import Publisher
from headrace._runtime.vitals import VitalSigns
from headrace._runtime.watch import Watch
from headrace.errors import ConfigError, FatalError, ForcedStop, InternalFailure, Stalled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace._runtime.parts import Parts
    from headrace.ports import CommitResult, TopicPartition
    from headrace.subscriptions import SubscriptionSettings

POLL_RECORDS_MAX = 500
"""Records per poll: beyond this the cost per record no longer falls (measured), and a poll would hold up results."""
POLL_SATED_S = 0.02
"""How often to poll while workers have enough to do: rebalances and errors must still be heard."""
RESULT_WAIT_S = 0.005
"""How long to wait for results while work is in flight, before Kafka is asked for more."""
PULSE_S = 0.02
"""How often executors are asked for chunks that are stuck behind a slow record."""
HARD_CLOSE_S = 1.0
"""What a hard stop grants for the last commit and for leaving the group: enough for a broker that answers."""


class Owner:
    """One connection. `run` is the body of its thread; all other public members may be used from any thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._engine = parts.engine
        self._clock = parts.clock
        self._inbox = parts.inbox
        self._beginnings = Beginnings(self._settings_of, parts.tell)
        self.signs = VitalSigns(parts.clock, parts.group_protocol, parts.engine, self._beginnings)
        self._spending = self.signs.spending
        self._watch = Watch(parts, self.signs)
        self._publisher = Publisher(parts.engine, parts.executors, parts.clock, self.signs)
        self._faults = Faults(parts.tell, self._settings_of, parts.engine, parts.clock)
        # Owner thread writes; anyone reads.
        self.state = AppState.NEW
        self.fatal: FatalError | ConfigError | None = None
        # Any thread sets; the owner reads.
        self.stop_asked = threading.Event()
        self.stop_hard = threading.Event()
        self.stop_timeout_s = parts.timeouts.stop_s
        # Owner thread writes: when the stop budget ends.
        self.ends_by = 0.0
        # Set by the owner when it is over, whatever happened.
        self.running = threading.Event()
        self.ended = threading.Event()
        self._connection = Connection(parts, self.stop_asked)
        self._performer = Performer(parts, self._connection, self._step, self._fail, self._faults.judge)
        self._positions = Positions(parts, self._faults, self._step)
        self._broken = False
        self._polled_at = 0.0
        self._pulsed_at = 0.0
        self._rebuilds = 0

    @property
    def snapshots(self) -> Publisher:
        """Where the latest snapshot is."""
        return self._publisher

    def request_stop(self, *, hard: bool = False, timeout_s: float | None = None) -> None:
        """Any thread, any number of times: begin to stop; `hard` gives up what runs."""
        if timeout_s is not None:
            self.stop_timeout_s = timeout_s
        if hard:
            self.stop_hard.set()
        self.stop_asked.set()
        self._inbox.put(Wake())

    def give_up(self, error: FatalError | ConfigError, *, quietly: bool = False) -> None:
        """Any thread: stop with this error; `quietly` where a listener may be what blocks the owner."""
        self._fail(error, quietly=quietly)
        self._inbox.put(Wake())

    def subscription(self, index: int) -> SubscriptionSettings:
        """Any thread: a subscription by its index."""
        return self._parts.subscriptions[index]

    # The life of a connection

    def run(self) -> None:
        """Body of the owner thread: everything from the first connect to the last close. Never raises."""
        try:
            self._run()
        finally:
            # Whatever broke, telling of it included: those who wait must be let go.
            self.running.set()
            self.ended.set()

    def _run(self) -> None:
        try:
            self._live()
        except (
            FatalError,
            ConfigError,
        ) as error:  # Some settings only the client, or a new topic, can refuse.
            self._fail(error)
        except BaseException as error:  # noqa: BLE001 - whatever broke must end as a typed reason, never in silence
            self._broken = True
            self._fail(InternalFailure("the owner loop", error))
        try:
            self._end()
        except BaseException as error:  # noqa: BLE001 - see above
            self._fail(InternalFailure("stopping", error))
        finally:
            if self.state not in (AppState.STOPPED, AppState.FAILED):
                # Stopping itself broke: the table has no way from here, and readers must see the end.
                self.state = AppState.FAILED
            self._publisher.publish(self.state, force=True)

    def _live(self) -> None:
        self._move(AppTrigger.START, "start")
        if self.stop_asked.is_set():
            return  # Before it began, or because what precedes the first connect failed.
        self._connect()
        if self.stop_asked.is_set():
            return
        self._move(AppTrigger.SUBSCRIBED, "joined")
        self.running.set()
        while not self.stop_asked.is_set() and self.fatal is None:
            if self._performer.rebuild is not None:
                self._reconnect(self._performer.rebuild)
            else:
                self.turn()

    def turn(self) -> None:
        """One turn of the loop: take in results, fetch, hand out, look after what is slow."""
        engine = self._engine
        self._take_in(0.0)
        now = self._clock()
        deadline = engine.next_deadline()
        if deadline is not None and deadline <= now:
            self._step(events.TICK)
        in_flight = engine.in_flight()
        fetched = 0
        if not in_flight:
            fetched = self._poll(self._idle_s(now))
        elif engine.hungry() or now - self._polled_at >= POLL_SATED_S:
            fetched = self._poll(0.0)
        if in_flight and not fetched:
            self._take_in(RESULT_WAIT_S)
        self._look_after(self._clock())

    def _end(self) -> None:
        """Stop intake, drain, commit, confirm, leave, close: in this order, within the stop budget."""
        now = self._clock()
        self.ends_by = now + self.stop_timeout_s
        # The rest is for what is taken apart after the connection: executors, lifespans, producer.
        deadline = now + self.stop_timeout_s * 0.85
        forced, sound = False, not self._broken
        if not sound:
            # Nothing drains without the loop. The group is told, so that it need not wait for the session to end.
            deadline = min(deadline, now + self._parts.timeouts.request_s)
        if self.state in JOINED or self.state is AppState.REBUILDING:
            self._move(AppTrigger.FATAL if self.fatal else AppTrigger.STOP, self._end_reason())
            forced = sound and not self._drain_all(deadline)
            self._move(AppTrigger.DRAINED, "forced" if forced else "drained" if sound else "not drained")
            if sound:
                self._confirm_all(deadline)
            confirmed = sound and self._engine.settled()
            self._move(AppTrigger.CONFIRMED, "confirmed" if confirmed else "unconfirmed")
        elif self.state is AppState.STARTING:
            self._move(AppTrigger.FATAL if self.fatal else AppTrigger.STOP, self._end_reason())
        hard = self.stop_hard.is_set()
        self._connection.close(HARD_CLOSE_S if hard else max(0.5, deadline - self._clock()))
        if sound:
            self._note_closed()
        if forced and self.fatal is None:
            self.fatal = ForcedStop(self.stop_timeout_s, self._watch.running_names(), asked=hard)
        self._move(AppTrigger.CLOSED_AFTER_FATAL if self.fatal else AppTrigger.CLOSED, "closed")

    def _note_closed(self) -> None:
        """What the client answered while it closed is the last that it says."""
        self._take_in(0.0)
        self._step(events.ConnectionClosed())

    def _end_reason(self) -> str:
        return type(self.fatal).__name__ if self.fatal else "asked"  # `app_failed` has told its text

    # Connecting

    def _connect(self) -> None:
        self._connection.make()
        self._connection.check()
        if self.stop_asked.is_set():
            return
        self._join()

    def _join(self) -> None:
        client = self._connection.client
        assert client is not None
        self._faults.forget()
        self._connection.join(self)
        self._polled_at = self._clock()
        self.signs.joining(client.max_poll_interval_s)

    def _reconnect(self, reason: str) -> None:
        """The group keeps refusing this connection: close it, wait, make a new one."""
        self._performer.rebuild = None
        self._rebuilds += 1
        self.signs.rebuilding(reason, self._rebuilds)
        self._move(AppTrigger.BROKEN, reason)
        self._parts.tell(notices.ConnectionRebuilt(reason, self._rebuilds))
        self._beginnings.clear()
        self._step(events.Lost(self._engine.partitions()))
        self._connection.close(self._parts.timeouts.request_s)
        self._note_closed()
        until = self._clock() + rebuild_pause_s(self._rebuilds)
        while self._clock() < until and not self.stop_asked.is_set():
            self._take_in(min(POLL_IDLE_S, max(0.0, until - self._clock())))
            self._step(events.TICK)
        if self.stop_asked.is_set():
            return
        self._connection.make()
        self._join()
        self._move(AppTrigger.SUBSCRIBED, "rejoined")

    # The loop's parts

    def _idle_s(self, now: float) -> float:
        """How long a poll may wait: until the next deadline, and never long."""
        moments = [self._engine.next_deadline(), self._beginnings.next_retry()]
        # A poll that serves a commit's answer goes on waiting for records: it must not wait long then.
        wait_s = RESULT_WAIT_S if self._engine.awaits_commit() else self._parts.poll_idle_s
        return max(0.0, min([wait_s, *(moment - now for moment in moments if moment is not None)]))

    def _poll(self, timeout_s: float) -> int:
        client = self._connection.client
        assert client is not None
        polled = self._spending.poll(client.poll, POLL_RECORDS_MAX, timeout_s)
        last, self._polled_at = self._polled_at, (now := self._clock())
        self.signs.polled(polled, now)
        if polled.groups:
            self._step(events.Fetched(polled.groups))
        error = self._faults.take_all(polled.faults, now - last, client)
        if error is not None:
            raise error
        self._performer.rebuild = self._performer.rebuild or self._faults.pop_rebuild()
        return polled.count

    def _take_in(self, timeout_s: float) -> None:
        """Take what is in the inbox, waiting up to `timeout_s` for the first item."""
        self.signs.turned()
        items = self._spending.wait(self._inbox.take, timeout_s)
        if not items:
            return
        acknowledged = [item.record for item in items if isinstance(item, AckAsked)]
        if acknowledged:
            self._step(events.Acknowledged(acknowledged))
        for item in items:
            if isinstance(item, MoveAsked):
                self._faults.ask_move(item)
            elif not isinstance(item, AckAsked | Wake):
                self._step(item)

    def _look_after(self, now: float) -> None:
        """What happens now and then, however busy the loop is."""
        if self._beginnings.waiting and (self._beginnings.next_retry() or 0.0) <= now:
            self._begin()
        if now - self._pulsed_at >= PULSE_S:
            self._pulsed_at = now
            for executor in self._parts.executors:
                executor.pulse(now)
            self._watch.look(self._connection.client, self._engine, now)
            self._remedy(now)
            if (trigger := quiet_trigger(self.state, self._engine)) is not None:
                self._move(trigger, trigger.value)
        self._positions.look_after(self._connection.client, now)
        self._publisher.publish(self.state)

    def _remedy(self, now: float) -> None:
        """What the watch calls for: a stop, or a new connection. Not while the app stops anyway."""
        remedy, self._watch.remedy = self._watch.remedy, None
        if self.stop_asked.is_set():
            return
        if (ended := self._watch.loop_ended) is not None:
            self._fail(ended)
        elif remedy is not None:
            what, stall = remedy
            place, stalled_s = f"{stall.topic}[{stall.partition}]", now - stall.since
            if what == "exit":
                self._fail(Stalled(place, stalled_s, stall.cause))
            else:
                self._performer.rebuild = f"{place} was stuck for {stalled_s:.1f} s ({stall.cause})"

    def _step(self, event: events.Event) -> None:
        self._spending.step(self._engine.step, self._performer.perform, event)

    # Rebalances: called by the client, on this thread, inside poll or close

    def on_assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Learn where the partitions begin, bounded; what cannot be learnt now begins later, outside this callback."""
        if self.stop_asked.is_set() or self.state not in JOINED:
            return
        self.signs.assigned()
        if partitions:
            self._faults.assigned()
        self._beginnings.add(partitions)
        self._begin()
        self._parts.on_rebalance("assigned", partitions)

    def on_revoke(self, partitions: Sequence[TopicPartition]) -> None:
        """Drain these partitions within the budget, commit, let go. The other partitions keep working meanwhile."""
        if self._broken:
            # A step that broke half way may have left a position beyond records that nobody handled: no commit.
            self.on_lost(partitions)
            return
        self.signs.leaving("revoked")
        self._beginnings.discard(partitions)
        budget_s = self._drain_budget_s()
        self._step(events.RevokeBegan(partitions))
        self._work_until(lambda: self._engine.drained(partitions), self._clock() + budget_s)
        # What is done already must be in before the commit is computed.
        self._take_in(0.0)
        if not self._engine.drained(partitions):
            self._parts.tell(notices.DrainOverran(budget_s, ", ".join(self._watch.running_names()[:10])))
        self._step(events.RevokeEnded(partitions))
        self.signs.left()
        self._publisher.publish(self.state, force=True)
        self._parts.on_rebalance("revoked", partitions)

    def on_lost(self, partitions: Sequence[TopicPartition]) -> None:
        """They are somebody else's: no commit, results are stale."""
        self.signs.leaving("lost")
        self._faults.lost()
        self._beginnings.discard(partitions)
        self._step(events.Lost(partitions))
        self.signs.left()
        self._publisher.publish(self.state, force=True)
        self._parts.on_rebalance("lost", partitions)

    def on_commit(self, results: Sequence[CommitResult]) -> None:
        """An answer to a commit. Taken in by the next turn: effects must not run inside a client's callback for it."""
        self._inbox.put(events.CommitAnswered(results))

    def _begin(self) -> None:
        client = self._connection.client
        assert client is not None
        starts = self._beginnings.read(client, self._clock(), self._parts.timeouts.request_s)
        if starts:
            client.assign({(start.topic, start.partition): start.offset for start in starts})
            self._step(events.Assigned(starts))
            self._publisher.publish(self.state, force=True)

    def _drain_budget_s(self) -> float:
        """At most the setting, and at most half of what remains before the group gives up on us."""
        if self.stop_hard.is_set() or self.state in (AppState.CLOSING, AppState.REBUILDING):
            return 0.0
        client = self._connection.usable
        left_s = 0.0 if client is None else client.max_poll_interval_s - (self._clock() - self._polled_at)
        return max(0.0, min(self._parts.timeouts.drain_s, left_s / 2))

    def _work_until(self, done: Callable[[], bool], deadline: float) -> None:
        """Keep stepping the engine, without polling, until `done` or the deadline."""
        while not done():
            now = self._clock()
            if now >= deadline or self.stop_hard.is_set():
                return
            self._take_in(min(RESULT_WAIT_S, deadline - now))
            self._step(events.TICK)
            for executor in self._parts.executors:
                executor.pulse(now)
            self._publisher.publish(self.state)

    # Stopping

    def _drain_all(self, deadline: float) -> bool:
        """Let running handlers end, polling meanwhile so that the group keeps us; False if some did not."""
        self._beginnings.clear()
        self._step(events.StopBegan())
        # A third of the budget is kept for the last commit and for leaving.
        drain_by = self._clock() + (deadline - self._clock()) * 2 / 3
        while not self._engine.drained():
            if self._clock() >= drain_by or self.stop_hard.is_set():
                return False
            self._poll_events()
            self._take_in(RESULT_WAIT_S)
            self._step(events.TICK)
            self._look_after(self._clock())
        return True

    def _confirm_all(self, deadline: float) -> None:
        """The last commit: sent at once, waited for within what is left."""
        now = self._clock()
        self._positions.read(self._connection.client, now)
        self._engine.hurry_commit(now)
        # Half of what is left is kept for leaving the group.
        confirm_by = now + max(0.0, (deadline - now) / 2)
        self._step(events.TICK)
        while not self._engine.settled() and self._clock() < confirm_by and not self.stop_hard.is_set():
            self._poll_events()
            self._take_in(RESULT_WAIT_S)
            self._engine.hurry_commit(self._clock())
            self._step(events.TICK)

    def _poll_events(self) -> None:
        """Poll for the sake of callbacks and heartbeats; records that come now are not taken in."""
        client = self._connection.client
        if client is None:
            return
        for fault in client.poll(POLL_RECORDS_MAX, 0.0).faults:
            error = self._faults.take(fault)
            if error is not None:
                self._fail(error)
        self._polled_at = self._clock()

    def _fail(self, error: FatalError | ConfigError, *, quietly: bool = False) -> None:
        """The first fatal error is the reason; later ones are only told."""
        if not quietly:
            self._parts.tell(notices.AppFailed(type(error).__name__, str(error)))
        if self.fatal is None:
            self.fatal = error
        self.stop_asked.set()

    def _move(self, trigger: AppTrigger, reason: str) -> None:
        previous = self.state
        self.state = advance(APP_TRANSITIONS, previous, trigger)
        self._parts.tell(notices.StateChanged(previous.value, self.state.value, reason))
        self._publisher.publish(self.state, force=True)

    def _settings_of(self, topic: str) -> SubscriptionSettings | None:
        index = self._engine.subscription_of(topic)
        return None if index is None else self._parts.subscriptions[index]
