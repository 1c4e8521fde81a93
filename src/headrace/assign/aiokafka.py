"""The sticky assignor for aiokafka (0.14 and later): one object per consumer.

Decides how aiokafka's calls reach `Membership`. Refuses to import aiokafka: it calls four methods and reads a name, and
takes bytes for answers. Invariant: nothing is shared between two objects, nor held by the class.

What aiokafka cannot do: cooperative rebalances, and racks (it reads version 0 of the protocol only). With several
assignors it joins once for each: name this one alone.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, final

from headrace.assign import sticky
from headrace.assign.membership import Membership
from headrace.assign.model import NO_GENERATION
from headrace.assign.wire import Subscription, encode_subscription

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

VERSION = 0


class _Cluster(Protocol):
    def partitions_for_topic(self, topic: str) -> set[int] | None: ...


class _Metadata(Protocol):
    @property
    def subscription(self) -> Sequence[str]: ...
    @property
    def user_data(self) -> bytes: ...


class _Assignment(Protocol):
    @property
    def assignment(self) -> Sequence[tuple[str, list[int]]]: ...
    @property
    def user_data(self) -> bytes: ...


@final
class Sticky:
    """`AIOKafkaConsumer(..., partition_assignment_strategy=[Sticky()])`: an object, not the class, and one for each consumer.

    Members agree with Kafka's own StickyAssignor and with any other client that has it. Give the consumer to `bind` to
    have large plans made beside the event loop. Not for several threads: aiokafka calls it on its loop.
    """

    name: ClassVar[str] = "sticky"

    def __init__(self, strategy: sticky.Sticky | None = None) -> None:
        self._membership = Membership(strategy or sticky.Sticky())
        self._consumer: Any = None
        self._bound: Any = None
        self._asked: list[Callable[[], dict[str, bytes]]] = []

    def bind(self, consumer: Any) -> None:
        """Serve this consumer, before its `start()`: plan on a thread, with heartbeats, and claim the broker's generation.

        Uses two of aiokafka's internal methods. Without it plans are made on the event loop, and generations are counted
        by leaders that use this class.
        """
        self._consumer = consumer

    def metadata(self, topics: Iterable[str]) -> bytes:
        """Called by aiokafka before each join."""
        coordinator = self._coordinator()
        if coordinator is not None and coordinator is not self._bound:
            self._bound = coordinator
            # The method is replaced on this one object; its class, and other consumers, stay as they are.
            gather = coordinator._perform_assignment  # noqa: SLF001
            coordinator._perform_assignment = partial(self._plan_aside, coordinator, gather)  # noqa: SLF001
        return encode_subscription(self._membership.says(topics), VERSION)

    def assign(self, cluster: _Cluster, members: Mapping[str, _Metadata]) -> dict[str, bytes]:
        """Called by aiokafka on the leader."""
        said = {
            name: Subscription(tuple(metadata.subscription), metadata.user_data or b"")
            for name, metadata in members.items()
        }
        if self._bound is None:
            return self._membership.plan(said, cluster.partitions_for_topic)
        sizes = {t: cluster.partitions_for_topic(t) for one in said.values() for t in one.topics}
        self._asked.append(partial(self._membership.plan, said, sizes.get))
        return {}

    def on_assignment(self, assignment: _Assignment) -> None:
        """Called by aiokafka when a rebalance has ended."""
        coordinator = self._coordinator()
        generation = NO_GENERATION if coordinator is None else coordinator.generation
        self._membership.told(dict(assignment.assignment), assignment.user_data, generation)

    def _coordinator(self) -> Any:
        return None if self._consumer is None else self._consumer._coordinator  # noqa: SLF001

    async def _plan_aside(
        self, coordinator: Any, gather: Callable[[Any], Awaitable[dict[str, bytes]]], response: Any
    ) -> dict[str, bytes]:
        """aiokafka gathers what `assign` is given; the plan is made on a thread, and the group hears of us meanwhile."""
        self._asked.clear()
        unasked = await gather(response)
        if not self._asked:
            return unasked  # another assignor of this consumer was chosen
        planning = asyncio.create_task(asyncio.to_thread(self._asked.pop()))
        every_s = coordinator._heartbeat_interval_ms / 1000  # noqa: SLF001
        while not (await asyncio.wait({planning}, timeout=every_s))[0]:
            await coordinator._do_heartbeat()  # noqa: SLF001
        return planning.result()
