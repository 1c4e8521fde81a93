"""Watching for what should not last: handlers that hang, partitions that are stuck, a handlers' loop that is blocked.

Gathers facts and reports; whether a partition is stuck is decided in `_core.stalls`. Wakes partitions that are silent
by assigning them again, since librdkafka has lost fetchers before (its issues 2190 and 5591). Names the remedy for a
stall; the owner applies it. Owner thread only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace._core import notices
from headrace._core.health import Hung
from headrace._core.stalls import Stalls, Surrounds
from headrace._runtime.evidence import shortened, stack_of_thread, stacks_for
from headrace.errors import LoopEnded

if TYPE_CHECKING:
    from headrace._core.engine import Engine
    from headrace._core.stalls import Stall
    from headrace._runtime.parts import Parts
    from headrace._runtime.vitals import VitalSigns
    from headrace.config import OnStall
    from headrace.ports import Client, Running, TopicPartition

LOOK_S = 1.0
SILENT_S = 30.0
"""A partition that has lag and brought nothing for so long is assigned again. Longer than a leader's failover."""
PROBE_TIMEOUT_S = 1.0
"""The owner waits for this look-up: its other partitions must not wait long for a broker that is slow."""
BROKERS_AGAIN_S = 5.0
"""How often a client that lost all brokers is asked whether one answers: nothing else would tell an idle one."""


class Watch:
    """The watch of one connection."""

    __slots__ = (
        "_asked_at",
        "_cured",
        "_ends",
        "_look_s",
        "_looked_at",
        "_loop_told_at",
        "_parts",
        "_probed_at",
        "_progress",
        "_rejoined",
        "_signs",
        "_silent_s",
        "_stalls",
        "_told",
        "remedy",
    )

    def __init__(self, parts: Parts, signs: VitalSigns) -> None:
        self._parts = parts
        self._signs = signs
        timeouts = parts.timeouts
        self._look_s = min(LOOK_S, timeouts.stalled_after_s / 4, timeouts.hung_after_s / 4)
        self._silent_s = min(SILENT_S, timeouts.stalled_after_s / 2)
        self._looked_at = 0.0
        self._probed_at = 0.0
        self._asked_at = 0.0
        # Records already reported as hung: (topic, partition, offset, epoch).
        self._told: set[tuple[str, int, int, int]] = set()
        # Where each partition was when it was assigned again: once per position, since lag may be markers only.
        self._cured: dict[TopicPartition, int] = {}
        # Position of each partition, and since when it has not moved.
        self._progress: dict[TopicPartition, tuple[int, float]] = {}
        # The offsets behind the last records, as far as they were asked for.
        self._ends: dict[TopicPartition, int] = {}
        self._stalls = Stalls(timeouts.stalled_after_s, timeouts.hung_after_s)
        # Partitions for whose sake the group was joined again: once is enough unless something was finished since.
        self._rejoined: set[TopicPartition] = set()
        self._loop_told_at: float | None = None
        # What the owner is to do about a stall; it takes it away.
        self.remedy: tuple[OnStall, Stall] | None = None

    @property
    def loop_ended(self) -> LoopEnded | None:
        """What to stop with if the handlers' event loop is closed."""
        beat = self._parts.loop_beat
        return LoopEnded(beat.cause()) if beat is not None and beat.ended else None

    def look(self, client: Client | None, engine: Engine, now: float) -> None:
        """Look now and then; cheap to call often."""
        if now - self._looked_at < self._look_s:
            return
        self._looked_at = now
        running = [executor.running() for executor in self._parts.executors]
        self._look_for_hung(running, now)
        self._look_at_loop(now)
        if client is not None:
            self._look_for_silent(client, engine, now)
            self._look_for_brokers(client, engine, now)
        self._look_for_stuck(running, engine, now)

    def running_names(self) -> list[str]:
        """The handlers that run now, each with its worker and its record."""
        return [
            f"{running.name}: {running.record!r}"
            for executor in self._parts.executors
            for running in executor.running()
        ]

    def _look_for_hung(self, running: list[list[Running]], now: float) -> None:
        told: set[tuple[str, int, int, int]] = set()
        hung: list[Hung] = []
        for executor, handlers in zip(self._parts.executors, running, strict=True):
            for handler in handlers:
                if now - handler.since < self._parts.timeouts.hung_after_s:
                    break  # Oldest first.
                record = handler.record
                key = (record.topic, record.partition, record.offset, record.epoch)
                hung.append(Hung(*key[:3], handler.since, handler.name))
                told.add(key)
                if key not in self._told:
                    self._parts.tell(
                        notices.HandlerHung(
                            *key[:3],
                            running_s=now - handler.since,
                            worker=handler.name,
                            stack=shortened(executor.stack_of(handler) or ""),
                        )
                    )
        self._told, self._signs.hung = told, tuple(hung)

    def _look_at_loop(self, now: float) -> None:
        beat = self._parts.loop_beat
        if beat is None:
            return
        since = self._signs.loop_silent_since = beat.look(now)
        if not beat.tells:
            return
        if since is None:
            if self._loop_told_at is not None:
                self._parts.tell(notices.LoopResumed(now - self._loop_told_at))
                self._loop_told_at = None
        elif self._loop_told_at is None and now - since >= self._parts.timeouts.blocked_after_s:
            self._loop_told_at = since
            self._parts.tell(notices.LoopBlocked(now - since, stack_of_thread(beat.thread_ident)))

    def _look_for_silent(self, client: Client, engine: Engine, now: float) -> None:
        progress: dict[TopicPartition, tuple[int, float]] = {}
        silent: list[TopicPartition] = []
        for key in engine.partitions():
            position = engine.position_of(key) or 0
            before = self._progress.get(key)
            since = now if before is None or before[0] != position or engine.is_paused(key) else before[1]
            progress[key] = (position, since)
            if now - since >= self._silent_s:
                silent.append(key)
        self._progress = progress
        self._ends = {key: end for key, end in self._ends.items() if key in progress}
        if not silent or now - self._probed_at < self._silent_s:
            return
        self._probed_at = now
        ends = client.resolve(dict.fromkeys(silent, "latest"), PROBE_TIMEOUT_S) or {}
        self._ends |= ends
        for key in silent:
            position, since = progress[key]
            if ends.get(key, 0) > position and self._cured.get(key) != position:
                self._cured[key] = position
                self._parts.tell(notices.PartitionReassigned(*key, position=position, silent_s=now - since))
                client.reassign(key, position)
                self._progress[key] = (position, now)

    def _look_for_brokers(self, client: Client, engine: Engine, now: float) -> None:
        if self._signs.brokers_away_since is None or now - self._asked_at < BROKERS_AGAIN_S:
            return
        self._asked_at = now
        ours = engine.partitions()[:1]
        if ours and client.resolve(dict.fromkeys(ours, "latest"), PROBE_TIMEOUT_S) is not None:
            self._signs.brokers_away_since = None

    def _look_for_stuck(self, running: list[list[Running]], engine: Engine, now: float) -> None:
        standings = engine.standings()
        oldest: dict[TopicPartition, float] = {}
        for handlers in running:
            for handler in handlers:
                key = (handler.record.topic, handler.record.partition)
                # Stale ones too: what waits for its key waits for them.
                oldest[key] = max(oldest.get(key, 0.0), now - handler.since)
        saturated = [
            engine.workers(index) <= len(handlers)
            and now - handlers[0].since < self._parts.timeouts.hung_after_s
            for index, handlers in enumerate(running)
        ]
        outside = {
            standing.key: Surrounds(
                self._ends.get(standing.key), oldest.get(standing.key), saturated[standing.subscription]
            )
            for standing in standings
        }
        self._rejoined -= {standing.key for standing in standings if standing.finished}
        began, ended = self._stalls.look(standings, outside, now)
        self._signs.stalls = tuple(self._stalls.current.values())
        for stall in ended:
            self._parts.tell(notices.StallEnded(stall.topic, stall.partition, now - stall.since))
        for stall in began:
            self._report(stall, oldest.get(stall.key), now)

    def _report(self, stall: Stall, running_s: float | None, now: float) -> None:
        remedy = self._parts.on_stall
        if remedy == "rejoin" and stall.key in self._rejoined:
            remedy = "report"  # To join again has brought nothing: the group is spared.
        if remedy == "rejoin":
            self._rejoined.add(stall.key)
        beat = self._parts.loop_beat
        self._parts.tell(
            notices.PartitionStalled(
                stall.topic,
                stall.partition,
                stall.epoch,
                cause=stall.cause,
                stalled_s=now - stall.since,
                position=stall.position,
                end=stall.end,
                committed=stall.committed,
                waiting=stall.waiting,
                in_flight=stall.in_flight,
                oldest_running_s=running_s,
                poll_age_s=self._signs.poll_age_s(now),
                remedy=remedy,
                stacks=stacks_for(
                    self._parts.executors, stall.key, None if beat is None else beat.thread_ident
                ),
            )
        )
        if remedy != "report":
            self.remedy = (remedy, stall)
