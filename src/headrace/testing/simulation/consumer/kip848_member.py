"""A member of a KIP-848 group: one kind of request, and partitions that come and go without a barrier.

Decides what a member makes of each heartbeat's answer, as librdkafka does. Invariant: what it acknowledges is what it
has carried out, and it acknowledges a revocation only when that is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from headrace.testing.simulation.consumer.membership import Membership
from headrace.testing.simulation.model.consumer_group import JOINS, LEAVES, LEAVES_FOR_A_WHILE, Beat
from headrace.testing.simulation.model.network import TRANSPORT

if TYPE_CHECKING:
    from headrace.ports import TopicPartition
    from headrace.testing.simulation.consumer.link import CoordinatorLink
    from headrace.testing.simulation.kernel import Process
    from headrace.testing.simulation.model.consumer_group import Beaten, ConsumerGroup
    from headrace.testing.simulation.model.network import Network

    Places = tuple[TopicPartition, ...]


@final
class Kip848Member(Membership):
    """One member of a KIP-848 group. Its id is its own, and stays."""

    moves_on_alone = True

    def __init__(
        self,
        network: Network,
        link: CoordinatorLink,
        process: Process,
        instance: str | None,
        member: str,
        member_id: str,
        group: ConsumerGroup,
    ) -> None:
        super().__init__(network, link, process, instance, member)
        self.member_id = member_id
        self.generation = 0
        self._group = group
        self._beating = False
        self._hurried = False
        # What was carried out and acknowledged; what is being carried out; what comes after that.
        self._current: Places = ()
        self._target: Places | None = None
        self._next: Places | None = None
        self._wait_ack = False
        self._sending_ack = False
        self._full = False
        self._wait_rejoin = False
        self._rejoining = False
        self._wait_leave = False
        link.on_up.append(self._hurry)

    # Heartbeats

    def _hurry(self) -> None:
        if not self._hurried:
            self._hurried = True
            self.kernel.later(0.0, "hurried heartbeat", self._hurried_tick, self.process)

    def _hurried_tick(self) -> None:
        self._hurried = False
        self.tick()

    def tick(self) -> None:
        """See `Membership.tick`."""
        if self.fatal:
            return
        if self._wait_rejoin:
            if self.rebalancing:
                return
            self._wait_rejoin = False
            self._rejoining = True
            self.revoke_all_rejoin(lost=True)
        if self.state == "init":
            self._rejoining = False
            self._full = True
        silent = (
            not self.names
            or self._beating
            or self._rejoining
            or (self.overslept and self.slept())
            or self.leaving
            or self._wait_leave
            or not self.link.up
        )
        if not silent:
            self._beat(ack=self.state == "steady" and self._wait_ack)

    def _beat(self, *, ack: bool) -> None:
        self.overslept = False
        self._beating = True
        self._sending_ack = ack
        full = self._full
        owned = self._target if ack else self._current if full else None
        beat = Beat(
            self.member_id,
            max(0, self.generation),
            self.instance,
            self.names if full else None,
            owned,
            self.network.settings.max_poll_interval_s,
        )
        self.link.send(
            "ConsumerGroupHeartbeat",
            lambda reply: self._group.heartbeat(beat, reply),
            self._beaten,
            self.member_id,
        )

    def _beaten(self, code: str, beaten: Any) -> None:
        self._beating = False
        if code:
            self._refused(code)
            return
        answer: Beaten = beaten
        self.generation = answer.epoch
        if self.leaving or self._wait_leave or self._rejoining or self._wait_rejoin:
            return
        self._full = False
        if answer.assignment is not None and self._differs(answer.assignment):
            self._next = answer.assignment
        elif answer.assignment is not None:
            self._next = None
        if self.state == "steady" and self._wait_ack and self._target is not None:
            if self._sending_ack:
                self._current, self._target = self._target, None
                self._wait_ack = False
            elif self.names:
                self._hurry()
        self._sending_ack = False
        if self._next is not None and self.names:
            self._begin(self._next)

    def _differs(self, places: Places) -> bool:
        return set(places) != set(self._current if self._target is None else self._target)

    def _begin(self, places: Places) -> None:
        """Carry out a new target, unless one is being carried out."""
        if self._wait_ack or self.state not in {"init", "steady"}:
            return
        self._next = None
        if self._differs(places):
            self._wait_ack = True
            self._target = places
            self.take(places)

    def _refused(self, code: str) -> None:
        if code in {"UNKNOWN_MEMBER_ID", "FENCED_MEMBER_EPOCH"}:
            if not (self.leaving or self._wait_leave):
                self._wait_rejoin = True
                self._hurry()
        elif code in {"NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE", TRANSPORT}:
            self._full = True
        elif code == "COORDINATOR_LOAD_IN_PROGRESS":
            self.kernel.later(
                self.network.settings.retry_backoff_s, "heartbeat again", self.tick, self.process
            )
        elif code == "UNRELEASED_INSTANCE_ID":
            self.fail(code)
            self.revoke_all_rejoin_maybe(lost=True)

    # Membership

    def rejoin(self) -> None:
        """See `Membership.rejoin`."""
        self.leave_if_asked()
        self._reset()
        self._move("init")
        self._hurry()

    def settled(self) -> None:
        """See `Membership.settled`: an acknowledgement is not put off."""
        if self.leave_if_asked():
            return
        if self.rejoin_next:
            super().settled()
        elif self._wait_ack:
            self._hurry()

    def commit_refused(self, code: str) -> None:
        """See `Membership.commit_refused`."""
        if code in {"UNKNOWN_MEMBER_ID", "STALE_MEMBER_EPOCH"}:
            self._hurry()
        elif code == "FENCED_INSTANCE_ID":
            self.fail(code)
            self.revoke_all_rejoin_maybe(lost=True)

    def slept_too_long(self) -> None:
        """See `Membership.slept_too_long`: it leaves when its partitions are given up."""
        self.overslept = True
        self._wait_rejoin = True
        self.leaving = True
        self._hurry()

    def metadata_changed(self) -> None:
        """See `Membership.metadata_changed`: the coordinator sees to it."""

    def unsubscribe(self) -> None:
        """See `Membership.unsubscribe`."""
        self.names = ()
        if self.generation > JOINS and not (
            self._wait_rejoin or self._rejoining or self.leaving or self._wait_leave
        ):
            self.leaving = True
            self.revoke_all_rejoin(lost=False)

    def leave_if_asked(self) -> bool:
        """See `Membership.leave_if_asked`."""
        if not self.leaving:
            return False
        self.leaving = False
        if self._wait_leave or not self.link.up:
            self._reset()
            return True
        self._wait_leave = True
        epoch = LEAVES if self.instance is None else LEAVES_FOR_A_WHILE
        beat = Beat(self.member_id, epoch, self.instance)
        self.link.send("ConsumerGroupHeartbeat", lambda reply: self._group.heartbeat(beat, reply), self._left)
        return True

    def _left(self, _code: str, _payload: Any) -> None:
        self._wait_leave = False
        self._reset()
        self._hurry()

    def _reset(self) -> None:
        self.generation = 0
        self._current = ()
        self._target = None
        self._next = None
        self._wait_ack = False
        self._sending_ack = False
        self._wait_rejoin = False
