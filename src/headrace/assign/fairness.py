"""The fairest loads a group can have, and which members share a level.

Decides for each class of members the load its members have in every fairest assignment: `low`, or `low + 1` for some.
Refuses to know members, claims and moves. Invariant: a group of topics belongs to one block of classes, and in no
fairest assignment is any of its partitions owned outside that block.

Fairest means: no chain of hand-overs leads from a member to one that has two fewer. The sum of squared loads is then
least, and so is the largest load (Harvey, Ladner, Lovász, Tamir: Semi-matchings for bipartite graphs, 2006). The blocks
are found by halving: fill every member to the average; what cannot be placed shows which classes must have more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from headrace.assign.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@final
@dataclass(frozen=True, slots=True)
class Levels:
    """For each class of members its bounds; for classes and groups of topics their block."""

    low: list[int]
    high: list[int]
    block_of_class: list[int]
    block_of_group: list[int]


def fairest_levels(
    supplies: Sequence[int], subscribers: Sequence[Sequence[int]], sizes: Sequence[int]
) -> Levels:
    """`supplies[g]` partitions of group g go to members of the classes `subscribers[g]`; class c has `sizes[c]` members."""
    classes = len(sizes)
    levels = Levels([0] * classes, [0] * classes, [0] * classes, [0] * len(supplies))
    open_blocks = [(list(range(len(supplies))), list(range(classes)))]
    block = 0
    while open_blocks:
        groups, members = open_blocks.pop()
        if not members:
            continue
        split = _Block(groups, members, supplies, subscribers, sizes).settle()
        if isinstance(split, tuple):
            open_blocks += [
                (
                    [group for group in groups if (group in split[0]) is heavy],
                    [number for number in members if (number in split[1]) is heavy],
                )
                for heavy in (True, False)
            ]
            continue
        for number in members:
            levels.low[number], levels.high[number] = split, split + 1
            levels.block_of_class[number] = block
        for group in groups:
            levels.block_of_group[group] = block
        block += 1
    return levels


@final
class _Block:
    """Some groups of topics and the classes they may go to: one block, or two that do not know it yet."""

    def __init__(
        self,
        groups: Sequence[int],
        members: Sequence[int],
        supplies: Sequence[int],
        subscribers: Sequence[Sequence[int]],
        sizes: Sequence[int],
    ) -> None:
        self._groups = groups
        self._members = members
        self._sizes = [sizes[number] for number in members]
        self._supply = sum(supplies[group] for group in groups)
        bin_of: Mapping[int, int] = {number: which for which, number in enumerate(members)}
        self._flow = Transport([supplies[group] for group in groups], len(members))
        for at, group in enumerate(groups):
            for number in subscribers[group]:
                if number in bin_of:
                    self._flow.join(at, bin_of[number])

    def settle(self) -> int | tuple[set[int], set[int]]:
        """The least load of the block's members; or, if their loads must differ by more than one, the heavier part."""
        level, rest = divmod(self._supply, sum(self._sizes))
        self._fill(level)
        if any(load < level * size for load, size in zip(self._flow.load, self._sizes, strict=True)):
            return self._heavier()
        if rest:
            self._fill(level + 1)
            heavier = self._heavier()
            if heavier[0]:
                return heavier
        return level

    def _fill(self, level: int) -> None:
        for which, size in enumerate(self._sizes):
            self._flow.bound(which, 0, level * size)
        self._flow.settle()

    def _heavier(self) -> tuple[set[int], set[int]]:
        stranded = self._flow.stranded()
        groups = len(self._groups)
        return (
            {group for at, group in enumerate(self._groups) if at in stranded},
            {number for which, number in enumerate(self._members) if groups + which in stranded},
        )
