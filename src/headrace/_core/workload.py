"""How much work one subscription's executor is given, and from which partition next.

Decides chunk sizes: many records when the handler is fast, since a hand-over between threads costs tens of
microseconds; one when it is slow, since records of a chunk wait for each other. Takes turns between partitions.
Knows the handler only by the times reported for finished chunks.

Owner thread only.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from headrace._core.durations import Durations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace._core.tenure import Tenure
    from headrace.records import Record
    from headrace.subscriptions import SubscriptionSettings

_sequence_of = attrgetter("_sequence")

CHUNK_RECORDS_MAX = 500
"""Beyond this the hand-over is a few per cent of even a no-op handler, and a larger chunk only adds latency."""
CHUNK_TARGET_S = 0.002
"""How long a chunk may take: a hand-over is then at most 3% of it, and a record waits no longer for its chunk."""
BACKLOG_TARGET_S = 0.05
"""Behind a backlog a chunk for a thread may take longer, up to this: 200 threads with handlers of 1 ms do half as much
again, since they meet less often. A record that turns out slow gives back what waits behind it."""
BACKLOG_TURNS_MAX = 64
"""Of so many partitions the ready records are counted for that: it is done at every step, and more would tell no more."""
PROCESS_CHUNK_TARGET_S = 0.01
"""`CHUNK_TARGET_S` for worker processes, whose hand-over costs more."""
FOLLOW_BELOW_S = 0.001
"""Handlers quicker than this get the next records of a key along with its first: a hand-over costs a tenth of it. For
slower ones that would only hold places which other keys could use."""
RESERVE_SHARE = 0.5
"""Lists that wait in the executor, of its threads: what they end while the owner answers, with handlers of 10 ms. Any
free thread takes the next, so that none waits behind a slow one."""
DRAINS_SOON_S = 0.02
"""Work for so long is done before a pause would be over: to stop asking for records costs less than to pause."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the executor of a subscription can run at once."""

    kind: Literal["threads", "asyncio", "processes"]
    workers: int


class Workload:
    """The work of one subscription: its tenures with ready records, and what its executor holds."""

    __slots__ = (
        "_backlog",
        "capacity",
        "concurrency",
        "cost_s",
        "cpu_share",
        "dispatched",
        "durations",
        "index",
        "service_s",
        "settings",
        "stale",
        "turns",
        "workers",
    )

    def __init__(self, index: int, settings: SubscriptionSettings, capacity: Capacity) -> None:
        self.index = index
        self.settings = settings
        self.capacity = capacity
        # What this connection may use of what the subscription may: all of it, unless it has siblings.
        self.concurrency = settings.concurrency
        self.workers = capacity.workers
        self.dispatched = 0
        # Records whose handler outlived its tenure: apart, or intake would wait for work that is nobody's.
        self.stale = 0
        self.turns: deque[Tenure] = deque()
        # A guess between "one at a time" and "hundreds": eight records until the first chunk has told.
        self.cost_s = CHUNK_TARGET_S / 8
        self.cpu_share = 1.0
        # How long a handler takes from start to end, its waiting on an event loop included.
        self.service_s = FOLLOW_BELOW_S
        self.durations = Durations()
        # Ready records, counted once a step.
        self._backlog = 0

    def share(self, connections: int) -> None:
        """So many connections share this subscription's places: an equal part each, one at least."""
        self.concurrency = max(1, self.settings.concurrency // connections)
        self.workers = max(1, self.capacity.workers // connections)

    def learn(self, started: int, busy_s: float, cpu_s: float, waits_s: Sequence[float] = ()) -> None:
        """Take in how long `started` records took, as `Finished` tells it: moving averages that forget quickly."""
        if started <= 0:
            return
        took_s = sum(waits_s) + (busy_s if started > len(waits_s) else 0.0)
        self.service_s += 0.5 * (took_s / started - self.service_s)
        self.cost_s += 0.5 * (busy_s / started - self.cost_s)
        if busy_s > 0:
            self.cpu_share += 0.5 * (min(cpu_s / busy_s, 1.0) - self.cpu_share)

    def chunk_records(self) -> int:
        """How many records one claim list should hold now."""
        if self.settings.batch is not None:
            return self.settings.batch.records_max
        target_s = PROCESS_CHUNK_TARGET_S if self.capacity.kind == "processes" else CHUNK_TARGET_S
        if self.cost_s * CHUNK_RECORDS_MAX <= target_s:
            return CHUNK_RECORDS_MAX
        chunk = max(1, int(target_s / self.cost_s))
        if self.capacity.kind != "threads":
            return chunk
        # A chunk may take half as long as what is ready takes all threads: no record waits much longer for it.
        longest = min(int(BACKLOG_TARGET_S / self.cost_s), CHUNK_RECORDS_MAX)
        return max(chunk, min(longest, self._backlog // (2 * self.workers)))

    def count_backlog(self) -> None:
        """Call it once per step, before chunks are asked for: behind many ready records they may be longer."""
        self._backlog = sum(len(tenure.lanes.ready) for tenure in islice(self.turns, BACKLOG_TURNS_MAX))

    def dispatched_max(self) -> int:
        """How many records the executor may hold, running and queued."""
        chunk = self.chunk_records()
        concurrency, workers = self.concurrency, self.workers
        if self.settings.batch is not None:
            return max(concurrency, 2 * chunk)
        match self.capacity.kind:
            case "asyncio":
                # The executor itself starts at most `concurrency`; the rest keeps the loop fed.
                return concurrency + 2 * chunk
            case "processes":
                return workers * 2 * chunk
            case "threads":
                # Some more than threads: one that ends finds its next list, instead of waiting for the owner to bring it.
                reserve = math.ceil(workers * RESERVE_SHARE)
                if chunk == 1:
                    return max(concurrency, workers + reserve)
                # A handler that holds the GIL gains nothing from many chunks at once; one that waits does.
                parallel = min(max(2, math.ceil(2 / max(self.cpu_share, 0.001))), workers + reserve)
                return max(min(concurrency, workers * chunk), parallel * chunk)

    def enqueue(self, tenure: Tenure, now: float) -> None:
        """Give a tenure its turn if it has ready records."""
        if tenure.queued or not tenure.startable or not tenure.lanes.ready:
            return
        tenure.queued = True
        if tenure.ready_at is None:
            tenure.ready_at = now
        self.turns.append(tenure)

    def next_chunk(self, now: float) -> list[Record[Any, Any]] | None:
        """The next claim list, or None: nothing ready, no room, or batches that may still wait for company."""
        room = self.dispatched_max() - self.dispatched
        chunk = self.chunk_records()
        # Filling every small gap would break the work into ever smaller chunks, which nothing joins again.
        # A batch may overrun the room by less than its own size.
        if room <= 0 or (self.settings.batch is None and room * 2 < chunk):
            return None
        wanted = chunk if self.settings.batch is not None else min(chunk, room)
        follow = self.settings.batch is not None or self.service_s < FOLLOW_BELOW_S
        records: list[Record[Any, Any]] = []
        for _ in range(len(self.turns)):
            tenure = self.turns.popleft()
            tenure.queued = False
            if not tenure.startable or not tenure.lanes.ready:
                tenure.ready_at = None
                continue
            if self._waits_for_company(tenure, chunk, now):
                tenure.queued = True
                self.turns.append(tenure)
                continue
            taken = tenure.lanes.take(wanted - len(records), follow=follow)
            tenure.dispatched += len(taken)
            self.dispatched += len(taken)
            tenure.ready_at = None
            self.enqueue(tenure, now)
            if not records:
                records = taken
            else:
                records += taken
            # A batch is of one partition; anything else is filled up from the next.
            if self.settings.batch is not None or len(records) >= wanted:
                break
        if self.settings.batch is not None:
            # They come out lane by lane; a batch is promised in offset order, which keeps that of each lane.
            records.sort(key=_sequence_of)
        return records or None

    def next_deadline(self) -> float | None:
        """When a batch that waits for company has waited long enough."""
        batch = self.settings.batch
        # Without room time changes nothing; what ends makes room, and comes as an event.
        if batch is None or not batch.wait_s or self.dispatched >= self.dispatched_max():
            return None
        moments = [tenure.ready_at for tenure in self.turns if tenure.ready_at is not None]
        return min(moments) + batch.wait_s if moments else None

    def hungry(self) -> bool:
        """Whether more records should be fetched now: fewer are ready than the executor may soon want."""
        chunk = self.chunk_records()
        enough = max(2 * chunk, self.concurrency)
        if (
            self.capacity.kind == "threads"
            and chunk < CHUNK_RECORDS_MAX
            and self.cost_s * 2 < BACKLOG_TARGET_S
        ):
            enough = max(enough, 4 * self.workers * chunk)  # So that chunks may grow.
        ready = 0
        for tenure in self.turns:
            ready += len(tenure.lanes.ready)
            if ready >= enough:
                return False
        return True

    def drains_soon(self, records: int) -> bool:
        """Whether so many records of one lane would be worked off in no time."""
        return self.service_s < FOLLOW_BELOW_S and records * self.cost_s <= DRAINS_SOON_S

    def _waits_for_company(self, tenure: Tenure, chunk: int, now: float) -> bool:
        batch = self.settings.batch
        if batch is None or not batch.wait_s or tenure.ready_at is None:
            return False
        if now >= tenure.ready_at + batch.wait_s:
            return False
        # `ready` holds heads of lanes only: one busy key can fill a batch.
        return tenure.waiting < chunk or tenure.lanes.takeable(chunk) < chunk
