"""The offset map: what is finished beyond the committed offset, written into the commit's metadata.

Decides which finished offsets a restart may skip, and how they fit the broker's limit on metadata.
Refuses to know where the metadata is stored, and what to do about a map that cannot be used.

Invariant: an offset of a record that was delivered and not finished is never decoded as finished (guarantee S2).
Losing a map, or the tail of one, only replays records; so whatever is doubtful replays.

The form is `hr1:` and base64, without padding, of: base, leader epoch + 1 and topic id (lengths and numbers as LEB128),
a byte of coding and Rice parameter, the body, a CRC-32 of all before it. The body is the smallest of three codings: a
bitset, or the gaps between unfinished or between finished offsets in Rice's code (R. F. Rice, "Some Practical Universal
Noiseless Coding Techniques", 1979) with the unary and the binary parts stored apart, as P. Elias (1974) did, which lets
`str.split` decode the unary part at C speed. Offsets never delivered (compacted, or transaction markers) cost nothing:
the gaps between finished offsets call them unfinished, those between unfinished ones finished. Both are safe: they lie
below a delivered record, so a commit would pass them too.
"""

from __future__ import annotations

import base64
import math
import operator
import zlib
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, compress, islice, pairwise, repeat
from typing import TYPE_CHECKING, Final, TypeAlias

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
_TO_DIGITS: Final = bytes.maketrans(b"\x00\x01", b"01")
_INVERT: Final = bytes.maketrans(b"\x00\x01", b"\x01\x00")


class Replay(StrEnum):
    """Why a commit's metadata says nothing: what follows the committed offset is handled again."""

    EMPTY = "empty"
    FOREIGN = "foreign"
    VERSION = "version"
    CORRUPT = "corrupt"
    BASE_MISMATCH = "base mismatch"
    EPOCH_MISMATCH = "epoch mismatch"
    TOPIC_MISMATCH = "topic mismatch"


@dataclass(frozen=True, slots=True)
class FinishedMap:
    """Offsets of one partition that are finished, as runs [start, end): ascending, apart from each other, not empty.

    Nothing is finished at or after `horizon`. `base` is the committed offset that the map was written with.
    """

    base: int
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def horizon(self) -> int:
        """First offset of which the map says nothing."""
        return self.ends[-1] if self.ends else self.base

    def __contains__(self, offset: int) -> bool:
        run = bisect_right(self.starts, offset) - 1
        return run >= 0 and offset < self.ends[run]

    def __len__(self) -> int:
        return sum(self.ends) - sum(self.starts)

    def __iter__(self) -> Iterator[int]:
        for start, end in self.runs():
            yield from range(start, end)

    def runs(self) -> Iterator[tuple[int, int]]:
        """Iterate over the runs [start, end) of finished offsets."""
        return zip(self.starts, self.ends, strict=True)

    def flags(self, offsets: Sequence[int]) -> bytearray:
        """Return a byte for each of these ascending offsets: 1 where it is finished."""
        flags = bytearray(len(offsets))
        if offsets:
            run = bisect_right(self.ends, offsets[0])
            for start, end in islice(self.runs(), run, bisect_right(self.starts, offsets[-1])):
                first, stop = bisect_left(offsets, start), bisect_left(offsets, end)
                flags[first:stop] = b"\x01" * (stop - first)
        return flags

    def count_below(self, offset: int) -> int:
        """Count the finished offsets below this one."""
        run = bisect_left(self.starts, offset)
        whole = sum(self.ends[:run]) - sum(self.starts[:run])
        return whole - max(0, self.ends[run - 1] - offset) if run else 0

    def beyond(self, position: int) -> FinishedMap | None:
        """Return the part at and after `position`; None when nothing is left."""
        run = bisect_right(self.ends, position)
        if run == len(self.ends):
            return None
        starts = (max(self.starts[run], position), *self.starts[run + 1 :])
        return FinishedMap(self.base, starts, self.ends[run:])

    def memory_bytes(self) -> int:
        """Estimate the memory the map holds: two places in a tuple and two integers for each run."""
        return 80 * len(self.starts)


Decoded: TypeAlias = FinishedMap | Replay


@dataclass(frozen=True, slots=True)
class FinishedBeyond:
    """What a commit's offset map must say of one partition. A ledger makes it.

    `offsets` are the delivered ones from `base` (the offset to be committed) on, as far as they matter; `flags` has a
    byte for each, 1 if finished. `carried` is the part of an older map beyond `position`, not delivered again yet.
    """

    base: int
    offsets: array[int]
    flags: bytes
    position: int
    carried: FinishedMap | None = None

    @property
    def finished(self) -> int:
        """How many offsets are finished."""
        return self.flags.count(1) + (0 if self.carried is None else len(self.carried))

    @property
    def unfinished(self) -> int:
        """How many offsets are not finished, counting all that were not delivered yet up to the horizon."""
        ahead = 0 if self.carried is None else self.carried.horizon - self.position - len(self.carried)
        return self.flags.count(0) + ahead

    @property
    def horizon(self) -> int:
        """One more than the last finished offset."""
        if self.carried is not None:
            return self.carried.horizon
        last = self.flags.rfind(1)
        return self.base if last < 0 else self.offsets[last] + 1

    def finished_below(self, offset: int) -> int:
        """Count the finished offsets below this one."""
        carried = 0 if self.carried is None else self.carried.count_below(offset)
        return self.flags.count(1, 0, bisect_left(self.offsets, offset)) + carried

    def finished_offsets(self, count_max: int) -> list[int]:
        """Return the first finished offsets, at most `count_max`."""
        found = list(islice(compress(self.offsets, self.flags), count_max))
        if self.carried is not None:
            _extend(found, self.carried.runs(), count_max)
        return found

    def unfinished_offsets(self, count_max: int) -> list[int]:
        """Return the first unfinished offsets and, after the last, the horizon; at most `count_max` in all."""
        found = list(islice(compress(self.offsets, self.flags.translate(_INVERT)), count_max))
        if self.carried is not None:
            edges = zip((self.position, *self.carried.ends), self.carried.starts, strict=False)
            _extend(found, edges, count_max)
        _extend(found, [(self.horizon, self.horizon + 1)], count_max)
        return found


@dataclass(frozen=True, slots=True)
class Encoded:
    """The metadata of a commit, empty if it has no map; how many finished offsets it holds, and how many it had to drop."""

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
    if beyond.position < beyond.base or (beyond.offsets and beyond.offsets[0] < beyond.base):
        raise ValueError(f"offsets before the base {beyond.base} do not belong into its map")
    header = _varint(beyond.base) + _identity(leader_epoch, topic_id)
    bytes_max = (limit - len(_MAGIC)) * 6 // 8 - len(header) - _CRC_BYTES
    body = _best_body(beyond, bytes_max)
    if body is None:
        return Encoded("", 0, finished)
    raw = header + body.to_bytes(beyond)
    raw += _checksum(raw)
    text = base64.b64encode(raw).decode("ascii").rstrip("=")
    return Encoded(_MAGIC + text, body.kept, finished - body.kept)


def decode(metadata: str, *, committed: int, leader_epoch: int | None = None, topic_id: str | None = None) -> Decoded:
    """Read a map back, or say why the records after the committed offset are to be handled again. Never raises.

    The leader epoch must be the one the map was written with, known or not. A topic id in the map must be the same as
    `topic_id`: where one of them is unknown that cannot be told, so it replays. A map without a topic id fits any.
    """
    if not metadata:
        return Replay.EMPTY
    if not metadata.startswith(_MAGIC):
        version, colon, _ = metadata[:16].partition(":")
        return Replay.VERSION if colon and version[:2] == "hr" and version[2:].isdecimal() else Replay.FOREIGN
    text = metadata[len(_MAGIC) :]
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        if raw[-_CRC_BYTES:] != _checksum(raw[:-_CRC_BYTES]):
            return Replay.CORRUPT
        base, at = _read_varint(raw, 0)
        epoch, at = _read_varint(raw, at)
        topic_chars, at = _read_varint(raw, at)
        topic, at = raw[at : at + topic_chars], at + topic_chars
        if base != committed:
            return Replay.BASE_MISMATCH
        if epoch != _epoch_number(leader_epoch):
            return Replay.EPOCH_MISMATCH
        if topic and topic != (topic_id or "").encode("utf-8", "replace"):
            return Replay.TOPIC_MISMATCH
        return _read_body(base, raw[at], raw[at + 1 : -_CRC_BYTES])
    except (ValueError, IndexError):
        return Replay.CORRUPT


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
            cells = bytearray(-(-self.bits // 8) * 8)
            for offset in beyond.finished_offsets(self.kept):
                cells[offset - beyond.base] = 1
            return tag + _pack(cells.translate(_TO_DIGITS))
        unary = "0".join(["1" * (gap >> self.rice) for gap in self.gaps]) + "0"
        mask = (1 << self.rice) - 1
        binary = "".join([f"{gap & mask:0{self.rice}b}" for gap in self.gaps]) if mask else ""
        return tag + _varint(len(self.gaps)) + _pack((unary + binary).encode("ascii"))


def _best_body(beyond: FinishedBeyond, bytes_max: int) -> _Body | None:
    """Choose the coding that keeps most and, of those, takes least room; None when nothing finished would be kept."""
    reach = beyond.horizon - beyond.base
    # The sentinel at the horizon makes one unfinished offset more.
    bounds = {
        _BITSET: reach,
        _UNFINISHED_GAPS: _rice_bits_min(beyond.unfinished + 1, reach),
        _FINISHED_GAPS: _rice_bits_min(beyond.finished, reach),
    }
    bits_max = 8 * (bytes_max - 1)  # a byte for the coding
    best: _Body | None = None
    finished = beyond.finished
    for coding in sorted(bounds, key=bounds.__getitem__):
        if best is not None and best.kept == finished and best.bits <= bounds[coding]:
            break
        body = _bitset_body(beyond, bits_max) if coding == _BITSET else _gaps_body(beyond, coding, bits_max)
        if body.kept and (best is None or (body.kept, -body.bits) > (best.kept, -best.bits)):
            best = body
    return best


def _bitset_body(beyond: FinishedBeyond, bits_max: int) -> _Body:
    bits = min(beyond.horizon - beyond.base, max(0, bits_max))
    return _Body(_BITSET, beyond.finished_below(beyond.base + bits), bits)


def _gaps_body(beyond: FinishedBeyond, coding: int, bits_max: int) -> _Body:
    """Write gaps up to the last that fits. An entry takes a bit at least, so no more of them than bits are looked at."""
    bits_max -= 8 * len(_varint(max(0, bits_max)))  # their number precedes them
    entries_max = max(0, bits_max)
    unfinished = coding == _UNFINISHED_GAPS
    entries = beyond.unfinished_offsets(entries_max) if unfinished else beyond.finished_offsets(entries_max)
    gaps = [b - a - 1 for a, b in pairwise((beyond.base - 1, *entries))]
    count = len(gaps)
    rice = bits = 0
    for _ in range(2):  # the parameter that suits all of them may not suit those that fit
        rice = _rice_parameter(gaps[:count])
        count, bits = _fitting(gaps, rice, bits_max)
    kept = (beyond.finished_below(entries[count - 1]) if count else 0) if unfinished else count
    return _Body(coding, kept, bits + 8 * len(_varint(count)), rice, gaps[:count])


def _rice_parameter(gaps: Sequence[int]) -> int:
    """Choose the better of the two parameters next to log2(mean * ln 2), the best one for geometric gaps."""
    if not gaps:
        return 0
    near = max(1, int(sum(gaps) / len(gaps) * math.log(2))).bit_length()
    return min((near - 1, near), key=lambda rice: len(gaps) * rice + sum(map(operator.rshift, gaps, repeat(rice))))


def _fitting(gaps: Sequence[int], rice: int, bits_max: int) -> tuple[int, int]:
    """Count the leading gaps that fit, and the bits they take."""
    ends = list(
        accumulate(map(operator.rshift, gaps, repeat(rice)), lambda total, unary: total + unary + 1 + rice, initial=0)
    )
    count = bisect_right(ends, max(0, bits_max)) - 1
    return count, ends[count]


def _rice_bits_min(count: int, reach: int) -> int:
    """Bound from below what `count` offsets within `reach` take: count * k + reach / 2**k bits at the best k."""
    near = max(1, int(reach / max(1, count) * math.log(2))).bit_length()
    return max(count, min(count * rice + (reach >> rice) for rice in (near - 1, near)))


def _read_body(base: int, tag: int, body: bytes) -> Decoded:
    coding, rice = tag & 3, tag >> 2
    if coding == _BITSET:
        return _from_entries(base, _bitset_edges(base, _unpack(body)))
    if coding not in (_UNFINISHED_GAPS, _FINISHED_GAPS):
        return Replay.VERSION
    count, at = _read_varint(body, 0)
    digits = _unpack(body[at:])
    unary = digits.split("0", count)
    binary = unary.pop()
    if not count or len(unary) != count or not 0 <= len(binary) - count * rice < 8:
        return Replay.CORRUPT
    lows: Iterable[int] = repeat(0)
    if rice:
        lows = [int(binary[low : low + rice], 2) for low in range(0, count * rice, rice)]
    gaps = [(len(ones) << rice) + low for ones, low in zip(unary, lows, strict=False)]
    entries = list(accumulate(gaps, lambda last, gap: last + gap + 1, initial=base - 1))[1:]
    if coding == _FINISHED_GAPS:
        return _from_entries(base, ((entry, entry + 1) for entry in entries))
    return _from_entries(base, zip((base, *(entry + 1 for entry in entries)), entries, strict=False))


def _from_entries(base: int, runs: Iterable[tuple[int, int]]) -> Decoded:
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


def _bitset_edges(base: int, digits: str) -> Iterator[tuple[int, int]]:
    start = digits.find("1")
    while start >= 0:
        end = digits.find("0", start)
        end = len(digits) if end < 0 else end
        yield base + start, base + end
        start = digits.find("1", end)


def _extend(found: list[int], runs: Iterable[tuple[int, int]], count_max: int) -> None:
    """Add the offsets of the runs while there is room: a run of a decoded map may be as long as it likes."""
    for start, end in runs:
        if len(found) >= count_max:
            return
        found.extend(range(start, min(end, start + count_max - len(found))))


def _identity(leader_epoch: int | None, topic_id: str | None) -> bytes:
    topic = (topic_id or "").encode("utf-8", "replace")
    return _varint(_epoch_number(leader_epoch)) + _varint(len(topic)) + topic


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
