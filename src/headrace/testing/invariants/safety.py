"""S1 to S5: what must never happen to records and commits, judged at each entry of a history.

Decides what is a violation of these and what is a permitted exception; the exceptions are the ones that
`docs/guarantees.md` names. Refuses to know time limits. Invariant: a violation is told once, with what shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headrace.testing.invariants.evidence import Run, SentCommit, Tenure
from headrace.testing.invariants.map_reader import read_map
from headrace.testing.invariants.order import out_of_order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.ports import TopicPartition
    from headrace.testing.invariants.evidence import Member, Partition
    from headrace.testing.invariants.rules import Bounds, Promise
    from headrace.testing.simulation import history as told

DRAIN_SHARE = 0.5
"""A stop spends a little more than half of its budget on waiting for handlers; a revoke at most half of the poll interval."""


EARLY = "acked early"
"""Acknowledged while its handler ran: finished with that, however it ends, unless what it produced is refused."""


@final
class Safety:
    """The part of the judge that knows records, order and commits."""

    __slots__ = ("_blame", "_bounds", "_members", "_place", "duplicates", "outlived")

    def __init__(
        self,
        members: dict[str, Member],
        place: Callable[[TopicPartition], Partition],
        bounds: Bounds,
        blame: Callable[[Promise, str], None],
    ) -> None:
        self._members = members
        self._place = place
        self._bounds = bounds
        self._blame = blame
        self.duplicates = 0
        """Records that were started again although they were settled, each of them permitted."""
        self.outlived = 0
        """Handlers that outlived their partition's tenure."""

    # Partitions come and go

    def assigned(self, member: Member, entry: told.Assigned) -> None:
        """A tenure begins; of two that hold one partition, one has not been told that it was taken."""
        for place in entry.places:
            partition = self._place(place)
            old = member.tenures.get(place)
            if old is not None:
                partition.close(old)
            member.tenures[place] = Tenure(member.name, place, partition.kept, partition.committed)
            partition.open(member.tenures[place])

    def taken(self, places: Sequence[TopicPartition]) -> None:
        """A guest holds these: who believes to hold them may be wrong."""
        for place in places:
            for tenure in self._place(place).tenures:
                tenure.contested = True

    def revoke_returned(self, member: Member, entry: told.RevokeReturned, now: float) -> None:
        """S5 and S3: let go before the deadline only what is drained and in a commit."""
        early = self._is_early(member, entry.took_s, now)
        for place in entry.places:
            tenure = member.tenures.get(place)
            if tenure is None or tenure.closed:
                continue
            if early and not tenure.contested:
                self._check_drained(tenure, now, maps=not member.map_refused)
            self.close(tenure)

    def close(self, tenure: Tenure) -> None:
        """It is over for its member too."""
        self.outlived += sum(not run.outlived for run in tenure.runs)
        self._place(tenure.place).close(tenure)

    def _is_early(self, member: Member, took_s: float, now: float) -> bool:
        """Whether there was time left to wait for handlers."""
        bounds = self._bounds
        if member.stop_hard or member.frozen_since(now - bounds.max_poll_interval_s, now) > 0:
            return False
        if member.closing:
            # Neither stopped nor failing, it is closed to be made anew: that is a loss.
            return member.stop_at is not None and now - member.stop_at < bounds.stop_s * DRAIN_SHARE
        return took_s < min(bounds.drain_s, bounds.max_poll_interval_s / 4) * 0.9

    def _check_drained(self, tenure: Tenure, now: float, *, maps: bool) -> None:
        partition = self._place(tenure.place)
        if partition.rules.guarantee != "at_least_once" or partition.unpromised:
            return
        where = _name(tenure.place)
        if tenure.runs:
            running = sorted(run.offset for run in tenure.runs)
            self._blame("S5", f"{tenure.member} gave {where} back while handlers ran on {running}")
            return
        # Without maps a commit says nothing of what is finished behind an unfinished record.
        # What compaction has removed since the member fetched it is in hand all the same.
        head = min(tenure.unfinished(), default=partition.end)
        missing = [
            offset
            for offset, (at, how) in sorted(tenure.settled.items())
            if (maps or offset < head)
            and not (
                partition.covered(offset) or tenure.covered_by_sent(offset) or _too_late(tenure, at, how, now)
            )
        ]
        if missing:
            self._blame("S5", f"{tenure.member} gave {where} back; its last commit leaves out {missing}")

    def fetched(self, member: Member, entry: told.Fetched) -> None:
        """S2: a tenure reads on from where the group is, and leaves nothing out."""
        partition = self._place(entry.place)
        tenure = member.tenures.get(entry.place)
        if tenure is None or tenure.closed:
            return
        if tenure.position is None:
            partition.begins_at(entry.offsets[0])
        if partition.rules.guarantee == "at_least_once" and not partition.unpromised:
            brought = set(entry.offsets)
            # One that the user moved reads from there, though the group goes by it only when a commit says so.
            reads_at = tenure.moved_to if tenure.position is None else tenure.position
            passed = [
                each
                for each in partition.unsettled_between(reads_at, entry.offsets[-1])
                if each not in brought
            ]
            if passed:
                self._blame("S2", f"{member.name} passed over {_name(entry.place)} {passed}, unfinished")
        if not tenure.fetched:
            partition.forget_repeats(before=entry.offsets[0])
        tenure.fetched.update(entry.offsets)
        tenure.position = max(tenure.position or 0, entry.offsets[-1] + 1)

    # Handlers

    def started(self, member: Member, entry: told.HandlerStarted, now: float) -> None:
        """S3, S4, S5 and L5 at the start of a handler."""
        partition = self._place(entry.place)
        tenure = member.tenures.get(entry.place)
        what = f"{member.name} started {_name(entry.place)} {entry.offset}"
        if tenure is None or tenure.closed or member.ended:
            self._blame("S4", f"{what}, which is not its own (any more)")
            return
        if entry.offset not in tenure.fetched:
            self._blame("S4", f"{what}, handed over in an earlier assignment")
        weaker = partition.rules.guarantee != "at_least_once"
        if partition.rules.guarantee == "at_most_once" and not partition.unpromised:
            if partition.committed is None or entry.offset >= partition.committed:
                self._blame("S1", f"{what} before its commit, though at most once was promised")
            if entry.offset in partition.started and not tenure.contested:
                self._blame("S5", f"{what} again, though at most once was promised")
        runs = [run for each in self._members.values() for run in each.runs.values()]
        wrong = out_of_order(partition, tenure, entry, runs)
        if wrong is not None:
            self._blame("S3", f"{what} {wrong}")
        if not weaker and not partition.unpromised:
            self._check_repeat(partition, tenure, entry.offset, what)
        self._check_pause(partition, tenure, entry.offset, what, now)
        partition.started.add(entry.offset)
        tenure.outcomes[entry.offset] = None
        run = Run(member.name, tenure, entry.offset, entry.key, entry.run)
        member.runs[entry.place, entry.offset] = run
        member.ran[entry.run, entry.place] = tenure
        tenure.runs.append(run)

    def _check_pause(self, partition: Partition, tenure: Tenure, offset: int, what: str, now: float) -> None:
        """L5: a record that failed is not tried again at once, or a loop would be busy with it."""
        if (
            tenure.outcomes.get(offset) == "raised"
            and now < tenure.ended_at[offset] + partition.rules.retry_after_s
        ):
            self._blame("L5", f"{what} again {now - tenure.ended_at[offset]:.4f} s after it failed")

    def _check_repeat(self, partition: Partition, tenure: Tenure, offset: int, what: str) -> None:
        if offset in tenure.settled:
            self._blame("S5", f"{what}, which it had finished in this assignment")
        elif offset in partition.settled and offset not in tenure.outcomes:
            if offset not in partition.may_repeat and not tenure.contested:
                self._blame("S5", f"{what} again, though its end was confirmed")
            self.duplicates += 1
            partition.may_repeat.discard(offset)

    def ended(self, member: Member, entry: told.HandlerEnded, now: float) -> None:
        """A handler is not at work any more."""
        run = member.runs.pop((entry.place, entry.offset), None)
        if run is not None:
            run.tenure.runs.remove(run)
            run.tenure.outcomes[entry.offset] = entry.outcome
            run.tenure.ended_at[entry.offset] = now
            if entry.offset in run.tenure.acked_early:
                run.tenure.acked_early.discard(entry.offset)
                self._settle(run.tenure, entry.offset, EARLY, now)

    def settled(self, member: Member, entry: told.Settled, tenure: Tenure | None, now: float) -> None:
        """A record is finished, for the tenure that ran it: after that was over, for nobody, and it is handled again."""
        if tenure is None:
            return
        if tenure.closed:
            if entry.how == "acked":
                self._blame(
                    "S4",
                    f"{member.name} took an acknowledgement of {_name(entry.place)} {entry.offset}"
                    " for a partition that it had let go",
                )
            return
        if entry.how == "acked" and tenure.outcomes.get(entry.offset, "ended") is None:
            tenure.acked_early.add(entry.offset)  # It is finished with its handler.
        else:
            self._settle(tenure, entry.offset, entry.how, now)

    def _settle(self, tenure: Tenure, offset: int, how: str, now: float) -> None:
        if tenure.closed:
            return
        partition = self._place(tenure.place)
        tenure.settled.setdefault(offset, (now, how))
        partition.settled.add(offset)
        partition.unsettled.discard(offset)

    def output_refused(self, member: Member, entry: told.OutputRefused) -> None:
        """An acknowledgement that was made before this was known does not count."""
        tenure = member.ran.get((entry.run, entry.place))
        if tenure is None or tenure.closed or tenure.settled.get(entry.offset, (0.0, ""))[1] != EARLY:
            return
        partition = self._place(entry.place)
        del tenure.settled[entry.offset]
        partition.settled.discard(entry.offset)
        if entry.offset in partition.records:
            partition.unsettled.add(entry.offset)

    # Commits

    def commit_sent(self, member: Member, entry: told.CommitSent, now: float) -> None:
        """S4: only for what is ours; and one at a time, or a retry inside the client could overtake."""
        offsets: dict[TopicPartition, tuple[int, str]] = {}
        tenures: dict[TopicPartition, Tenure] = {}
        metadata = entry.metadata or ("",) * len(entry.offsets)
        for (topic, number, offset), text in zip(entry.offsets, metadata, strict=True):
            place = (topic, number)
            tenure = member.tenures.get(place)
            if tenure is None or tenure.closed:
                self._blame("S4", f"{member.name} committed {_name(place)} {offset}, which is not its own")
                continue
            offsets[place] = (offset, text)
            tenures[place] = tenure
            tenure.sent_at, tenure.sent_to = now, offset
            tenure.sent_map = self._map_of(place, offset, text)
        sent = SentCommit(now, tenures, offsets)
        self._check_alone(member, sent, entry.in_flight)
        member.commits.append(sent)

    def _check_alone(self, member: Member, sent: SentCommit, in_flight: int) -> None:
        """What says the same may be sent again, as may be other partitions; the last commit of a revoke cannot wait."""
        if member.callback_at is not None:
            for other in member.commits:
                other.overtaken = other.overtaken or not other.answered
        if in_flight < 2 or member.callback_at is not None:
            return
        for other in member.commits:
            age_s = sent.at - other.at
            same = all(sent.offsets.get(place, said) == said for place, said in other.offsets.items())
            if not (other.answered or same or age_s >= self._bounds.commit_timeout_s):
                self._blame("S4", f"{member.name} sent a commit while one was {age_s:.3f} s old")
                return

    def commit_answered(self, member: Member, entry: told.CommitAnswered) -> None:
        """An answer names no commit; the runtime takes it for the newest that fits, and so does the judge."""
        member.map_refused = member.map_refused or entry.error == "OFFSET_METADATA_TOO_LARGE"
        for commit in reversed(member.commits):
            if not commit.answered and commit.offsets.get(entry.place, (-1, ""))[0] == entry.offset:
                commit.answered = True
                return

    def commit_applied(self, member: Member | None, entry: told.CommitApplied, now: float) -> None:
        """S1 and S4 at what the coordinator wrote."""
        partition = self._place(entry.place)
        sent = None if member is None else self._sent(member, entry)
        # One that is frozen may have fetched, long ago: whose commit is written has the partition.
        holders = partition.tenures if sent is None else (sent.tenures[entry.place],)
        if not any(tenure.fetched for tenure in holders):
            partition.begins_at(entry.offset)
        kept = self._map_of(entry.place, entry.offset, entry.metadata)
        self._land(partition, sent, now)
        if not partition.unpromised:
            self._check_back(partition, sent, entry, now)
            older = self._before_seek(partition, sent)
            if partition.rules.guarantee == "at_least_once" and not older:
                self._check_finished(partition, sent, entry, kept)
        before = {each for each in partition.settled if partition.covered(each)}
        partition.committed, partition.kept = entry.offset, kept
        self._check_kept(partition, member, sent, entry, before, now)
        # Who holds it and has read nothing yet may have been told of this commit, or of the one before.
        beginning = [tenure for tenure in partition.tenures if not tenure.fetched]
        for tenure in beginning:
            tenure.restored |= kept
        if not beginning:
            partition.forget_repeats()

    def _before_seek(self, partition: Partition, sent: SentCommit | None) -> bool:
        """Whether this commit was on its way when the partition was moved."""
        if sent is None or partition.sought_at is None or sent.at > partition.sought_at:
            return False
        return sent.tenures[partition.place].closed

    def _land(self, partition: Partition, sent: SentCommit | None, now: float) -> None:
        """The first commit of a tenure that the user moved: from now on that is what the group goes by."""
        tenure = None if sent is None else sent.tenures.get(partition.place)
        if tenure is None or tenure.moved_to is None:
            return
        if tenure.closed or tenure.contested:
            self._owe_from(partition, tenure.moved_to, tenure, now)
            partition.may_repeat.update(tenure.fetched)
            # Another move may have followed before this one landed: it still holds until a commit says otherwise.
            for later in partition.tenures:
                if later is not tenure and later.moved_to is not None and later.before is not None:
                    later.before = partition.promised()
                    self._owe_from(partition, later.moved_to, later, now)
        tenure.moved_to, tenure.before = None, None

    def _owe_from(self, partition: Partition, offset: int, mover: Tenure, now: float) -> None:
        """A move holds; what was done since it was asked for is done."""
        partition.sought(offset, now)
        for each in {id(one): one for one in (mover, *partition.tenures)}.values():
            partition.settled.update(each.settled)
            partition.unsettled.difference_update(each.settled)

    def sought(self, member: Member | None, entry: told.Sought, now: float) -> None:
        """The user moved a partition, or retention did, or an operator while nobody held it."""
        partition = self._place(entry.place)
        if member is None:
            if not partition.tenures:
                partition.sought(entry.offset, now)
                partition.committed, partition.kept = entry.offset, frozenset()
            return
        tenure = member.tenures.get(entry.place)
        if tenure is None or tenure.closed:
            return
        # Where it reads: behind what it brought, or where the group was when it was given the partition.
        reads_at = tenure.given_at if tenure.position is None else tenure.position
        gone = (reads_at or 0) < partition.start
        wanted = member.seeks_wanted.get(entry.place, 0)
        if not (wanted or gone or partition.unpromised):
            self._blame("S2", f"{member.name} moved {_name(entry.place)} to {entry.offset} unasked")
        if not gone:  # Else it may be retention's move, and the one that was asked for is still to come.
            member.seeks_wanted[entry.place] = max(0, wanted - 1)
        partition.close(tenure)
        fresh = member.tenures[entry.place] = Tenure(member.name, entry.place, frozenset(), entry.offset)
        fresh.moved_to = entry.offset
        fresh.contested = tenure.contested
        partition.open(fresh)
        if not fresh.contested:
            fresh.before = partition.promised()
            partition.sought(entry.offset, now)

    def _check_back(
        self, partition: Partition, sent: SentCommit | None, entry: told.CommitApplied, now: float
    ) -> None:
        if entry.before is None or entry.offset >= entry.before:
            return
        partition.may_repeat.update(each for each in partition.settled if entry.offset <= each < entry.before)
        if partition.sought_at is not None or (sent is not None and sent.overtaken):
            return
        # An answer that never came made it send again: which of the two is written last is the network's choice.
        if sent is not None and now - sent.at >= self._bounds.commit_timeout_s:
            return
        self._blame(
            "S4",
            f"{entry.member} committed {_name(entry.place)} {entry.offset}, back from {entry.before}",
        )

    def _check_kept(
        self,
        partition: Partition,
        member: Member | None,
        sent: SentCommit | None,
        entry: told.CommitApplied,
        before: set[int],
        now: float,
    ) -> None:
        """A map that was refused once may be left out; else what was confirmed stays so."""
        forgotten = sorted(
            each for each in before if each in partition.records and not partition.covered(each)
        )
        if not forgotten:
            return
        partition.may_repeat.update(forgotten)
        late = sent is not None and (sent.overtaken or now - sent.at >= self._bounds.commit_timeout_s)
        went_back = entry.before is not None and entry.offset < entry.before
        refused = member is None or member.map_refused
        if not (late or went_back or refused or partition.sought_at is not None or partition.unpromised):
            self._blame(
                "S5",
                f"{entry.member} committed {_name(entry.place)} {entry.offset} without {forgotten}, confirmed before",
            )

    def _check_finished(
        self, partition: Partition, sent: SentCommit | None, entry: told.CommitApplied, kept: frozenset[int]
    ) -> None:
        what = f"{entry.member} committed {_name(entry.place)} {entry.offset}"
        tenure = None if sent is None else sent.tenures.get(entry.place)
        # What this assignment was given it must have finished itself, whoever did before.
        given: set[int] = set()
        if tenure is not None:
            given = tenure.unfinished() & partition.records.keys()
        passed = sorted({*partition.unsettled_between(None, entry.offset), *_below(given, entry.offset)})
        if passed:
            handed = tenure is not None and any(each in tenure.fetched for each in passed)
            self._blame("S1" if handed else "S2", f"{what}, beyond {passed}, unfinished")
        false = sorted(each for each in kept if each in partition.unsettled or each in given)
        if false:
            self._blame("S2", f"{what}; its map calls {false} finished, which are not")

    def _map_of(self, place: TopicPartition, offset: int, metadata: str) -> frozenset[int]:
        try:
            return read_map(metadata, offset)
        except (ValueError, IndexError) as wrong:
            self._blame("S2", f"a commit of {_name(place)} {offset} has an unreadable map: {wrong}")
            return frozenset()

    def _sent(self, member: Member, entry: told.CommitApplied) -> SentCommit | None:
        """The oldest unanswered commit that says this: of those that say the same any may be the one."""
        said = (entry.offset, entry.metadata)
        found = [each for each in member.commits if each.offsets.get(entry.place) == said]
        return next((each for each in found if not each.answered), found[-1] if found else None)


def _below(offsets: set[int], end: int) -> set[int]:
    return {each for each in offsets if each < end}


def _too_late(tenure: Tenure, at: float, how: str, now: float) -> bool:
    """Whether a user's acknowledgement came when the last commit was being made: it is taken in later, or never."""
    return how in ("acked", EARLY) and at >= min(tenure.sent_at, now - 0.05)


def _name(place: TopicPartition) -> str:
    return f"{place[0]}[{place[1]}]"
