"""What a consumer has fetched and not yet handed over, and where each partition goes on.

Decides what librdkafka would have in its queue: a pause, a seek or a rebalance throws the prefetch away. Refuses to know
groups. Invariant: each partition's records come in the order of their offsets, from where it was told to start.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from headrace.ports import TopicPartition
    from headrace.testing.simulation.kernel import Process
    from headrace.testing.simulation.model.leader import Leader, Portion
    from headrace.testing.simulation.model.log import ModelRecord
    from headrace.testing.simulation.model.network import Network


_COMES_BACK: Final = frozenset({"UNKNOWN_TOPIC_OR_PART"})


@final
class Partition:
    """One assigned partition."""

    __slots__ = ("ended", "held", "next_offset", "paused", "place", "position", "queued", "start", "version")

    def __init__(self, place: TopicPartition, start: int, version: int) -> None:
        self.place = place
        self.start = start
        self.version = version
        self.next_offset = start
        self.position: int | None = None
        """Where the application stands; None before it was given anything."""
        self.queued = 0
        self.paused = False
        self.held = False
        """Silent while a rebalance callback is due."""
        self.ended = False
        """Its fetcher gave up at an offset that does not exist."""


@final
class _Chunk:
    __slots__ = ("at", "code", "next_offset", "partition", "records", "version")

    def __init__(
        self, partition: Partition, records: list[ModelRecord], next_offset: int, code: str = ""
    ) -> None:
        self.partition = partition
        self.version = partition.version
        self.records = records
        self.at = 0
        self.next_offset = next_offset
        self.code = code


@final
class Fetcher:
    """One consumer's."""

    def __init__(self, network: Network, leader: Leader, process: Process) -> None:
        self._network = network
        self._leader = leader
        self._process = process
        self._partitions: dict[TopicPartition, Partition] = {}
        self._waiting: dict[TopicPartition, Partition] = {}
        self.queue: deque[_Chunk] = deque()
        """Fetched and not yet handed over."""
        self._versions = 0
        self._asking = False
        self._due = False
        self._closed = False
        self._connection = leader.connect(process)
        # The consumer's side of it.
        self.may_start: Callable[[], bool] = lambda: True
        self.broke: Callable[[str], None] = lambda _code: None

    # Assignment

    def assign(self, starts: Mapping[TopicPartition, int]) -> None:
        """Fetch these; as librdkafka, not before every open commit is answered."""
        for place, start in starts.items():
            replaced = self._partitions.pop(place, None)
            if replaced is not None:
                replaced.version = self._version()
                self._forget_outdated()
            self._waiting[place] = Partition(place, start, self._version())
        self.start_waiting()

    def start_waiting(self) -> None:
        """Begin with those that waited, if nothing is in the way."""
        if self._waiting and self.may_start():
            self._partitions.update(self._waiting)
            self._waiting.clear()
            self.wake()

    def unassign(self, places: Iterable[TopicPartition]) -> None:
        """Stop fetching these."""
        for place in list(places):
            self._waiting.pop(place, None)
            gone = self._partitions.pop(place, None)
            if gone is not None:
                gone.version = self._version()
                self._forget_outdated()

    def places(self) -> list[TopicPartition]:
        """All that are assigned."""
        return [*self._partitions, *self._waiting]

    def started(self, place: TopicPartition) -> bool:
        """Whether a seek can be made."""
        partition = self._partitions.get(place)
        return partition is not None and not partition.ended

    def seek(self, place: TopicPartition, offset: int) -> None:
        """Go on at `offset`."""
        partition = self._partitions[place]
        partition.start = offset
        partition.position = None
        self._rewind(partition)

    def pause(self, places: Iterable[TopicPartition], *, paused: bool) -> None:
        """Be silent, or not; either way the prefetch is thrown away."""
        for place in places:
            partition = self._partitions.get(place) or self._waiting.get(place)
            if partition is not None and partition.paused != paused:
                partition.paused = paused
                self._rewind(partition)

    def hold(self, *, held: bool) -> None:
        """Be silent while a rebalance callback is due."""
        for partition in self._partitions.values():
            if partition.held != held:
                partition.held = held
                self._rewind(partition)

    def position(self, place: TopicPartition) -> int | None:
        """Offset of the next record for the application, if it was given any."""
        partition = self._partitions.get(place)
        return None if partition is None else partition.position

    # Taking

    def take(
        self, records_max: int
    ) -> tuple[list[tuple[TopicPartition, list[ModelRecord]]], list[tuple[TopicPartition, str, int]]]:
        """Records in the order they were fetched, and errors: place, code, offset."""
        found: list[tuple[TopicPartition, list[ModelRecord]]] = []
        errors: list[tuple[TopicPartition, str, int]] = []
        count = 0
        has_room = False
        while self.queue and count < records_max:
            chunk = self.queue[0]
            partition = chunk.partition
            if chunk.code:
                self.queue.popleft()
                errors.append((partition.place, chunk.code, chunk.next_offset))
                continue
            taken = chunk.records[chunk.at : chunk.at + records_max - count]
            chunk.at += len(taken)
            count += len(taken)
            # An open fetch left out what was full.
            has_room = has_room or partition.queued >= self._network.settings.prefetch_records
            partition.queued -= len(taken)
            if taken:
                found.append((partition.place, taken))
                partition.position = taken[-1].offset() + 1
            if chunk.at >= len(chunk.records):
                self.queue.popleft()
                partition.position = chunk.next_offset
        if has_room:
            self.wake()
        return found, errors

    # Fetching

    def wake(self) -> None:
        """Ask the leader for more, if there is room. An idle fetch that is open ends by itself soon."""
        if self._closed or self._due:
            return
        if not self._asking:
            if self._portions():
                self._due = True
                self._network.kernel.later(0.0, "fetch due", self._ask, self._process)
        else:
            self._leader.hurry(self._connection)

    def close(self) -> None:
        """The client is gone."""
        self._closed = True
        self.queue.clear()
        self._partitions.clear()
        self._waiting.clear()
        self._leader.forget(self._connection)

    def _portions(self) -> list[tuple[TopicPartition, int, int, int]]:
        room = self._network.settings.prefetch_records
        return [
            (each.place, each.next_offset, room - each.queued, each.version)
            for each in self._partitions.values()
            if not each.paused and not each.held and not each.ended and each.queued < room
        ]

    def _ask(self) -> None:
        self._due = False
        portions = self._portions()
        if self._closed or self._asking or not portions:
            return
        self._asking = True
        network = self._network
        delay_s = network.slow_s("slow fetch") if network.strikes("fetch_slow") else 0.0
        self._connection.send(
            "Fetch",
            lambda reply: self._leader.fetch(self._connection, portions, reply),
            self._fetched,
            delay_s,
        )

    def _fetched(self, code: str, payload: Any) -> None:
        self._asking = False
        if self._closed:
            return
        if code:
            self._leader.drop(self._connection)
            self.broke(code)
            self._asking = True  # nor is anything asked until then
            self._network.kernel.later(
                self._network.settings.retry_backoff_s, "fetch again", self._ask_again, self._process
            )
            return
        answers: list[Portion] = payload
        for answer in answers:
            partition = self._partitions.get(answer.place)
            if partition is None or partition.version != answer.version:
                continue
            if answer.code:
                partition.ended = True
                if answer.code in _COMES_BACK:
                    self._try_again(partition)
                self.queue.append(_Chunk(partition, [], answer.next_offset, answer.code))
            else:
                partition.next_offset = answer.next_offset
                partition.queued += len(answer.records)
                self.queue.append(_Chunk(partition, answer.records, answer.next_offset))
        self.wake()

    def _ask_again(self) -> None:
        self._asking = False
        self.wake()

    def _try_again(self, partition: Partition) -> None:
        """A partition that does not exist is asked for again when the client has looked at the topics."""
        version = partition.version

        def begin() -> None:
            if partition.version == version:
                partition.ended = False
                self.wake()

        self._network.kernel.later(
            self._network.settings.metadata_refresh_s, "fetch again", begin, self._process
        )

    def _forget_outdated(self) -> None:
        if self.queue:
            self.queue = deque(chunk for chunk in self.queue if chunk.version == chunk.partition.version)

    def _rewind(self, partition: Partition) -> None:
        """Forget what was fetched and not handed over."""
        partition.version = self._version()
        self._forget_outdated()
        partition.queued = 0
        partition.next_offset = partition.start if partition.position is None else partition.position
        self.wake()

    def _version(self) -> int:
        self._versions += 1
        return self._versions
