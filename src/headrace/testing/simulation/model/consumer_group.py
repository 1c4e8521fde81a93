"""The coordinator of a KIP-848 group: heartbeats carry everything, and partitions move one member at a time.

Decides each member's epoch and assignment; refuses to know what is committed. Invariant: a partition is given to a
member only when no other one has it or has yet to let go of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from headrace.testing.simulation.model.sharing import Wish, sticky

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.ports import TopicPartition
    from headrace.testing.simulation.kernel import Kernel, Timer
    from headrace.testing.simulation.model.settings import ModelSettings
    from headrace.testing.simulation.model.topics import Topics

    Reply = Callable[[str, Any], None]

JOINS = 0
LEAVES = -1
LEAVES_FOR_A_WHILE = -2
"""Epochs that a heartbeat may carry instead of a member's own; the last is a static member's."""


@final
@dataclass(frozen=True, slots=True)
class Beat:
    """What a member says. `owned` is None where it says nothing of it."""

    member: str
    epoch: int
    instance: str | None
    names: tuple[str, ...] | None = None
    owned: tuple[TopicPartition, ...] | None = None
    rebalance_timeout_s: float = 30.0


@final
@dataclass(frozen=True, slots=True)
class Beaten:
    """What it is told. `assignment` is None where nothing changed."""

    epoch: int
    assignment: tuple[TopicPartition, ...] | None


@final
@dataclass(slots=True)
class _Member:
    names: tuple[str, ...]
    instance: str | None
    rebalance_timeout_s: float
    epoch: int = 0
    epoch_before: int = 0
    assigned: tuple[TopicPartition, ...] = ()
    revoking: tuple[TopicPartition, ...] = ()
    told: tuple[TopicPartition, ...] | None = None
    away: bool = False
    seen: float = 0.0
    timer: Timer | None = None
    patience: Timer | None = None


@final
class ConsumerGroup:
    """One group."""

    def __init__(self, kernel: Kernel, settings: ModelSettings, topics: Topics) -> None:
        self._kernel = kernel
        self._settings = settings
        self._topics = topics
        self._members: dict[str, _Member] = {}
        self._target: dict[str, tuple[TopicPartition, ...]] = {}
        self.epoch = 0

    def heartbeat(self, beat: Beat, reply: Reply) -> None:
        """ConsumerGroupHeartbeat."""
        if beat.epoch in {LEAVES, LEAVES_FOR_A_WHILE}:
            self._leave(beat, reply)
            return
        code = self._admit(beat) if beat.epoch == JOINS else self._refusal(beat)
        if code:
            reply(code, None)
            return
        member = self._members[beat.member]
        member.seen = self._kernel.now
        if beat.names is not None and beat.names != member.names:
            member.names = beat.names
            self._aim()
        told = member.told
        self._reconcile(beat.member, member, beat.owned)
        # A full request is given a full answer: its sender may not have heard the last one.
        changed = member.assigned != told or beat.names is not None
        member.told = member.assigned
        reply("", Beaten(member.epoch, member.assigned if changed else None))

    def refusal_of_commit(self, member: str, epoch: int, instance: str | None) -> str:
        """Why a commit of this member is refused, or ""."""
        del instance
        if epoch < 0 and not self._members:
            return ""
        known = self._members.get(member)
        if known is None:
            return "UNKNOWN_MEMBER_ID"
        return "" if epoch == known.epoch else "STALE_MEMBER_EPOCH"

    def members(self) -> list[str]:
        """Ids of the members."""
        return list(self._members)

    def remove(self, member: str) -> None:
        """The member left, or was given up: its partitions are free."""
        gone = self._members.pop(member)
        for timer in (gone.timer, gone.patience):
            if timer is not None:
                timer.cancel()
        self._aim()

    def load(self) -> None:
        """Another coordinator: all it needs is in the log, and sessions begin anew."""
        for member in self._members.values():
            member.seen = self._kernel.now

    def reshaped(self) -> None:
        """Topics or partitions changed."""
        if self._members:
            self._aim()

    # Inside

    def _admit(self, beat: Beat) -> str:
        """A new member, or one that begins again."""
        if beat.instance is not None:
            for each, other in list(self._members.items()):
                if other.instance == beat.instance and each != beat.member:
                    if not other.away:
                        return "UNRELEASED_INSTANCE_ID"
                    self._inherit(each, beat)
                    return ""
        known = self._members.get(beat.member)
        if known is None:
            known = self._members[beat.member] = _Member(
                beat.names or (), beat.instance, beat.rebalance_timeout_s
            )
            self._watch(beat.member, known)
        known.revoking = ()
        known.assigned = ()
        known.away = False
        self._stop_patience(known)
        self._aim()
        return ""

    def _inherit(self, old: str, beat: Beat) -> None:
        """A static member that was away came back under a new id: what was its own is its own again."""
        member = self._members.pop(old)
        member.away = False
        member.told = None
        member.names = beat.names or member.names
        if member.timer is not None:
            member.timer.cancel()
        self._members[beat.member] = member
        self._target[beat.member] = self._target.pop(old, ())
        self._watch(beat.member, member)

    def _refusal(self, beat: Beat) -> str:
        known = self._members.get(beat.member)
        if known is None:
            return "UNKNOWN_MEMBER_ID"
        if beat.epoch == known.epoch:
            return ""
        # It did not hear our last answer: let it go on, if it has nothing that is not its own.
        heard_late = beat.epoch == known.epoch_before and beat.owned is not None
        if heard_late and set(beat.owned or ()) <= {*known.assigned, *known.revoking}:
            return ""
        return "FENCED_MEMBER_EPOCH"

    def _leave(self, beat: Beat, reply: Reply) -> None:
        known = self._members.get(beat.member)
        if known is None:
            reply("UNKNOWN_MEMBER_ID", None)
            return
        if beat.epoch == LEAVES_FOR_A_WHILE:
            known.away = True
            known.seen = self._kernel.now
            known.epoch_before, known.epoch = known.epoch, LEAVES_FOR_A_WHILE
        else:
            self.remove(beat.member)
        reply("", Beaten(beat.epoch, None))

    def _aim(self) -> None:
        """A new target for everybody, and with it a new epoch of the group."""
        self.epoch += 1
        wishes = {
            each: Wish(member.names, self._target.get(each, member.assigned))
            for each, member in self._members.items()
        }
        self._target = dict(sticky(wishes, self._topics.sizes()))

    def _reconcile(self, name: str, member: _Member, owned: tuple[TopicPartition, ...] | None) -> None:
        """One step of a member towards its target: first it lets go, then it is given what is free."""
        if member.revoking:
            if owned is None or set(owned) & set(member.revoking):
                return
            member.revoking = ()
            self._stop_patience(member)
        target = self._target.get(name, ())
        going = tuple(place for place in member.assigned if place not in target)
        if going:
            member.assigned = tuple(place for place in member.assigned if place in target)
            member.revoking = going
            self._lose_patience(name, member)
            return
        taken = {
            place
            for each, other in self._members.items()
            if each != name
            for place in (*other.assigned, *other.revoking)
        }
        member.assigned = tuple(place for place in target if place not in taken)
        if member.epoch != self.epoch:
            member.epoch_before, member.epoch = member.epoch, self.epoch

    def _watch(self, name: str, member: _Member) -> None:
        """Expire the member's session."""
        member.seen = self._kernel.now
        session_s = self._settings.session_timeout_s

        def look() -> None:
            if self._members.get(name) is not member:
                return
            if self._kernel.now >= member.seen + session_s:
                self.remove(name)
            else:
                member.timer = self._kernel.later(
                    member.seen + session_s - self._kernel.now, "session timeout", look
                )

        member.timer = self._kernel.later(session_s, "session timeout", look)

    def _lose_patience(self, name: str, member: _Member) -> None:
        """A member that does not let go in time is fenced."""
        self._stop_patience(member)

        def look() -> None:
            if self._members.get(name) is member and member.revoking:
                self.remove(name)

        member.patience = self._kernel.later(member.rebalance_timeout_s, "rebalance timeout", look)

    def _stop_patience(self, member: _Member) -> None:
        if member.patience is not None:
            member.patience.cancel()
            member.patience = None
