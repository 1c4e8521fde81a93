"""From counts to partitions: which ones a member keeps, which ones it gives up, and who is given those.

Decides nothing about how many: that is given, for each group of topics and each member. Refuses to know balance and
cost. Invariant: a member that may hold as many partitions of a group as it owned keeps every one of them; no choice
made here moves a partition more than the counts demand.

Choices are free within the counts, and are made so that every topic spreads over the members: a topic's records are
often alike, and a member that owns most of a busy topic has the load however balanced the counts are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.assign.model import NO_MEMBER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.assign.problem import Problem


def placed(problem: Problem, group_of: Sequence[int], shares: Sequence[Mapping[int, int]]) -> list[int]:
    """The owner of each partition. `shares[g][m]` is how many partitions of group g member m shall have.

    `group_of[i]` is the group of partition i, or -1 where nobody subscribes.
    """
    owners = list(problem.owner)
    kept: list[dict[int, list[int]]] = [{} for _ in shares]
    pool: list[list[int]] = [[] for _ in shares]
    for index, group in enumerate(group_of):
        if group < 0:
            continue
        owner = owners[index]
        if owner < 0:
            pool[group].append(index)
            continue
        mine = kept[group].get(owner)
        if mine is None:
            kept[group][owner] = [index]
        else:
            mine.append(index)
    for group, share in enumerate(shares):
        given_up = False
        for member, mine in kept[group].items():
            if len(mine) > share.get(member, 0):
                over = _given_up(problem, mine, share.get(member, 0))
                pool[group] += over
                given_up = True
                for index in over:
                    owners[index] = NO_MEMBER
                kept[group][member] = mine[: len(mine) - len(over)]
        if given_up:
            pool[group].sort()
        held = {member: len(mine) for member, mine in kept[group].items()}
        wanted = {member: count - held.get(member, 0) for member, count in share.items()}
        _deal(problem.stale, pool[group], {m: n for m, n in sorted(wanted.items()) if n > 0}, held, owners)
    return owners


def _given_up(problem: Problem, mine: Sequence[int], keep: int) -> list[int]:
    """All but `keep` of a member's partitions, so that each topic loses the same part of what the member had."""
    firsts = problem.firsts
    ranked: list[tuple[float, int]] = []
    topic, rank = -1, 0
    for index in mine:  # ascending, so that a topic's partitions stand together
        if topic < 0 or index >= firsts[topic + 1]:
            topic += 1
            while index >= firsts[topic + 1]:
                topic += 1
            rank = 0
        ranked.append(((2 * rank + 1) / (firsts[topic + 1] - firsts[topic]), index))
        rank += 1
    ranked.sort()
    return [index for _, index in ranked[keep:]]


def _deal(
    stale: Mapping[int, int],
    pool: list[int],
    wanted: dict[int, int],
    held: Mapping[int, int],
    owners: list[int],
) -> None:
    """Give the pool to those who want, each in turn; first to whom a partition belonged before it was lost."""
    if stale:
        rest: list[int] = []
        for index in pool:
            member = stale.get(index)
            if member is not None and wanted.get(member, 0) > 0:
                owners[index] = member
                wanted[member] -= 1
            else:
                rest.append(index)
        pool = rest
    for index, member in zip(pool, _turns(wanted, held), strict=True):
        owners[index] = member


def _turns(wanted: Mapping[int, int], held: Mapping[int, int]) -> Iterable[int]:
    """Members in the order in which they take one: each as often as it wants, its turns evenly spaced.

    Members who want and hold the same are dealt to as one, so the cost is that of the result. Of those whose turn is at
    the same time, who holds least comes first.
    """
    alike: dict[tuple[int, int], list[int]] = {}
    for member, count in wanted.items():
        if count:
            alike.setdefault((held.get(member, 0), count), []).append(member)
    times = sorted(((2 * turn + 1) / count, holds, count) for holds, count in alike for turn in range(count))
    order: list[int] = []
    for _, holds, count in times:
        order += alike[holds, count]
    return order
