"""The judge's own reader of offset maps, against what the runtime writes."""

from __future__ import annotations

import random
from array import array

import pytest

from headrace._core.finished import FinishedBeyond
from headrace._core.offset_map import encode
from headrace.testing.invariants.map_reader import read_map


def test_it_reads_what_the_runtime_writes() -> None:
    draw = random.Random(7)  # noqa: S311 - it need not be secret
    for _ in range(2000):
        base = draw.choice([0, 5, 10**9])
        offsets = list(range(base, base + draw.randint(1, 300), draw.choice([1, 1, 3, 20])))
        share = draw.choice([0.02, 0.5, 0.97])
        flags = bytearray(int(draw.random() < share) for _ in offsets)
        flags[-1] = 1
        position = offsets[-1] + 1
        written = encode(FinishedBeyond(base, array("q", offsets), bytes(flags), position), leader_epoch=3)
        found = read_map(written.metadata, base)
        finished = {offset for offset, flag in zip(offsets, flags, strict=True) if flag}
        assert finished <= found
        assert not found & (set(offsets) - finished)


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ("hr1:", "checksum"),
        ("hr1:AAAAAAA", "checksum"),
        ("hr1:!!!!", "base64"),
        ("hr2:AAAA", "does not begin"),
        ("something else", "does not begin"),
    ],
)
def test_it_refuses_what_is_no_map(metadata: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_map(metadata, 0)


def test_it_refuses_the_map_of_another_offset() -> None:
    written = encode(FinishedBeyond(5, array("q", [5, 6]), b"\x00\x01", 7))
    assert read_map(written.metadata, 5) == {6}
    with pytest.raises(ValueError, match="it is of offset 5, not of 6"):
        read_map(written.metadata, 6)


def test_no_map_calls_nothing_finished() -> None:
    assert read_map("", 9) == frozenset()
