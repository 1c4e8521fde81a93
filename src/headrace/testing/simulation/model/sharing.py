"""How a group's partitions are shared out: range for eager members, sticky for the others.

Pure functions of their inputs, as the clients' assignors and the broker's are. Invariant: each partition goes to at
most one member that subscribes to its topic, and the same inputs give the same shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from headrace.testing.memory_client import matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.ports import TopicPartition

Shares = dict[str, tuple["TopicPartition", ...]]


@final
@dataclass(frozen=True, slots=True)
class Wish:
    """What a member brings to an assignment: names or patterns it subscribes to, and what it owns."""

    names: tuple[str, ...]
    owned: tuple[TopicPartition, ...] = ()


def wanted(names: Iterable[str], topics: Iterable[str]) -> list[str]:
    """The topics these names and patterns stand for, in order."""
    return [topic for topic in topics if any(matches(name, topic) for name in names)]


def by_range(wishes: Mapping[str, Wish], sizes: Mapping[str, int]) -> Shares:
    """Each topic's partitions in contiguous ranges, members in order of their ids."""
    shares: dict[str, list[TopicPartition]] = {member: [] for member in wishes}
    for topic, count in sizes.items():
        takers = sorted(member for member, wish in wishes.items() if wanted(wish.names, [topic]))
        first = 0
        for index, member in enumerate(takers):
            size = count // len(takers) + (index < count % len(takers))
            shares[member].extend((topic, number) for number in range(first, first + size))
            first += size
    return {member: tuple(places) for member, places in shares.items()}


def sticky(wishes: Mapping[str, Wish], sizes: Mapping[str, int]) -> Shares:
    """As even as can be, moving as little as can be."""
    topics = {member: set(wanted(wish.names, sizes)) for member, wish in wishes.items()}
    places = [(topic, number) for topic, count in sizes.items() for number in range(count)]
    holder: dict[TopicPartition, str] = {}
    for member, wish in wishes.items():
        for place in wish.owned:
            if place[0] in topics[member] and place[1] < sizes.get(place[0], 0):
                # Two claims: neither is to be trusted; the first keeps it, as the generation is not modelled.
                holder.setdefault(place, member)
    load = dict.fromkeys(wishes, 0)
    for member in holder.values():
        load[member] += 1
    for place in places:
        takers = [member for member in wishes if place[0] in topics[member]]
        if place not in holder and takers:
            least = min(takers, key=lambda member: (load[member], member))
            holder[place] = least
            load[least] += 1
    _level(holder, load, topics, places)
    return {member: tuple(place for place in places if holder.get(place) == member) for member in wishes}


def _level(
    holder: dict[TopicPartition, str],
    load: dict[str, int],
    topics: Mapping[str, set[str]],
    places: Sequence[TopicPartition],
) -> None:
    """Move one partition at a time from who has most to who has two fewer, until nobody has."""
    moved = True
    while moved:
        moved = False
        for place in reversed(places):
            if place not in holder:
                continue
            owner = holder[place]
            least = min(
                (member for member in load if place[0] in topics[member]),
                key=lambda member: (load[member], member),
            )
            if load[owner] - load[least] >= 2:
                holder[place] = least
                load[owner] -= 1
                load[least] += 1
                moved = True


def handed_over(target: Shares, wishes: Mapping[str, Wish]) -> Shares:
    """The cooperative first step: what somebody else still owns is given to nobody yet."""
    owner = {place: member for member, wish in wishes.items() for place in wish.owned}
    return {
        member: tuple(place for place in places if owner.get(place, member) == member)
        for member, places in target.items()
    }
