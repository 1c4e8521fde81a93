"""The judge on S1 to S5: each promise broken in a forged history is seen, and its lawful twin is not."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import pytest

from headrace._core.finished import FinishedBeyond
from headrace._core.offset_map import encode
from headrace.testing.invariants import TopicRules
from headrace.testing.simulation import history as told
from tests.simulation.forged import T0, Story

if TYPE_CHECKING:
    from collections.abc import Callable


def offset_map(base: int, flags: str) -> str:
    """A map as the runtime writes it: a 1 for each finished offset from the base on."""
    offsets = array("q", range(base, base + len(flags)))
    beyond = FinishedBeyond(base, offsets, bytes(int(flag) for flag in flags), base + len(flags))
    return encode(beyond).metadata


def begun(count: int = 3, keys: str = "", rules: TopicRules | None = None) -> Story:
    """Records are there, and "m" has fetched them all."""
    return Story(rules).log(count, keys).member().fetch(*range(count))


def mapped() -> Story:
    """Record 0 runs, 1 is finished and in the map of a commit."""
    return begun(3, "abc").start(0).handle(1, key="b").commit(0, None, "m", offset_map(0, "01"))


def sought(to: int) -> Story:
    """The user has moved the partition, and no commit says so yet."""
    return begun().add(told.SeekWanted("m", T0)).add(told.Sought("m", T0, to))


MANY = TopicRules(order_by="none")
ONCE = TopicRules(guarantee="at_most_once")
LOOSE = TopicRules(guarantee="none")
LATEST = TopicRules(starts_at_end=True)

BROKEN: dict[str, tuple[str, Callable[[], Story]]] = {
    "a commit passes a record whose handler runs": (
        "S1",
        lambda: begun().handle(0).start(1).commit(2),
    ),
    "a commit passes a record whose dead letter is on its way": (
        "S1",
        lambda: begun().start(0).ends(0, "rejected").add(told.DeadLetterSent("m", T0, 0, 99)).commit(1),
    ),
    "a commit passes what an earlier assignment finished and this one did not": (
        "S1",
        lambda: (
            begun()
            .handle(0, 1)
            .revoke(took_s=10)
            .assign()
            .fetch(0, 1, 2)
            .start(0)
            .ends(0)
            .settle(0)
            .commit(2)
        ),
    ),
    "a dead letter of an earlier assignment is taken for this one's": (
        "S1",
        lambda: (
            begun()
            .start(0)
            .ends(0, "rejected")
            .add(told.DeadLetterSent("m", T0, 0, 99))
            .lose()
            .assign()
            .fetch(0)
            .settle(0, "dead_lettered", run=99)
            .commit(1)
        ),
    ),
    "a record starts before its commit, at most once": (
        "S1",
        lambda: begun(rules=ONCE).start(0),
    ),
    "a first record is passed over": (
        "S2",
        lambda: Story().log(3).member().fetch(1, 2),
    ),
    "a record in the middle is passed over": (
        "S2",
        lambda: Story().log(3).member().fetch(0).fetch(2),
    ),
    "a restart begins beyond what was unfinished": (
        "S2",
        lambda: begun().handle(0).commit(1).kill().member("n").fetch(2, name="n"),
    ),
    "a commit passes a record that nobody was given": (
        "S2",
        lambda: Story().log(3).member().commit(2),
    ),
    "a map calls a record finished whose handler runs": (
        "S2",
        lambda: (
            begun(3, "abc")
            .start(0)
            .start(1, key="b")
            .handle(2, key="c")
            .commit(0, None, "m", offset_map(0, "011"))
        ),
    ),
    "a map cannot be read": (
        "S2",
        lambda: begun().handle(0).commit(1, None, "m", "hr1:AAAA"),
    ),
    "a partition is moved that nobody wanted moved": (
        "S2",
        lambda: begun().handle(0).add(told.Sought("m", T0, 2)),
    ),
    "two records of a key at once": (
        "S3",
        lambda: begun().start(0).start(1),
    ),
    "two records of a partition at once": (
        "S3",
        lambda: begun(2, "ab", TopicRules(order_by="partition")).start(0).start(1, key="b"),
    ),
    "one record twice at once": (
        "S3",
        lambda: begun(rules=MANY).start(0).start(0, attempt=2),
    ),
    "the next record of a key before a failed one was tried again": (
        "S3",
        lambda: begun().start(0).ends(0, "raised").start(1),
    ),
    "a record of a key before an earlier one": (
        "S3",
        lambda: begun().start(1),
    ),
    "an earlier record of a key after a later one, both repeats": (
        "S3",
        lambda: (
            begun()
            .handle(0, 1, 2)
            .revoke(took_s=10)
            .assign()
            .fetch(0, 1, 2)
            .start(1)
            .ends(1)
            .settle(1)
            .start(0)
        ),
    ),
    "a key that came back does not wait for the handler that outlived its assignment": (
        "S3",
        lambda: begun().start(0).revoke(took_s=10).assign().fetch(0, 1, 2).start(0),
    ),
    "a handler starts after its revoke returned": (
        "S4",
        lambda: begun().revoke().start(0),
    ),
    "a handler starts after its loss returned": (
        "S4",
        lambda: begun().lose().start(0),
    ),
    "a handler starts after its app ended": (
        "S4",
        lambda: begun().add(told.StopAsked("m")).add(told.MemberEnded("m", None)).start(0),
    ),
    "a record of an earlier assignment starts in a new one": (
        "S4",
        lambda: begun().revoke().assign().start(0),
    ),
    "a commit after the revoke returned": (
        "S4",
        lambda: begun().handle(0).commit(1).revoke().send(1),
    ),
    "a late acknowledgement counts": (
        "S4",
        lambda: begun().start(0).ends(0).revoke().assign().fetch(0, 1, 2).settle(0, "acked"),
    ),
    "the offset goes backwards": (
        "S4",
        lambda: begun().handle(0, 1).commit(2).commit(1, 2),
    ),
    "two commits at once": (
        "S4",
        lambda: begun().handle(0).send(1).handle(1).send(2, in_flight=2),
    ),
    "a confirmed record is handled again": (
        "S5",
        lambda: begun().handle(0, 1).commit(2).revoke().assign().fetch(0).start(0),
    ),
    "a record that a map calls finished is handled again": (
        "S5",
        lambda: (
            begun(3, "abc")
            .start(0)
            .handle(1, key="b")
            .commit(0, None, "m", offset_map(0, "01"))
            .kill()
            .member("n")
            .fetch(0, 1, 2, name="n")
            .start(1, "n", "b")
        ),
    ),
    "a commit was written and its answer lost: its records come again": (
        "S5",
        lambda: begun().handle(0).send(1).apply(1).kill().member("n").fetch(0, name="n").start(0, "n"),
    ),
    "the last commit of a revoke landed, was told of at the next assignment, and its record comes later on": (
        "S5",
        lambda: (
            begun()
            .handle(0)
            .send(1)
            .revoke()
            .assign()
            .apply(1)
            .answer(1)
            .fetch(1)
            .revoke()
            .assign()
            .fetch(0)
            .start(0)
        ),
    ),
    "a record is handled twice in one assignment": (
        "S5",
        lambda: begun().handle(0).start(0, attempt=2),
    ),
    "a record comes twice after one crash": (
        "S5",
        lambda: (
            begun().handle(0).kill().member("n").fetch(0, name="n").handle(0, name="n").handle(0, name="n")
        ),
    ),
    "a revoke does not wait for a handler": (
        "S5",
        lambda: begun().start(0).revoke(took_s=1.0),
    ),
    "a commit passes a record whose early acknowledgement fell": (
        "S1",
        lambda: begun(1).start(0).settle(0, "acked").ends(0).refuses_output(0).commit(1),
    ),
    "a record is handled twice though its early acknowledgement holds": (
        "S5",
        lambda: begun(1).start(0).settle(0, "acked").ends(0).start(0, attempt=2),
    ),
    "a revoke's commit leaves out what was done": (
        "S5",
        lambda: begun().handle(0, 1).revoke_begins().send(1).revoke_ends(),
    ),
    "a clean stop commits nothing": (
        "S5",
        lambda: begun().handle(0).add(told.StopAsked("m")).wait(1).revoke(closing=True),
    ),
    "a stop closes before the handlers have ended": (
        "S5",
        lambda: begun().start(0).add(told.StopAsked("m")).wait(1).revoke(closing=True),
    ),
    "a commit leaves out of its map what was confirmed": (
        "S5",
        lambda: mapped().handle(2, key="c").commit(0, 0),
    ),
    "a user's seek forward is committed, and more than that": (
        "S2",
        lambda: begun().add(told.SeekWanted("m", T0)).add(told.Sought("m", T0, 1)).commit(2),
    ),
    "records behind a seek that was forgotten are passed over": (
        "S2",
        lambda: sought(2).lose().member("n").fetch(2, name="n"),
    ),
    "a group that began at the end passes over what came after its first commit": (
        "S2",
        lambda: Story(LATEST).log(3).member().commit(1).kill().member("n").fetch(2, name="n"),
    ),
    "a record is left out behind a seek beside a member that is frozen": (
        "S2",
        lambda: (
            Story()
            .log(4)
            .member()
            .member("n")
            .add(told.SeekWanted("n", T0))
            .add(told.Sought("n", T0, 2))
            .fetch(3, name="n")
        ),
    ),
    "a group that begins at the end commits past what it was given": (
        "S1",
        lambda: Story(LATEST).log(3).member().fetch(1, 2).commit(3),
    ),
    "a record is started twice, at most once": (
        "S5",
        lambda: begun(rules=ONCE).commit(3).start(0).ends(0).start(0, attempt=2),
    ),
}

LAWFUL: dict[str, Callable[[], Story]] = {
    "records are handled and committed": lambda: begun().handle(0, 1, 2).commit(3),
    "a dead letter was acknowledged": lambda: (
        begun().start(0).ends(0, "rejected").settle(0, "dead_lettered").commit(1)
    ),
    "a commit passes what was never visible": lambda: (
        begun(1).add(told.Produced(T0, 1, b"a", visible=False)).handle(0).commit(2)
    ),
    "a commit passes what retention removed": lambda: (
        Story().log(3).add(told.Removed(T0, 2)).member().fetch(2).handle(2).commit(3)
    ),
    "a commit passes what compaction removed": lambda: (
        Story().log(3).add(told.Removed(T0, 0, 1)).member().fetch(0, 2).handle(0, 2).commit(3)
    ),
    "at most once: committed, then started": lambda: (
        begun(rules=ONCE).commit(3).start(0).ends(0, "raised").start(1)
    ),
    "at most once: lost in a crash": lambda: (
        begun(rules=ONCE).commit(3).kill().member("n").add(told.Produced(T0, 3, b"a")).fetch(3, name="n")
    ),
    "none: positions are committed, records come again": lambda: (
        begun(rules=LOOSE).commit(3).kill().member("n").fetch(0, name="n")
    ),
    "a group that began at the end passes over what was there": lambda: (
        Story(LATEST).log(3).member().commit(2).fetch(2).handle(2).commit(3, 2)
    ),
    "a restart begins with what was unfinished": lambda: (
        begun().handle(0).commit(1).kill().member("n").fetch(1, 2, name="n").handle(1, 2, name="n")
    ),
    "a map calls finished what is": lambda: (
        begun(3, "abc")
        .start(0)
        .handle(1, key="b")
        .handle(2, key="c")
        .commit(0, None, "m", offset_map(0, "011"))
    ),
    "what a map called finished is not started again, and passed": lambda: (
        begun(3, "abc")
        .start(0)
        .handle(1, key="b")
        .commit(0, None, "m", offset_map(0, "01"))
        .kill()
        .member("n")
        .fetch(0, 1, 2, name="n")
        .handle(0, name="n")
        .commit(2, 0, "n")
    ),
    "the user moves a partition back, and all comes again": lambda: (
        begun()
        .handle(0, 1, 2)
        .commit(3)
        .add(told.SeekWanted("m", T0))
        .add(told.Sought("m", T0, 0))
        .commit(0, 3)
        .fetch(0, 1, 2)
        .handle(0, 1, 2)
    ),
    "a commit that was on its way lands after a seek": lambda: (
        begun()
        .handle(0, 1)
        .send(2)
        .add(told.SeekWanted("m", T0))
        .add(told.Sought("m", T0, 0))
        .apply(2)
        .commit(0, 2)
    ),
    "retention moves a partition": lambda: (
        Story()
        .log(5)
        .member()
        .fetch(0)
        .handle(0)
        .add(told.Removed(T0, 3))
        .add(told.Sought("m", T0, 3))
        .fetch(3, 4)
    ),
    "a seek that was asked for comes after retention has moved the partition": lambda: (
        Story()
        .log(5)
        .member()
        .add(told.Removed(T0, 3))
        .add(told.SeekWanted("m", T0))
        .add(told.Sought("m", T0, 3))
        .add(told.Sought("m", T0, 4))
    ),
    "a user's seek beside a member that is frozen": lambda: (
        Story()
        .log(4)
        .member()
        .member("n")
        .fetch(0, 1, name="n")
        .add(told.SeekWanted("n", T0))
        .add(told.Sought("n", T0, 2))
        .fetch(2, 3, name="n")
    ),
    "an operator resets a group that is away": lambda: (
        begun()
        .handle(0, 1, 2)
        .commit(3)
        .kill()
        .add(told.Sought("", T0, 1))
        .member("n")
        .fetch(1, name="n")
        .start(1, "n")
    ),
    "keys side by side": lambda: begun(2, "ab").start(0).start(1, key="b"),
    "keyless records side by side": lambda: (
        begun(2, "--")
        .add(told.HandlerStarted("m", T0, 0, None, 1, 1))
        .add(told.HandlerStarted("m", T0, 1, None, 1, 2))
    ),
    "one batch with two records of a key": lambda: begun().start(0, run=7).start(1, run=7),
    "a failed record is tried again, then its key goes on": lambda: (
        begun().start(0).ends(0, "raised").start(0, attempt=2).ends(0).settle(0).start(1)
    ),
    "an unacknowledged record does not hold up its key": lambda: begun().start(0).ends(0).start(1),
    "a handler outlives the drain, and another member goes on": lambda: (
        begun().start(0).revoke(took_s=10).member("n").fetch(0, name="n").start(0, "n").ends(0)
    ),
    "a frozen member's handler runs on while another owns the partition": lambda: (
        begun()
        .start(0)
        .add(told.MemberFrozen("m", 60))
        .wait(50)
        .member("n")
        .fetch(0, name="n")
        .start(0, "n")
        .wait(20)
        .ends(0)
        .settle(0)
        .start(1)
        .lose()
    ),
    "a killed member's handler is no more": lambda: (
        begun().start(0).kill().member("n").fetch(0, name="n").start(0, "n")
    ),
    "partitions come back and are read again": lambda: begun().revoke().assign().fetch(0, 1, 2).start(0),
    "a commit that was sent before the revoke is written after it": lambda: (
        begun().handle(0).send(1).revoke().apply(1).answer(1)
    ),
    "an acknowledgement in time": lambda: begun().start(0).ends(0).settle(0, "acked").commit(1),
    "an older commit lands after it was given up": lambda: (
        begun().handle(0).send(1).wait(10).handle(1).send(2, in_flight=2).apply(2).apply(1, 2)
    ),
    "the last commit of a revoke overtakes one in flight": lambda: (
        begun().handle(0).send(1).handle(1).revoke_begins().send(2, in_flight=2).revoke_ends()
    ),
    "an app that fails by itself is stopping from then on": lambda: (
        begun().start(0).add(told.Failing("m")).wait(14).add(told.StopAsked("m")).wait(3).revoke(closing=True)
    ),
    "two seeks of one partition, one after the other": lambda: (
        begun()
        .add(told.SeekWanted("m", T0))
        .add(told.SeekWanted("m", T0))
        .add(told.Sought("m", T0, 2))
        .add(told.Sought("m", T0, 1))
    ),
    "without maps, what a member holds is in the way though compaction removed it": lambda: (
        begun(3, "abc")
        .handle(1, key="b")
        .send(0)
        .answer(0, "OFFSET_METADATA_TOO_LARGE")
        .commit(0)
        .add(told.Removed(T0, 0, 0))
        .revoke(took_s=0.0)
    ),
    "another key's record at the same offset of a topic made anew": lambda: (
        begun()
        .start(0)
        .add(told.FaultBegan("topics_recreated", T0[0]))
        .log(2, "bb")
        .add(told.Sought("m", T0, 0))
        .fetch(0, 1)
        .start(0, key="b", run=2)
    ),
    "a map that the last one of a revoke overtook": lambda: (
        begun(3, "abc")
        .handle(1, key="b")
        .send(0, metadata=offset_map(0, "01"))
        .handle(2, key="c")
        .revoke_begins()
        .send(0, metadata=offset_map(0, "011"), in_flight=2)
        .revoke_ends()
        .apply(0, None, "m", offset_map(0, "011"))
        .apply(0, 0, "m", offset_map(0, "01"))
    ),
    "an offset of a topic made anew has another key than the record that was handled": lambda: (
        begun(2, "ab")
        .start(0)
        .ends(0, "cancelled")
        .add(told.FaultBegan("topics_recreated", T0[0]))
        .log(2, "bb")
        .start(1, key="b")
    ),
    "the commit of a seek lands after a second seek, and after what that led to": lambda: (
        begun(3)
        .handle(0, 1, 2)
        .commit(3)
        .add(told.SeekWanted("m", T0))
        .add(told.Sought("m", T0, 1))
        .send(1)
        .add(told.SeekWanted("m", T0))
        .add(told.Sought("m", T0, 1))
        .fetch(1, 2)
        .handle(1, 2)
        .apply(1, 3)
        .answer(1)
        .commit(3, 1)
    ),
    "an early acknowledgement falls with what its record produced": lambda: (
        begun(1).start(0).settle(0, "acked").ends(0).refuses_output(0).revoke_begins().send(0).revoke_ends()
    ),
    "a second seek still holds when the commit of the first one lands": lambda: (
        begun(3)
        .handle(0, 1, 2)
        .commit(3)
        .add(told.SeekWanted("m", T0))
        .add(told.Sought("m", T0, 0))
        .send(0)
        .add(told.SeekWanted("m", T0))
        .add(told.Sought("m", T0, 2))
        .apply(0, 3)
        .answer(0)
        .commit(2, 0)
        .fetch(2)
        .handle(2)
        .commit(3, 2)
    ),
    "retention removes what a member that was long away was to read": lambda: (
        Story()
        .log(4)
        .member()
        .member("n")
        .fetch(0, 1, 2, name="n")
        .handle(0, 1, 2, name="n")
        .commit(3, None, "n")
        .add(told.Removed(T0, 2))
        .add(told.Sought("m", T0, 2))
    ),
    "the last commit of a revoke lands when the member has it again and was told of the one before": lambda: (
        begun().handle(0).send(1).revoke().assign().apply(1).answer(1).fetch(0, 1, 2).start(0)
    ),
    "what was unconfirmed at a crash comes again, once": lambda: (
        begun().handle(0).kill().member("n").fetch(0, name="n").handle(0, name="n")
    ),
    "what was unconfirmed at a loss comes again": lambda: (
        begun().handle(0).lose().member("n").fetch(0, name="n").handle(0, name="n")
    ),
    "what was unconfirmed at a hard stop comes again": lambda: (
        begun()
        .handle(0)
        .add(told.StopAsked("m", hard=True))
        .revoke(closing=True)
        .member("n")
        .fetch(0, name="n")
        .handle(0, name="n")
    ),
    "the last commit of a revoke was refused": lambda: (
        begun()
        .handle(0)
        .revoke_begins()
        .send(1)
        .revoke_ends()
        .answer(1, "REBALANCE_IN_PROGRESS")
        .assign()
        .fetch(0)
        .handle(0)
    ),
    "a map that a broker refused may be left out, and its records come again": lambda: (
        mapped()
        .handle(2, key="c")
        .send(0)
        .answer(0, "OFFSET_METADATA_TOO_LARGE")
        .commit(0, 0)
        .kill()
        .member("n")
        .fetch(0, 1, 2, name="n")
        .start(1, "n", "b")
    ),
    "a record that compaction removed need not be in a map": lambda: (
        mapped().add(told.Removed(T0, 0, 1)).handle(2, key="c").commit(0, 0, "m", offset_map(0, "001"))
    ),
    "a guest of the group owns what a member believes to own": lambda: (
        begun().handle(0).add(told.Assigned("guest", (T0,))).start(1).lose()
    ),
    "a member hears late that it owns what another owns since": lambda: (
        begun().member("n").fetch(0, 1, 2, name="n").handle(0, name="n").handle(0).commit(1)
    ),
    "an older commit lands after the last one of a revoke": lambda: (
        begun()
        .handle(0)
        .send(1)
        .handle(1)
        .revoke_begins()
        .send(2, in_flight=2)
        .revoke_ends()
        .apply(2)
        .apply(1, 2)
    ),
    "a dead letter of an earlier assignment arrives": lambda: (
        begun()
        .start(0)
        .ends(0, "rejected")
        .add(told.DeadLetterSent("m", T0, 0, 99))
        .lose()
        .assign()
        .fetch(0)
        .settle(0, "dead_lettered", run=99)
        .start(0)
    ),
    "a seek is forgotten with the member that made it": lambda: (
        sought(2).lose().member("n").fetch(0, name="n").start(0, "n")
    ),
    "a seek back is forgotten with the member that made it": lambda: (
        begun()
        .handle(0, 1)
        .commit(2)
        .add(told.SeekWanted("m", T0))
        .add(told.Sought("m", T0, 0))
        .lose()
        .member("n")
        .fetch(2, name="n")
    ),
    "a seek that was forgotten was written after all": lambda: (
        sought(2).send(2).kill().apply(2).member("n").fetch(2, name="n").start(2, "n")
    ),
    "the same is committed again while it is on its way": lambda: (
        begun().handle(0).send(1).send(1, in_flight=2)
    ),
    "an early acknowledgement counts when its handler has ended, however it ended": lambda: (
        begun().start(0).settle(0, "acked").ends(0, "raised").start(1)
    ),
    "an acknowledged record whose output was refused is tried again": lambda: (
        begun().start(0).settle(0, "acked").ends(0).refuses_output(0).start(0, attempt=2)
    ),
    "a group that has committed nothing yet begins at the end again": lambda: (
        Story(LATEST).log(3).member().kill().member("n").commit(2, name="n").fetch(2, name="n")
    ),
    "a group that has committed nothing yet begins at the end again beside a member that is frozen": lambda: (
        Story(LATEST).log(3).member().fetch(1).handle(1).member("n").commit(3, name="n")
    ),
    "a record without a key comes again while it still runs here": lambda: (
        Story(MANY).log(1).member().fetch(0).start(0).revoke(took_s=10).assign().fetch(0).start(0)
    ),
    "a clean revoke": lambda: begun().handle(0).revoke_begins().send(1).apply(1).revoke_ends(),
    "a connection that broke is closed": lambda: begun().start(0).revoke(closing=True),
    "a topic was made anew": lambda: (
        begun().handle(0, 1, 2).commit(3).add(told.Produced(T0, 0, b"a")).fetch(0).start(0)
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_seen(name: str) -> None:
    promise, tale = BROKEN[name]
    story = tale()
    assert story.broken == [promise], story.judge.violations


@pytest.mark.parametrize("name", LAWFUL)
def test_what_is_permitted_is_permitted(name: str) -> None:
    story = LAWFUL[name]()
    assert story.broken == [], story.judge.violations


def test_duplicates_and_outlived_handlers_are_counted() -> None:
    story = begun().handle(0).start(1).revoke(took_s=10).member("n").fetch(0, 1, name="n").start(0, "n")
    assert (story.judge.duplicates, story.judge.outlived) == (1, 1)
