"""The judge of a history: fed with each entry as it is written, it says which promise was broken, when, and by what.

Decides nothing itself but which part looks at an entry. Refuses to know the core: it imports none of it, and believes
only what was seen outside it. Invariant: the same history is judged the same way, entry by entry or afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headrace.testing.invariants.evidence import Member, Partition
from headrace.testing.invariants.liveness import Liveness
from headrace.testing.invariants.rules import Bounds, TopicRules, Violation
from headrace.testing.invariants.safety import Safety
from headrace.testing.simulation import history as told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from headrace.ports import TopicPartition
    from headrace.testing.invariants.evidence import Tenure
    from headrace.testing.invariants.rules import Promise

LOOK_EVERY_S = 0.5


@final
class Judge:
    """Judges one history. One thread; give `see` to `History` as its watch."""

    def __init__(self, topics: Mapping[str, TopicRules], bounds: Bounds | None = None) -> None:
        """`topics`: what was promised for each; records of other topics are nobody's promise."""
        self.violations: list[Violation] = []
        self._topics = dict(topics)
        self._bounds = bounds or Bounds()
        self._members: dict[str, Member] = {}
        self._partitions: dict[TopicPartition, Partition] = {}
        self._made_anew: set[str] = set()
        self._now = 0.0
        self._looked_at = 0.0
        self._safety = Safety(self._members, self._place, self._bounds, self._blame)
        self._liveness = Liveness(self._members, self._partitions, self._bounds, self._blame)
        self._handlers: dict[type, Callable[[Any], None]] = {
            told.Produced: self._produced,
            told.Removed: self._removed,
            told.MemberStarted: self._member_started,
            told.MemberKilled: self._member_killed,
            told.MemberFrozen: self._member_frozen,
            told.StopAsked: self._stop_asked,
            told.Failing: self._failing,
            told.MemberEnded: self._member_ended,
            told.Assigned: self._assigned,
            told.AssignReturned: self._assign_returned,
            told.RevokeBegan: self._revoke_began,
            told.RevokeReturned: self._revoke_returned,
            told.LostReturned: self._lost_returned,
            told.Fetched: self._fetched,
            told.HandlerStarted: self._handler_started,
            told.HandlerEnded: self._handler_ended,
            told.Settled: self._settled,
            told.OutputRefused: self._output_refused,
            told.DeadLetterSent: self._dead_letter_sent,
            told.CommitSent: self._commit_sent,
            told.CommitApplied: self._commit_applied,
            told.CommitAnswered: self._commit_answered,
            told.SeekWanted: self._seek_wanted,
            told.Sought: self._sought,
            told.FaultBegan: self._fault_began,
            told.FaultsOver: self._faults_over,
            told.Turned: self._turned,
            told.SnapshotTaken: self._snapshot_taken,
        }

    @property
    def duplicates(self) -> int:
        """Records that were handled again, as was permitted."""
        return self._safety.duplicates

    @property
    def outlived(self) -> int:
        """Handlers that outlived their assignment."""
        return self._safety.outlived

    def see(self, now: float, entry: told.Entry) -> None:
        """Judge one entry."""
        self._now = now
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self._liveness.look(now)
        handler = self._handlers.get(type(entry))
        if handler is None:
            return
        name = getattr(entry, "member", "")
        if name and name not in self._members and not isinstance(entry, told.MemberStarted):
            self._stranger(entry)
        else:
            handler(entry)

    def finished(self) -> bool:
        """Whether all that was promised is finished and committed: a calm world may end."""
        return not self._liveness.unfinished() and not self._liveness.uncommitted()

    def end(self, now: float) -> list[Violation]:
        """The world is over, after `FaultsOver` and the time for finishing: L1, L2, L4. Returns all violations."""
        self._now = now
        self._liveness.look(now)
        self._liveness.over()
        return self.violations

    def _blame(self, promise: Promise, facts: str) -> None:
        self.violations.append(Violation(promise, self._now, facts))

    def _place(self, place: TopicPartition) -> Partition:
        found = self._partitions.get(place)
        if found is None:
            rules = self._topics[place[0]]
            found = self._partitions[place] = Partition(
                place, rules, origin=None if rules.starts_at_end else 0
            )
        return found

    # The broker

    def _produced(self, entry: told.Produced) -> None:
        if entry.place[0] in self._topics:
            self._place(entry.place).produced(entry.offset, entry.key, visible=entry.visible)

    def _removed(self, entry: told.Removed) -> None:
        if entry.place[0] in self._topics:
            self._place(entry.place).removed(entry.start, entry.offset)

    def _fault_began(self, entry: told.FaultBegan) -> None:
        if entry.kind == "topics_recreated":
            self._made_anew.add(entry.detail)
            for place, partition in self._partitions.items():
                if place[0] == entry.detail:
                    partition.made_anew()

    def _commit_applied(self, entry: told.CommitApplied) -> None:
        self._safety.commit_applied(self._members.get(entry.member), entry, self._now)

    # Members

    def _member_started(self, entry: told.MemberStarted) -> None:
        self._members[entry.member] = Member(entry.member)

    def _member_killed(self, entry: told.MemberKilled) -> None:
        member = self._members[entry.member]
        member.alive = False
        for tenure in list(member.held()):
            tenure.runs.clear()
            self._safety.close(tenure)
        member.runs.clear()

    def _member_frozen(self, entry: told.MemberFrozen) -> None:
        self._members[entry.member].freezes.append((self._now, self._now + entry.frozen_s))

    def _stop_asked(self, entry: told.StopAsked) -> None:
        member = self._members[entry.member]
        member.stop_at = self._now if member.stop_at is None else member.stop_at
        member.stop_hard = member.stop_hard or entry.hard

    def _failing(self, entry: told.Failing) -> None:
        member = self._members[entry.member]
        member.stop_at = self._now if member.stop_at is None else member.stop_at

    def _member_ended(self, entry: told.MemberEnded) -> None:
        member = self._members[entry.member]
        member.ended = True
        self._liveness.ended(member, entry.error, self._now)
        for tenure in list(member.held()):
            self._safety.close(tenure)

    def _turned(self, entry: told.Turned) -> None:
        self._liveness.turned(entry)

    def _snapshot_taken(self, entry: told.SnapshotTaken) -> None:
        self._liveness.snapshot(self._members[entry.member], entry)

    # Callbacks of the group

    def _stranger(self, entry: told.Entry) -> None:
        """A guest of the group: what it does is nobody's promise, but what it is given is no longer another's."""
        if isinstance(entry, told.Assigned):
            self._safety.taken(entry.places)

    def _assigned(self, entry: told.Assigned) -> None:
        member = self._members[entry.member]
        member.callback_at = self._now
        self._safety.assigned(member, entry)

    def _assign_returned(self, entry: told.AssignReturned) -> None:
        member = self._members[entry.member]
        member.callback_at = None
        self._liveness.took(member, "a rebalance callback", entry.took_s, self._now)

    def _revoke_began(self, entry: told.RevokeBegan) -> None:
        member = self._members[entry.member]
        member.callback_at = self._now
        member.closing = entry.closing

    def _revoke_returned(self, entry: told.RevokeReturned) -> None:
        member = self._members[entry.member]
        self._liveness.took(member, "a rebalance callback", entry.took_s, self._now)
        member.callback_at = None
        self._safety.revoke_returned(member, entry, self._now)

    def _lost_returned(self, entry: told.LostReturned) -> None:
        member = self._members[entry.member]
        self._liveness.took(member, "a rebalance callback", entry.took_s, self._now)
        for place in entry.places:
            tenure = member.tenures.get(place)
            if tenure is not None and not tenure.closed:
                self._safety.close(tenure)

    # Records and commits

    def _fetched(self, entry: told.Fetched) -> None:
        self._safety.fetched(self._members[entry.member], entry)

    def _handler_started(self, entry: told.HandlerStarted) -> None:
        self._safety.started(self._members[entry.member], entry, self._now)

    def _handler_ended(self, entry: told.HandlerEnded) -> None:
        member = self._members[entry.member]
        self._safety.ended(member, entry, self._now)

    def _settled(self, entry: told.Settled) -> None:
        member = self._members[entry.member]
        self._safety.settled(member, entry, self._tenure_of(member, entry), self._now)

    def _tenure_of(self, member: Member, entry: told.Settled) -> Tenure | None:
        """The assignment in which the record was handed to its handler."""
        return member.ran.get((entry.run, entry.place)) if entry.run else member.tenures.get(entry.place)

    def _output_refused(self, entry: told.OutputRefused) -> None:
        self._safety.output_refused(self._members[entry.member], entry)

    def _dead_letter_sent(self, entry: told.DeadLetterSent) -> None:
        member = self._members[entry.member]
        if entry.place in member.tenures:
            member.ran[entry.run, entry.place] = member.tenures[entry.place]

    def _commit_sent(self, entry: told.CommitSent) -> None:
        self._safety.commit_sent(self._members[entry.member], entry, self._now)

    def _commit_answered(self, entry: told.CommitAnswered) -> None:
        self._safety.commit_answered(self._members[entry.member], entry)

    def _seek_wanted(self, entry: told.SeekWanted) -> None:
        wanted = self._members[entry.member].seeks_wanted
        wanted[entry.place] = wanted.get(entry.place, 0) + 1

    def _sought(self, entry: told.Sought) -> None:
        self._safety.sought(self._members.get(entry.member), entry, self._now)

    def _faults_over(self, entry: told.FaultsOver) -> None:
        self._liveness.calm(entry.stuck, self._now)
