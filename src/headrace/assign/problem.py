"""A group as index arrays, with every claim settled: what strategies work on.

Decides whose claim holds: that of the highest generation; where two claims of one generation meet, nobody's. Refuses
to know how partitions are placed. Invariant: the same group gives the same problem, in whatever order its members,
topics and claims are listed; `owner[i]` subscribes to the topic of partition i, or is -1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, final

from headrace.assign.model import NO_MEMBER, Claim, Member, Plan, Topic
from headrace.errors import GroupInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@final
@dataclass(frozen=True, slots=True)
class Problem:
    """A group, compiled. Lists are filled once, by `compiled`, and only read afterwards."""

    members: tuple[Member, ...]
    names: tuple[str, ...]
    topics: tuple[Topic, ...]
    firsts: tuple[int, ...]
    class_of: list[int]
    """For each member, which class of equal subscriptions it belongs to."""
    classes: list[tuple[int, ...]]
    """For each class, the topics subscribed, ascending."""
    owner: list[int]
    stale: dict[int, int]
    """For a partition: who claims it of those whose claim lost to a newer one. A hint where it must be placed anew."""
    disputed: set[int]
    """Partitions that somebody claims and nobody may keep. Under the cooperative protocol they are given up first."""
    unknown_topics: tuple[str, ...]
    claims_ignored: int

    @property
    def partitions(self) -> int:
        """Of all topics together."""
        return self.firsts[-1]

    def subscribers(self) -> list[tuple[int, ...]]:
        """For each topic, the classes that subscribe to it, ascending."""
        found: list[list[int]] = [[] for _ in self.topics]
        for number, topics in enumerate(self.classes):
            for topic in topics:
                found[topic].append(number)
        return [tuple(classes) for classes in found]

    def members_of(self) -> list[list[int]]:
        """For each class, its members, ascending."""
        found: list[list[int]] = [[] for _ in self.classes]
        for member, number in enumerate(self.class_of):
            found[number].append(member)
        return found

    def plan(self, strategy: str, owners: Sequence[int], withheld: Iterable[int] = ()) -> Plan:
        """The result of a strategy as a value."""
        return Plan(
            strategy=strategy,
            members=tuple(member.id for member in self.members),
            topics=self.names,
            firsts=self.firsts,
            owners=tuple(owners),
            previous=tuple(self.owner),
            withheld=tuple(withheld),
            unknown_topics=self.unknown_topics,
            claims_ignored=self.claims_ignored,
        )


def compiled(
    members: Iterable[Member], topics: Mapping[str, int | Topic], previous: Plan | None = None
) -> Problem:
    """Check a group and number its members, topics and partitions. With `previous`, that plan's claims replace all."""
    ordered = tuple(sorted(members, key=lambda member: member.id))
    for one, next_one in pairwise(ordered):
        if one.id == next_one.id:
            raise GroupInvalid(f"member {one.id}", "listed twice: give each member once")
    names = tuple(sorted(topics))
    sizes = tuple(topic_of(name, topics[name]) for name in names)
    firsts = [0]
    for topic in sizes:
        firsts.append(firsts[-1] + topic.partitions)
    number_of = {name: number for number, name in enumerate(names)}
    class_of, classes, unknown = _classes(ordered, number_of)
    claims = [member.claim for member in ordered]
    if previous is not None:
        given = previous.claims(0)
        claims = [given.get(member.id) for member in ordered]
    settling = _Settling(number_of, firsts)
    for member, claim in enumerate(claims):
        if claim is not None:
            settling.take_in(member, claim)
    settling.drop_unsubscribed(class_of, classes)
    return Problem(
        members=ordered,
        names=names,
        topics=sizes,
        firsts=tuple(firsts),
        class_of=class_of,
        classes=classes,
        owner=settling.owner,
        stale={index: member for index, (_, member) in settling.stale.items()},
        disputed=settling.disputed,
        unknown_topics=unknown,
        claims_ignored=settling.ignored,
    )


def topic_of(name: str, given: int | Topic) -> Topic:
    """A topic may be given as its number of partitions."""
    if isinstance(given, Topic):
        return given
    if given < 0:
        raise GroupInvalid(f"topic {name}", f"{given} partitions: expected 0 or more")
    return Topic(given)


def _classes(
    members: Sequence[Member], number_of: Mapping[str, int]
) -> tuple[list[int], list[tuple[int, ...]], tuple[str, ...]]:
    """Members of one subscription are one class; classes are numbered as their first members come."""
    class_of: list[int] = []
    classes: list[tuple[int, ...]] = []
    by_topics: dict[tuple[int, ...], int] = {}
    by_text: dict[tuple[str, ...], int] = {}  # most members of a group list the same topics in the same order
    unknown: set[str] = set()
    for member in members:
        text = tuple(member.topics)
        number = by_text.get(text)
        if number is None:
            known = tuple(sorted({number_of[name] for name in text if name in number_of}))
            unknown.update(name for name in text if name not in number_of)
            number = by_topics.setdefault(known, len(classes))
            if number == len(classes):
                classes.append(known)
            by_text[text] = number
        class_of.append(number)
    return class_of, classes, tuple(sorted(unknown))


class _Settling:
    """Claims as they are taken in, member by member."""

    def __init__(self, number_of: Mapping[str, int], firsts: Sequence[int]) -> None:
        self._number_of = number_of
        self._firsts = firsts
        self.owner = [NO_MEMBER] * firsts[-1]
        self._generation: list[int] = [NO_MEMBER - 1] * firsts[-1]  # below every generation: not claimed yet
        self.stale: dict[int, tuple[int, int]] = {}
        self.disputed: set[int] = set()
        self.ignored = 0

    def take_in(self, member: int, claim: Claim) -> None:
        owner, newest, generation = self.owner, self._generation, claim.generation
        for name, partitions in claim.owned.items():
            topic = self._number_of.get(name)
            if topic is None:
                self.ignored += len(partitions)
                continue
            first = self._firsts[topic]
            count = self._firsts[topic + 1] - first
            for partition in partitions:
                if not 0 <= partition < count:
                    self.ignored += 1
                    continue
                index = first + partition
                if newest[index] < NO_MEMBER:
                    owner[index] = member
                    newest[index] = generation
                else:
                    self._contest(index, member, generation)

    def _contest(self, index: int, member: int, generation: int) -> None:
        """A second claim of one partition."""
        newest, holder = self._generation[index], self.owner[index]
        if generation > newest:
            if holder >= 0:
                self.stale[index] = (newest, holder)
            self.owner[index] = member
            self._generation[index] = generation
            self.disputed.discard(index)
        elif generation < newest:
            # Members come in ascending order: of two stale claims of one generation the first stays.
            if generation > self.stale.get(index, (NO_MEMBER - 1, 0))[0]:
                self.stale[index] = (generation, member)
        elif holder != member:
            self.owner[index] = NO_MEMBER
            self.disputed.add(index)

    def drop_unsubscribed(self, class_of: Sequence[int], classes: Sequence[tuple[int, ...]]) -> None:
        """A claim on a topic that its member no longer subscribes to wins against older ones, and holds nothing."""
        if not classes:
            return
        subscribed = [frozenset(topics) for topics in classes]
        for topic in range(len(self._firsts) - 1):
            if all(topic in topics for topics in subscribed):
                continue
            for index in range(self._firsts[topic], self._firsts[topic + 1]):
                holder = self.owner[index]
                if holder >= 0 and topic not in subscribed[class_of[holder]]:
                    self.owner[index] = NO_MEMBER
                    self.disputed.add(index)
                hint = self.stale.get(index)
                if hint is not None and topic not in subscribed[class_of[hint[1]]]:
                    del self.stale[index]
