"""A second reader of the offset map, written from its description alone: what a commit's metadata calls finished.

Shares no code with the runtime, so that a map that was written wrongly is not read wrongly in the same way. Refuses to
know what is done with it. Invariant: a text that is not exactly a map of this form raises `ValueError`.
"""

from __future__ import annotations

import base64
import zlib
from typing import final


def read_map(metadata: str, committed: int) -> frozenset[int]:
    """Offsets that the map calls finished, beyond the committed one; raises `ValueError` where it is no map of it."""
    if not metadata:
        return frozenset()
    if not metadata.startswith("hr1:"):
        raise ValueError("it does not begin with hr1:")
    text = metadata[4:]
    raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    content, checksum = raw[:-4], raw[-4:]
    if zlib.crc32(b"hr1:" + content).to_bytes(4, "big") != checksum:
        raise ValueError("its checksum is of something else")
    source = _Source(content)
    base = source.number()
    source.number()  # the leader's epoch
    source.skip(source.number())  # the topic's id
    if base != committed:
        raise ValueError(f"it is of offset {base}, not of {committed}")
    coding = source.byte()
    if coding & 3 == 0:
        return frozenset(base + index for index, bit in enumerate(source.bits()) if bit)
    entries = _entries(source, coding >> 2, base)
    match coding & 3:
        case 1:  # unfinished offsets, and the first of which nothing is said
            return frozenset(range(base, entries[-1])) - frozenset(entries)
        case 2:  # finished offsets
            return frozenset(entries)
        case _:  # start and end of each finished run
            pairs = zip(entries[::2], entries[1::2], strict=False)
            return frozenset(offset for start, end in pairs for offset in range(start, end))


def _entries(source: _Source, rice: int, base: int) -> list[int]:
    """Offsets whose gaps are in Rice's code: all unary parts first, then all binary ones."""
    count = source.number()
    bits = iter(source.bits())
    highs: list[int] = []
    while len(highs) < count:
        high = 0
        while next(bits, 0):
            high += 1
        highs.append(high)
    entries: list[int] = []
    last = base - 1
    for high in highs:
        low = 0
        for _ in range(rice):
            low = low << 1 | next(bits, 0)
        last += (high << rice) + low + 1
        entries.append(last)
    if not entries:
        raise ValueError("it has no entries")
    return entries


@final
class _Source:
    """Bytes that are read from the front."""

    __slots__ = ("_at", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def byte(self) -> int:
        if self._at >= len(self._raw):
            raise ValueError("it ends too early")
        self._at += 1
        return self._raw[self._at - 1]

    def number(self) -> int:
        """A number in LEB128."""
        found = shift = 0
        while True:
            byte = self.byte()
            found |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return found

    def skip(self, count: int) -> None:
        self._at += count

    def bits(self) -> list[int]:
        """All that is left, the highest bit of each byte first."""
        return [byte >> shift & 1 for byte in self._raw[self._at :] for shift in range(7, -1, -1)]
