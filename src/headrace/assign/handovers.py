"""Hand-overs that a plan leaves possible: whether any would make it fairer, or as fair with fewer moves.

Part of the certificate; shares no code with the strategies. Decides by searching, never by trying to improve. Invariant:
only numbers of partitions per kind and member are looked at, for nothing else bears on balance or moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@final
class Handovers:
    """For each kind of partitions: who may have it (`takers`), who has how many (`held`), who had (`owned`)."""

    def __init__(
        self,
        takers: Sequence[Sequence[int]],
        held: Sequence[Mapping[int, int]],
        owned: Sequence[Mapping[int, int]],
        loads: Sequence[int],
    ) -> None:
        self._takers = takers
        self._held = held
        self._owned = owned
        self._loads = loads

    def moves(self) -> int:
        """The fewest moves with these numbers: a member keeps what it had, as far as it has as many."""
        return sum(
            max(0, had - held.get(member, 0))
            for owned, held in zip(self._owned, self._held, strict=True)
            for member, had in owned.items()
            if member >= 0
        )

    def are_fair_one_by_one(self) -> bool:
        """KIP-54: nobody has a partition that a member with two fewer could take."""
        loads = self._loads
        for takers, held in zip(self._takers, self._held, strict=True):
            heaviest = max(
                (loads[member] for member, count in held.items() if member >= 0 < count), default=0
            )
            if heaviest > min(loads[member] for member in takers) + 1:
                return False
        return True

    def are_fair(self) -> bool:
        """No chain of hand-overs joins a member to one that has two fewer.

        Members are visited from the lightest on, each with all it could take through others that no lighter one could;
        so each is met first by the lightest that can reach it.
        """
        loads = self._loads
        takes: list[list[int]] = [[] for _ in loads]
        for kind, takers in enumerate(self._takers):
            for member in takers:
                takes[member].append(kind)
        met = [False] * len(loads)
        opened = [False] * len(self._takers)
        for lightest in sorted(range(len(loads)), key=lambda member: loads[member]):
            todo = [] if met[lightest] else [lightest]
            met[lightest] = True
            while todo:
                for kind in takes[todo.pop()]:
                    if opened[kind]:
                        continue
                    opened[kind] = True
                    for member, count in self._held[kind].items():
                        if member >= 0 < count and not met[member]:
                            if loads[member] > loads[lightest] + 1:
                                return False
                            met[member] = True
                            todo.append(member)
        return True

    def cannot_be_cheaper(self, prices: Mapping[tuple[int, int], int]) -> bool:
        """No cycle of hand-overs that leaves the loads as fair would save a move.

        Only for a fair plan. Two members whose loads differ by one may change places: a unit then goes round through
        the level between them. `prices` are what (kind, member) costs beside moves.
        """
        arcs = self._arcs(prices)
        nodes = max((max(source, target) for source, target, _ in arcs), default=-1) + 1
        distance = [0] * nodes
        came_from = [-1] * nodes
        while True:
            changed = False
            for source, target, cost in arcs:
                through = distance[source] + cost
                if through < distance[target]:
                    distance[target] = through
                    came_from[target] = source
                    changed = True
            if not changed:
                return True
            if _has_cycle(came_from):
                return False

    def _arcs(self, prices: Mapping[tuple[int, int], int]) -> list[tuple[int, int, int]]:
        """(from, to, cost) of one unit: members first, then kinds, then levels."""
        loads = self._loads
        first_kind = len(loads)
        levels = {level: first_kind + len(self._takers) + at for at, level in enumerate(sorted(set(loads)))}
        arcs: list[tuple[int, int, int]] = []
        for member, load in enumerate(loads):
            arcs.append((member, levels[load], 0))
            if load - 1 in levels:
                arcs.append((levels[load - 1], member, 0))
        for kind, takers in enumerate(self._takers):
            held, owned = self._held[kind], self._owned[kind]
            for member in takers:
                has, had = held.get(member, 0), owned.get(member, 0)
                price = prices.get((kind, member), 0)
                arcs.append((first_kind + kind, member, price - (has < had)))
                if has:
                    arcs.append((member, first_kind + kind, (has <= had) - price))
        return arcs


def _has_cycle(came_from: Sequence[int]) -> bool:
    """Whether following where each distance came from leads round in a circle."""
    state = [0] * len(came_from)
    for start in range(len(came_from)):
        node = start
        while node >= 0 and not state[node]:
            state[node] = start + 1
            node = came_from[node]
        if node >= 0 and state[node] == start + 1:
            return True
    return False
