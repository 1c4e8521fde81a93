"""L1 to L6, and S7: what must happen in time, and within which means.

Decides by virtual time and by the numbers that members publish. Refuses to know order and commits beyond where they
are. Invariant: time in which a member was frozen is not held against it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.ports import TopicPartition
    from headrace.testing.invariants.evidence import Member, Partition
    from headrace.testing.invariants.rules import Bounds, Promise
    from headrace.testing.simulation import history as told


@final
class Liveness:
    """The part of the judge that knows time."""

    __slots__ = ("_blame", "_bounds", "_members", "_partitions", "_stuck", "calm_at")

    def __init__(
        self,
        members: dict[str, Member],
        partitions: dict[TopicPartition, Partition],
        bounds: Bounds,
        blame: Callable[[Promise, str], None],
    ) -> None:
        self._members = members
        self._partitions = partitions
        self._bounds = bounds
        self._blame = blame
        self._stuck: dict[TopicPartition, set[int]] = {}
        self.calm_at: float | None = None

    # While it runs

    def look(self, now: float) -> None:
        """L3: nobody has been in a callback, or stopping, for too long."""
        for member in self._members.values():
            if not member.alive or member.ended:
                continue
            if member.callback_at is not None:
                self._within(member, "a rebalance callback", member.callback_at, self._bounds.callback_s, now)
            if member.stop_at is not None:
                budget_s = self._bounds.stop_s + self._bounds.stop_slack_s
                self._within(member, "its stop", member.stop_at, budget_s, now)

    def took(self, member: Member, what: str, took_s: float, now: float) -> None:
        """L3: a callback has returned."""
        self._within(member, what, now - took_s, self._bounds.callback_s, now)

    def _within(self, member: Member, what: str, since: float, bound_s: float, now: float) -> None:
        spent_s = now - since - member.frozen_since(since, now)
        if spent_s > bound_s and what not in member.blamed:
            member.blamed.add(what)
            self._blame("L3", f"{member.name} has spent {spent_s:.3f} s in {what}, more than {bound_s:g} s")

    def ended(self, member: Member, error: str | None, now: float) -> None:
        """A member is over: in time, and for a reason that the world gave; what it counts is back at 0."""
        if error is None and member.stop_at is None:
            self._blame("L1", f"{member.name} ended, and nobody had stopped it")
        if error is not None and error not in self._bounds.errors_expected:
            self._blame("L1", f"{member.name} ended with {error}, for which there was no reason")
        if member.stop_at is not None:
            self._within(
                member, "its stop", member.stop_at, self._bounds.stop_s + self._bounds.stop_slack_s, now
            )
        if error is None and not member.runs and not member.snapshot_drained:
            self._blame("S7", f"{member.name} ended, and its last snapshot still counts records in hand")

    def turned(self, entry: told.Turned) -> None:
        """L5."""
        most = self._bounds.turns_per_s
        if entry.idle and entry.span_s >= 1.0 and entry.turns > most * entry.span_s:
            self._blame(
                "L5", f"{entry.member} turned {entry.turns} times in {entry.span_s:.3f} s with nothing to do"
            )

    def snapshot(self, member: Member, entry: told.SnapshotTaken) -> None:
        """S7 and L6."""
        parts = (entry.waiting, entry.in_flight, entry.parked, entry.finished, entry.stale)
        if min(parts) < 0 or entry.fetched != sum(parts):
            self._blame("S7", f"{entry.member} fetched {entry.fetched}, and accounts for {parts}")
        if not entry.held_unchanged:
            self._blame("S7", f"a snapshot of {entry.member} changed while a reader held it")
        if not 0 <= entry.bytes_held <= self._bounds.bytes_held:
            self._blame("L6", f"{entry.member} holds {entry.bytes_held} bytes")
        if entry.bytes_held > 0 and entry.fetched == entry.finished + entry.stale:
            self._blame("S7", f"{entry.member} holds {entry.bytes_held} bytes of no records")
        in_hand = (entry.waiting, entry.in_flight, entry.parked, entry.bytes_held)
        member.snapshot_drained = in_hand == (0, 0, 0, 0)

    # When all is calm

    def calm(self, stuck: Iterable[tuple[str, int, int]], now: float) -> None:
        """From here on all must finish, but for what these hold up."""
        self.calm_at = now
        for topic, number, offset in stuck:
            self._stuck.setdefault((topic, number), set()).add(offset)

    def unfinished(self) -> dict[TopicPartition, list[int]]:
        """Records that are to be finished yet, by what was promised of them."""
        found: dict[TopicPartition, list[int]] = {}
        for place, partition in self._partitions.items():
            left = [] if partition.unpromised else self._left(partition)
            if left:
                found[place] = left
        return found

    def _left(self, partition: Partition) -> list[int]:
        if partition.rules.guarantee != "at_least_once":
            # Handled or not: it is done with when its offset is committed.
            return [
                each
                for each in partition.records
                if not partition.covered(each) and self._began(partition, each)
            ]
        held_up = self._held_up(partition)
        return [each for each in partition.unsettled_between(None, partition.end) if each not in held_up]

    def _began(self, partition: Partition, offset: int) -> bool:
        return partition.origin is not None and offset >= partition.origin

    def _held_up(self, partition: Partition) -> set[int]:
        """Records behind one that is stuck, in its lane, and that one itself."""
        stuck = self._stuck.get(partition.place, set())
        found = set(stuck)
        for offset in stuck:
            lane = partition.lane_at(offset)
            if lane is not None:
                found.update(
                    each
                    for each, key in partition.records.items()
                    if each > offset and partition.lane(key) == lane
                )
        return found

    def uncommitted(self) -> dict[TopicPartition, list[int]]:
        """Finished records that no commit covers although nothing before them is unfinished."""
        found: dict[TopicPartition, list[int]] = {}
        for place, partition in self._partitions.items():
            if partition.unpromised or partition.origin is None:
                continue
            head = min(partition.unsettled_between(None, partition.end), default=partition.end)
            left = [
                each
                for each in partition.records
                if partition.origin <= each < head
                and each in partition.settled
                and not partition.covered(each)
            ]
            if left:
                found[place] = left
        return found

    def over(self) -> None:
        """The time for finishing is over: L1, L2, L4."""
        promise: Promise = "L2" if self._stuck else "L1"
        for (topic, number), offsets in self.unfinished().items():
            self._blame(promise, f"{topic}[{number}] {offsets} are not finished")
        for (topic, number), offsets in self.uncommitted().items():
            self._blame("L4", f"{topic}[{number}] {offsets} are finished and not committed")
