"""The offset map: exact where it fits, a safe prefix where it does not, and replay for whatever else is found there."""

from __future__ import annotations

import base64
import json
import math
import random
import zlib
from array import array

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace._core.finished import FinishedBeyond, FinishedMap
from headrace._core.ledger import Ledger
from headrace._core.offset_map import Encoded, Replay, decode, encode

ENOUGH = 10_000_000


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  # for shuffling, not for secrets


def beyond_of(offsets: list[int], finished: set[int]) -> FinishedBeyond:
    ledger = Ledger(offsets[0])
    ledger.deliver(offsets)
    ledger.finish([seq for seq, offset in enumerate(offsets) if offset in finished])
    return ledger.finished_beyond()


def decoded_map(metadata: str, committed: int, leader_epoch: int | None = None) -> FinishedMap:
    decoded = decode(metadata, committed=committed, leader_epoch=leader_epoch)
    assert isinstance(decoded, FinishedMap)
    return decoded


def check(offsets: list[int], finished: set[int], limit: int = ENOUGH) -> Encoded:
    """Encode, decode, and compare with the truth for every delivered offset; return what was encoded."""
    beyond = beyond_of(offsets, finished)
    encoded = encode(beyond, limit=limit)
    assert len(encoded.metadata) <= limit
    truly = {offset for offset in finished if offset >= beyond.base}
    assert encoded.finished + encoded.dropped == len(truly)
    if not encoded.metadata:
        assert encoded.finished == 0
        return encoded
    decoded = decoded_map(encoded.metadata, beyond.base)
    kept = {offset for offset in offsets if offset in decoded}
    assert kept <= truly
    assert len(kept) == encoded.finished
    assert kept == {
        offset for offset in truly if offset < decoded.horizon
    }  # the tail is dropped, nothing else
    assert bytes(decoded.flags(offsets)) == bytes(offset in kept for offset in offsets)
    return encoded


@st.composite
def partitions(draw: st.DrawFn) -> tuple[list[int], set[int]]:
    gaps = draw(st.lists(st.sampled_from((0, 0, 0, 1, 7, 1_000, 2**33)), min_size=1, max_size=200))
    offset = draw(st.integers(0, 2**50)) - 1
    offsets = [offset := offset + gap + 1 for gap in gaps]
    share = draw(st.sampled_from((1, 10, 50, 90, 99)))
    marks = draw(st.lists(st.integers(0, 99), min_size=len(offsets), max_size=len(offsets)))
    return offsets, {offset for offset, mark in zip(offsets, marks, strict=True) if mark < share}


@given(partitions())
def test_decodes_what_was_encoded(partition: tuple[list[int], set[int]]) -> None:
    offsets, finished = partition
    assert check(offsets, finished).dropped == 0


@given(partitions(), st.integers(0, 120))
def test_drops_no_more_than_the_tail_at_any_limit(partition: tuple[list[int], set[int]], limit: int) -> None:
    offsets, finished = partition
    check(offsets, finished, limit)


@pytest.mark.parametrize("limit", [40, 41, 64, 100, 1_000, 4_095, 4_096, 4_097])
@pytest.mark.parametrize("unfinished_percent", [2, 20, 50, 80, 98])
def test_the_limit_is_used_and_never_passed(limit: int, unfinished_percent: int) -> None:
    shuffler = seeded(limit + unfinished_percent)
    offsets = list(range(1_000, 201_000))
    finished = {offset for offset in offsets[1:] if shuffler.random() * 100 >= unfinished_percent}
    encoded = check(offsets, finished, limit)
    assert encoded.dropped > 0
    assert limit - 8 <= len(encoded.metadata) <= limit


@pytest.mark.parametrize("end", [10_000, 100_000, 1_000_000])
def test_three_unfinished_in_a_long_range(end: int) -> None:
    unfinished = {123, 2_345, 8_765}
    encoded = check(list(range(123, end)), set(range(123, end)) - unfinished)
    assert encoded.dropped == 0
    assert len(encoded.metadata) <= 40


def test_a_sparse_partition_longer_than_sixteen_bits() -> None:
    shuffler = seeded(72_770)
    offsets = [0, *sorted(shuffler.sample(range(1, 72_770), 900)), 72_770]
    finished = {offset for offset in offsets[1:] if offset % 3}
    assert check(offsets, finished, 4_096).dropped == 0


def test_nothing_delivered_and_nothing_finished_need_no_map() -> None:
    assert encode(Ledger(123).finished_beyond()) == Encoded("", 0, 0)
    assert check([5, 6, 9], set()) == Encoded("", 0, 0)


def test_finished_without_a_hole_needs_no_map() -> None:
    beyond = beyond_of([120, 121, 122], {120, 121, 122})
    assert beyond.base == 123  # one more than the highest finished
    assert encode(beyond) == Encoded("", 0, 0)
    assert decode("", committed=123) is Replay.EMPTY


@pytest.mark.parametrize("base", [0, 1, 2**31 - 1, 2**31, 2**62])
def test_the_base_may_be_any_offset(base: int) -> None:
    check([base, base + 1, base + 2**40], {base + 1, base + 2**40})


def test_gaps_of_the_log_cost_nothing_between_finished_offsets() -> None:
    dense = check(list(range(2_000)), set(range(1, 2_000)) - {500, 900})
    sparse = check(
        [offset * 50 for offset in range(2_000)], {offset * 50 for offset in range(1, 2_000)} - {500, 45_000}
    )
    assert len(sparse.metadata) <= len(dense.metadata) + 8


@pytest.mark.parametrize("percent", [0.1, 1, 5, 10, 30, 50, 70, 90, 99, 99.9])
def test_random_holes_take_little_more_than_their_entropy(percent: float) -> None:
    shuffler = seeded(int(percent * 10))
    offsets = list(range(20_000))
    finished = {offset for offset in offsets[1:] if shuffler.random() * 100 >= percent}
    share = len(finished) / len(offsets)
    entropy_bits = -len(offsets) * (share * math.log2(share) + (1 - share) * math.log2(1 - share))
    encoded = check(offsets, finished)
    assert len(encoded.metadata) * 6 <= entropy_bits * 1.15 + 8 * 20


@pytest.mark.parametrize(
    ("coding", "finished"),
    [
        (0, {offset for offset in range(1, 999) if zlib.crc32(bytes([offset % 256, offset >> 8])) % 2}),
        (1, set(range(1, 999)) - {70, 300, 301, 640}),
        (2, {70, 300, 301, 640}),
        (3, {offset for offset in range(1, 999) if offset // 100 % 2}),
    ],
)
def test_each_coding_is_used_where_it_is_the_smallest(coding: int, finished: set[int]) -> None:
    encoded = check(list(range(999)), finished)
    base_epoch_topic_tag = base64.b64decode(encoded.metadata[4:12])[:4]
    assert base_epoch_topic_tag[3] & 3 == coding


@pytest.mark.parametrize("limit", [60, 61, 62, 63, 64, 4_096])
def test_a_bitset_over_gaps_of_the_log_is_cut_at_the_limit(limit: int) -> None:
    shuffler = seeded(limit)
    offsets = [offset for offset in range(900) if offset % 10]
    assert check(offsets, {offset for offset in offsets[1:] if shuffler.random() < 0.5}, limit).finished > 90


def test_one_percent_of_holes_in_300_000_records_fits_but_for_a_few() -> None:
    shuffler = seeded(300_000)
    offsets = list(range(300_000))
    encoded = check(offsets, set(offsets) - {0} - set(shuffler.sample(offsets, 3_000)), 4_096)
    assert encoded.dropped <= 0.02 * 300_000


def carried_beyond(restored: FinishedMap, offsets: list[int], finished: set[int]) -> FinishedBeyond:
    ledger = Ledger(restored.base, restored)
    ledger.deliver(offsets)
    ledger.finish([seq for seq, offset in enumerate(offsets) if offset in finished])
    return ledger.finished_beyond()


def test_blocks_that_finish_out_of_order_take_a_few_bits_each() -> None:
    blocks = [range(first, first + 1_000) for first in range(0, 1_000_000, 1_000)]
    encoded = check(list(range(1_000_000)), {offset for block in blocks[1::2] for offset in block}, 4_096)
    assert encoded.dropped == 0
    assert len(encoded.metadata) < 2_000


def test_a_carried_map_of_enormous_runs_is_carried_whole() -> None:
    restored = FinishedMap(0, (1, 2**40, 2**60), (2**39, 2**41, 2**60 + 7))
    encoded = encode(carried_beyond(restored, [0], set()))
    assert decoded_map(encoded.metadata, 0) == restored


def test_a_carried_run_far_ahead_is_kept() -> None:
    restored = FinishedMap(0, (1_000_000,), (1_000_003,))
    encoded = encode(carried_beyond(restored, [0, 1, 2], {1}))
    assert list(decoded_map(encoded.metadata, 0)) == [1, 1_000_000, 1_000_001, 1_000_002]


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ("", Replay.EMPTY),
        ("hello", Replay.FOREIGN),
        ("hr", Replay.FOREIGN),
        ("hr:", Replay.FOREIGN),
        ("hrx:AAAA", Replay.FOREIGN),
        ("hr2:AAAA", Replay.VERSION),
        ("hr10:", Replay.VERSION),
        ("hr1:", Replay.CORRUPT),
        ("hr1:A", Replay.CORRUPT),
        ("hr1:====", Replay.CORRUPT),
        ("hr1:AAAAAAAA", Replay.CORRUPT),
        ("hr1:\N{SNOWMAN}\N{SNOWMAN}", Replay.CORRUPT),
        ("hr1:\ud800", Replay.CORRUPT),
        ("\ud800\x00", Replay.FOREIGN),
        (json.dumps({"topologyId": "t-1", "taskId": 3, "threadName": "w"}), Replay.FOREIGN),
        (base64.b64encode(b"l\x00\x05\x1f").decode(), Replay.FOREIGN),
        (base64.b64encode(b"\x02\x00\x00\x01\x8f\x00\x00\x00\x00").decode(), Replay.FOREIGN),
        ("x" * 100_000, Replay.FOREIGN),
    ],
)
def test_what_others_left_there_replays(metadata: str, reason: Replay) -> None:
    assert decode(metadata, committed=0) is reason


def test_a_map_holds_only_for_its_offset_epoch_and_topic() -> None:
    beyond = beyond_of([7, 8, 9], {8})
    known = encode(beyond, leader_epoch=4, topic_id="mK0tzJ5vQfS2kSPm3dkW5g").metadata
    bare = encode(beyond).metadata

    def reread(metadata: str, committed: int = 7, epoch: int | None = 4, topic: str | None = None) -> object:
        decoded = decode(metadata, committed=committed, leader_epoch=epoch, topic_id=topic)
        return list(decoded) if isinstance(decoded, FinishedMap) else decoded

    assert reread(known, topic="mK0tzJ5vQfS2kSPm3dkW5g") == [8]
    assert reread(known, committed=8, topic="mK0tzJ5vQfS2kSPm3dkW5g") is Replay.BASE_MISMATCH
    assert reread(known, epoch=5, topic="mK0tzJ5vQfS2kSPm3dkW5g") is Replay.EPOCH_MISMATCH
    assert reread(known, epoch=None, topic="mK0tzJ5vQfS2kSPm3dkW5g") is Replay.EPOCH_MISMATCH
    assert reread(known, topic="another") is Replay.TOPIC_MISMATCH
    assert reread(known) is Replay.TOPIC_MISMATCH
    assert reread(bare) is Replay.EPOCH_MISMATCH
    assert reread(bare, epoch=None) == [8]
    assert reread(bare, epoch=-1, topic="another") == [8]


@given(st.text(), st.integers(0, 2**63 - 1), st.one_of(st.none(), st.integers(-1, 2**31)))
def test_no_text_is_too_strange(text: str, committed: int, epoch: int | None) -> None:
    for metadata in (text, "hr1:" + text):
        assert isinstance(decode(metadata, committed=committed, leader_epoch=epoch), Replay)


def sealed(raw: bytes) -> str:
    """Give any bytes a right checksum, as a broken writer might."""
    checksum = zlib.crc32(b"hr1:" + raw).to_bytes(4)
    return "hr1:" + base64.b64encode(raw + checksum).decode().rstrip("=")


@given(st.binary(max_size=60))
@example(b"\x05\x00\x00")  # nothing after the header
@example(b"\x05\x00\x00\x00")  # a bitset of nothing
@example(b"\x05\x00\x00\x00\x00")
@example(b"\x05\x00\x00\x03\x01\x00")  # a run that does not end
@example(b"\x05\x00\x00\x01\x00")  # no entries
@example(b"\x05\x00\x00\x02" + b"\xff" * 9 + b"\x01")  # more entries than fit anywhere
@example(b"\x05\x00\x00\x02" + b"\xff" * 11)  # a number that does not end
@example(b"\x05\x00" + b"\xff" * 9 + b"\x01")  # a topic id longer than memory
@example(b"\x05\x00\x00\xfe\x01" + b"\xff" * 20 + b"\x00" * 8)  # beyond the last offset Kafka has
def test_no_sealed_bytes_are_too_strange(raw: bytes) -> None:
    for attempt in (raw, b"\x05\x00\x00" + raw):
        decoded = decode(sealed(attempt), committed=5)
        if isinstance(decoded, FinishedMap):
            assert decoded.starts[0] >= 5
            assert decoded.horizon < 2**63
            assert all(start < end for start, end in decoded.runs())
            assert all(end < start for end, start in zip(decoded.ends, decoded.starts[1:], strict=False))
            assert len(decoded) > 0
            # A hole of nearly all offsets there are may be more than fits: nothing is written then, which replays.
            encode(carried_beyond(decoded, [5], set()))


@settings(deadline=None)
@given(partitions(), st.data())
def test_any_character_changed_replays_or_changes_nothing(
    partition: tuple[list[int], set[int]], data: st.DataObject
) -> None:
    beyond = beyond_of(*partition)
    metadata = encode(beyond, leader_epoch=1).metadata
    if not metadata:
        return
    whole = decoded_map(metadata, beyond.base, 1)
    at = data.draw(st.integers(0, len(metadata) - 1))
    put = data.draw(st.one_of(st.characters(), st.sampled_from("ABCDwxyz0189+/="), st.just("")))
    changed = metadata[:at] + put + metadata[at + 1 :]
    decoded = decode(changed, committed=beyond.base, leader_epoch=1)
    assert decoded == whole or isinstance(decoded, Replay)
    assert isinstance(decode(metadata[:at], committed=beyond.base, leader_epoch=1), Replay)


def test_every_bit_of_a_map_is_guarded() -> None:
    metadata = encode(beyond_of(list(range(300)), set(range(3, 300, 2))), leader_epoch=1).metadata
    raw = base64.b64decode(metadata[4:] + "=" * (-len(metadata[4:]) % 4))
    for bit in range(8 * len(raw)):
        flipped = (int.from_bytes(raw) ^ 1 << bit).to_bytes(len(raw))
        text = "hr1:" + base64.b64encode(flipped).decode().rstrip("=")
        assert decode(text, committed=0, leader_epoch=1) is Replay.CORRUPT


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=30), st.integers(0, 320)
)
def test_a_finished_map_answers_like_a_set(runs: list[tuple[int, int]], position: int) -> None:
    edges: list[tuple[int, int]] = []
    at = 3
    for gap, length in runs:
        edges.append((at + gap, at + gap + length))
        at += gap + length
    finished = FinishedMap(3, tuple(start for start, _ in edges), tuple(end for _, end in edges))
    truth = {offset for start, end in edges for offset in range(start, end)}
    everything = range(330)
    assert set(finished) == truth
    assert len(finished) == len(truth)
    assert finished.horizon == max(truth) + 1
    assert {offset for offset in everything if offset in finished} == truth
    assert bytes(finished.flags(everything)) == bytes(offset in truth for offset in everything)
    assert finished.flags(everything[position:]) == finished.flags(everything)[position:]
    assert finished.count_below(position) == sum(offset < position for offset in truth)
    rest = finished.beyond(position)
    assert set(rest or ()) == {offset for offset in truth if offset >= position}


@pytest.mark.parametrize(
    ("base", "offsets", "flags", "position", "carried"),
    [
        (5, [4], b"\x01", 6, None),
        (5, [5], b"\x01", 5, None),
        (5, [5, 6], b"\x01", 7, None),
        (5, [5, 6], b"\x01\x00", 7, None),
        (5, [5, 6], b"\x00\x01", 7, FinishedMap(5, (6,), (9,))),
        (5, [], b"", 4, FinishedMap(5, (6,), (9,))),
    ],
)
def test_a_map_that_would_skip_records_cannot_be_asked_for(
    base: int, offsets: list[int], flags: bytes, position: int, carried: FinishedMap | None
) -> None:
    with pytest.raises(ValueError, match=r"offsets|carried|flag"):
        FinishedBeyond(base, array("q", offsets), flags, position, carried)
