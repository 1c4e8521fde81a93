"""Random lists, handlers, recalls, pulses and revokes against both executors; an oracle that knows only the promises."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from headrace._execute.scope import note_produced
from tests.unit.execute.fakes import FakeTenure, make_records

if TYPE_CHECKING:
    from headrace._execute.tasks import TaskExecutor
    from headrace._execute.threads import ThreadExecutor
    from headrace.records import Record
    from tests.unit.execute.fakes import Inbox, StartTasks, StartThreads

KEYS = [b"a", b"b", b"c", b"d", None]
LISTS = 60


class Handler:
    """Does something else with every record, and keeps account of what was started, and when it ended."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self.started: list[Record[Any, Any]] = []
        self.running: Counter[object] = Counter()
        self.overlaps = 0
        self.produced: list[Any] = []

    def begin(self, record: Record[Any, Any], lane: object, number: int) -> float:
        """Note the start; returns from 0 to 1 what becomes of this record, the same for the same seed."""
        with self._lock:
            self.started.append(record)
            self.running[lane] += 1
            self.overlaps += lane is not None and self.running[lane] > 1
        return random.Random(f"{self._seed}:{number}:{record.offset}").random()  # noqa: S311 - it must be repeatable

    def end(self, lane: object, chance: float) -> None:
        with self._lock:
            self.running[lane] -= 1
        if chance < 0.05:
            self.produced.append(note_produced())
        if 0.05 <= chance < 0.15:
            raise ValueError("poison")


def lane_of(number_of_list: dict[int, int], record: Record[Any, Any]) -> object:
    # Lanes are kept apart within a list; that no lane is in two lists at once is the engine's promise.
    return None if record.raw_key is None else (number_of_list[id(record)], record.raw_key)


def drive(
    executor: ThreadExecutor | TaskExecutor, inbox: Inbox, seed: int, lists: dict[int, int]
) -> list[Record[Any, Any]]:
    """Submit, pulse, recall and revoke at random; returns the records that were recalled."""
    dice = random.Random(seed)  # noqa: S311 - it must be repeatable
    recalled: list[Record[Any, Any]] = []
    tenure, now = FakeTenure(), 0.0
    submitted = 0
    for number in range(LISTS):
        records = make_records(dice.choices(KEYS, k=dice.randint(1, 30)), tenure)
        submitted += len(records)
        lists.update((id(record), number) for record in records)
        executor.submit(records)
        match dice.randint(0, 9):
            case 0:
                recalled += executor.recall([tenure])
            case 1:
                recalled += executor.recall([tenure])
                tenure.open = False
                executor.cancel([tenure])
                tenure = FakeTenure()
            case 2 | 3:
                now += 0.02
                executor.pulse(now)
            case 4:
                time.sleep(0.001)
            case _:
                pass
    inbox.wait_for_count(submitted - len(recalled))
    assert len(inbox.outcomes) + len(recalled) == submitted
    return recalled


def judge(handler: Handler, inbox: Inbox, recalled: list[Record[Any, Any]], lists: dict[int, int]) -> None:
    assert max(Counter(map(id, inbox.outcomes + recalled)).values()) == 1
    starts = Counter(map(id, handler.started))
    assert max(starts.values()) == 1
    ran = set(map(id, inbox.succeeded + inbox.failed + inbox.awaiting))
    assert ran == set(starts)
    assert handler.overlaps == 0
    # Of a lane in a list: those that succeeded come first, in order; behind one that did not, nothing was started.
    bad = set(map(id, inbox.failed + inbox.awaiting))
    last: dict[object, int] = {}
    ended: set[object] = set()
    for record in handler.started:
        lane = lane_of(lists, record)
        if lane is not None:
            assert lane not in ended
            assert last.get(lane, -1) < record.offset
            last[lane] = record.offset
            if id(record) in bad:
                ended.add(lane)


@pytest.mark.parametrize("seed", range(8))
def test_threads_keep_their_promises(start_threads: StartThreads, inbox: Inbox, seed: int) -> None:
    handler, lists = Handler(seed), dict[int, int]()

    def work(record: Record[Any, Any]) -> None:
        lane = lane_of(lists, record)
        chance = handler.begin(record, lane, lists[id(record)])
        if chance > 0.97:
            time.sleep(0.001)
        handler.end(lane, chance)

    executor = start_threads(work, workers=1 + seed % 4)
    judge(handler, inbox, drive(executor, inbox, seed, lists), lists)


@pytest.mark.parametrize("seed", range(8))
def test_a_loop_keeps_its_promises(start_tasks: StartTasks, inbox: Inbox, seed: int) -> None:
    handler, lists = Handler(seed), dict[int, int]()
    share_that_suspends = (0.0, 0.1, 0.5, 1.0)[seed % 4]

    async def work(record: Record[Any, Any]) -> None:
        lane = lane_of(lists, record)
        chance = handler.begin(record, lane, lists[id(record)])
        try:
            if (chance * 100) % 1 < share_that_suspends:
                await asyncio.sleep(0 if chance < 0.9 else 0.002)
        finally:
            handler.end(lane, chance)

    executor = start_tasks(work, concurrency=(1, 3, 50)[seed % 3])
    judge(handler, inbox, drive(executor, inbox, seed, lists), lists)
