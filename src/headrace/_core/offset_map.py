"""The offset map: what is finished beyond the committed offset, written into the commit's metadata.

Decides which finished offsets a restart may skip, and how they fit the broker's limit on metadata.
Refuses to know where the metadata is stored, and what to do about a map that cannot be used.

Invariant: an offset of a record that was delivered and not finished is never decoded as finished (guarantee S2).
Losing a map, or the tail of one, only replays records; so whatever is doubtful replays.

The form is `hr1:` and base64, without padding, of: base, leader epoch + 1 and topic id (lengths and numbers as LEB128),
a byte of coding and Rice parameter, the body, a CRC-32 of all before it. The body is the smallest of four codings: a
bitset, or the gaps between unfinished offsets, between finished ones, or between the edges of finished runs, in Rice's
code (R. F. Rice, "Some Practical Universal Noiseless Coding Techniques", 1979) with the unary and the binary parts
apart, as P. Elias (1974) has them, which lets `str.split` decode the unary part at C speed. Offsets never delivered
(compacted, or transaction markers) cost nothing: each coding calls them what is shorter. Finished is safe, since they
lie below a delivered record and a commit would pass them too; so is unfinished, since nothing is there to be replayed.
"""

from __future__ import annotations

import base64
import math
import zlib
from bisect import bisect_right
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, pairwise, repeat
from typing import TYPE_CHECKING, Final, TypeAlias

from headrace._core.finished import FinishedBeyond, FinishedMap

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

METADATA_CHARS_MAX: Final = 4096
"""Kafka's default `offset.metadata.max.bytes`, which brokers apply to the length of the string, per partition."""

_MAGIC: Final = "hr1:"
_CRC_BYTES: Final = 4
_OFFSET_MAX: Final = 2**63 - 1
_BITSET: Final = 0
_UNFINISHED_GAPS: Final = 1
_FINISHED_GAPS: Final = 2
_RUN_EDGES: Final = 3
_TO_DIGITS: Final = bytes.maketrans(b"\x00\x01", b"01")


class Replay(StrEnum):
    """Why a commit's metadata says nothing: what follows the committed offset is handled again."""

    EMPTY = "empty"
    FOREIGN = "foreign"
    VERSION = "version"
    CORRUPT = "corrupt"
    BASE_MISMATCH = "base mismatch"
    EPOCH_MISMATCH = "epoch mismatch"
    TOPIC_MISMATCH = "topic mismatch"


Decoded: TypeAlias = FinishedMap | Replay


@dataclass(frozen=True, slots=True)
class Encoded:
    """The metadata of a commit, empty without a map; how many finished offsets it holds, how many it had to drop."""

    metadata: str
    finished: int
    dropped: int


def encode(
    beyond: FinishedBeyond,
    *,
    leader_epoch: int | None = None,
    topic_id: str | None = None,
    limit: int = METADATA_CHARS_MAX,
) -> Encoded:
    """Write as much of the map as fits into `limit` characters. Work is in proportion to the delivered offsets."""
    finished = beyond.finished
    if not finished:
        return Encoded("", 0, 0)
    topic = _topic_bytes(topic_id)
    header = _varint(beyond.base) + _varint(_epoch_number(leader_epoch)) + _varint(len(topic)) + topic
    bytes_max = (limit - len(_MAGIC)) * 6 // 8 - len(header) - _CRC_BYTES
    body = _best_body(beyond, bytes_max)
    if body is None:
        return Encoded("", 0, finished)
    raw = header + body.to_bytes(beyond)
    raw += _checksum(raw)
    text = base64.b64encode(raw).decode("ascii").rstrip("=")
    return Encoded(_MAGIC + text, body.kept, finished - body.kept)


def decode(
    metadata: str, *, committed: int, leader_epoch: int | None = None, topic_id: str | None = None
) -> Decoded:
    """Read a map back, or say why the records after the committed offset are to be handled again. Never raises.

    The leader epoch must be the one the map was written with, known or not. A topic id in the map must be the same as
    `topic_id`: where one of them is unknown that cannot be told, so it replays. A map without a topic id fits any.
    """
    if not metadata.startswith(_MAGIC):
        return _unknown_form(metadata)
    try:
        raw = _checked_bytes(metadata[len(_MAGIC) :])
        base, at = _read_varint(raw, 0)
        epoch, at = _read_varint(raw, at)
        topic_chars, at = _read_varint(raw, at)
        topic, at = raw[at : at + topic_chars], at + topic_chars
        if base != committed:
            return Replay.BASE_MISMATCH
        if epoch != _epoch_number(leader_epoch):
            return Replay.EPOCH_MISMATCH
        if topic and topic != _topic_bytes(topic_id):
            return Replay.TOPIC_MISMATCH
        return _read_body(base, raw[at], raw[at + 1 :])
    except (ValueError, IndexError):
        return Replay.CORRUPT


def _unknown_form(metadata: str) -> Replay:
    if not metadata:
        return Replay.EMPTY
    version, colon, _ = metadata[:16].partition(":")
    return Replay.VERSION if colon and version[:2] == "hr" and version[2:].isdecimal() else Replay.FOREIGN


def _checked_bytes(text: str) -> bytes:
    raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    raw, checksum = raw[:-_CRC_BYTES], raw[-_CRC_BYTES:]
    if checksum != _checksum(raw):
        raise ValueError("the checksum is of something else")
    return raw


@dataclass(frozen=True, slots=True)
class _Body:
    """One way to write the map: how many bits it takes, and how many finished offsets it keeps."""

    coding: int
    kept: int
    bits: int
    rice: int = 0
    gaps: Sequence[int] = ()

    def to_bytes(self, beyond: FinishedBeyond) -> bytes:
        tag = bytes([self.coding | self.rice << 2])
        if self.coding == _BITSET:
            return tag + _pack(beyond.cells(self.bits).translate(_TO_DIGITS))
        unary = "0".join(["1" * (gap >> self.rice) for gap in self.gaps]) + "0"
        mask = (1 << self.rice) - 1
        binary = "".join([f"{gap & mask:0{self.rice}b}" for gap in self.gaps]) if mask else ""
        return tag + _varint(len(self.gaps)) + _pack((unary + binary).encode("ascii"))


def _best_body(beyond: FinishedBeyond, bytes_max: int) -> _Body | None:
    """Choose the coding that keeps most and, of those, takes little room; None when nothing finished would be kept.

    The bitset is judged without a look at the offsets, the others from the most promising on. One that would save less
    than an eighth is left out, and one that has to be cut where a better one was: the owner thread's time counts more.
    """
    reach = beyond.horizon - beyond.base
    finished = beyond.finished
    bits_max = max(0, 8 * (bytes_max - 1))  # a byte for the coding
    best = _Body(_BITSET, beyond.finished_below(beyond.base + bits_max), min(reach, bits_max))
    bounds = {
        _UNFINISHED_GAPS: _rice_bits_min(beyond.unfinished + 1, reach),  # and the horizon
        _FINISHED_GAPS: _rice_bits_min(beyond.finished, reach),
        _RUN_EDGES: _rice_bits_min(2 * beyond.runs, reach),
    }
    promising = sorted(bounds, key=bounds.__getitem__)
    for coding in promising:
        if best.kept == finished:
            if bounds[coding] > best.bits * 7 // 8:
                break
        elif bounds[coding] > bits_max and coding != promising[0]:
            break
        body = _gaps_body(beyond, coding, bits_max)
        if (body.kept, -body.bits) > (best.kept, -best.bits):
            best = body
    return best if best.kept else None


def _gaps_body(beyond: FinishedBeyond, coding: int, bits_max: int) -> _Body:
    """Write gaps up to the last that fits. An entry takes a bit at least: no more of them than bits are looked at."""
    bits_max = max(0, bits_max - 8 * len(_varint(bits_max)))  # their number precedes them
    if coding == _UNFINISHED_GAPS:
        entries = beyond.unfinished_offsets(bits_max)
    elif coding == _FINISHED_GAPS:
        entries = beyond.finished_offsets(bits_max)
    else:
        entries = beyond.run_edges(bits_max)
    gaps = [b - a - 1 for a, b in pairwise((beyond.base - 1, *entries))]
    count = len(gaps)
    rice = bits = 0
    for _ in range(2):  # the parameter that suits all of them may not suit those that fit
        rice = _rice_parameter(gaps[:count])
        count, bits = _fitting(gaps, rice, bits_max)
        if count == len(gaps):
            break
    kept = count if coding == _FINISHED_GAPS else 0
    if coding != _FINISHED_GAPS and count:
        kept = beyond.finished_below(entries[count - 1])
    return _Body(coding, kept, bits + 8 * len(_varint(count)), rice, gaps[:count])


def _rice_parameter(gaps: Sequence[int]) -> int:
    """Choose the better of the two parameters next to log2(mean * ln 2), the best one for geometric gaps."""
    if not gaps:
        return 0
    near = max(1, int(sum(gaps) / len(gaps) * math.log(2))).bit_length()
    return min((near - 1, near), key=lambda rice: len(gaps) * rice + sum([gap >> rice for gap in gaps]))


def _fitting(gaps: Sequence[int], rice: int, bits_max: int) -> tuple[int, int]:
    """Count the leading gaps that fit, and the bits they take."""
    ends = list(accumulate([(gap >> rice) + 1 + rice for gap in gaps], initial=0))
    count = bisect_right(ends, bits_max) - 1
    return count, ends[count]


def _rice_bits_min(count: int, reach: int) -> int:
    """Bound from below what `count` offsets within `reach` take: count * k + reach / 2**k bits at the best k."""
    near = max(1, int(reach / max(1, count) * math.log(2))).bit_length()
    return max(count, min(count * rice + (reach >> rice) for rice in (near - 1, near)))


def _read_body(base: int, tag: int, body: bytes) -> Decoded:
    coding, rice = tag & 3, tag >> 2
    if coding == _BITSET:
        return _from_runs(base, _bitset_runs(base, _unpack(body)))
    count, at = _read_varint(body, 0)
    digits = _unpack(body[at:])
    unary = digits.split("0", min(count, len(digits)))
    binary = unary.pop()
    if not count or len(unary) != count or not 0 <= len(binary) - count * rice < 8:
        return Replay.CORRUPT
    lows: Iterable[int] = repeat(0)
    if rice:
        lows = [int(binary[low : low + rice], 2) for low in range(0, count * rice, rice)]
    gaps = [(len(ones) << rice) + low for ones, low in zip(unary, lows, strict=False)]
    entries = list(accumulate(gaps, lambda last, gap: last + gap + 1, initial=base - 1))[1:]
    if coding == _RUN_EDGES:  # the start of a run whose end did not fit tells nothing
        return _from_runs(base, zip(entries[::2], entries[1::2], strict=False))
    after = [entry + 1 for entry in entries]
    if coding == _FINISHED_GAPS:
        return _from_runs(base, zip(entries, after, strict=True))
    return _from_runs(base, zip((base, *after), entries, strict=False))


def _from_runs(base: int, runs: Iterable[tuple[int, int]]) -> Decoded:
    """Join runs that touch, drop empty ones."""
    starts: list[int] = []
    ends: list[int] = []
    for start, end in runs:
        if start == end:
            continue
        if ends and ends[-1] == start:
            ends[-1] = end
        else:
            starts.append(start)
            ends.append(end)
    if not ends or ends[-1] > _OFFSET_MAX:
        return Replay.CORRUPT
    return FinishedMap(base, tuple(starts), tuple(ends))


def _bitset_runs(base: int, digits: str) -> Iterator[tuple[int, int]]:
    start = digits.find("1")
    while start >= 0:
        end = digits.find("0", start)
        end = len(digits) if end < 0 else end
        yield base + start, base + end
        start = digits.find("1", end)


def _topic_bytes(topic_id: str | None) -> bytes:
    return (topic_id or "").encode("utf-8", "replace")


def _epoch_number(leader_epoch: int | None) -> int:
    """Return 0 for unknown, which librdkafka writes as -1."""
    return 0 if leader_epoch is None else max(-1, leader_epoch) + 1


def _checksum(raw: bytes) -> bytes:
    return zlib.crc32(raw, zlib.crc32(_MAGIC.encode("ascii"))).to_bytes(_CRC_BYTES)


def _pack(digits: bytes | bytearray) -> bytes:
    """Turn binary digits into bytes, filled up with zeros. `int` reads powers of two in linear time."""
    size = -(-len(digits) // 8)
    return int(digits.ljust(size * 8, b"0"), 2).to_bytes(size)


def _unpack(raw: bytes) -> str:
    return f"{int.from_bytes(raw):0{len(raw) * 8}b}" if raw else ""


def _varint(number: int) -> bytes:
    """Write a number of 0 or more as LEB128."""
    if number < 0:
        raise ValueError(f"a number below 0 cannot be written: {number}")
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = raw[at]
        number |= (byte & 127) << shift
        at += 1
        shift += 7
        if byte < 128:
            return number, at
        if shift > 63:
            raise ValueError("a number that does not end")
