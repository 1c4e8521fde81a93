"""What makes two leases able to share a consumer: the group, the partition, and the whole configuration.

Decides when configurations are the same; refuses to know what they mean. Invariant: a key shows no value of a setting,
and a fingerprint is worth nothing outside its pool: it is salted, so that no secret can be guessed from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class LeaseKey:
    """Leases with equal keys may use one consumer, one after the other. Immutable; safe to log.

    fingerprint: of the configuration, secrets included; differs from pool to pool.
    """

    group_id: str
    topic: str
    partition: int
    fingerprint: str
    # Compared by equality, not by id: a method of one object is a new object each time it is looked up.
    callbacks: tuple[tuple[str, Any], ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}] of {self.group_id} ({self.fingerprint})"


def key_of(group_id: str, topic: str, partition: int, config: Mapping[str, Any], salt: bytes) -> LeaseKey:
    """The key of a partition under a configuration. `salt`: the pool's own, at most 64 bytes."""
    digest = blake2b(key=salt, digest_size=8)
    callbacks: list[tuple[str, Any]] = []
    for name in sorted(config):
        value = config[name]
        if callable(value):
            callbacks.append((name, value))
        else:
            # The length keeps ("a", "bc") apart from ("ab", "c").
            for part in (name, f"{type(value).__name__} {value}"):
                text = part.encode()
                digest.update(len(text).to_bytes(8, "big") + text)
    return LeaseKey(group_id, topic, partition, digest.hexdigest(), tuple(callbacks))
