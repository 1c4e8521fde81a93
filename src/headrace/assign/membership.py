"""One member of a group, between rebalances: what it was given and when; and what a leader makes of all members' words.

Decides what a plug-in remembers and sends, for any client. Refuses to know a client's classes. Invariant: everything
remembered belongs to one `Membership`, which belongs to one consumer; planning changes none of it.

Generations. A client may not tell its assignor the generation. A leader therefore writes one beside each assignment: one
more than the newest that any member claims. It is never above the broker's own, since that grows by one at least in each
rebalance, so claims made by it compare rightly with each other, and never beat a newer one made by the broker's.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, final

from headrace.assign.model import NO_GENERATION, Claim, Member
from headrace.assign.sticky import CooperativeSticky
from headrace.assign.wire import (
    Subscription,
    claim_of_cooperative,
    claim_of_sticky,
    decode_generation,
    encode_assignment,
    encode_generation,
    encode_sticky,
)
from headrace.errors import UserDataForeign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from headrace.assign.sticky import Sticky

log = logging.getLogger(__name__)


@final
class Membership:
    """What one consumer remembers. Owned by the thread, or the event loop, that its client calls assignors on."""

    def __init__(self, strategy: Sticky | CooperativeSticky, rack: str | None = None) -> None:
        self._strategy = strategy
        self._cooperative = isinstance(strategy, CooperativeSticky)
        self._rack = rack
        self._claim: Claim | None = None

    def told(
        self, owned: Mapping[str, Sequence[int]], user_data: bytes, generation: int = NO_GENERATION
    ) -> None:
        """The member was given partitions. `generation` is the broker's, -1 if the client does not tell."""
        if generation < 0:
            generation = decode_generation(user_data or b"")
        self._claim = Claim({topic: tuple(partitions) for topic, partitions in owned.items()}, generation)

    def says(self, topics: Iterable[str]) -> Subscription:
        """What the member says when it joins."""
        claim = self._claim or Claim({})
        if self._cooperative:
            user_data = encode_generation(claim.generation)
        else:
            user_data = encode_sticky(claim) if self._claim else b""
        return Subscription(
            topics=tuple(sorted(topics)),
            user_data=user_data,
            owned=claim.owned if self._cooperative else {},
            generation=claim.generation,
            rack=self._rack,
        )

    def plan(
        self,
        said: Mapping[str, Subscription],
        partitions_of: Callable[[str], Iterable[int] | None],
        *,
        version: int = 0,
    ) -> dict[str, bytes]:
        """As leader: what to tell each member. A topic that the cluster does not know is left out."""
        claim_of = claim_of_cooperative if self._cooperative else claim_of_sticky
        members: list[Member] = []
        for name, subscription in said.items():
            try:
                claim = claim_of(subscription)
            except UserDataForeign as foreign:
                log.warning("member %s: %s", name, foreign)
                claim = None
            members.append(Member(name, subscription.topics, claim, subscription.rack))
        topics: dict[str, int] = {}
        for topic in {topic for member in members for topic in member.topics}:
            partitions = partitions_of(topic)
            if partitions is not None:
                topics[topic] = max(partitions, default=-1) + 1
        plan = self._strategy.assign(members, topics)
        newest = max((member.claim.generation for member in members if member.claim), default=NO_GENERATION)
        told = encode_generation(newest + 1)
        return {name: encode_assignment(owned, told, version) for name, owned in plan.assignments().items()}
