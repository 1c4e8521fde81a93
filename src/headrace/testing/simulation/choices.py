"""Where chance comes from: every decision of a simulation that could have been another one is asked of one `Choices`.

Refuses to know what is decided. Invariant: the same `Choices`, asked the same questions, gives the same answers; nothing
else in a simulation may be random, read a clock, or follow the order of a set.
"""

from __future__ import annotations

import random
from typing import Protocol, final


class Choices(Protocol):
    """What a simulation asks. `label` names the question, for logs and for explorers that answer by it."""

    def index(self, label: str, count: int) -> int:
        """One of `count` options, 0 to `count - 1`."""
        ...

    def chance(self, label: str, probability: float) -> bool:
        """Whether something that happens with this probability happens; never for 0, always for 1."""
        ...

    def between(self, label: str, low: float, high: float) -> float:
        """A number in this range."""
        ...


@final
class Seeded:
    """Answers from a seed."""

    __slots__ = ("_random",)

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a simulation must be repeatable, not secret

    def index(self, label: str, count: int) -> int:
        """See `Choices.index`."""
        del label
        # Not randrange: that is three times slower, and a bias of count / 2**53 does not matter here.
        return int(self._random.random() * count)

    def chance(self, label: str, probability: float) -> bool:
        """See `Choices.chance`."""
        del label
        return probability > 0 and self._random.random() < probability

    def between(self, label: str, low: float, high: float) -> float:
        """See `Choices.between`."""
        del label
        return low if high <= low else low + (high - low) * self._random.random()
