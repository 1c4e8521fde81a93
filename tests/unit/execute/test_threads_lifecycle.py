"""`def` handlers on threads: hung and stale ones, resources, what they produce, close."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from headrace._execute.scope import current_worker_resource, note_produced
from headrace._execute.threads import ThreadExecutor
from tests.unit.execute.fakes import (
    WAIT_S,
    FakeTenure,
    Gate,
    distinct,
    eventually,
    make_records,
    settings_with,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from headrace.records import Record
    from tests.unit.execute.fakes import Inbox, StartThreads


class NotedLock:
    """A lock that knows who took it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.taken_by: list[str] = []

    def __enter__(self) -> None:
        self.taken_by.append(threading.current_thread().name)
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_a_hung_handler_keeps_its_slot_and_others_go_on(start_threads: StartThreads, inbox: Inbox) -> None:
    gate = Gate(0)
    executor = start_threads(gate, workers=2)
    hung, others = distinct(1), [distinct(3)[1:] for _ in range(4)]
    executor.submit(hung)
    gate.wait()
    for records in others:
        executor.submit(records)
    inbox.wait(lambda inbox: len(inbox.succeeded) == 8)
    executor.pulse(5.0)
    assert executor.busy_workers() == 1
    assert executor.stale_workers() == 0
    gate.open.set()


def test_a_stale_handler_gives_its_slot_to_a_new_thread(start_threads: StartThreads, inbox: Inbox) -> None:
    gate, lost = Gate(0), FakeTenure()
    executor = start_threads(gate, workers=1)
    stale, live = distinct(1, lost), distinct(3)[1:]
    executor.submit(stale)
    gate.wait()
    executor.submit(live)
    executor.pulse(1.0)
    assert inbox.events == []
    lost.open = False
    executor.pulse(1.02)
    inbox.wait_for_all(live)
    assert (executor.stale_workers(), executor.busy_workers()) == (1, 1)
    gate.open.set()
    inbox.wait_for_all(live + stale)
    eventually(lambda: executor.stale_workers() == 0)
    executor.submit(again := distinct(3)[1:])
    inbox.wait_for_all(live + stale + again)


def test_a_list_is_submitted_without_a_look_at_the_others(start_threads: StartThreads, inbox: Inbox) -> None:
    """Where `concurrency` is above `workers` lists always wait; a walk over them at each cost more than the hand-over."""
    gate = Gate(0)
    executor = start_threads(gate, workers=1)
    executor.submit(first := distinct(1))
    gate.wait()
    (running,) = executor._outstanding
    running.lock = noted = NotedLock()  # type: ignore[assignment] # all that is asked of it
    executor.submit(second := distinct(3)[1:])
    assert noted.taken_by == []
    gate.open.set()
    inbox.wait_for_all(first + second)


def test_stale_handlers_are_replaced_up_to_a_limit(start_threads: StartThreads, inbox: Inbox) -> None:
    gate = Gate(0)
    executor = start_threads(gate, workers=1, stale_workers_max=2)
    stale: list[Record[Any, Any]] = []
    for number in range(3):
        tenure = FakeTenure()
        executor.submit(records := distinct(1, tenure))
        executor.pulse(number)
        gate.wait()
        stale += records
        tenure.open = False
    executor.submit(live := distinct(3)[1:])
    executor.pulse(9.0)
    assert (executor.stale_workers(), executor.busy_workers()) == (2, 3)
    assert gate.seen == [0, 0, 0]
    gate.open.set()
    inbox.wait_for_all(stale + live)


def test_running_tells_record_and_stack(start_threads: StartThreads, inbox: Inbox) -> None:
    gate = Gate(1)
    executor = start_threads(gate, workers=2)
    first, second = distinct(3), distinct(3)
    executor.submit(first)
    gate.wait()
    executor.submit(second)
    gate.wait()
    running = executor.running()
    assert [now.record for now in running] == [first[1], second[1]]
    assert running[0].since <= running[1].since
    stack = executor.stack_of(running[0])
    assert stack is not None
    assert "self.open.wait(WAIT_S)" in stack
    gate.open.set()
    inbox.wait_for_all(first + second)
    eventually(lambda: executor.running() == [])
    assert executor.stack_of(running[0]) is None


def test_close_names_the_threads_that_did_not_end(inbox: Inbox) -> None:
    gate = Gate(0)
    executor = ThreadExecutor(0, settings_with(workers=1), gate, inbox.deliver)
    records = distinct(3)
    executor.submit(records)
    gate.wait()
    assert executor.close(0.01) == ["headrace-handler-0"]
    assert inbox.returned == records[1:]
    gate.open.set()
    inbox.wait_for_all(records)
    assert executor.close(WAIT_S) == []


def test_each_worker_enters_its_resource_once(start_threads: StartThreads, inbox: Inbox) -> None:
    entered: list[int] = []
    left: list[int] = []
    seen: list[object] = []

    @contextmanager
    def resource() -> Generator[int]:
        entered.append(threading.get_ident())
        yield len(entered)
        left.append(threading.get_ident())

    executor = start_threads(
        lambda record: seen.append(current_worker_resource()), workers=1, per_worker=resource
    )
    for _ in range(2):
        executor.submit(distinct(2))
    inbox.wait(lambda inbox: len(inbox.succeeded) == 4)
    assert seen == [1] * 4
    assert executor.close(WAIT_S) == []
    assert entered == left
    assert current_worker_resource() is None


def test_a_resource_that_fails_fails_one_record_and_is_tried_again(
    start_threads: StartThreads, inbox: Inbox
) -> None:
    attempts: list[int] = []

    @contextmanager
    def resource() -> Generator[None]:
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionError("down")
        yield

    executor = start_threads(lambda record: None, workers=1, per_worker=resource)
    records = distinct(3)
    executor.submit(records)
    inbox.wait_for_all(records)
    assert (inbox.failed, inbox.returned) == (records[:1], records[1:])
    assert isinstance(inbox.errors[0], ConnectionError)
    executor.submit(more := distinct(2))
    inbox.wait_for_all(records + more)
    assert inbox.succeeded == more


def test_a_record_awaits_what_it_produced_and_its_lane_waits_with_it(
    start_threads: StartThreads, inbox: Inbox
) -> None:
    noted: list[Any] = []

    def handler(record: Record[Any, Any]) -> None:
        if record.offset == 0:
            noted.extend([note_produced(), note_produced()])
            noted[0].acknowledged(None)

    records = make_records([b"a", b"b", b"a"])
    start_threads(handler, workers=1).submit(records)
    inbox.wait_for_all(records)
    assert (inbox.awaiting, inbox.succeeded, inbox.returned) == ([records[0]], [records[1]], [records[2]])
    assert inbox.delivered == []
    noted[1].acknowledged(None)
    assert [(event.record, event.error) for event in inbox.delivered] == [(records[0], None)]


def test_what_was_acknowledged_in_time_is_waited_for_no_more(
    start_threads: StartThreads, inbox: Inbox
) -> None:
    def handler(record: Record[Any, Any]) -> None:
        produced = note_produced()
        assert produced is not None
        produced.acknowledged(ConnectionError("lost") if record.offset else None)

    records = distinct(2)
    start_threads(handler, workers=1).submit(records)
    inbox.wait_for_all(records)
    assert (inbox.succeeded, inbox.failed, inbox.delivered) == (records[:1], records[1:], [])


def test_what_a_failed_handler_produced_is_abandoned(start_threads: StartThreads, inbox: Inbox) -> None:
    noted: list[Any] = []

    def handler(record: Record[Any, Any]) -> None:
        noted.append(note_produced())
        if record.offset == 0:
            raise ValueError

    records = distinct(2)
    start_threads(handler, workers=1).submit(records)
    inbox.wait_for_all(records)
    noted[0].acknowledged(None)
    assert inbox.delivered == []
    noted[1].acknowledged(None)
    assert [event.record for event in inbox.delivered] == records[1:]


def test_produced_records_are_counted_from_threads_of_the_handler(
    start_threads: StartThreads, inbox: Inbox
) -> None:
    noted: list[Any] = []

    def handler(_record: Record[Any, Any]) -> None:
        threads = [
            threading.Thread(target=copy_context().run, args=(lambda: noted.append(note_produced()),))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    records = distinct(1)
    start_threads(handler, workers=1).submit(records)
    inbox.wait_for_all(records)
    assert inbox.awaiting == records
    for produced in noted[:3]:
        produced.acknowledged(None)
    assert inbox.delivered == []
    noted[3].acknowledged(None)
    assert len(inbox.delivered) == 1


def test_outside_of_handlers_nobody_waits_for_what_is_produced() -> None:
    assert note_produced() is None
