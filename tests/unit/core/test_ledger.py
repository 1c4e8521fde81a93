"""The ledger against a naive oracle, and the scenarios that broke others' offset managers."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace._core import ledger as ledger_module
from headrace._core.finished import FinishedMap
from headrace._core.ledger import Ledger, LedgerError
from headrace._core.offset_map import Replay, decode, encode

EPOCH = 3


class LedgerAgainstOracle(RuleBasedStateMachine):
    """One partition's log, read by one ledger after another: each restart goes through the commit's metadata."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(ledger_module, "_TRIM_RECORDS_MIN", 5)

    def teardown(self) -> None:
        self.patch.undo()

    @initialize(start=st.integers(0, 2**40))
    def begin(self, start: int) -> None:
        self.log: list[int] = []  # offsets that exist in the partition
        self.end = start  # where the next record of the log may be
        self.known: set[int] = set()  # offsets that were finished, and that a restart did not forget
        self.position = start
        self.delivered: list[int] = []  # offset by sequence number
        self.ledger = Ledger(start)

    @rule(gaps=st.lists(st.sampled_from((0, 0, 0, 0, 1, 2, 50)), min_size=1, max_size=40))
    def deliver(self, gaps: list[int]) -> None:
        ahead = [offset for offset in self.log if offset >= self.position]
        for gap in gaps[len(ahead) :]:
            ahead.append(self.end + gap)
            self.log.append(self.end + gap)
            self.end += gap + 1
        offsets = ahead[: len(gaps)]
        first = self.ledger.deliver(offsets)
        assert first == len(self.delivered)
        self.delivered += offsets
        self.position = offsets[-1] + 1
        flags = bytes(offset in self.known for offset in offsets)
        assert self.ledger.already_finished(first, len(offsets)) == (flags if 1 in flags else b"")

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def finish_some(self, data: st.DataObject) -> None:
        seqs = data.draw(st.lists(st.integers(0, len(self.delivered) - 1), max_size=30))
        assert self.ledger.finish(seqs) == self.mark(seqs)

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def finish_a_run(self, data: st.DataObject) -> None:
        first = data.draw(st.integers(0, len(self.delivered) - 1))
        count = data.draw(st.integers(0, len(self.delivered) - first))
        run = range(first, first + count)
        assert self.ledger.finish(run) == self.mark(list(run))

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def finish_one(self, data: st.DataObject) -> None:
        seq = data.draw(st.integers(0, len(self.delivered) - 1))
        assert self.ledger.finish_one(seq) == (self.mark([seq]) == 1)

    @rule()
    def finish_all_but_the_head(self) -> None:
        seqs = [seq for seq in range(len(self.delivered)) if seq != self.ledger.first_unfinished_seq]
        assert self.ledger.finish(seqs[::-1]) == self.mark(seqs)

    @precondition(lambda self: self.ledger.pending == 0 and self.position >= self.end)
    @rule(markers=st.integers(-2, 3))
    def pass_trailing_markers(self, markers: int) -> None:
        self.ledger.advance_position(self.position + markers)
        self.position += max(0, markers)
        self.end = self.position

    @rule(limit=st.sampled_from((4096, 4096, 30, 40, 60)))
    def restart(self, limit: int) -> None:
        committed = self.ledger.committable
        encoded = encode(self.ledger.finished_beyond(), leader_epoch=EPOCH, limit=limit)
        assert len(encoded.metadata) <= limit
        decoded = decode(encoded.metadata, committed=committed, leader_epoch=EPOCH)
        beyond = {offset for offset in self.known if offset >= committed}
        restored = decoded if isinstance(decoded, FinishedMap) else None
        kept = {offset for offset in self.log if restored is not None and offset in restored}
        assert kept <= beyond  # a restart skips nothing that was not finished
        if not encoded.dropped:
            assert kept == beyond
            assert restored is not None or decoded is Replay.EMPTY
        self.known = kept
        self.position = committed
        self.delivered = []
        self.ledger = Ledger(committed, restored)

    @invariant()
    def never_past_an_unfinished_record(self) -> None:
        assert self.ledger.committable == min(self.unfinished(), default=self.position)

    @invariant()
    def the_counts_agree(self) -> None:
        pending = len(self.unfinished())
        assert self.ledger.pending == pending
        assert self.ledger.delivered == len(self.delivered)
        assert self.ledger.finished == len(self.delivered) - pending
        assert self.ledger.position == self.position

    @invariant()
    def the_head_is_the_first_unfinished_record(self) -> None:
        head = next(
            (seq for seq, offset in enumerate(self.delivered) if offset not in self.known),
            len(self.delivered),
        )
        assert self.ledger.first_unfinished_seq == head
        assert self.ledger.span == len(self.delivered) - head
        if head < len(self.delivered):
            assert self.ledger.offset_of(head) == self.delivered[head]
            assert not self.ledger.is_finished(head)

    @invariant()
    def memory_is_bounded_by_the_span(self) -> None:
        records_max = 2 * self.ledger.span + 5
        assert self.ledger.memory_bytes() <= 9 * records_max + (100_000 if self.ledger.restoring else 0)

    def unfinished(self) -> list[int]:
        return [offset for offset in self.delivered if offset not in self.known]

    def mark(self, seqs: list[int]) -> int:
        new = {self.delivered[seq] for seq in seqs} - self.known
        self.known |= new
        return len(new)


TestLedgerAgainstOracle = LedgerAgainstOracle.TestCase
TestLedgerAgainstOracle.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def delivered(start: int, *offsets: int) -> Ledger:
    ledger = Ledger(start)
    ledger.deliver(offsets)
    return ledger


def finish_offsets(ledger: Ledger, order: list[int], *offsets: int) -> int:
    """Finish records by offset, given all offsets in the order of delivery; return what may be committed then."""
    ledger.finish([order.index(offset) for offset in offsets])
    return ledger.committable


@pytest.mark.parametrize(
    ("name", "offsets", "steps"),
    [
        ("gap in the middle", [0, 1, 2, 5, 6], [((0, 1, 2, 6), 5), ((5,), 7)]),
        ("gap before the first", [5, 6], [((6,), 5), ((5,), 7)]),
        ("nothing finished", [0], [((), 0)]),
        ("one finished", [0], [((0,), 1)]),
        ("finished out of order", [0, 1], [((1,), 0), ((0,), 2)]),
        ("delivered between two finished", [0, 1, 2], [((2, 0), 1)]),
        ("never delivered between two finished", [0, 2], [((0, 2), 3)]),
        ("head finished, next not", [0, 1], [((0,), 1)]),
        ("compacted tail", [0, 1, 2, 3, 4, 8, 9], [((0, 1, 2, 3, 4, 8, 9), 10)]),
        ("only the last of three is left in the log", [2], [((2,), 3)]),
        ("one pending among compacted ones", [0, 1, 2], [((0, 2), 1), ((1,), 3)]),
        # The gap at 1 is known to be one as soon as 2 is delivered: there is no need to commit 1 first.
        ("finished on both sides of a gap, one by one", [0, 2], [((0,), 2), ((2,), 3)]),
    ],
)
def test_commits_as_storm_users_expect(
    name: str, offsets: list[int], steps: list[tuple[tuple[int, ...], int]]
) -> None:
    ledger = delivered(0, *offsets)
    assert ledger.committable == offsets[0], name
    for finished, committable in steps:
        assert finish_offsets(ledger, offsets, *finished) == committable, name


def test_starts_committable_where_consumption_starts() -> None:
    assert Ledger(10).committable == 10


@pytest.mark.parametrize("offsets", [[0], [9], [10, 10], [10, 12, 11], [11, 10]])
def test_refuses_offsets_below_the_position_or_out_of_order(offsets: list[int]) -> None:
    ledger = Ledger(10)
    with pytest.raises(LedgerError):
        ledger.deliver(offsets)
    assert (ledger.delivered, ledger.committable) == (0, 10)


def test_refuses_an_offset_below_one_delivered_before() -> None:
    ledger = delivered(0, 5, 6)
    with pytest.raises(LedgerError):
        ledger.deliver([6])


def test_refuses_a_negative_start() -> None:
    with pytest.raises(LedgerError):
        Ledger(-1)


@pytest.mark.parametrize("seqs", [[2], [-1], [0, 1, 2], range(3), range(-1, 1)])
def test_refuses_to_finish_what_was_never_delivered(seqs: list[int] | range) -> None:
    ledger = delivered(0, 0, 1)
    with pytest.raises(LedgerError):
        ledger.finish(seqs)
    # What was valid may have been taken: the counts still agree with the marks.
    assert ledger.finished == sum(ledger.is_finished(seq) for seq in range(2))
    assert ledger.pending == 2 - ledger.finished


def test_an_empty_delivery_and_an_empty_finish_change_nothing() -> None:
    ledger = delivered(0, 3)
    assert ledger.deliver([]) == 1
    assert ledger.finish([]) == ledger.finish(range(7, 7)) == 0
    assert ledger.already_finished(0, 0) == b""
    assert (ledger.delivered, ledger.committable, ledger.position) == (1, 3, 4)


def test_a_finish_with_a_step_is_not_taken_for_a_run() -> None:
    ledger = delivered(0, *range(6))
    assert ledger.finish(range(0, 6, 2)) == 3
    assert ledger.committable == 1


def test_finishing_twice_is_told_and_changes_nothing() -> None:
    ledger = delivered(0, *range(20))
    assert ledger.finish([0, 0, 5]) == 2
    assert ledger.finish_one(5) is False
    assert ledger.finish_run(0, 6) == 4
    assert (ledger.finished, ledger.committable) == (6, 6)


def test_finishing_again_what_was_trimmed_is_told_and_changes_nothing() -> None:
    ledger = delivered(0, *range(10_000))
    ledger.finish_run(0, 9_000)
    assert ledger.memory_bytes() == 9 * 1_000
    assert ledger.finish([0, 8_999, 9_000]) == 1
    assert ledger.finish_run(8_990, 20) == 9
    assert ledger.is_finished(0)
    assert ledger.already_finished(8_998, 14) == b"\x01" * 12 + b"\x00" * 2
    assert ledger.already_finished(0, 3) == b"\x01" * 3
    assert (ledger.finished, ledger.committable, ledger.first_unfinished_seq) == (9_010, 9_010, 9_010)
    with pytest.raises(LedgerError):
        ledger.offset_of(8_999)


def test_names_the_nth_record_from_the_head() -> None:
    ledger = delivered(0, 1, 2, 5, 30)
    assert [ledger.offset_of(ledger.first_unfinished_seq + n) for n in (2, 3)] == [5, 30]
    with pytest.raises(LedgerError):
        ledger.offset_of(ledger.first_unfinished_seq + 4)


def test_trailing_transaction_markers_leave_no_lag() -> None:
    ledger = delivered(0, 0, 1)
    ledger.finish_run(0, 2)
    ledger.advance_position(3)
    assert ledger.committable == 3
    ledger.advance_position(2)
    assert ledger.committable == 3


def test_the_position_is_not_committed_while_a_record_is_pending() -> None:
    ledger = delivered(0, 0, 1)
    ledger.advance_position(3)
    ledger.finish_one(1)
    assert ledger.committable == 0


def test_memory_follows_the_span_and_not_the_traffic() -> None:
    shuffler = random.Random(7)  # noqa: S311  # for shuffling, not for secrets
    ledger = Ledger(0)
    for first in range(0, 200_000, 1_000):
        ledger.deliver(range(first, first + 1_000))
        seqs = list(range(first, first + 1_000))
        shuffler.shuffle(seqs)
        ledger.finish(seqs)
        assert ledger.memory_bytes() <= 9 * 6_000
    assert ledger.committable == ledger.finished == 200_000


def restarted(ledger: Ledger) -> Ledger:
    committed = ledger.committable
    metadata = encode(ledger.finished_beyond(), leader_epoch=EPOCH).metadata
    restored = decode(metadata, committed=committed, leader_epoch=EPOCH)
    return Ledger(committed, restored if isinstance(restored, FinishedMap) else None)


def test_a_restart_dispatches_only_what_was_not_finished() -> None:
    ledger = delivered(0, *range(6))
    ledger.finish([0, 1, 3, 5])
    again = restarted(ledger)
    assert again.committable == 2
    first = again.deliver(range(2, 9))
    assert again.already_finished(first, 7) == bytes([0, 1, 0, 1, 0, 0, 0])
    assert (again.pending, again.finished, again.restoring) == (5, 2, False)
    assert again.finish([first, first + 2]) == 2
    assert again.committable == 6


def test_a_restart_without_a_map_skips_nothing() -> None:
    ledger = Ledger(0)
    for offset in (0, 1):
        ledger.deliver([offset])
        ledger.finish_one(ledger.delivered - 1)
        assert ledger.committable == offset + 1
        ledger = restarted(ledger)
        assert ledger.committable == offset + 1
    first = ledger.deliver([2])
    assert ledger.already_finished(first, 1) == b""
    assert ledger.committable == 2


def test_a_second_restart_keeps_what_was_not_delivered_again() -> None:
    ledger = delivered(0, *range(100))
    ledger.finish([seq for seq in range(100) if seq % 10])
    second = restarted(ledger)
    second.deliver(range(5))  # 0 to 4 of 0 to 99; 0 is unfinished still
    third = restarted(second)
    assert third.committable == 0
    third.deliver(range(100))
    assert third.already_finished(0, 100) == bytes(1 if offset % 10 else 0 for offset in range(100))


def test_a_restart_before_anything_is_delivered_keeps_the_whole_map() -> None:
    ledger = delivered(0, *range(50))
    ledger.finish_run(10, 30)
    again = restarted(restarted(restarted(ledger)))
    again.deliver(range(50))
    assert again.finished == 30


@pytest.mark.parametrize("every", [97, 1_000])  # gaps between unfinished offsets, and edges of runs
def test_unfinished_records_right_before_the_carried_part_are_not_taken_for_a_gap(every: int) -> None:
    ledger = delivered(0, *range(1_000))
    ledger.finish([seq for seq in range(20, 1_000) if seq % every])
    second = restarted(ledger)
    second.deliver(range(10))
    second.finish([0, 1])
    third = restarted(second)
    first = third.deliver(range(2, 1_000))
    assert third.already_finished(first, 18) == b""
    assert third.pending == 18 + sum(seq % every == 0 for seq in range(20, 1_000))


def test_a_position_past_the_map_ends_the_restoring() -> None:
    ledger = delivered(0, 0, 1, 2)
    ledger.finish([1, 2])
    again = restarted(ledger)
    before = again.restoring
    again.advance_position(3)
    assert (before, again.restoring) == (True, False)
    assert encode(again.finished_beyond()).metadata == ""


def test_a_forgotten_map_replays() -> None:
    ledger = delivered(0, 0, 1, 2)
    ledger.finish([1, 2])
    again = restarted(ledger)
    again.forget_restored()
    again.deliver([0, 1, 2])
    assert again.pending == 3


def test_a_log_cut_by_retention_drops_the_map_below_the_start() -> None:
    restored = FinishedMap(10, (12, 20), (15, 25))
    ledger = Ledger(22, restored)
    first = ledger.deliver(range(22, 30))
    assert ledger.already_finished(first, 8) == bytes([1, 1, 1, 0, 0, 0, 0, 0])
    assert ledger.committable == 25


def test_refuses_a_map_that_begins_after_the_start() -> None:
    with pytest.raises(LedgerError):
        Ledger(9, FinishedMap(10, (12,), (15,)))
