"""The coordinator of a classic group: joins, syncs, heartbeats, generations, sessions, static members.

Decides who is a member and of which generation; refuses to know what is committed. The members' leader shares the
partitions out. Invariant: a generation's number is used once, and its answers go to those who joined it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headrace.testing.simulation.kernel import Kernel, Timer
    from headrace.testing.simulation.model.settings import ModelSettings
    from headrace.testing.simulation.model.sharing import Shares, Wish

    Reply = Callable[[str, Any], None]

State = Literal["empty", "preparing", "completing", "stable"]

# What a member of the right generation is told, state by state. A sync in "completing" waits for the leader's.
HEARTBEAT: Final[Mapping[State, str]] = MappingProxyType(
    {"empty": "UNKNOWN_MEMBER_ID", "preparing": "REBALANCE_IN_PROGRESS", "completing": "", "stable": ""}
)
COMMIT: Final[Mapping[State, str]] = MappingProxyType(
    {"empty": "", "preparing": "", "completing": "REBALANCE_IN_PROGRESS", "stable": ""}
)
SYNC: Final[Mapping[State, str]] = MappingProxyType(
    {"empty": "UNKNOWN_MEMBER_ID", "preparing": "REBALANCE_IN_PROGRESS", "completing": "", "stable": ""}
)
MOVES: Final[Mapping[State, frozenset[State]]] = MappingProxyType(
    {
        "empty": frozenset({"preparing"}),
        "preparing": frozenset({"completing", "empty"}),
        "completing": frozenset({"stable", "preparing"}),
        "stable": frozenset({"preparing"}),
    }
)


@final
@dataclass(frozen=True, slots=True)
class Joined:
    """The answer to a join: which generation, who leads, and for the leader what each member wants."""

    generation: int
    member: str
    leader: str
    wishes: Mapping[str, Wish] = field(default_factory=dict["str", "Wish"])


@final
@dataclass(slots=True)
class _Member:
    wish: Wish
    instance: str | None
    rebalance_timeout_s: float
    share: tuple[Any, ...] = ()
    joining: Reply | None = None
    syncing: Reply | None = None
    seen: float = 0.0
    timer: Timer | None = None


@final
class ClassicGroup:
    """One group. What `load` brings back is what was last stable, as from the broker's own log."""

    def __init__(self, kernel: Kernel, settings: ModelSettings) -> None:
        self._kernel = kernel
        self._settings = settings
        self.state: State = "empty"
        self.generation = 0
        self._members: dict[str, _Member] = {}
        self._instances: dict[str, str] = {}
        self._promised: list[str] = []
        self._leader = ""
        self._numbers = 0
        self._timer: Timer | None = None
        self._gathers = False
        self._stored: tuple[int, str, dict[str, tuple[Wish, str | None, float, tuple[Any, ...]]]] = (
            0,
            "",
            {},
        )

    # What members ask

    def join(
        self,
        member: str,
        instance: str | None,
        wish: Wish,
        rebalance_timeout_s: float,
        reply: Reply,
    ) -> None:
        """JoinGroup; the answer waits until all have joined."""
        back = instance is not None and member == ""
        if instance is not None and member == "":
            member = self._take_over(instance)
            if member in self._members and self.state == "stable":
                # A static member came back in time: it has what it had, and nobody else notices.
                reply("", Joined(self.generation, member, ""))
                return
        elif member == "":
            self._promised.append(self._new_id())
            reply("MEMBER_ID_REQUIRED", self._promised[-1])
            return
        elif (code := self._stranger(member, instance)) and member not in self._promised:
            reply(code, None)
            return
        if member in self._promised:
            self._promised.remove(member)
        known = self._members.get(member)
        if known is None:
            known = self._members[member] = _Member(wish, instance, rebalance_timeout_s)
            self._watch(member)
            changed = True
        else:
            # One that is back under a new id while the leader assigns: the shares are made out to its old id.
            outdated = back and self.state == "completing"
            changed = known.wish != wish or outdated or (member == self._leader and self.state == "stable")
            known.wish = wish
        known.seen = self._kernel.now
        if not changed and self.state in {"stable", "completing"}:
            # Its answer went lost, or it had no reason to ask.
            reply("", self._joined(member))
            return
        self._answer_join(known, "REBALANCE_IN_PROGRESS")  # a request that was given up
        known.joining = reply
        if self.state != "preparing":
            self._prepare()
        else:
            self._complete_if_all()

    def sync(
        self, member: str, generation: int, instance: str | None, shares: Shares | None, reply: Reply
    ) -> None:
        """SyncGroup; the leader brings the shares, the others wait for them."""
        code = self._stranger(member, instance) or self._stale(generation) or SYNC[self.state]
        if code:
            reply(code, None)
            return
        known = self._members[member]
        known.seen = self._kernel.now
        if self.state == "stable":
            reply("", known.share)
            return
        known.syncing = reply
        if member == self._leader and shares is not None:
            for each, other in self._members.items():
                other.share = shares.get(each, ())
            self._move("stable")
            self._stop_timer()
            self._store()
            self._answer_syncs("")

    def heartbeat(self, member: str, generation: int, instance: str | None, reply: Reply) -> None:
        """Heartbeat."""
        code = self._stranger(member, instance) or self._stale(generation)
        if not code:
            self._members[member].seen = self._kernel.now
            code = HEARTBEAT[self.state]
        reply(code, None)

    def leave(self, member: str, reply: Reply) -> None:
        """LeaveGroup."""
        if member in self._promised:
            self._promised.remove(member)
            reply("", None)
        elif member not in self._members:
            reply("UNKNOWN_MEMBER_ID", None)
        else:
            reply("", None)
            self.remove(member)

    def refusal_of_commit(self, member: str, generation: int, instance: str | None) -> str:
        """Why a commit of this member is refused, or ""."""
        if generation < 0 and not self._members:
            return ""  # as from a consumer without a group, which Kafka lets commit
        code = self._stranger(member, instance) or self._stale(generation) or COMMIT[self.state]
        if not code:
            self._members[member].seen = self._kernel.now
        return code

    # What happens to the group

    def members(self) -> list[str]:
        """Ids of the members."""
        return list(self._members)

    def remove(self, member: str) -> None:
        """The member left, or was given up."""
        gone = self._members.pop(member)
        if gone.timer is not None:
            gone.timer.cancel()
        if gone.instance is not None and self._instances.get(gone.instance) == member:
            del self._instances[gone.instance]
        self._answer_join(gone, "UNKNOWN_MEMBER_ID")
        self._answer_sync(gone, "UNKNOWN_MEMBER_ID")
        if self.state == "preparing":
            self._complete_if_all()
        elif self.state != "empty":
            self._prepare()

    def load(self) -> None:
        """The coordinator is another one, or the same after a restart: it knows what was last stored."""
        for member in list(self._members.values()):
            if member.timer is not None:
                member.timer.cancel()
            self._answer_join(member, "NOT_COORDINATOR")
            self._answer_sync(member, "NOT_COORDINATOR")
        self._stop_timer()
        self._promised.clear()
        self.generation, self._leader, stored = self._stored
        self._members = {
            each: _Member(wish, instance, timeout_s, share, seen=self._kernel.now)
            for each, (wish, instance, timeout_s, share) in stored.items()
        }
        self._instances = {m.instance: each for each, m in self._members.items() if m.instance is not None}
        for each in self._members:
            self._watch(each)
        self.state = "stable" if self._members else "empty"

    # Inside

    def _joined(self, member: str) -> Joined:
        """What a member of the present generation is told."""
        leads = member == self._leader
        wishes = {each: known.wish for each, known in self._members.items()} if leads else {}
        return Joined(self.generation, member, self._leader, wishes)

    def _new_id(self) -> str:
        self._numbers += 1
        return f"m{self._numbers}"

    def _take_over(self, instance: str) -> str:
        """A static member came back, or another took its name: it gets a new id, and the old one is fenced."""
        fresh = self._new_id()
        old = self._instances.get(instance)
        self._instances[instance] = fresh
        if old is not None and old in self._members:
            member = self._members.pop(old)
            if member.timer is not None:
                member.timer.cancel()
            self._answer_join(member, "FENCED_INSTANCE_ID")
            self._answer_sync(member, "FENCED_INSTANCE_ID")
            self._members[fresh] = member
            self._watch(fresh)
            if self._leader == old:
                self._leader = fresh
            if self.state == "stable":  # before that Kafka writes nothing down of a generation
                self._store()
        return fresh

    def _stranger(self, member: str, instance: str | None) -> str:
        if instance is not None and instance in self._instances and self._instances[instance] != member:
            return "FENCED_INSTANCE_ID"
        return "" if member in self._members else "UNKNOWN_MEMBER_ID"

    def _stale(self, generation: int) -> str:
        return "" if generation == self.generation else "ILLEGAL_GENERATION"

    def _watch(self, member: str) -> None:
        """Expire the member's session, unless it is heard of or waits for an answer of ours."""
        known = self._members[member]
        known.seen = self._kernel.now
        session_s = self._settings.session_timeout_s

        def look() -> None:
            if self._members.get(member) is not known:
                return
            if known.joining is not None:
                known.seen = self._kernel.now
            if self._kernel.now >= known.seen + session_s:
                self.remove(member)
            else:
                known.timer = self._kernel.later(
                    known.seen + session_s - self._kernel.now, "session timeout", look
                )

        known.timer = self._kernel.later(session_s, "session timeout", look)

    def _prepare(self) -> None:
        """A rebalance begins: everybody is to join again."""
        first = self.state == "empty"
        self._answer_syncs("REBALANCE_IN_PROGRESS")
        self._move("preparing")
        self._stop_timer()
        self._gathers = first and self._settings.first_rebalance_delay_s > 0
        if self._gathers:
            # More members may come at once: an empty group waits for them.
            self._timer = self._kernel.later(
                self._settings.first_rebalance_delay_s, "first rebalance", self._complete
            )
            return
        patience_s = max((member.rebalance_timeout_s for member in self._members.values()), default=0.0)
        self._timer = self._kernel.later(patience_s, "rebalance timeout", self._complete)
        self._complete_if_all()

    def _complete_if_all(self) -> None:
        if not self._gathers and all(member.joining is not None for member in self._members.values()):
            self._complete()

    def _complete(self) -> None:
        """The members that joined are the new generation; dynamic ones that did not are out."""
        if self.state != "preparing":
            return
        self._stop_timer()
        for each in [
            m for m, known in self._members.items() if known.joining is None and known.instance is None
        ]:
            gone = self._members.pop(each)
            if gone.timer is not None:
                gone.timer.cancel()
        self.generation += 1
        joined = [each for each, member in self._members.items() if member.joining is not None]
        if not joined:
            if not self._members:
                self._move("empty")
                self._store()
            else:  # only static members that are away: wait for one of them, or for their sessions to end
                self._timer = self._kernel.later(
                    max(m.rebalance_timeout_s for m in self._members.values()),
                    "rebalance timeout",
                    self._complete,
                )
            return
        if self._leader not in joined:
            self._leader = joined[0]
        self._move("completing")
        patience_s = max(member.rebalance_timeout_s for member in self._members.values())
        self._timer = self._kernel.later(patience_s, "sync timeout", self._give_up_syncing)
        for each in joined:
            member = self._members[each]
            member.seen = self._kernel.now
            reply, member.joining = member.joining, None
            assert reply is not None
            reply("", self._joined(each))

    def _give_up_syncing(self) -> None:
        """Members that joined and never synced hold everybody up: they are out."""
        if self.state == "completing":
            for each in [m for m, known in self._members.items() if known.syncing is None]:
                if each in self._members:
                    self.remove(each)

    def _store(self) -> None:
        self._stored = (
            self.generation,
            self._leader,
            {each: (m.wish, m.instance, m.rebalance_timeout_s, m.share) for each, m in self._members.items()},
        )

    def _move(self, state: State) -> None:
        assert state in MOVES[self.state], f"a group in {self.state} cannot become {state}"
        self.state = state

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _answer_join(self, member: _Member, code: str) -> None:
        reply, member.joining = member.joining, None
        if reply is not None:
            reply(code, None)

    def _answer_sync(self, member: _Member, code: str) -> None:
        reply, member.syncing = member.syncing, None
        if reply is not None:
            reply(code, member.share if not code else None)

    def _answer_syncs(self, code: str) -> None:
        for member in list(self._members.values()):
            self._answer_sync(member, code)
