"""The broker as the leader of every partition: fetches, which wait until there is something, and look-ups of offsets.

Decides what a fetch is answered; refuses to know consumers. Invariant: a fetch that finds nothing waits, and is answered
as soon as one of its partitions grows, or its wait is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from headrace.testing.simulation.model.network import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.ports import TopicPartition
    from headrace.testing.simulation.kernel import Process
    from headrace.testing.simulation.model.log import ModelRecord
    from headrace.testing.simulation.model.network import Network
    from headrace.testing.simulation.model.topics import Topics

    Reply = Callable[[str, Any], None]
    Asked = tuple[TopicPartition, int, int, int]


@final
@dataclass(frozen=True, slots=True)
class Portion:
    """One partition's part of a fetch's answer."""

    place: TopicPartition
    version: int
    records: list[ModelRecord]
    next_offset: int
    code: str = ""


@final
class _Parked:
    __slots__ = ("asked", "connection", "hurried", "places", "reply")

    def __init__(self, connection: Connection, asked: Sequence[Asked], reply: Reply) -> None:
        self.connection = connection
        self.asked = asked
        self.places = {each[0] for each in asked}
        self.reply = reply
        self.hurried = False


@final
class Leader:
    """Of all partitions."""

    def __init__(self, network: Network, topics: Topics) -> None:
        self._network = network
        self._topics = topics
        # By connection, each of which has one fetch open at most.
        self._parked: dict[Connection, _Parked] = {}
        # Clients that want to ask for something else while their fetch is still on its way here.
        self._impatient: dict[Connection, None] = {}

    def connect(self, process: Process) -> Connection:
        """A connection for a client's fetches."""
        return Connection(self._network, process)

    def fetch(self, connection: Connection, asked: Sequence[Asked], reply: Reply) -> None:
        """Fetch: (place, offset, records at most, version) each."""
        answers = self._read(asked)
        hurried = connection in self._impatient
        self._impatient.pop(connection, None)
        if answers:
            reply("", answers)
            return
        self._parked[connection] = _Parked(connection, asked, reply)
        if hurried:
            self.hurry(connection)

    def hurry(self, connection: Connection) -> None:
        """The client wants to ask for something else: its open fetch ends when its wait is over."""
        parked = self._parked.get(connection)
        if parked is None:
            self._impatient[connection] = None
            return
        if parked.hurried:
            return
        parked.hurried = True
        kernel = self._network.kernel
        wait_s = kernel.choices.between("fetch wait", 0.0, self._network.settings.fetch_wait_s)
        kernel.later(wait_s, "fetch wait", lambda: self._end(parked))

    def grown(self, place: TopicPartition) -> None:
        """A partition has grown, or is another one."""
        for parked in [each for each in self._parked.values() if place in each.places]:
            self._end(parked)

    def reshaped(self) -> None:
        """Topics or partitions changed: what waits may wait for something that is gone."""
        for parked in list(self._parked.values()):
            self._end(parked)

    def drop(self, connection: Connection) -> None:
        """The connection broke: what waits on it waits for nobody."""
        self._parked.pop(connection, None)

    def forget(self, connection: Connection) -> None:
        """The client is gone."""
        self._parked.pop(connection, None)
        self._impatient.pop(connection, None)
        connection.close()

    def resolve(self, wanted: Mapping[TopicPartition, str | int]) -> dict[TopicPartition, int] | None:
        """ListOffsets; None if a partition does not exist."""
        found: dict[TopicPartition, int] = {}
        for place, where in wanted.items():
            log = self._topics.log(place)
            if log is None:
                return None
            if where == "earliest":
                found[place] = log.start
            elif isinstance(where, int):
                found[place] = log.offset_at(where)
            else:
                found[place] = log.stable
        return found

    def _end(self, parked: _Parked) -> None:
        if self._parked.get(parked.connection) is parked:
            del self._parked[parked.connection]
            parked.reply("", self._read(parked.asked))

    def _read(self, asked: Sequence[Asked]) -> list[Portion]:
        answers: list[Portion] = []
        for place, offset, room, version in asked:
            log = self._topics.log(place)
            if log is None:
                answers.append(Portion(place, version, [], offset, "UNKNOWN_TOPIC_OR_PART"))
            elif not log.has(offset):
                answers.append(Portion(place, version, [], offset, "_AUTO_OFFSET_RESET"))
            else:
                records, next_offset = log.read(offset, room)
                if next_offset != offset:
                    answers.append(Portion(place, version, records, next_offset))
        return answers
