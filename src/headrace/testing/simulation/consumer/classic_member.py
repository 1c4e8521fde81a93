"""A member of a classic group, eager or cooperative: join, sync, heartbeat, leave.

Decides what a member answers to its coordinator's answers, as librdkafka does. Refuses to know how partitions are
shared out but for whom to ask. Invariant: one join or sync is under way at a time; heartbeats only between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from headrace.testing.simulation.consumer.membership import Membership
from headrace.testing.simulation.model.sharing import Wish, by_range, handed_over, sticky

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.testing.simulation.consumer.link import CoordinatorLink
    from headrace.testing.simulation.kernel import Process, Timer
    from headrace.testing.simulation.model.classic import ClassicGroup, Joined
    from headrace.testing.simulation.model.network import Network
    from headrace.testing.simulation.model.topics import Topics

_JOIN_AGAIN_S: Final = 1.0
"""Between two joins of librdkafka that nothing hurries."""

_HEARD: Final = frozenset({"", "REBALANCE_IN_PROGRESS"})


@final
class ClassicMember(Membership):
    """One member of a classic group."""

    def __init__(
        self,
        network: Network,
        link: CoordinatorLink,
        process: Process,
        instance: str | None,
        member: str,
        group: ClassicGroup,
        topics: Topics,
        *,
        eager: bool,
    ) -> None:
        super().__init__(network, link, process, instance, member)
        self.eager = eager
        self._group = group
        self._topics = topics
        self._awaiting = False
        self._join_not_before = 0.0
        self._join_timer: Timer | None = None
        self._session_ends = float("inf")
        self._beating = False
        self._leads = False
        self._seen: dict[str, int] = {}
        link.on_up.append(self._join)

    # Join

    def rejoin(self) -> None:
        """See `Membership.rejoin`. Without a subscription there is nothing to join, only to leave."""
        self._move("init")
        if not self.names:
            self.leave_if_asked()
            return
        self._join()

    def _hurry(self) -> None:
        self._join_not_before = 0.0

    def serve_assignment(self) -> None:
        """See `Membership`; a join that follows a revoke is not put off."""
        if self.state in {"letting_go", "letting_some_go"} or self.rejoin_next:
            self._hurry()
        super().serve_assignment()

    def _join(self) -> None:
        if self.state != "init" or self._awaiting or not self.names or self.fatal or not self.link.up:
            return
        if self.overslept and self.slept():
            return
        self.overslept = False
        now = self.kernel.now
        if now < self._join_not_before:
            if self._join_timer is None:
                self._join_timer = self.kernel.later(
                    self._join_not_before - now, "join again", self._join_later, self.process
                )
            return
        self._join_not_before = now + _JOIN_AGAIN_S
        self._move("joining")
        self._awaiting = True
        self._leads = False
        self._seen = dict(self._topics.sizes())
        wish = Wish(self.names, () if self.eager else self.held or ())
        member, instance = self.member_id, self.instance
        patience_s = self.network.settings.max_poll_interval_s
        self.link.send(
            "JoinGroup",
            lambda reply: self._group.join(member, instance, wish, patience_s, reply),
            self._joined,
        )

    def _join_later(self) -> None:
        self._join_timer = None
        self._join()

    def _joined(self, code: str, joined: Any) -> None:
        self._awaiting = False
        if self.state != "joining":
            self._join()
            return
        if code:
            self._not_joined(code, joined)
            return
        answer: Joined = joined
        self.member_id = answer.member
        self.generation = answer.generation
        self._move("syncing")
        self._awaiting = True
        self._leads = answer.leader == answer.member
        shares = self._shares(answer) if self._leads else None
        member, generation, instance = self.member_id, self.generation, self.instance
        self.link.send(
            "SyncGroup",
            lambda reply: self._group.sync(member, generation, instance, shares, reply),
            self._synced,
        )

    def _shares(self, joined: Joined) -> dict[str, Any]:
        wishes = dict(joined.wishes)
        sizes = self._topics.sizes()
        return by_range(wishes, sizes) if self.eager else handed_over(sticky(wishes, sizes), wishes)

    def _not_joined(self, code: str, joined: Any) -> None:
        if code == "FENCED_INSTANCE_ID":
            self.fail(code)
        elif code == "UNKNOWN_MEMBER_ID":
            self.member_id = ""
        elif code == "ILLEGAL_GENERATION":
            self.generation = -1
        elif code == "MEMBER_ID_REQUIRED":
            self.member_id = joined
            self._hurry()
        if not self.eager and code in {"ILLEGAL_GENERATION", "MEMBER_ID_REQUIRED"}:
            self.revoke_all_rejoin(lost=True)
        else:
            self.rejoin()

    def _synced(self, code: str, share: Any) -> None:
        self._awaiting = False
        if self.state != "syncing":
            self._join()
            return
        if not code and not self.terminating:
            self._session_ends = self.kernel.now + self.network.settings.session_timeout_s
            self.take(tuple(share))
            return
        if code == "FENCED_INSTANCE_ID":
            self.fail(code)
        elif code == "ILLEGAL_GENERATION":
            self.generation = -1
        elif code == "UNKNOWN_MEMBER_ID":
            self.member_id = ""
        if not self.eager and code in {"ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID"}:
            self.revoke_all_rejoin(lost=True)
        else:
            self.rejoin()

    # Stay

    def tick(self) -> None:
        """Look at the session, then say that we live; not in the midst of a join."""
        self._join()
        if self.state not in {"steady", "assign_due", "revoke_due"} or self.fatal or not self.names:
            return
        if self.kernel.now >= self._session_ends:
            self._session_ends = float("inf")
            self.member_id = ""
            self.revoke_all_rejoin_maybe(lost=True)
            return
        if self._beating or self.overslept or not self.link.up:
            return
        self._beating = True
        member, generation, instance = self.member_id, self.generation, self.instance
        self.link.send(
            "Heartbeat",
            lambda reply: self._group.heartbeat(member, generation, instance, reply),
            self._beaten,
            member,
        )

    def _beaten(self, code: str, _payload: Any) -> None:
        self._beating = False
        if self.state in {"init", "joining", "syncing"}:
            return
        if code in _HEARD and self.kernel.now < self._session_ends:
            self._session_ends = self.kernel.now + self.network.settings.session_timeout_s
        if code == "REBALANCE_IN_PROGRESS":
            if self.eager:
                self.revoke_all_rejoin_maybe(lost=False)
            elif not self.rebalancing:
                self.rejoin()
        elif code == "UNKNOWN_MEMBER_ID":
            self.member_id = ""
            self.revoke_all_rejoin_maybe(lost=True)
        elif code == "ILLEGAL_GENERATION":
            self.generation = -1
            self.revoke_all_rejoin_maybe(lost=True)
        elif code == "FENCED_INSTANCE_ID":
            self.fail(code)
            self.revoke_all_rejoin_maybe(lost=True)

    def commit_refused(self, code: str) -> None:
        """See `Membership.commit_refused`."""
        if code == "UNKNOWN_MEMBER_ID":
            self.member_id = ""
            self.revoke_all_rejoin_maybe(lost=True)
        elif code == "ILLEGAL_GENERATION" and not self.rebalancing:
            self.generation = -1
            self.revoke_all_rejoin_maybe(lost=True)
        elif code == "FENCED_INSTANCE_ID":
            self.fail(code)
            self.revoke_all_rejoin_maybe(lost=True)

    def slept_too_long(self) -> None:
        """See `Membership.slept_too_long`: dynamic members leave at once, before any callback."""
        self.overslept = True
        if self.instance is None:
            self._leave()
        self.member_id = ""
        self.revoke_all_rejoin_maybe(lost=True)

    def metadata_changed(self) -> None:
        """See `Membership.metadata_changed`: the leader of a cooperative group joins again, and every eager member."""
        sizes = self._topics.sizes()
        if not self.names or sizes == self._seen or self.state != "steady" or self.rebalancing:
            return
        self._seen = dict(sizes)
        if self.eager:
            self.revoke_all_rejoin(lost=False)
            return
        gone = tuple(place for place in self.held or () if place[1] >= sizes.get(place[0], 0))
        if gone:
            self.lost = True
            self._due_some("revoke", gone, rejoin=self._leads)
        elif self._leads:
            self.rejoin()

    # Leave

    def unsubscribe(self) -> None:
        """See `Membership.unsubscribe`."""
        self.names = ()
        self.leaving = self.generation >= 0 or self.state not in {"init", "joining"}
        if not self.lost:
            self.revoke_all_rejoin(lost=False)

    def leave_if_asked(self) -> bool:
        """See `Membership.leave_if_asked`. A static member that ends does not leave."""
        if not self.leaving:
            return False
        self.leaving = False
        if self.terminating and self.instance is not None:
            return False
        self._leave()
        return True

    def _leave(self) -> None:
        member, self.member_id = self.member_id, ""
        done: Callable[[str, Any], None] = lambda _code, _payload: None  # noqa: E731 - nobody waits for it
        if member and self.link.up:
            self.link.send("LeaveGroup", lambda reply: self._group.leave(member, reply), done)
