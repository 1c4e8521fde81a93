"""The sticky assignors for kafka-python (3.x): eager and cooperative, one object per consumer.

Decides how kafka-python's calls reach `Membership`. Needs kafka-python to be installed. Invariant: nothing is shared
between two objects, nor held by a class; kafka-python makes an object of a class it is given, for each consumer.

What kafka-python cannot do: plan beside its network loop. While a leader plans, its client waits; no heartbeats are due
then, but the session timeout must be longer than the plan takes.
"""

# kafka-python makes its protocol classes when it is imported, where no type checker can follow.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# pyright: reportAttributeAccessIssue=false, reportIncompatibleMethodOverride=false, reportAssignmentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafka.coordinator.assignors.abstract import AbstractPartitionAssignor, RebalanceProtocol
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

from headrace.assign import sticky
from headrace.assign.membership import Membership
from headrace.assign.wire import Subscription, encode_subscription

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Assignor(AbstractPartitionAssignor):  # type: ignore[misc, no-any-unimported]
    """What both have in common. kafka-python calls these methods on one thread at a time."""

    def __init__(self, strategy: sticky.Sticky | sticky.CooperativeSticky, rack: str | None) -> None:
        self._membership = Membership(strategy, rack)

    def supported_protocols(self) -> list[Any]:
        """Asked by kafka-python at start."""
        return [RebalanceProtocol.EAGER]

    def metadata(self, topics: Iterable[str]) -> Any:
        """Called before each join."""
        return ConsumerProtocolSubscription.decode(encode_subscription(self._membership.says(topics)))

    def assign(self, cluster: Any, members: Iterable[Any]) -> dict[str, Any]:
        """Called on the leader."""
        said = {member.member_id: _subscription(member.metadata) for member in members}
        told = self._membership.plan(said, cluster.partitions_for_topic)
        return {name: ConsumerProtocolAssignment.decode(data) for name, data in told.items()}

    def on_assignment(self, assignment: Any, generation: int) -> None:
        """Called when a rebalance has ended."""
        owned: dict[str, list[int]] = {}
        for topic, partition in assignment.partitions():
            owned.setdefault(topic, []).append(partition)
        self._membership.told(owned, assignment.user_data, generation)


class Sticky(_Assignor):
    """`KafkaConsumer(..., partition_assignment_strategy=[Sticky])`: agrees with Kafka's own StickyAssignor.

    Give an object, `Sticky(rack="eu-1a")`, to be placed near a rack; then one for each consumer.
    """

    name = "sticky"

    def __init__(self, strategy: sticky.Sticky | None = None, rack: str | None = None) -> None:
        super().__init__(strategy or sticky.Sticky(), rack)


class CooperativeSticky(_Assignor):
    """`KafkaConsumer(..., partition_assignment_strategy=[CooperativeSticky])`: agrees with Kafka's CooperativeStickyAssignor.

    To move a group here from an eager assignor, restart its members twice: first with
    `[CooperativeSticky(eager=True), Sticky()]`, then with `[CooperativeSticky]`. With `eager` a member gives up all
    before it joins, as one with an eager assignor must, and so claims nothing.
    """

    name = "cooperative-sticky"

    def __init__(
        self,
        strategy: sticky.CooperativeSticky | None = None,
        rack: str | None = None,
        *,
        eager: bool = False,
    ) -> None:
        super().__init__(strategy or sticky.CooperativeSticky(), rack)
        self._eager = eager

    def supported_protocols(self) -> list[Any]:
        """Asked by kafka-python at start."""
        return [RebalanceProtocol.EAGER if self._eager else RebalanceProtocol.COOPERATIVE]

    def on_assignment(self, assignment: Any, generation: int) -> None:
        """Called when a rebalance has ended."""
        if not self._eager:
            super().on_assignment(assignment, generation)


def _subscription(metadata: Any) -> Subscription:
    """kafka-python's own object, read as ours."""
    owned = {part.topic: list(part.partitions) for part in metadata.owned_partitions or ()}
    known_owned = metadata.version >= 1
    return Subscription(
        topics=tuple(metadata.topics),
        user_data=metadata.user_data or b"",
        owned=owned if known_owned else None,
        generation=metadata.generation_id,
        rack=metadata.rack_id,
    )
