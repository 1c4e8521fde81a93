"""One thread of a bounded read: its partitions, each from where its range starts to where the position reaches its end.

Decides when a partition is at its end, what is a gap and what is lost, and when to give up; refuses to know what becomes
of the records. A hole among offsets that the broker passes over (compaction, transactions) is a gap; offsets that it says
it does not have are lost. Invariant: a share ends with every range read to its end, or with an error.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Literal, Protocol, TypeVar, assert_never, final

from headrace._client.range_consumer import EndSeen, OutOfRange, Unknown
from headrace.errors import ReadStalled, RecordsLost, TopicMissing
from headrace.ranges.bounds import Loss
from headrace.ranges.buffer import Closed
from headrace.ranges.collecting import collector
from headrace.ranges.planning import OffsetRange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from headrace._client.range_consumer import Chunk, Fact
    from headrace.ports import TopicPartition as Place
    from headrace.ranges.buffer import Buffer

T = TypeVar("T")

WAIT_S: Final = 0.05
"""How long a chunk is waited for: a close is heard between two, and a slow topic makes chunks of so much."""

RECORDS_FIRST: Final = 1000
"""Size of the first chunk; later ones follow the size of records."""

RETRY_S: Final = 0.5
TRIES_MAX: Final = 4
"""A broker that has just started may deny what it has; so often it must say so before it is believed."""

QUIET_S: Final = 2.0
"""A topic that is deleted while it is read just falls silent: after so long it is asked whether it is still there."""

QUESTION_S: Final = 5.0
_NAMED_MAX: Final = 5

OnDataLoss = Literal["error", "report"]
_TroubleKind = Literal["range", "unknown", "quiet"]


class Source(Protocol):
    """What a share needs of a consumer: `RangeConsumer`, or a stand-in."""

    last_error: tuple[str, str] | None

    def begin(self, offsets: Mapping[Place, int]) -> None:
        """Read these partitions from these offsets."""
        ...

    def take(self, records_max: int, wait_s: float) -> tuple[Chunk, list[Fact]]:
        """Records, and facts beside them."""
        ...

    def drop(self, place: Place) -> None:
        """Read this partition no more."""
        ...

    def place_again(self, place: Place, offset: int) -> None:
        """Go on with it at this offset."""
        ...

    def bounds(self, place: Place, timeout_s: float) -> tuple[int, int] | None:
        """First and next offset, if the broker says so."""
        ...

    def exists(self, place: Place, timeout_s: float) -> bool | None:
        """Whether the partition exists, if a broker says so."""
        ...

    def close(self) -> None:
        """Drop the connections."""
        ...


@dataclass(frozen=True, slots=True)
class Made(Generic[T]):
    """What was made of a chunk. `bytes`: of what was read. `held_bytes`: what it takes in memory, by and large."""

    content: T | None
    bytes: int
    held_bytes: int


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """What one chunk came to. `bytes`: of what was read. `passed`: offsets that are behind each partition now."""

    content: T | None
    records: int
    bytes: int
    passed: Mapping[Place, int]
    losses: tuple[Loss, ...]


@dataclass(slots=True)
class _Trouble:
    """A partition that gives nothing: it is asked about when due, and placed again. `due_at` None: it may be well."""

    kind: _TroubleKind
    offset: int
    due_at: float | None
    asked_at: float = -math.inf
    denied: int = 0


@final
class Share(Generic[T]):
    """The part of a read that one thread does. Everything but the buffer belongs to that thread."""

    def __init__(
        self,
        ranges: Iterable[OffsetRange],
        connect: Callable[[], Source],
        content: Callable[[Chunk], Made[T]],
        buffer: Buffer[Part[T]],
        clock: Callable[[], float],
        *,
        records_max: int,
        chunk_bytes: int,
        timeout_s: float,
        on_data_loss: OnDataLoss,
    ) -> None:
        self._connect = connect
        self._content = content
        self._buffer = buffer
        self._clock = clock
        self._records_max = records_max
        self._chunk_bytes = chunk_bytes
        self._timeout_s = timeout_s
        self._on_data_loss: OnDataLoss = on_data_loss
        self._collector = collector()
        self._later: dict[Place, deque[OffsetRange]] = {}
        for one in joined(ranges):
            self._later.setdefault(one.place, deque()).append(one)
        self._at: dict[Place, int] = {}
        self._ends: dict[Place, int] = {}
        self._troubles: dict[Place, _Trouble] = {}
        # Whose next range began in this turn: facts that came with the last one's records are not of it.
        self._begun: set[Place] = set()
        self._passed: dict[Place, int] = {}
        self._losses: list[Loss] = []
        self._progress_at = 0.0

    def run(self) -> None:
        """Read everything; the thread's target. Raises nothing: the buffer is told."""
        try:
            source = self._connect()
            try:
                self._read(source)
            finally:
                source.close()
        except Closed:
            self._buffer.leave()
        except BaseException as error:  # noqa: BLE001 - raised again where the buffer is read
            self._buffer.leave(error)
        else:
            self._buffer.leave()

    def _read(self, source: Source) -> None:
        for place, ranges in self._later.items():
            first = ranges.popleft()
            self._at[place], self._ends[place] = first.start, first.end
        source.begin(self._at)
        take = min(RECORDS_FIRST, self._records_max)
        self._progress_at = self._clock()
        while self._ends:
            if self._buffer.closed:
                raise Closed
            take = self._turn(source, take)
            quiet_s = self._clock() - self._progress_at
            if quiet_s > self._timeout_s:
                raise self._stalled(source)
            if quiet_s > QUIET_S and not self._troubles:
                self._doubt()

    def _turn(self, source: Source, take: int) -> int:
        self._begun.clear()
        # The wait for records, `WAIT_S` at most, is in it: their making is a part of what a rest saves.
        with self._collector.at_rest():
            made, records, facts = self._next(source, take)
        for fact in facts:
            self._meet(fact, source)
        self._look_after(source)
        if not self._passed:
            return take
        part = Part(made.content, records, made.bytes, self._passed, tuple(self._losses))
        self._passed, self._losses = {}, []
        self._buffer.put(part, made.held_bytes)
        self._progress_at = self._clock()  # not before: the one who takes may have kept us waiting
        if not records:
            return take
        return max(1, min(self._records_max, self._chunk_bytes * records // max(1, made.held_bytes)))

    def _next(self, source: Source, take: int) -> tuple[Made[T], int, list[Fact]]:
        """What was made of the next records, how many they are, and what was met beside them."""
        # A function of its own: the records of one chunk are given up before the collector sees them.
        chunk, facts = source.take(take, WAIT_S)
        kept = self._take_in(chunk, source)
        made: Made[T] = self._content(kept) if len(kept) else Made(None, 0, 0)
        return made, len(kept), facts

    def _take_in(self, chunk: Chunk, source: Source) -> Chunk:
        if not len(chunk):
            return chunk
        reached: list[Place] = []
        beyond = False
        for place, last in chunk.last_offsets().items():
            end = self._ends.get(place)
            if end is None or last >= end:
                beyond = True
            if end is not None and last + 1 >= end:
                reached.append(place)
            elif end is not None:
                self._move(place, last + 1)
        kept = chunk.below(self._ends) if beyond else chunk
        for place in reached:
            self._finish(place, source)
        return kept

    def _move(self, place: Place, offset: int) -> None:
        self._passed[place] = self._passed.get(place, 0) + offset - self._at[place]
        self._at[place] = offset
        if self._troubles:
            self._troubles.pop(place, None)

    def _finish(self, place: Place, source: Source) -> None:
        self._move(place, self._ends[place])
        if self._later[place]:
            following = self._later[place].popleft()
            self._at[place], self._ends[place] = following.start, following.end
            source.place_again(place, following.start)
            self._begun.add(place)
        else:
            del self._ends[place]
            source.drop(place)

    def _meet(self, fact: Fact, source: Source) -> None:
        place = fact.place
        if place not in self._ends or place in self._begun:
            return
        match fact:
            case EndSeen():
                # Markers, aborted and compacted records lie between the last record and here.
                if fact.offset >= self._ends[place]:
                    self._finish(place, source)
                elif fact.offset > self._at[place]:
                    self._move(place, fact.offset)
            case OutOfRange():
                self._trouble("range", place, max(self._at[place], fact.offset or 0))
            case Unknown():
                self._trouble("unknown", place, self._at[place])
            case _:
                assert_never(fact)

    def _doubt(self) -> None:
        # One partition speaks for its topic: Kafka deletes no single ones.
        for place in {place[0]: place for place in self._ends}.values():
            self._troubles[place] = _Trouble("quiet", self._at[place], self._clock() + QUIET_S)

    def _trouble(self, kind: _TroubleKind, place: Place, offset: int) -> None:
        known = self._troubles.get(place)
        if known is None:
            self._troubles[place] = _Trouble(kind, offset, self._clock())
            return
        known.kind, known.offset = kind, offset
        if known.due_at is None:
            known.due_at = known.asked_at + RETRY_S

    def _look_after(self, source: Source) -> None:
        now = self._clock()
        for place, trouble in list(self._troubles.items()):
            if trouble.due_at is None or now < trouble.due_at:
                continue
            trouble.asked_at, trouble.due_at = now, now + RETRY_S
            if trouble.kind == "range":
                self._ask_for_bounds(place, trouble, source)
            else:
                self._ask_whether_there(place, trouble, source)

    def _ask_whether_there(self, place: Place, trouble: _Trouble, source: Source) -> None:
        exists = source.exists(place, QUESTION_S)
        if exists is False:
            trouble.denied += 1
            if trouble.denied >= TRIES_MAX:
                raise TopicMissing([place[0]])
        elif exists and trouble.kind == "quiet":
            del self._troubles[place]
        elif exists:
            trouble.due_at = None
            source.place_again(place, self._at[place])

    def _ask_for_bounds(self, place: Place, trouble: _Trouble, source: Source) -> None:
        found = source.bounds(place, QUESTION_S)
        if found is None:
            return
        low, high = found
        end = self._ends[place]
        if low > trouble.offset:
            self._lose(place, trouble.offset, min(low, end))
            if low >= end:
                self._finish(place, source)
            else:
                self._move(place, low)
                source.place_again(place, low)
        elif trouble.offset > high:
            # The log is shorter than it was: cut by an unclean election, or the topic was made anew.
            trouble.denied += 1
            if trouble.denied >= TRIES_MAX:
                self._lose(place, trouble.offset, end)
                self._finish(place, source)
        else:
            trouble.due_at = None
            source.place_again(place, self._at[place])

    def _lose(self, place: Place, start: int, end: int) -> None:
        if self._on_data_loss == "error":
            raise RecordsLost(*place, start, end)
        self._losses.append(Loss(*place, start, end))

    def _stalled(self, source: Source) -> ReadStalled:
        named = [
            f"{topic}[{partition}] at {self._at[topic, partition]} of {end}"
            for (topic, partition), end in self._ends.items()
        ]
        if len(named) > _NAMED_MAX:
            named[_NAMED_MAX:] = [f"{len(named) - _NAMED_MAX} more"]
        return ReadStalled(named, self._timeout_s, ": ".join(source.last_error or ("no answer",)))


def joined(ranges: Iterable[OffsetRange]) -> list[OffsetRange]:
    """The same offsets, with ranges in one that go on where the one before ends: each range costs a start."""
    found: list[OffsetRange] = []
    last: dict[Place, int] = {}
    for one in ranges:
        at = last.get(one.place)
        if at is not None and found[at].end == one.start:
            found[at] = OffsetRange(*one.place, found[at].start, one.end)
        else:
            last[one.place] = len(found)
            found.append(one)
    return found


def share_out(ranges: Sequence[OffsetRange], shares_max: int) -> list[list[OffsetRange]]:
    """Ranges for at most so many threads, about equally large; a partition is never in two of them."""
    sizes: dict[Place, int] = {}
    for one in ranges:
        sizes[one.place] = sizes.get(one.place, 0) + one.size
    loads = [0] * min(shares_max, len(sizes))
    owner: dict[Place, int] = {}
    # The largest first, each to whom has least.
    for place in sorted(sizes, key=lambda place: (-sizes[place], place)):
        owner[place] = loads.index(min(loads))
        loads[owner[place]] += sizes[place]
    shares: list[list[OffsetRange]] = [[] for _ in loads]
    for one in ranges:
        shares[owner[one.place]].append(one)
    return shares
