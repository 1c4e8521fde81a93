"""Watching for what should not last: handlers that hang, partitions that have lag and stay silent.

Reports handlers, since a thread cannot be cancelled; wakes partitions by assigning them again, since librdkafka has
lost fetchers before (its issues 2190 and 5591). Owner thread only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace._core import notices

if TYPE_CHECKING:
    from headrace._core.engine import Engine
    from headrace._runtime.parts import Parts
    from headrace.ports import Client, TopicPartition

LOOK_S = 1.0
SILENT_S = 30.0
"""A partition that has lag and brought nothing for so long is assigned again. Longer than a leader's failover."""
PROBE_TIMEOUT_S = 1.0
"""The owner waits for this look-up: its other partitions must not wait long for a broker that is slow."""
STACK_CHARS_MAX = 4000


class Watch:
    """The watch of one connection."""

    __slots__ = ("_cured", "_looked_at", "_parts", "_probed_at", "_progress", "_told")

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._looked_at = 0.0
        self._probed_at = 0.0
        # Records already reported as hung: (topic, partition, offset, epoch).
        self._told: set[tuple[str, int, int, int]] = set()
        # Where each partition was when it was assigned again: once per position, since lag may be markers only.
        self._cured: dict[TopicPartition, int] = {}
        # Position of each partition, and since when it has not moved.
        self._progress: dict[TopicPartition, tuple[int, float]] = {}

    def look(self, client: Client | None, engine: Engine, now: float) -> None:
        """Look now and then; cheap to call often."""
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        self._look_for_hung(now)
        if client is not None:
            self._look_for_silent(client, engine, now)

    def _look_for_hung(self, now: float) -> None:
        hung: set[tuple[str, int, int, int]] = set()
        for executor in self._parts.executors:
            for running in executor.running():
                if now - running.since < self._parts.timeouts.hung_after_s:
                    break  # Oldest first.
                record = running.record
                key = (record.topic, record.partition, record.offset, record.epoch)
                hung.add(key)
                if key not in self._told:
                    self._parts.tell(
                        notices.HandlerHung(
                            *key[:3],
                            running_s=now - running.since,
                            worker=running.name,
                            stack=(executor.stack_of(running) or "")[-STACK_CHARS_MAX:],
                        )
                    )
        self._told = hung

    def _look_for_silent(self, client: Client, engine: Engine, now: float) -> None:
        progress: dict[TopicPartition, tuple[int, float]] = {}
        silent: list[TopicPartition] = []
        for key in engine.partitions():
            position = engine.position_of(key) or 0
            before = self._progress.get(key)
            since = now if before is None or before[0] != position or engine.is_paused(key) else before[1]
            progress[key] = (position, since)
            if now - since >= SILENT_S:
                silent.append(key)
        self._progress = progress
        if not silent or now - self._probed_at < SILENT_S:
            return
        self._probed_at = now
        ends = client.resolve(dict.fromkeys(silent, "latest"), PROBE_TIMEOUT_S) or {}
        for key in silent:
            position, since = progress[key]
            if ends.get(key, 0) > position and self._cured.get(key) != position:
                self._cured[key] = position
                self._parts.tell(notices.PartitionReassigned(*key, position=position, silent_s=now - since))
                client.reassign(key, position)
                self._progress[key] = (position, now)
