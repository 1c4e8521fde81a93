"""Lanes: which records of one partition may run now, and which must wait for an earlier one of their key.

Decides order and nothing else. A lane is a chain of records linked through their own slots; the table keeps only each
lane's last record, so an idle key costs nothing and a record on a lane of its own costs one dictionary entry.

Invariants: of each lane at most one run of records is dispatched at a time, in offset order; a record is in `ready`
exactly while its state is READY; a lane is in the table exactly while it has an unresolved record. The table outlives
a tenure: records whose handler outlived their tenure stay as heads of their lanes, so that a key which comes back
waits for them.

Owner thread only.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.records import Record
    from headrace.subscriptions import OrderBy

# Plain ints: the state is compared per record, and an Enum would cost ten times as much.
WAITING = 0
"""Behind an earlier record of its lane that is on its way."""
READY = 1
"""Head of its lane; may be dispatched."""
DISPATCHED = 2
"""Given to the executor: queued there, or running."""
PARKED = 3
"""Failed; waits for its retry. Its lane waits with it."""
HELD = 4
"""Behind a record of its lane that is parked or settling."""
SETTLING = 5
"""Handled, but a dead letter or a produced record is not acknowledged yet. Its lane waits with it."""
UNACKED = 6
"""Handled, waits for `record.ack()`. Its lane goes on."""
DONE = 7
"""Finished."""
GONE = 8
"""Dropped: its tenure closed before it was finished."""

STATE_NAMES = ("waiting", "ready", "dispatched", "parked", "held", "settling", "unacked", "done", "gone")


class Lanes:
    """The lanes of one partition."""

    __slots__ = ("_order_by", "_tails", "held", "ready")

    def __init__(self, order_by: OrderBy) -> None:
        self._order_by = order_by
        self._tails: dict[bytes | None, Record[Any, Any]] = {}
        self.ready: deque[Record[Any, Any]] = deque()
        self.held = 0

    def __len__(self) -> int:
        """Lanes with an unresolved record (None keys and order_by="none" have no lane)."""
        return len(self._tails)

    def add(self, records: Iterable[Record[Any, Any]]) -> None:
        """Take in new records, in offset order."""
        ready = self.ready.append
        if self._order_by == "none":
            for record in records:
                record._state = READY
                ready(record)
            return
        tails = self._tails
        by_key = self._order_by == "key"
        for record in records:
            key = record.raw_key if by_key else b""
            if key is None:  # A null key has no order.
                record._state = READY
                ready(record)
                continue
            tail = tails.get(key)
            tails[key] = record
            if tail is None:
                record._state = READY
                ready(record)
            else:
                self._append(tail, record)

    def take(self, records_max: int, *, follow: bool = True) -> list[Record[Any, Any]]:
        """Dispatch up to `records_max` records: heads of lanes first, then, if `follow`, what waits behind them.

        Heads first, since they may run side by side; what follows a head only waits for it in another place.
        """
        ready = self.ready
        if len(ready) <= records_max:
            taken = list(ready)
            ready.clear()
        else:
            taken = [ready.popleft() for _ in range(records_max)]
        for record in taken:
            record._state = DISPATCHED
        if follow and len(taken) < records_max:
            self._take_followers(taken, records_max)
        return taken

    def _take_followers(self, taken: list[Record[Any, Any]], records_max: int) -> None:
        for head in taken[:]:
            follower = head._next
            while follower is not None and follower._state == WAITING:
                if len(taken) >= records_max:
                    return
                follower._state = DISPATCHED
                taken.append(follower)
                follower = follower._next

    def resolve(self, records: Iterable[Record[Any, Any]], state: int) -> None:
        """These dispatched records ended for good: give them `state` and let their lanes go on."""
        tails = self._tails
        by_key = self._order_by == "key"
        for record in records:
            record._state = state
            follower = record._next
            if follower is None:
                key = record.raw_key if by_key else b""
                if tails.get(key) is record:
                    del tails[key]
            else:
                record._next = None
                follower._previous = None
                if follower._state == WAITING:
                    follower._state = READY
                    self.ready.append(follower)
                elif follower._state == HELD:
                    self._release(follower)

    def hold(self, record: Record[Any, Any], state: int) -> None:
        """This dispatched record becomes PARKED or SETTLING: all behind it in its lane are held.

        Followers that are dispatched with it come back by `put_back`, since a worker starts none behind a failure.
        """
        record._state = state
        follower = record._next
        while follower is not None:
            if follower._state == WAITING:
                self._mark_held(follower)
            follower = follower._next

    def make_ready(self, record: Record[Any, Any]) -> None:
        """A parked record is due: it may run again, before what came later."""
        assert record._state == PARKED, STATE_NAMES[record._state]
        record._state = READY
        self.ready.appendleft(record)
        self._unhold_followers(record)

    def drop(self, records: Iterable[Record[Any, Any]]) -> None:
        """These outlived their tenure and have ended, or were never started, in any order.

        One given back from behind a running record of its lane leaves the lane to that one: what came later must not
        start before it ended.
        """
        for record in records:
            previous, follower = record._previous, record._next
            if previous is None:
                self.resolve((record,), GONE)
                continue
            record._state = GONE
            record._previous = record._next = None
            previous._next = follower
            if follower is not None:
                follower._previous = previous
            else:
                self._tails[(record.raw_key or b"") if self._order_by == "key" else b""] = previous

    def put_back(self, records: Sequence[Record[Any, Any]]) -> None:
        """These were dispatched and never started: they are where they were before, ahead of what came later."""
        heads: list[Record[Any, Any]] = []
        for record in records:
            previous = record._previous
            if previous is None:
                record._state = READY
                heads.append(record)
                self._unhold_followers(record)
            elif previous._state in (PARKED, SETTLING, HELD):
                self._mark_held(record)
                # What came while it was out waits behind it: held too, or it would fill the budget of healthy keys.
                follower = record._next
                while follower is not None and follower._state == WAITING:
                    self._mark_held(follower)
                    follower = follower._next
            else:
                record._state = WAITING
                self._unhold_followers(record)
        self.ready.extendleft(reversed(heads))

    def clear(self) -> None:
        """The tenure closed: forget all but the dispatched records, which stay as heads of their lanes until they end."""
        running: list[Record[Any, Any]] = []
        for tail in self._tails.values():
            lane: list[Record[Any, Any]] = []
            record: Record[Any, Any] | None = tail
            while record is not None:
                if record._state == DISPATCHED:
                    lane.append(record)
                record = record._previous
            running += reversed(lane)
        self._tails.clear()
        self.ready.clear()
        self.held = 0
        for record in running:
            record._next = record._previous = None
        for record in running:
            self._seed(record)

    def takeable(self, enough: int) -> int:
        """How many records `take` would give now; counts no further than `enough`."""
        count = 0
        for head in self.ready:
            record: Record[Any, Any] | None = head
            while record is not None and (record is head or record._state == WAITING):
                count += 1
                if count >= enough:
                    return count
                record = record._next
        return count

    def _seed(self, record: Record[Any, Any]) -> None:
        if self._order_by == "none":
            return
        key = record.raw_key if self._order_by == "key" else b""
        if key is None:
            return
        tail = self._tails.get(key)
        if tail is not None:
            tail._next = record
            record._previous = tail
        self._tails[key] = record

    def _append(self, tail: Record[Any, Any], record: Record[Any, Any]) -> None:
        tail._next = record
        record._previous = tail
        if tail._state in (PARKED, HELD, SETTLING):
            self._mark_held(record)
        else:
            record._state = WAITING

    def _mark_held(self, record: Record[Any, Any]) -> None:
        record._state = HELD
        self.held += 1

    def _release(self, record: Record[Any, Any]) -> None:
        """The head before this held record is gone: it is the head now."""
        self.held -= 1
        record._state = READY
        self.ready.append(record)
        self._unhold_followers(record)

    def _unhold_followers(self, record: Record[Any, Any]) -> None:
        follower = record._next
        # One that is dispatched comes back by `put_back`; those behind it are not held by anything any more.
        while follower is not None and follower._state in (HELD, DISPATCHED):
            if follower._state == HELD:
                follower._state = WAITING
                self.held -= 1
            follower = follower._next
