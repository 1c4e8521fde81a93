"""What the broker says of our partitions: read on a thread and a connection of its own, kept until the next tick.

Decides when to ask, never what to make of the answer. Invariants: nobody waits for it; what could not be read is unknown
with its reason; a partition that is no longer ours is forgotten; nothing is asked while nobody wants to know.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from headrace.errors import BrokerUnreachable, HeadraceError
from headrace.observe.metrics import Unknown
from headrace.observe.views import PartitionOffsets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Literal

    from headrace.ports import TopicPartition

V = TypeVar("V")

REQUEST_S = 5.0
"""Longest wait for one kind of request: a tick makes four, on a thread where nobody waits."""
NO_ANSWER = Unknown("the broker did not answer for this partition")
UNREAD = PartitionOffsets.unknown("the broker has not been asked yet")


class Asks(Protocol):
    """What is needed of `headrace._client.watching.Watcher`."""

    def each_offset(
        self, places: Sequence[TopicPartition], end: Literal["earliest", "latest", "stable"], timeout_s: float
    ) -> dict[TopicPartition, int | HeadraceError]:
        """One end of each partition."""
        ...

    def each_committed(
        self, places: Sequence[TopicPartition], timeout_s: float
    ) -> dict[TopicPartition, int | HeadraceError | None]:
        """What the group committed."""
        ...

    def close(self) -> None:
        """Drop the connection."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked at each tick. read_committed: whether the app stops at open transactions."""

    read_committed: bool = True
    request_s: float = REQUEST_S

    def ask(self, observer: Asks, places: Sequence[TopicPartition]) -> dict[TopicPartition, PartitionOffsets]:
        """One request of each kind for all partitions. A kind that fails as a whole leaves the others."""
        starts = _each(places, lambda: observer.each_offset(places, "earliest", self.request_s))
        if (away := _away(starts)) is not None:
            # The rest would wait as long again, one after the other.
            return dict.fromkeys(places, PartitionOffsets.unknown(_reason(away)))
        # What is committed before the ends: a lag may then be a little too large, and is never too small.
        committed = _each(places, lambda: observer.each_committed(places, self.request_s))
        stable = _each(places, lambda: observer.each_offset(places, "stable", self.request_s))
        ends = _each(places, lambda: observer.each_offset(places, "latest", self.request_s))
        return {
            place: PartitionOffsets(
                start=_known(starts, place),
                end=_known(ends, place),
                stable=_known(stable, place),
                committed=_or_nothing(committed, place),
                readable=_known(stable if self.read_committed else ends, place),
            )
            for place in places
        }


class OffsetWatch:
    """Keeps the last answers. `of` and `age_s` from any thread, `start` and `request_stop` once."""

    def __init__(
        self,
        question: Question,
        make_observer: Callable[[], Asks],
        places: Callable[[], Sequence[TopicPartition]],
        every_s: float,
    ) -> None:
        self._question = question
        self._make_observer = make_observer
        self._places = places
        self._every_s = every_s
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        # The watch's thread writes, whole; anyone reads.
        self._latest: Mapping[TopicPartition, PartitionOffsets] = {}
        self._read_at: float | None = None
        # The watch's thread's alone.
        self._observer: Asks | None = None
        self._thread = threading.Thread(target=self._run, name="headrace-offsets", daemon=True)

    def of(self, topic: str, partition: int) -> PartitionOffsets:
        """What the broker last said of a partition; has it asked again at the next tick."""
        self._wanted.set()
        return self._latest.get((topic, partition), UNREAD)

    def age_s(self) -> float | None:
        """How long ago the broker was last asked; None if never."""
        read_at = self._read_at
        return None if read_at is None else time.monotonic() - read_at

    def start(self) -> None:
        """Begin to watch; returns at once, and connects to nothing before somebody wants to know."""
        self._thread.start()

    def request_stop(self) -> None:
        """Ask no more; returns at once. A request that is under way ends by itself, within its time."""
        self._stopping.set()
        self._wanted.set()

    def _run(self) -> None:
        while self._ticked():
            pass
        if self._observer is not None:
            self._observer.close()

    def _ticked(self) -> bool:
        """Wait until somebody wants to know, ask, and wait for the next tick; False when it is to stop."""
        self._wanted.wait()
        if self._stopping.is_set():
            return False
        self._wanted.clear()
        began_at = time.monotonic()
        self._latest = self._read(list(self._places()))
        self._read_at = began_at
        return not self._stopping.wait(self._every_s)

    def _read(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, PartitionOffsets]:
        try:
            if self._observer is None:
                self._observer = self._make_observer()
            return self._question.ask(self._observer, places)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is the reason why nothing is known
            return dict.fromkeys(places, PartitionOffsets.unknown(_reason(error)))


def _each(
    places: Sequence[TopicPartition], ask: Callable[[], Mapping[TopicPartition, V]]
) -> Mapping[TopicPartition, V | HeadraceError]:
    try:
        return ask()
    except HeadraceError as error:
        return dict.fromkeys(places, error)


def _away(answers: Mapping[TopicPartition, int | HeadraceError]) -> HeadraceError | None:
    """Why nothing was answered, if no broker answered for any partition."""
    errors = [answer for answer in answers.values() if isinstance(answer, BrokerUnreachable)]
    return errors[0] if errors and len(errors) == len(answers) else None


def _known(found: Mapping[TopicPartition, int | HeadraceError], place: TopicPartition) -> int | Unknown:
    value = found.get(place)
    if value is None:
        return NO_ANSWER
    return value if isinstance(value, int) else Unknown(_reason(value))


def _or_nothing(
    found: Mapping[TopicPartition, int | HeadraceError | None], place: TopicPartition
) -> int | Unknown | None:
    if place not in found:
        return NO_ANSWER
    value = found[place]
    return Unknown(_reason(value)) if isinstance(value, HeadraceError) else value


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
