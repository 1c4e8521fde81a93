"""`async def` handlers on a loop: pumps, lanes, isolation, timeouts, cancellation."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import HandlerTimeout
from tests.unit.execute.fakes import WAIT_S, FakeTenure, Gates, distinct, eventually, make_records, offsets

if TYPE_CHECKING:
    from headrace._execute.handler_loop import HandlerLoop
    from headrace.records import Record
    from tests.unit.execute.fakes import Inbox, StartTasks


DIRTY: ContextVar[object] = ContextVar("dirty", default=None)


def test_a_list_whose_handlers_do_not_suspend_runs_in_one_task(start_tasks: StartTasks, inbox: Inbox) -> None:
    tasks: set[int] = set()

    async def handler(_record: Record[Any, Any]) -> None:
        tasks.add(id(asyncio.current_task()))

    records = distinct(500)
    start_tasks(handler).submit(records)
    inbox.wait_for_all(records)
    assert inbox.succeeded == records
    assert (len(tasks), len(inbox.events), inbox.started) == (1, 1, 500)
    assert inbox.finished[0].busy_s > 0


def test_others_go_on_while_one_is_suspended(
    start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop
) -> None:
    gates = Gates(loop, 1, 3)
    records = distinct(6)
    start_tasks(gates).submit(records)
    inbox.wait(lambda inbox: len(inbox.succeeded) == 4)
    assert sorted(gates.done) == [0, 2, 4, 5]
    gates.open(3, 1)
    inbox.wait_for_all(records)


def test_no_more_than_concurrency_are_in_flight_and_the_rest_can_be_recalled(
    start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop
) -> None:
    gates = Gates(loop, *range(10))
    executor = start_tasks(gates, concurrency=3)
    records = distinct(10)
    executor.submit(records[:6])
    executor.submit(records[6:])
    gates.wait(0, 1, 2)
    assert executor.busy_workers() == 3
    gates.open(1)
    gates.wait(3)
    assert len(gates.seen) == 4
    assert sorted(offsets(executor.recall(None))) == list(range(4, 10))
    gates.open(0, 2, 3)
    inbox.wait_for_all(records[:4])
    assert len(gates.seen) == 4


def test_what_waits_takes_the_places_that_another_connection_gives_back(
    start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop
) -> None:
    """At once, and not when the next handler ends: that one may hang."""
    gates = Gates(loop, 0, 1)
    executor = start_tasks(gates, concurrency=2)
    records = distinct(3)
    executor.share(2)
    executor.submit(records)
    gates.wait(0)
    assert executor.busy_workers() == 1
    executor.share(1)
    gates.wait(1)
    gates.open(0, 1)
    inbox.wait_for_all(records)


@pytest.mark.parametrize("concurrency", [1, 2, 7, 64])
def test_in_flight_never_exceeds_concurrency_and_lanes_keep_their_order(
    start_tasks: StartTasks, inbox: Inbox, concurrency: int
) -> None:
    flying: Counter[bytes | None] = Counter()
    most = 0
    order: dict[bytes | None, list[int]] = {}

    async def handler(record: Record[Any, Any]) -> None:
        nonlocal most
        flying[record.raw_key] += 1
        most = max(most, flying.total())
        assert flying[record.raw_key] == 1
        order.setdefault(record.raw_key, []).append(record.offset)
        for _ in range(record.offset % 4):
            await asyncio.sleep(0)
        flying[record.raw_key] -= 1

    executor = start_tasks(handler, concurrency=concurrency)
    keys = [b"%d" % (number * number % 23) for number in range(300)]
    records = make_records(keys)
    executor.submit(records)
    inbox.wait_for_all(records)
    assert inbox.errors == []
    assert most <= concurrency
    assert all(seen == sorted(seen) for seen in order.values())


def test_what_is_behind_a_suspended_record_waits_for_it(
    start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop
) -> None:
    gates = Gates(loop, 0)
    records = make_records([b"a", b"a", b"b", b"a", b"b"])
    start_tasks(gates).submit(records)
    inbox.wait(lambda inbox: len(inbox.succeeded) == 2)
    assert gates.seen == [0, 2, 4]
    gates.open(0)
    inbox.wait_for_all(records)
    assert gates.done == [2, 4, 0, 1, 3]


def test_what_is_behind_a_suspended_record_can_be_recalled(
    start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop
) -> None:
    gates = Gates(loop, 0)
    executor = start_tasks(gates)
    records = make_records([b"a", b"a", b"a"])
    executor.submit(records)
    gates.wait(0)
    assert executor.recall(None) == records[1:]
    gates.open(0)
    inbox.wait_for_all(records[:1])


@pytest.mark.parametrize("suspends", [True, False])
def test_what_is_behind_a_failed_record_is_returned(
    start_tasks: StartTasks, inbox: Inbox, *, suspends: bool
) -> None:
    async def handler(record: Record[Any, Any]) -> None:
        if record.offset == 0:
            if suspends:
                await asyncio.sleep(0.001)
            raise ValueError("poison")

    records = make_records([b"a", b"a", b"b", None, b"a"])
    start_tasks(handler).submit(records)
    inbox.wait_for_all(records)
    assert offsets(inbox.failed) == [0]
    assert sorted(offsets(inbox.returned)) == [1, 4]


def test_a_failure_blocks_its_lane_when_another_suspends_after_it(
    start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop
) -> None:
    gates = Gates(loop, 1)

    async def handler(record: Record[Any, Any]) -> None:
        if record.offset == 0:
            raise ValueError("poison")
        await gates(record)

    records = make_records([b"a", b"b", b"a", b"b", b"c"])
    start_tasks(handler).submit(records)
    inbox.wait(lambda inbox: len(inbox.outcomes) == 3)
    gates.open(1)
    inbox.wait_for_all(records)
    assert (offsets(inbox.failed), offsets(inbox.returned)) == ([0], [2])


def test_with_order_by_partition_one_after_the_other_runs(
    start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop
) -> None:
    gates = Gates(loop, 0, 1)
    records = make_records([None, b"a", b"b"])
    start_tasks(gates, order_by="partition").submit(records)
    gates.wait(0)
    assert gates.seen == [0]
    gates.open(0)
    gates.wait(1)
    assert gates.seen == [0, 1]
    gates.open(1)
    inbox.wait_for_all(records)


def test_with_order_by_none_equal_keys_run_beside_each_other(
    start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop
) -> None:
    gates = Gates(loop, 0, 1)
    records = make_records([b"a", b"a"])
    start_tasks(gates, order_by="none").submit(records)
    gates.wait(0, 1)
    gates.open(0, 1)
    inbox.wait_for_all(records)


def test_recall_against_a_busy_loop_starts_nothing_twice_and_nothing_recalled(
    start_tasks: StartTasks, inbox: Inbox
) -> None:
    starts: list[Record[Any, Any]] = []

    async def handler(record: Record[Any, Any]) -> None:
        starts.append(record)
        if record.offset % 3 == 0:
            await asyncio.sleep(0)

    executor = start_tasks(handler, concurrency=4)
    everything: list[Record[Any, Any]] = []
    recalled: list[Record[Any, Any]] = []
    tenure = FakeTenure()
    for round_number in range(300):
        for _ in range(4):
            records = make_records([b"%d" % (number % 7) for number in range(25)], tenure)
            everything += records
            executor.submit(records)
        if round_number % 3 == 0:
            executor.pulse(round_number * 0.02)
        taken = executor.recall(None)
        recalled += taken
        assert not set(map(id, starts)) & set(map(id, taken))
    inbox.wait(lambda inbox: len(inbox.outcomes) + len(recalled) >= len(everything))
    assert max(Counter(map(id, inbox.outcomes + recalled)).values()) == 1
    assert len(inbox.outcomes) + len(recalled) == len(everything)
    assert set(map(id, starts)) == set(map(id, inbox.succeeded))
    assert len(starts) == len(inbox.succeeded)


def test_recall_gives_back_what_shares_a_list_with_the_recalled(
    start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop
) -> None:
    gates = Gates(loop, 0)
    executor = start_tasks(gates, concurrency=1)
    mine, other = FakeTenure(), FakeTenure(partition=1)
    head, first, second = distinct(1), distinct(2, mine), distinct(2, other)
    executor.submit(head)
    gates.wait(0)
    executor.submit([first[0], second[0], first[1], second[1]])
    assert executor.recall([mine]) == first
    assert inbox.returned == second
    gates.open(0)
    inbox.wait_for_all(head + second)


def test_nothing_of_a_closed_tenure_starts(start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop) -> None:
    gates, tenure = Gates(loop, 0), FakeTenure()
    records = distinct(4, tenure)
    start_tasks(gates, concurrency=1).submit(records)
    gates.wait(0)
    tenure.open = False
    gates.open(0)
    inbox.wait_for_all(records)
    assert (gates.seen, inbox.returned) == ([0], records[1:])


@pytest.mark.parametrize("suspends", [True, False])
def test_a_context_variable_set_by_one_handler_is_not_seen_by_the_next(
    start_tasks: StartTasks, inbox: Inbox, *, suspends: bool
) -> None:
    seen: list[object] = []

    async def handler(record: Record[Any, Any]) -> None:
        seen.append(DIRTY.get())
        DIRTY.set(record.offset)
        if suspends:
            await asyncio.sleep(0)
        if record.offset == 2:
            raise ValueError

    records = distinct(5)
    start_tasks(handler, concurrency=1).submit(records)
    inbox.wait_for_all(records)
    assert seen == [None] * 5


def test_asyncio_timeout_works_from_the_first_step_and_ends_only_its_own_handler(
    start_tasks: StartTasks, inbox: Inbox
) -> None:
    async def handler(record: Record[Any, Any]) -> None:
        async with asyncio.timeout(0.005 if record.offset == 1 else None):
            await asyncio.sleep(0.001 if record.offset != 1 else WAIT_S)

    records = distinct(5)
    start_tasks(handler).submit(records)
    inbox.wait_for_all(records)
    assert inbox.failed == records[1:2]
    assert isinstance(inbox.errors[0], TimeoutError)


def test_a_handler_that_cancels_its_own_task_harms_no_other(start_tasks: StartTasks, inbox: Inbox) -> None:
    async def handler(record: Record[Any, Any]) -> None:
        task = asyncio.current_task()
        assert task is not None
        if record.offset == 0:
            task.cancel()  # Pending when it returns.
            return
        assert task.cancelling() == 0
        await asyncio.sleep(0)
        if record.offset == 1:
            task.cancel()
            await asyncio.sleep(WAIT_S)

    records = distinct(4)
    start_tasks(handler, concurrency=1).submit(records)
    inbox.wait_for_all(records)
    assert inbox.failed == records[1:2]
    assert isinstance(inbox.errors[0], asyncio.CancelledError)


def test_timeout_s_cancels_the_record_that_is_late_and_no_other(
    start_tasks: StartTasks, inbox: Inbox
) -> None:
    async def handler(record: Record[Any, Any]) -> None:
        await asyncio.sleep(WAIT_S if record.offset == 1 else 0)

    records = make_records([b"a", b"b", b"c", b"b"])
    start_tasks(handler, timeout_s=0.01).submit(records)
    inbox.wait_for_all(records)
    assert (inbox.failed, inbox.returned) == (records[1:2], records[3:])
    assert isinstance(inbox.errors[0], HandlerTimeout)
    assert inbox.errors[0].timeout_s == 0.01


def test_a_timeout_that_the_handler_outlived_is_not_felt_by_the_next(
    start_tasks: StartTasks, inbox: Inbox
) -> None:
    async def handler(record: Record[Any, Any]) -> None:
        await asyncio.sleep(0.3)

    records = make_records([b"a"] * 4)
    # The fourth runs when the first one's time would be up; each has 0.7 s to spare on a busy machine.
    start_tasks(handler, timeout_s=1.0, concurrency=1).submit(records)
    inbox.wait_for_all(records)
    assert inbox.succeeded == records


def test_a_handler_that_swallows_its_timeout_and_returns_has_succeeded(
    start_tasks: StartTasks, inbox: Inbox
) -> None:
    async def handler(record: Record[Any, Any]) -> None:
        if record.offset == 0:
            try:
                await asyncio.sleep(WAIT_S)
            except asyncio.CancelledError:
                return
        await asyncio.sleep(0)

    records = make_records([b"a"] * 3)
    start_tasks(handler, timeout_s=0.01).submit(records)
    inbox.wait_for_all(records)
    assert inbox.succeeded == records


def test_cancel_ends_the_handlers_of_a_tenure_only(
    start_tasks: StartTasks, inbox: Inbox, loop: HandlerLoop
) -> None:
    gates, lost = Gates(loop, 0), FakeTenure()
    executor = start_tasks(gates)
    mine, other = distinct(1, lost), distinct(1)
    executor.submit(mine)
    gates.wait(0)
    executor.submit(other)
    eventually(lambda: len(gates.seen) == 2)
    executor.cancel([lost])
    inbox.wait_for_all(mine)
    assert isinstance(inbox.errors[0], asyncio.CancelledError)
    gates.open(0)
    inbox.wait_for_all(mine + other)


@pytest.mark.parametrize("suspends", [True, False])
@pytest.mark.parametrize(
    "kind",
    [
        ValueError,
        SystemExit,
        KeyboardInterrupt,
        MemoryError,
        GeneratorExit,
        asyncio.CancelledError,
        BaseException,
    ],
)
def test_every_exception_is_the_records_failure_and_the_loop_lives(
    start_tasks: StartTasks, inbox: Inbox, kind: type[BaseException], *, suspends: bool
) -> None:
    async def handler(record: Record[Any, Any]) -> None:
        if record.offset == 1:
            if suspends:
                await asyncio.sleep(0)
            raise kind

    executor = start_tasks(handler, concurrency=1)
    records, later = distinct(3), distinct(1)
    executor.submit(records)
    inbox.wait_for_all(records)
    assert inbox.failed == records[1:2]
    assert isinstance(inbox.errors[0], kind)
    stops = kind in (SystemExit, KeyboardInterrupt, MemoryError)
    assert inbox.returned == (records[2:] if stops else [])
    executor.submit(later)
    inbox.wait_for_all(records + later)
