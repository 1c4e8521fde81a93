"""The bytes in which members of a group tell their subscriptions and claims, and are told their partitions.

Decides how Kafka's own consumer protocol (versions 0 to 3) and the user data of its two sticky assignors are read and
written. Refuses to trust: counts are checked against what is there, before anything is made of them. Invariant: whatever
bytes come, reading ends with a value or with `UserDataForeign`.

Newer versions than 3 are read by the fields known here: Kafka only ever appends.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from headrace.assign.model import NO_GENERATION, Claim
from headrace.errors import UserDataForeign

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

INT16 = struct.Struct(">h")
INT32 = struct.Struct(">i")
OWNED_SINCE, GENERATION_SINCE, RACK_SINCE = 1, 2, 3
VERSION_NEWEST = 3


@final
@dataclass(frozen=True, slots=True)
class Subscription:
    """What a member says when it joins. `owned` is None before version 1, which cannot tell."""

    topics: tuple[str, ...]
    user_data: bytes = b""
    owned: Mapping[str, Sequence[int]] | None = None
    generation: int = NO_GENERATION
    rack: str | None = None


def claim_of_sticky(subscription: Subscription) -> Claim | None:
    """What a member of the eager assignor claims: its user data says so, for it has given up all before it joins.

    None for one without history. Raises `UserDataForeign`.
    """
    return decode_sticky(subscription.user_data) if subscription.user_data else None


def claim_of_cooperative(subscription: Subscription) -> Claim | None:
    """What a member of the cooperative assignor claims: what it owns, in the generation of its subscription or user data.

    Never fails: a generation that cannot be read is none, as Kafka has it.
    """
    if subscription.owned is None:
        return None
    generation = subscription.generation
    if generation < 0:
        generation = decode_generation(subscription.user_data)
    return Claim(subscription.owned, max(generation, NO_GENERATION))


def encode_sticky(claim: Claim) -> bytes:
    """User data of Kafka's StickyAssignor, version 1."""
    return _by_topic(claim.owned) + INT32.pack(claim.generation)


def decode_sticky(data: bytes) -> Claim:
    """User data of Kafka's StickyAssignor: version 1, or version 0, which has no generation. Raises `UserDataForeign`.

    kafka-python's own assignor (3.0) puts the version before it, which Kafka's cannot read. It is read here.
    """
    try:
        return _sticky(data)
    except UserDataForeign:
        if data[: INT16.size] in {b"\0\0", b"\0\1"}:
            return _sticky(data[INT16.size :])
        raise


def _sticky(data: bytes) -> Claim:
    reader = _Reader(data, "user data of a sticky assignor")
    owned = reader.by_topic()
    generation = reader.int32() if reader.left >= INT32.size else NO_GENERATION
    return Claim(owned, max(generation, NO_GENERATION))


def encode_generation(generation: int) -> bytes:
    """User data of Kafka's CooperativeStickyAssignor."""
    return INT32.pack(generation)


def decode_generation(data: bytes) -> int:
    """The generation in a cooperative member's user data, -1 if there is none.

    librdkafka writes the form of the eager assignor there; its generation is then found at the end of that.
    """
    if len(data) == INT32.size:
        return max(int(INT32.unpack(data)[0]), NO_GENERATION)
    try:
        return decode_sticky(data).generation
    except UserDataForeign:
        return NO_GENERATION


def encode_subscription(subscription: Subscription, version: int = VERSION_NEWEST) -> bytes:
    """What a member says when it joins."""
    written = INT16.pack(version) + _strings(subscription.topics) + _bytes(subscription.user_data)
    if version >= OWNED_SINCE:
        written += _by_topic(subscription.owned or {})
    if version >= GENERATION_SINCE:
        written += INT32.pack(subscription.generation)
    if version >= RACK_SINCE:
        written += INT16.pack(-1) if subscription.rack is None else _string(subscription.rack)
    return written


def decode_subscription(data: bytes) -> Subscription:
    """What a member said when it joined. Raises `UserDataForeign`."""
    reader = _Reader(data, "a consumer subscription")
    version = reader.int16()
    if version < 0:
        raise reader.foreign(f"version {version}")
    topics = tuple(reader.string() for _ in range(reader.count(INT16.size)))
    user_data = reader.bytes() or b""
    return Subscription(
        topics,
        user_data,
        owned=reader.by_topic() if version >= OWNED_SINCE else None,
        generation=reader.int32() if version >= GENERATION_SINCE else NO_GENERATION,
        rack=reader.string_or_none() if version >= RACK_SINCE else None,
    )


def encode_assignment(owned: Mapping[str, Sequence[int]], user_data: bytes = b"", version: int = 0) -> bytes:
    """What a member is told. All versions have the same fields."""
    return INT16.pack(version) + _by_topic(owned) + _bytes(user_data)


def decode_assignment(data: bytes) -> tuple[dict[str, list[int]], bytes]:
    """What a member was told, and the user data beside it. Raises `UserDataForeign`."""
    reader = _Reader(data, "a consumer assignment")
    if (version := reader.int16()) < 0:
        raise reader.foreign(f"version {version}")
    return reader.by_topic(), reader.bytes() or b""


def _string(text: str) -> bytes:
    written = text.encode()
    return INT16.pack(len(written)) + written


def _strings(texts: Collection[str]) -> bytes:
    return INT32.pack(len(texts)) + b"".join(map(_string, texts))


def _bytes(data: bytes) -> bytes:
    return INT32.pack(len(data)) + data


def _by_topic(owned: Mapping[str, Sequence[int]]) -> bytes:
    parts = [INT32.pack(len(owned))]
    for topic, partitions in owned.items():
        parts += (_string(topic), struct.pack(f">i{len(partitions)}i", len(partitions), *partitions))
    return b"".join(parts)


@final
class _Reader:
    """Bytes, and how far they were read."""

    def __init__(self, data: bytes, expected: str) -> None:
        self._data = data
        self._at = 0
        self._expected = expected

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def foreign(self, problem: str) -> UserDataForeign:
        return UserDataForeign(self._expected, problem)

    def take(self, size: int) -> bytes:
        if not 0 <= size <= self.left:
            raise self.foreign(f"{size} bytes expected at {self._at}, {self.left} left")
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def int16(self) -> int:
        return int(INT16.unpack(self.take(INT16.size))[0])

    def int32(self) -> int:
        return int(INT32.unpack(self.take(INT32.size))[0])

    def count(self, least: int) -> int:
        """How many follow, each of at least so many bytes."""
        count = self.int32()
        if not 0 <= count * least <= self.left:
            raise self.foreign(f"{count} entries expected at {self._at}, {self.left} bytes left")
        return count

    def string(self) -> str:
        try:
            return self.take(self.int16()).decode()
        except UnicodeDecodeError as error:
            raise self.foreign(f"no text at {self._at}") from error

    def string_or_none(self) -> str | None:
        if self._data[self._at : self._at + INT16.size] == b"\xff\xff":
            self._at += INT16.size
            return None
        return self.string()

    def bytes(self) -> bytes | None:
        size = self.int32()
        return None if size == -1 else self.take(size)

    def by_topic(self) -> dict[str, list[int]]:
        """Partitions by topic. A topic may come twice, as it does in bytes of some clients."""
        owned: dict[str, list[int]] = {}
        for _ in range(self.count(INT16.size + INT32.size)):
            topic = self.string()
            count = self.count(INT32.size)
            partitions = struct.unpack(f">{count}i", self.take(count * INT32.size))
            owned.setdefault(topic, []).extend(partitions)
        return owned
