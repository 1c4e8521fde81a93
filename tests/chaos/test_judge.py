"""The judge finds what is wrong: each doctored ledger has one thing that must not happen, and is called by its name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.evidence import on_one_clock
from tests.chaos.judge import GRACE_S, LOADING, OVERTAKEN, STOP_UNCONFIRMED, Verdict, judge
from tests.members.ledger import Line


class Script:
    """Ledgers written by hand: every line a tenth of a second after the one before, member "a" if none is named."""

    def __init__(self) -> None:
        self.acks: list[Line] = []
        self.lines: list[Line] = []
        self.faults: list[Line] = []
        self.now = 0.0

    def later(self, seconds: float) -> Script:
        self.now += seconds
        return self

    def acked(self, *offsets: int, key: str | None = "k") -> Script:
        self.acks += [self._line("acked", offset=offset, key=key) for offset in offsets]
        return self

    def say(self, kind: Any, offset: int = -1, member: str = "a", detail: str = "") -> Script:
        self.lines.append(self._line(kind, offset=offset, member=member, detail=detail))
        return self

    def starts(self, offset: int, member: str = "a", key: str | None = "k") -> Script:
        self.lines.append(self._line("start", offset=offset, member=member, key=key))
        return self

    def ends(self, offset: int, member: str = "a", detail: str = "ok") -> Script:
        return self.say("end", offset, member, detail)

    def ran(self, *offsets: int, member: str = "a", key: str | None = "k") -> Script:
        for offset in offsets:
            self.starts(offset, member, key).ends(offset, member)
        return self

    def fault(self, kind: Any, member: str = "a", detail: str = "freeze") -> Script:
        self.faults.append(self._line(kind, member=member, detail=detail))
        return self

    def verdict(self) -> Verdict:
        return judge("g", self.acks, self.lines, self.faults)

    def _line(self, kind: Any, **facts: Any) -> Line:
        self.now += 0.1
        partition = -1 if kind in {"adrift", "back", "killed", "fault", "fault over"} else 0
        return Line(kind, self.now, 1e9 + self.now, topic="t", partition=partition, **facts)


def script(*offsets: int, key: str | None = "k") -> Script:
    """These records were produced, and "a" was given the partition."""
    return Script().acked(*offsets, key=key).say("assigned", 0)


def script_of(member: str) -> Script:
    """Record 0 was produced, and this member was given the partition."""
    return Script().acked(0).say("assigned", 0, member)


LOADING_TOLD = f"commit_refused {LOADING}"


def taken_over(*, offset: int, after_s: float = 6.5) -> Script:
    """0 to 2 are produced; "a" finishes 0 and 1, of which 0 is committed, and is frozen; "b" takes over."""
    frozen = script(0, 1, 2).ran(0, 1).say("committed", 1).fault("adrift").later(after_s)
    return frozen.say("assigned", offset, "b")


def test_who_was_adrift_may_be_given_what_is_free_and_soon_give_it_back() -> None:
    """What it was given then is no assignment that it slept through, though a revoke follows."""
    held = script(0, 1).ran(0).say("committed", 1).say("revoked", 1, detail="clean")
    held.fault("adrift", "b").fault("back", "b").later(GRACE_S - 1.0).say("assigned", 1, "b")
    held.later(2.0).ran(1, member="b").say("committed", 2, "b").say("revoked", 2, "b", "clean")
    verdict = held.verdict()
    assert verdict.anomalies == []
    assert not verdict.allowed


def test_a_good_run_has_no_anomaly() -> None:
    """With a commit whose map is right, a clean handover, a record that failed at first, and an app's own late end."""
    good = script(0, 1, 2, 3).ran(0, 1).say("committed", 2)
    good.starts(2).ends(2, detail="raised").ran(2).say("committed", 3).say("revoked", 3, detail="clean")
    good.say("assigned", 3, "b").ran(3, member="b").say("committed", 4)
    verdict = good.verdict()
    assert verdict.anomalies == []
    assert (verdict.records, verdict.runs, verdict.commits) == (4, 5, 3)
    assert not verdict.allowed


@pytest.mark.parametrize(
    ("doctored", "name"),
    [
        (script(0, 1, 2).ran(0, 2).say("committed", 3), "lost"),
        (script(0, 1).ran(0).say("committed", 1), "stuck"),
        (script(0).starts(0), "stuck"),
        (script(0).ran(0, 0), "duplicate"),
        # After a clean stop, though its commit was never seen: nothing excuses it.
        (script(0).ran(0).say("revoked", 1, detail="clean").say("assigned", 0, "b").ran(0, member="b"), "duplicate"),
        # After a kill, though confirmed: by the offset, and by the map.
        (
            script(0).ran(0).say("committed", 1).fault("killed").say("assigned", 0, "b").ran(0, member="b"),
            "duplicate",
        ),
        (
            script(0, 1, key=None).ran(1, key=None).say("committed", 0, detail="1").fault("killed")
            .say("assigned", 0, "b").ran(0, 1, member="b", key=None),
            "duplicate",
        ),
        # A kill of somebody else excuses nothing.
        (
            script(0).ran(0).fault("killed", "c").say("revoked", 1, detail="clean").say("assigned", 0, "b")
            .ran(0, member="b"),
            "duplicate",
        ),
        # A kill before the record began excuses nothing.
        (script(0).fault("killed").ran(0).say("assigned", 0, "b").ran(0, member="b"), "duplicate"),
        (taken_over(offset=0).ran(0, member="b"), "duplicate"),
        (script(0, 1).starts(0).starts(1).ends(1).ends(0), "order"),
        (script(0, 1).ran(1, 0), "order"),
        (script(0).starts(0).say("assigned", 0, "b").ran(0, member="b").later(1.0).ends(0), "order"),
        (script(0, 1).starts(0).ends(0, detail="raised").ran(1, 0), "order"),
        (script(0, 1).ran(0).say("committed", 2).ran(1), "commit past unfinished"),
        (script(0, 1, key=None).say("committed", 0, detail="1").ran(0, 1, key=None), "commit past unfinished"),
        (script(0, 1).ran(0, 1).say("committed", 2).say("committed", 1), "commit went back"),
        # Mended, but nobody noticed; noticed, but not mended.
        (script(0).ran(0).say("committed", 1).say("committed", 0).say("committed", 1), "commit went back"),
        (
            script(0).ran(0).say("committed", 1).say("committed", 0).say("told", detail="commit_went_back")
            .later(2.0).say("committed", 1),
            "commit went back",
        ),
        (script(0).say("revoked", 0, detail="clean").ran(0), "zombie"),
        (script(0).say("unconfirmed", 0, detail="lost").ran(0), "zombie"),
        (script(0).say("assigned", 0, "b").ran(0), "zombie"),
        (Script().acked(0).ran(0), "zombie"),
        # It was adrift, but long ago.
        (
            script(0).fault("adrift").fault("back").later(GRACE_S + 1.0).say("assigned", 0, "b").ran(0),
            "zombie",
        ),
        # It was adrift, but knows of its loss by now.
        (
            script(0).fault("adrift").say("assigned", 0, "b").fault("back").say("unconfirmed", detail="lost").ran(0),
            "zombie",
        ),
        # It was told long after that the last commit of the revoke had been overtaken.
        (
            script(0).ran(0).say("revoked", 1, detail="clean").say("committed", 1).say("committed", 0)
            .later(GRACE_S + 1.0).say("unconfirmed", 1, detail=OVERTAKEN),
            "commit went back",
        ),
        # The coordinator was away, but it knew of its loss; or it was there again.
        (
            script(0).fault("fault", "", "coordinator move").say("unconfirmed", detail="lost").say("assigned", 0, "b")
            .ran(0).fault("fault over", "", "coordinator move"),
            "zombie",
        ),
        (
            script(0).fault("fault", "", "coordinator move").say("assigned", 0, "b")
            .fault("fault over", "", "coordinator move").later(GRACE_S + 1.0).ran(0),
            "zombie",
        ),
        # The last commit of a revoke was written again, but the next holder had begun from the one between.
        (
            script(0).ran(0).say("revoked", 1, detail="clean").say("committed", 1).say("committed", 0)
            .say("assigned", 0, "b").say("committed", 1),
            "commit went back",
        ),
        # The broker was away, but before.
        (
            script(0).fault("fault", "", "broker restart").fault("fault over", "", "broker restart").fault("adrift")
            .fault("back").later(GRACE_S + 1.0).say("assigned", 0, "b").ran(0),
            "zombie",
        ),
        # Its coordinator was loading, long ago.
        (
            script(0).fault("adrift").fault("fault", "", "broker restart").fault("back")
            .fault("fault over", "", "broker restart").later(1.0).say("told", detail=LOADING_TOLD)
            .later(GRACE_S + 1.0).say("assigned", 0, "b").ran(0),
            "zombie",
        ),
        # A member of another process was adrift.
        (script(0).fault("adrift", "c").say("assigned", 0, "b").ran(0).fault("back", "c"), "zombie"),
        (script(0).ran(0, 7), "unknown record"),
        # Connections of one process are told apart: a clean scale-down repeats nothing, and what was given up is given up.
        (
            script_of("a/1").ran(0, member="a/1").say("revoked", 1, "a/1", "clean").say("assigned", 0, "a/0")
            .ran(0, member="a/0"),
            "duplicate",
        ),
        (script_of("a/1").say("revoked", 0, "a/1", "clean").say("assigned", 0, "a/0").ran(0, member="a/1"), "zombie"),
        (script_of("a/1").starts(0, "a/1").say("assigned", 0, "a/0").ran(0, member="a/0").ends(0, "a/1"), "order"),
    ],
)  # fmt: skip
def test_a_doctored_ledger_is_called_by_the_name_of_its_fault(doctored: Script, name: str) -> None:
    assert name in doctored.verdict().names()


@pytest.mark.parametrize(
    ("excused", "why"),
    [
        (
            script(0).ran(0).fault("killed").say("assigned", 0, "b").ran(0, member="b"),
            "repeated, unconfirmed when its member was killed",
        ),
        (taken_over(offset=1).ran(1, 2, member="b"), "repeated, unconfirmed when its member went adrift"),
        (
            taken_over(offset=1).ran(1, 2, member="b").fault("back").ran(2),
            "started by a member that was adrift, after another was given it",
        ),
        (
            script(0, 1).starts(0).fault("adrift").later(7.0).say("assigned", 0, "b").ran(0, 1, member="b")
            .fault("back").ends(0),
            "at once with a handler of a member that was adrift",
        ),
        # It took note of an assignment that it had slept through; the holder goes on.
        (
            script(0, 1).say("revoked", 0, detail="clean").say("assigned", 0, "b").fault("adrift").later(9.0).fault("back")
            .say("assigned", 0).ran(0).say("unconfirmed", detail="lost").ran(1, member="b"),
            "started by a member that was adrift, after another was given it",
        ),
        (
            script(0, 1).say("revoked", 0, detail="clean").say("assigned", 0, "b").fault("adrift").later(9.0).fault("back")
            .say("assigned", 0).ran(0).say("revoked", 0, detail="clean").ran(1, member="b"),
            "started by a member that was adrift, after another was given it",
        ),
        # Who was adrift is given what another, adrift by now, was put out of: that one starts too late, not the new holder.
        (
            script(0, 1).fault("adrift", "b").fault("back", "b").fault("adrift").later(GRACE_S - 1.0)
            .say("assigned", 0, "b").ran(0, member="b").say("committed", 1).fault("back").ran(0)
            .say("unconfirmed", detail="lost").say("revoked", 1, "b", "clean").say("assigned", 1).ran(1),
            "repeated by a member that was adrift",
        ),
        (
            script(0).ran(0).say("unconfirmed", detail="lost").say("assigned", 0, "b").ran(0, member="b"),
            "repeated, unconfirmed: lost",
        ),
        # The answer to the last commit came after the next holder had begun.
        (
            script(0).ran(0).say("revoked", 1, detail="clean").say("assigned", 0, "b").ran(0, member="b")
            .say("unconfirmed", 1, detail="ILLEGAL_GENERATION"),
            "repeated, unconfirmed: ILLEGAL_GENERATION",
        ),
        (
            script(0).ran(0).say("committed", 1).say("committed", 0).say("told", detail="commit_went_back")
            .say("committed", 1),
            "commit went back after it had been given up, noticed and mended",
        ),
        (
            script(0).ran(0).say("revoked", 1, detail="clean").say("committed", 1).say("committed", 0)
            .say("unconfirmed", 1, detail=OVERTAKEN),
            "commit went back, overtaken by the last one of a revoke, and told",
        ),
        (
            script(0).ran(0).say("revoked", 1, detail="clean").say("committed", 0).say("committed", 1)
            .say("committed", 0).say("committed", 1),
            "commit went back, and the last one of a revoke was written again",
        ),
        (
            script(0).fault("adrift").fault("fault", "", "broker restart").fault("back").later(GRACE_S + 1.0)
            .say("assigned", 0, "b").ran(0).fault("fault over", "", "broker restart"),
            "started by a member that was adrift, after another was given it",
        ),
        (
            script(0).fault("adrift").fault("fault", "", "broker restart").fault("back")
            .fault("fault over", "", "broker restart").later(GRACE_S - 1.0).say("told", detail=LOADING_TOLD)
            .later(2.0).say("assigned", 0, "b").ran(0),
            "started by a member that was adrift, after another was given it",
        ),
        (
            script(0).ran(0).say("told", detail=STOP_UNCONFIRMED).say("revoked", 1, detail="clean")
            .say("assigned", 0, "b").ran(0, member="b"),
            "repeated, its member could not confirm its last commit when it stopped",
        ),
        (
            script(0).ran(0).say("revoked", 0, detail="abandoned").say("assigned", 0, "b").ran(0, member="b"),
            "repeated, its drain overran",
        ),
        # It was put out while nobody could tell it so.
        (
            script(0).fault("fault", "", "coordinator move").say("assigned", 0, "b").ran(0)
            .say("unconfirmed", detail="lost").fault("fault over", "", "coordinator move"),
            "started while the coordinator was away, after another was given it",
        ),
        (
            script(0).fault("fault", "", "broker restart").fault("fault over", "", "broker restart").later(1.0)
            .say("assigned", 0, "b").ran(0).say("unconfirmed", detail="lost"),
            "started while the coordinator was away, after another was given it",
        ),
        # What befalls a process befalls all its connections.
        (
            script_of("a/1").ran(0, member="a/1").fault("killed").say("assigned", 0, "b/0").ran(0, member="b/0"),
            "repeated, unconfirmed when its member was killed",
        ),
        (
            script_of("a/1").fault("adrift").say("assigned", 0, "b/0").ran(0, member="a/1").fault("back"),
            "started by a member that was adrift, after another was given it",
        ),
    ],
)  # fmt: skip
def test_what_could_not_be_helped_is_counted_by_its_reason(excused: Script, why: str) -> None:
    verdict = excused.verdict()
    assert verdict.anomalies == []
    assert verdict.allowed[why] > 0


def test_a_commit_that_went_back_is_named_once_and_not_for_each_record_it_repeats() -> None:
    """The new holder began from it, as it must."""
    back = script(0, 1).ran(0, 1).say("committed", 2).say("revoked", 2, detail="clean").say("committed", 0)
    verdict = back.say("assigned", 0, "b").ran(0, 1, member="b").verdict()
    assert verdict.names() == {"commit went back"}
    assert verdict.allowed == {"repeated, since a commit had gone back (see there)": 2}


def test_redelivery_of_what_no_handler_finished_is_no_repetition() -> None:
    """Its member was killed in the midst of it, or a record without a key ran beside another."""
    killed = script(0, 1).starts(0).fault("killed").say("assigned", 0, "b").ran(0, 1, member="b")
    assert (killed.verdict().anomalies, killed.verdict().allowed.total()) == ([], 0)
    unkeyed = script(0, 1, key=None).starts(0, key=None).starts(1, key=None).ends(1).ends(0)
    assert unkeyed.verdict().anomalies == []


def test_what_a_broker_wrote_is_timed_by_the_members_beside_it() -> None:
    """The time of day was set twenty seconds forward between the two commits."""
    lines = [
        Line("start", 10.0, 1010.0, "a"),
        Line("committed", 10.5, 1010.5),
        Line("start", 11.0, 1031.0, "a"),
        Line("committed", 31.4, 1031.4),
        Line("generation", 31.6, 1031.6),
    ]
    assert [round(line.at, 6) for line in on_one_clock(lines)] == [10.0, 10.5, 11.0, 11.4, 11.6]
