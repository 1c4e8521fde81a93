"""Units in groups, to be put into bins at least cost, with the load of every bin within its bounds.

Decides how many units of each group each bin holds: a minimum-cost flow, by the primal-dual method. Refuses to know
what groups and bins are. Invariant: at every moment no arc of the residual network has negative reduced cost, so what
has been placed was placed at least cost; the answer depends on the order of groups, bins and edges, and on nothing else.

An edge joins a group and a bin. It holds `held` units; the first `kept` of them cost `price - 1` each, all further ones
`price`. With `kept` as what the bin had before, the cost is the number of units that move, less a constant.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Sequence

UNBOUNDED = 1 << 60
TO_HUB = -1
UNSEEN = -1


@final
class Transport:
    """One network and the flow in it. Owned by who makes it; not for several threads.

    Nodes: groups, then bins, then the hub. Every bin passes its load to the hub, between `low` and `high`; the hub
    takes in what all groups have.
    """

    def __init__(self, supplies: Sequence[int], bins: int) -> None:
        self._groups = len(supplies)
        self._hub = self._groups + bins
        self._arcs: list[list[int]] = [[] for _ in range(self._hub)]
        self.edge_group: list[int] = []
        self.edge_bin: list[int] = []  # as a node
        self._price: list[int] = []
        self._kept: list[int] = []
        self.held: list[int] = []
        self._low = [0] * bins
        self._high = [0] * bins
        self.load = [0] * bins
        self._excess = [*supplies, *([0] * bins), -sum(supplies)]
        self._potential = [0] * (self._hub + 1)
        self._level: list[int] = []
        self._next: list[int] = []

    def join(self, group: int, to_bin: int, *, kept: int = 0, price: int = 0) -> int:
        """Allow units of a group in a bin. What was kept there starts there, unless its price speaks against it."""
        edge = len(self.held)
        node = self._groups + to_bin
        started = 0 if price else kept
        self.edge_group.append(group)
        self.edge_bin.append(node)
        self._price.append(price)
        self._kept.append(kept)
        self.held.append(started)
        self._arcs[group].append(edge)
        self._arcs[node].append(edge)
        self._excess[group] -= started
        self._excess[node] += started
        return edge

    def bound(self, which: int, low: int, high: int) -> None:
        """Let the load of a bin be from `low` to `high`. To be called before the flow starts, or to raise `high`."""
        self._low[which], self._high[which] = low, high
        waiting = self._excess[self._groups + which]
        load = min(max(self.load[which] + waiting, low), high)
        self._excess[self._groups + which] -= load - self.load[which]
        self._excess[self._hub] += load - self.load[which]
        self.load[which] = load

    def settle(self) -> bool:
        """Place every unit, at least cost. False if some cannot be placed within the bounds: see `stranded`."""
        while any(waiting > 0 for waiting in self._excess):
            if not self._find_levels():
                if not self._raise_potentials():
                    return False
                continue
            self._next = [0] * (self._hub + 1)
            for node in range(self._hub + 1):
                while self._excess[node] > 0 and self._push_from(node):
                    pass
        return True

    def stranded(self) -> set[int]:
        """Nodes that a unit which could not be placed can reach: together they have more than they may hold."""
        reached = {node for node, waiting in enumerate(self._excess) if waiting > 0}
        todo = list(reached)
        while todo:
            for _, _, target in self._residual(todo.pop()):
                if target not in reached:
                    reached.add(target)
                    todo.append(target)
        return reached

    def _residual(self, node: int) -> list[tuple[int, int, int]]:
        """Arcs that can take a unit from this node: (cost, edge, target). An edge of the hub is named by its bin."""
        groups, hub = self._groups, self._hub
        price, kept, held = self._price, self._kept, self.held
        if node < groups:
            return [(price[e] - (held[e] < kept[e]), e, self.edge_bin[e]) for e in self._arcs[node]]
        if node == hub:
            return [(0, b, groups + b) for b, load in enumerate(self.load) if load > self._low[b]]
        found = [
            ((held[e] <= kept[e]) - price[e], e, self.edge_group[e]) for e in self._arcs[node] if held[e] > 0
        ]
        if self.load[node - groups] < self._high[node - groups]:
            found.append((0, TO_HUB, hub))
        return found

    def _find_levels(self) -> bool:
        """Breadth first over arcs without reduced cost. True if a node that wants units is reached."""
        potential, excess = self._potential, self._excess
        level = [UNSEEN] * (self._hub + 1)
        todo = [node for node, waiting in enumerate(excess) if waiting > 0]
        for node in todo:
            level[node] = 0
        arrived = False
        while todo and not arrived:
            following: list[int] = []
            for node in todo:
                here = potential[node]
                depth = level[node] + 1
                for cost, _, target in self._residual(node):
                    if level[target] == UNSEEN and cost + here == potential[target]:
                        level[target] = depth
                        following.append(target)
                        arrived = arrived or excess[target] < 0
            todo = following
        self._level = level
        return arrived

    def _raise_potentials(self) -> bool:
        """Let the cheapest way out cost nothing. False if there is no way out."""
        potential, excess = self._potential, self._excess
        distance = [UNBOUNDED] * (self._hub + 1)
        queue = [(0, node) for node, waiting in enumerate(excess) if waiting > 0]
        for _, node in queue:
            distance[node] = 0
        nearest = UNBOUNDED
        while queue:
            far, node = heapq.heappop(queue)
            if far > distance[node]:
                continue
            if excess[node] < 0:
                nearest = far
                break
            here = far + potential[node]
            for cost, _, target in self._residual(node):
                through = cost + here - potential[target]
                if through < distance[target]:
                    distance[target] = through
                    heapq.heappush(queue, (through, target))
        if nearest == UNBOUNDED:
            return False
        for node, far in enumerate(distance):
            potential[node] += min(far, nearest)
        return True

    def _push_from(self, start: int) -> bool:
        """Send units along one path of ascending levels. False if none is left."""
        path: list[tuple[int, int]] = []  # (node, edge)
        node = start
        while self._excess[node] >= 0:
            step = self._advance(node)
            if step is not None:
                path.append((node, step))
                node = self._target(node, step)
            elif path:
                node, _ = path.pop()
                self._next[node] += 1
            else:
                return False
        amount = min(self._excess[start], -self._excess[node])
        for at, edge in path:
            amount = min(amount, self._room(at, edge))
        for at, edge in path:
            self._shift(at, edge, amount)
        self._excess[start] -= amount
        self._excess[node] += amount
        return True

    def _advance(self, node: int) -> int | None:
        """The next edge from this node that leads one level on at no reduced cost; None if there is none."""
        if node < self._groups:
            return self._advance_from_group(node)
        if node < self._hub:
            return self._advance_from_bin(node)
        groups, level, here = self._groups, self._level, self._potential[node]
        for at in range(self._next[node], self._hub - groups):
            target = groups + at
            admissible = level[target] == level[node] + 1 and here == self._potential[target]
            if admissible and self.load[at] > self._low[at]:
                self._next[node] = at
                return at
        self._next[node] = self._hub
        return None

    def _advance_from_group(self, node: int) -> int | None:
        arcs, level, potential = self._arcs[node], self._level, self._potential
        here, depth = potential[node], level[node] + 1
        for at in range(self._next[node], len(arcs)):
            e = arcs[at]
            target = self.edge_bin[e]
            cost = self._price[e] - (self.held[e] < self._kept[e])
            if level[target] == depth and cost + here == potential[target]:
                self._next[node] = at
                return e
        self._next[node] = len(arcs)
        return None

    def _advance_from_bin(self, node: int) -> int | None:
        """The arc to the hub comes last: it stands behind the edges."""
        arcs, level, potential = self._arcs[node], self._level, self._potential
        here, depth = potential[node], level[node] + 1
        for at in range(self._next[node], len(arcs)):
            e = arcs[at]
            target = self.edge_group[e]
            cost = (self.held[e] <= self._kept[e]) - self._price[e]
            if self.held[e] > 0 and level[target] == depth and cost + here == potential[target]:
                self._next[node] = at
                return e
        if self._next[node] <= len(arcs):
            self._next[node] = len(arcs)
            which = node - self._groups
            if level[self._hub] == depth and self.load[which] < self._high[which]:
                return TO_HUB if here == potential[self._hub] else None
        return None

    def _target(self, node: int, edge: int) -> int:
        if node < self._groups:
            return self.edge_bin[edge]
        if node == self._hub:
            return self._groups + edge
        return self._hub if edge == TO_HUB else self.edge_group[edge]

    def _room(self, node: int, edge: int) -> int:
        """How many units may go this way at the present cost."""
        if node < self._groups:
            missing = self._kept[edge] - self.held[edge]
            return missing if missing > 0 else UNBOUNDED
        if node == self._hub:
            return self.load[edge] - self._low[edge]
        if edge == TO_HUB:
            return self._high[node - self._groups] - self.load[node - self._groups]
        beyond = self.held[edge] - self._kept[edge]
        return beyond if beyond > 0 else self.held[edge]

    def _shift(self, node: int, edge: int, amount: int) -> None:
        if node < self._groups:
            self.held[edge] += amount
        elif node == self._hub:
            self.load[edge] -= amount
        elif edge == TO_HUB:
            self.load[node - self._groups] += amount
        else:
            self.held[edge] -= amount
