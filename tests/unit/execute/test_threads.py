"""`def` handlers on threads: claims, lanes, failures, isolation."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.execute.fakes import WAIT_S, FakeTenure, Gate, distinct, eventually, make_records, offsets

if TYPE_CHECKING:
    from collections.abc import Generator

    from headrace.records import Record
    from tests.unit.execute.fakes import Inbox, StartThreads


DIRTY: ContextVar[object] = ContextVar("dirty", default=None)


def test_every_record_runs_once_and_a_list_is_reported_as_a_whole(
    start_threads: StartThreads, inbox: Inbox
) -> None:
    seen: list[int] = []
    records = distinct(500)
    start_threads(lambda record: seen.append(record.offset), workers=1).submit(records)
    inbox.wait_for_all(records)
    assert seen == list(range(500))
    assert len(inbox.events) == 1
    assert inbox.finished[0].succeeded is records
    assert (inbox.started, inbox.finished[0].busy_s > 0) == (500, True)


def test_handlers_of_a_short_list_are_timed_one_by_one(start_threads: StartThreads, inbox: Inbox) -> None:
    """Behind a backlog some slow handlers share a list: a mean of them would hide the slowest."""

    def handler(record: Record[Any, Any]) -> None:
        time.sleep((0.0, 0.01, 0.0, 0.003)[record.offset])
        if record.offset == 1:
            raise ValueError(record.offset)

    records = distinct(4)
    start_threads(handler, workers=1).submit(records)
    inbox.wait_for_all(records)
    (outcome,) = inbox.finished
    assert outcome.started == len(outcome.waits_s) == 4
    assert outcome.waits_s[1] >= 0.01
    assert outcome.waits_s[3] >= 0.003
    assert sum(outcome.waits_s) <= outcome.busy_s, "no part of the time is told twice"


def test_those_of_a_long_list_are_told_by_their_mean(start_threads: StartThreads, inbox: Inbox) -> None:
    records = distinct(65)
    start_threads(lambda record: None, workers=1).submit(records)
    inbox.wait_for_all(records)
    assert (inbox.started, inbox.finished[0].waits_s) == (65, [])


def test_what_was_given_back_took_no_time(start_threads: StartThreads, inbox: Inbox) -> None:
    """Behind a failed record of its lane, and of a tenure that ended."""
    tenure = FakeTenure()

    def handler(record: Record[Any, Any]) -> None:
        if record.raw_key == b"a":
            raise ValueError

    records = make_records([b"a", b"a", b"b"], tenure)
    start_threads(handler, workers=1).submit(records)
    inbox.wait_for_all(records)
    assert (inbox.started, len(inbox.finished[0].waits_s)) == (2, 2)


def test_threads_are_started_only_as_needed(start_threads: StartThreads, inbox: Inbox) -> None:
    before = threading.active_count()
    executor = start_threads(lambda record: None, concurrency=8)
    assert executor.workers_max == 8
    for number in range(1, 6):
        executor.submit(distinct(3))
        inbox.wait_for_count(3 * number)
        eventually(lambda: executor.busy_workers() == 0)
    assert threading.active_count() == before + 1


def test_work_that_waits_gets_a_thread_up_to_the_limit(start_threads: StartThreads, inbox: Inbox) -> None:
    gate = Gate(0)
    executor = start_threads(gate, workers=3)
    lists = [distinct(1) for _ in range(5)]
    for records in lists:
        executor.submit(records)
    gate.wait(3)
    assert executor.busy_workers() == 3
    assert len(gate.seen) == 3
    gate.open.set()
    inbox.wait_for_all(chain.from_iterable(lists))


def test_recall_takes_all_that_is_not_claimed_and_none_of_it_starts(
    start_threads: StartThreads, inbox: Inbox
) -> None:
    gate = Gate(2)
    executor = start_threads(gate, workers=1)
    running, queued = distinct(6), distinct(3)
    executor.submit(running)
    executor.submit(queued)
    gate.wait()
    recalled = executor.recall(None)
    assert recalled == running[3:] + queued
    gate.open.set()
    inbox.wait_for_all(running[:3])
    assert gate.seen == [0, 1, 2]


def test_recall_of_one_tenure_leaves_the_lists_of_others(start_threads: StartThreads, inbox: Inbox) -> None:
    gate = Gate(0)
    executor = start_threads(gate, workers=1)
    mine, other = FakeTenure(), FakeTenure(partition=1)
    head, recalled, kept = distinct(1), distinct(3, mine), distinct(3, other)
    for records in (head, recalled, kept):
        executor.submit(records)
    gate.wait()
    assert executor.recall([mine]) == recalled
    gate.blocking.clear()
    gate.open.set()
    inbox.wait_for_all(head + kept)


def test_recall_gives_back_what_shares_a_list_with_the_recalled(
    start_threads: StartThreads, inbox: Inbox
) -> None:
    gate = Gate(0)
    executor = start_threads(gate, workers=1)
    mine, other = FakeTenure(), FakeTenure(partition=1)
    head, first, second = distinct(1), distinct(2, mine), distinct(2, other)
    executor.submit(head)
    executor.submit([first[0], second[0], first[1], second[1]])
    gate.wait()
    assert executor.recall([mine]) == first
    assert inbox.returned == second
    gate.open.set()
    inbox.wait_for_all(head + second)


def test_under_eight_threads_every_record_starts_once_or_is_recalled(
    start_threads: StartThreads, inbox: Inbox
) -> None:
    starts: list[Record[Any, Any]] = []
    executor = start_threads(starts.append, workers=8)
    tenure = FakeTenure()
    everything: list[Record[Any, Any]] = []
    recalled: list[Record[Any, Any]] = []
    for round_number in range(300):
        for _ in range(8):
            records = distinct(25, tenure)
            everything += records
            executor.submit(records)
        if round_number % 2:
            executor.pulse(round_number * 0.02)
        taken = executor.recall(None)
        recalled += taken
        snapshot = set(map(id, starts))
        assert not snapshot & set(map(id, taken))
    inbox.wait(lambda inbox: len(inbox.outcomes) + len(recalled) >= len(everything))
    assert max(Counter(map(id, inbox.outcomes + recalled)).values()) == 1
    assert len(inbox.outcomes) + len(recalled) == len(everything)
    assert set(map(id, starts)) == set(map(id, inbox.succeeded))
    assert len(starts) == len(inbox.succeeded)


def test_nothing_of_a_closed_tenure_starts(start_threads: StartThreads, inbox: Inbox) -> None:
    tenure = FakeTenure()
    gate = Gate(1)
    records = distinct(5, tenure)
    start_threads(gate, workers=1).submit(records)
    gate.wait()
    tenure.open = False
    gate.open.set()
    inbox.wait_for_all(records)
    assert gate.seen == [0, 1]
    assert inbox.returned == records[2:]


def test_a_slow_record_strands_nobody(start_threads: StartThreads, inbox: Inbox) -> None:
    gate = Gate(3)
    executor = start_threads(gate, workers=1)
    records = distinct(6)
    executor.submit(records)
    gate.wait()
    executor.pulse(1.0)
    assert inbox.events == []
    executor.pulse(1.01)
    assert inbox.events == []
    executor.pulse(1.02)
    assert (inbox.succeeded, inbox.returned) == (records[:3], records[4:])
    executor.pulse(2.0)
    gate.open.set()
    inbox.wait_for_all(records)
    assert inbox.succeeded == records[:4]
    assert inbox.started == 4


def test_a_pulse_does_not_disturb_a_list_that_moves(start_threads: StartThreads, inbox: Inbox) -> None:
    step = threading.Semaphore(0)
    passed = threading.Semaphore(0)

    def handler(_record: Record[Any, Any]) -> None:
        passed.release()
        assert step.acquire(timeout=WAIT_S)

    records = distinct(4)
    executor = start_threads(handler, workers=1)
    executor.submit(records)
    for number in range(4):
        assert passed.acquire(timeout=WAIT_S)
        executor.pulse(number * 0.02)
        step.release()
    inbox.wait_for_all(records)
    assert inbox.succeeded == records


@pytest.mark.parametrize(
    ("order_by", "keys", "returned"),
    [
        ("key", [b"a", b"b", b"a", b"", b"a"], [2, 4]),
        ("key", [None, None, None], []),
        ("key", [b"", b"", None], [1]),
        ("partition", [b"a", b"b", None], [1, 2]),
        ("none", [b"a", b"a", b"a"], []),
    ],
)
def test_nothing_of_a_lane_starts_behind_a_failure(
    start_threads: StartThreads, inbox: Inbox, order_by: str, keys: list[bytes | None], returned: list[int]
) -> None:
    seen: list[int] = []

    def handler(record: Record[Any, Any]) -> None:
        seen.append(record.offset)
        if record.offset == 0:
            raise ValueError("poison")

    records = make_records(keys)
    start_threads(handler, workers=1, order_by=order_by).submit(records)
    inbox.wait_for_all(records)
    assert offsets(inbox.failed) == [0]
    assert offsets(inbox.returned) == returned
    assert seen == [offset for offset in range(len(keys)) if offset not in returned]


def test_the_same_key_of_another_partition_is_another_lane(start_threads: StartThreads, inbox: Inbox) -> None:
    def handler(record: Record[Any, Any]) -> None:
        if record.partition == 0:
            raise ValueError("poison")

    records = make_records([b"a"]) + make_records([b"a"], FakeTenure(partition=1))
    start_threads(handler, workers=1).submit(records)
    inbox.wait_for_all(records)
    assert (inbox.failed, inbox.succeeded) == (records[:1], records[1:])


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, MemoryError])
def test_what_stops_the_app_fails_its_record_and_nothing_more_of_the_list_starts(
    start_threads: StartThreads, inbox: Inbox, kind: type[BaseException]
) -> None:
    def handler(record: Record[Any, Any]) -> None:
        if record.offset == 1:
            raise kind

    records, later = distinct(4), distinct(1)
    executor = start_threads(handler, workers=1)
    executor.submit(records)
    inbox.wait_for_all(records)
    assert (inbox.succeeded, inbox.failed, inbox.returned) == (records[:1], records[1:2], records[2:])
    assert isinstance(inbox.errors[0], kind)
    executor.submit(later)
    inbox.wait_for_all(records + later)


@pytest.mark.parametrize(
    "kind", [ValueError, GeneratorExit, asyncio.CancelledError, StopIteration, BaseException]
)
def test_any_other_exception_fails_its_record_only(
    start_threads: StartThreads, inbox: Inbox, kind: type[BaseException]
) -> None:
    def handler(record: Record[Any, Any]) -> None:
        if record.offset == 1:
            raise kind

    records = distinct(3)
    start_threads(handler, workers=1).submit(records)
    inbox.wait_for_all(records)
    assert (inbox.failed, inbox.returned) == (records[1:2], [])
    assert isinstance(inbox.errors[0], kind)


def test_a_context_variable_set_by_one_handler_is_not_seen_by_the_next(
    start_threads: StartThreads, inbox: Inbox
) -> None:
    seen: list[object] = []

    def handler(record: Record[Any, Any]) -> None:
        seen.append(DIRTY.get())
        if record.offset % 2:
            DIRTY.set(record.offset)
        if record.offset == 3:
            raise ValueError

    records = distinct(6)
    executor = start_threads(handler, workers=1)
    executor.submit(records)
    inbox.wait_for_all(records)
    executor.submit(more := distinct(2))
    inbox.wait_for_all(records + more)
    assert seen == [None] * 8


class Incomparable:
    """Like an array: == gives no truth value."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")


def test_values_that_cannot_be_compared_are_isolated_too(start_threads: StartThreads, inbox: Inbox) -> None:
    seen: list[object] = []
    first = Incomparable()

    @contextmanager
    def resource() -> Generator[None]:
        DIRTY.set(first)
        yield

    def handler(_record: Record[Any, Any]) -> None:
        seen.append(DIRTY.get())
        DIRTY.set(Incomparable())

    records = distinct(3)
    start_threads(handler, workers=1, per_worker=resource).submit(records)
    inbox.wait_for_all(records)
    assert inbox.succeeded == records
    assert all(value is first for value in seen)
