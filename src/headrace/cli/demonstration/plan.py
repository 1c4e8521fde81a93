"""What a demonstration is going to do: how many records, of which keys, and what shall befall each.

Everything follows from a record's number, so that every process knows it alike without being told.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Literal

TOPIC = "orders"
DEAD_LETTERS = "orders.dead"
GROUP = "demo"
PARTITIONS = 6
KEYS = 60
ATTEMPTS_MAX = 3
RATE_DEFAULT = 400
"""Records a second: lively to look at, and no load for two cores."""

RECORDS_MAX = 200_000
"""The embedded broker keeps 5 MiB a partition; a record here takes about 100 bytes of it."""

Sabotage = Literal["loss", "order"]
Protocol = Literal["classic", "consumer"]


class Fate(Enum):
    """What happens to a record."""

    QUICK = "quick"
    SLOW = "slow"
    FAILS_ONCE = "fails once"
    POISON = "poison"


@dataclass(frozen=True, slots=True)
class Plan:
    """One demonstration. `client` are the settings that make clients quick on the embedded broker.

    debug: members log what they do to stderr.
    """

    bootstrap_servers: str
    seconds: float
    records: int
    client: dict[str, str | int | float | bool] = field(default_factory=dict[str, "str | int | float | bool"])
    protocol: Protocol = "consumer"
    sabotage: Sabotage | None = None
    debug: bool = False

    def to_json(self) -> str:
        """As an argument for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The reverse of `to_json`."""
        return cls(**json.loads(text))


def fate_of(number: int) -> Fate:
    """What happens to this record: scattered, and the same in every run."""
    scattered = _scatter(number) % 1000
    if scattered < 5:
        return Fate.POISON
    if scattered < 25:
        return Fate.FAILS_ONCE
    if scattered < 65:
        return Fate.SLOW
    return Fate.QUICK


def work_s(number: int) -> float:
    """How long its handler takes."""
    scattered = _scatter(number + 1) % 100
    return 0.15 + scattered * 0.0035 if fate_of(number) is Fate.SLOW else 0.001 + scattered * 0.0001


def key_of(number: int) -> bytes:
    """Its key: a customer."""
    return f"customer-{_key_number(number)}".encode()


def partition_of(number: int) -> int:
    """Its partition: always the same for one key."""
    return _key_number(number) % PARTITIONS


def value_of(number: int) -> bytes:
    """Its value, from which alone a handler knows which record it has."""
    return f"order {number}".encode()


def number_of(value: bytes | None) -> int:
    """The reverse of `value_of`."""
    return int((value or b"").removeprefix(b"order "))


def _key_number(number: int) -> int:
    return _scatter(number + 2) % KEYS


def _scatter(number: int) -> int:
    # A step of splitmix64: neighbours come out far apart.
    mixed = (number + 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ mixed >> 27) * 0x94D049BB133111EB >> 31 & 0xFFFFFFFF
