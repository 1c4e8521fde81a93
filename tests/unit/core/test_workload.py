"""Chunk sizes, turns between partitions, room, and batches that wait for company."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.lanes import DONE
from headrace._core.workload import CHUNK_RECORDS_MAX, Capacity, Workload
from headrace.config import Batching
from tests.unit.core.makers import deliver, make_settings, make_tenure

KINDS = ("threads", "asyncio", "processes")


def make_workload(kind: Any = "threads", workers: int = 4, **changes: Any) -> Workload:
    return Workload(0, make_settings(**changes), Capacity(kind, workers))


def learn(workload: Workload, each_s: float, cpu_share: float = 1.0) -> None:
    for _ in range(60):
        workload.learn(10, 10 * each_s, 10 * each_s * cpu_share)


@pytest.mark.parametrize(
    ("each_s", "records"), [(0.0, 500), (1e-6, 500), (1e-4, 20), (1e-3, 2), (0.01, 1), (60.0, 1)]
)
def test_chunks_are_large_for_fast_handlers_and_single_for_slow_ones(each_s: float, records: int) -> None:
    workload = make_workload()
    learn(workload, each_s)
    assert abs(workload.chunk_records() - records) <= 1


def test_a_handler_that_turns_slow_is_noticed_within_a_few_chunks() -> None:
    workload = make_workload()
    learn(workload, 0.0)
    workload.learn(1, 0.1, 0.1)
    assert workload.chunk_records() == 1


def test_nothing_started_teaches_nothing() -> None:
    workload = make_workload()
    before = workload.cost_s
    workload.learn(0, 5.0, 5.0)
    assert workload.cost_s == before


@given(
    st.sampled_from(KINDS),
    st.integers(1, 64),
    st.integers(1, 300),
    st.floats(0, 100),
    st.floats(0, 1),
    st.none() | st.integers(1, 700),
    st.integers(1, 64),
)
def test_an_idle_executor_always_has_room(
    kind: str, workers: int, concurrency: int, each_s: float, cpu_share: float, batch: int | None, shared: int
) -> None:
    """A limit that an empty executor does not pass would stop everything for ever."""
    batching = None if batch is None else Batching(records_max=batch)
    workload = make_workload(kind, workers, concurrency=concurrency, batch=batching)
    learn(workload, each_s, cpu_share)
    workload.share(shared)
    assert 1 <= workload.chunk_records() <= max(CHUNK_RECORDS_MAX, batch or 0)
    tenure = make_tenure()
    deliver(tenure, [None] * 3)
    workload.enqueue(tenure, 0.0)
    assert workload.next_chunk(0.0)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=5), st.sampled_from(KINDS))
def test_the_executor_is_never_given_more_than_it_has_room_for(counts: list[int], kind: str) -> None:
    workload = make_workload(kind, concurrency=5)
    for number, count in enumerate(counts):
        tenure = make_tenure(number)
        deliver(tenure, [None] * count)
        workload.enqueue(tenure, 0.0)
    given_out = 0
    while (records := workload.next_chunk(0.0)) is not None:
        assert records
        given_out += len(records)
    assert given_out == workload.dispatched <= workload.dispatched_max()
    # What is left could not be given for want of room, not by an oversight.
    room = workload.dispatched_max() - workload.dispatched
    assert given_out == sum(counts) or room * 2 < workload.chunk_records()


def test_partitions_take_turns() -> None:
    """resumesFromNextShard, starvation: a full partition does not keep the others waiting."""
    workload = make_workload(concurrency=1)
    learn(workload, 1.0)
    tenures = [make_tenure(number) for number in range(3)]
    for tenure in tenures:
        deliver(tenure, [None] * 50)
        workload.enqueue(tenure, 0.0)
    turns: list[int] = []
    for _ in range(30):
        records = workload.next_chunk(0.0)
        assert records is not None
        assert len(records) == 1
        turns.append(records[0].partition)
        workload.dispatched = 0
    assert turns == [0, 1, 2] * 10


def test_a_tenure_is_in_turn_once_and_only_with_ready_records() -> None:
    workload, tenure = make_workload(), make_tenure()
    workload.enqueue(tenure, 0.0)
    assert not workload.turns
    deliver(tenure, [None])
    workload.enqueue(tenure, 0.0)
    workload.enqueue(tenure, 0.0)
    assert len(workload.turns) == 1


def test_a_batch_is_of_one_partition() -> None:
    workload = make_workload(batch=Batching(records_max=10))
    for number in range(2):
        tenure = make_tenure(number)
        deliver(tenure, [None] * 3)
        workload.enqueue(tenure, 0.0)
    batches = [workload.next_chunk(0.0), workload.next_chunk(0.0)]
    assert [[record.partition for record in batch or ()] for batch in batches] == [[0] * 3, [1] * 3]


def test_a_batch_waits_for_company_until_its_time_is_up() -> None:
    workload, tenure = make_workload(batch=Batching(records_max=3, wait_s=1.0)), make_tenure()
    deliver(tenure, [None])
    workload.enqueue(tenure, 10.0)
    assert workload.next_chunk(10.9) is None
    assert workload.next_deadline() == 11.0
    assert len(workload.next_chunk(11.0) or ()) == 1
    assert workload.next_deadline() is None


def test_a_full_batch_does_not_wait() -> None:
    """Found in this core: only heads of lanes were counted, so one busy key always waited."""
    for keys in ([None] * 3, [b"a"] * 3, [b"a", b"b", b"a"]):
        workload, tenure = make_workload(batch=Batching(records_max=3, wait_s=1.0)), make_tenure()
        deliver(tenure, keys)
        workload.enqueue(tenure, 10.0)
        assert len(workload.next_chunk(10.0) or ()) == 3


def test_a_batch_without_room_sets_no_deadline() -> None:
    """Found in this core: the moment was past, nothing could be done about it, and the loop span until it could."""
    workload, tenure = make_workload(concurrency=1, batch=Batching(records_max=2, wait_s=1.0)), make_tenure()
    deliver(tenure, [None] * 5)
    workload.enqueue(tenure, 10.0)
    while workload.next_chunk(20.0):
        pass
    assert workload.turns
    assert workload.dispatched >= workload.dispatched_max()
    assert workload.next_deadline() is None


@pytest.mark.parametrize(
    ("each_s", "ready", "records"),
    [
        (0.001, 0, 2),
        (0.001, 40, 5),
        (0.001, 100, 12),
        (0.001, 4000, 50),
        (0.01, 4000, 5),
        (0.03, 4000, 1),
        (1e-5, 8000, 500),
    ],
)
def test_chunks_grow_behind_a_backlog(each_s: float, ready: int, records: int) -> None:
    """Up to 50 ms, and half of what the backlog takes anyway: then nobody waits much longer for it."""
    workload, tenure = make_workload(workers=4), make_tenure()
    learn(workload, each_s)
    if ready:
        deliver(tenure, [None] * ready)
    workload.enqueue(tenure, 0.0)
    workload.count_backlog()
    assert abs(workload.chunk_records() - records) <= 1


@pytest.mark.parametrize("kind", ["asyncio", "processes"])
def test_chunks_of_others_do_not(kind: str) -> None:
    workload, tenure = make_workload(kind), make_tenure()
    learn(workload, 0.01)
    deliver(tenure, [None] * 4000)
    workload.enqueue(tenure, 0.0)
    workload.count_backlog()
    assert workload.chunk_records() == 1


def test_a_backlog_of_many_partitions_is_counted_in_bounded_time() -> None:
    workload = make_workload(workers=4)
    learn(workload, 0.001)
    for number in range(1000):
        tenure = make_tenure(number)
        deliver(tenure, [None])
        workload.enqueue(tenure, 0.0)
    workload.count_backlog()
    assert workload.chunk_records() == 64 // 8


@pytest.mark.parametrize("each_s", [1.0, 0.001])
def test_a_thread_that_ends_finds_its_next_list(each_s: float) -> None:
    """Else each waits for the owner, which costs a tenth of what 200 threads do with handlers of 10 ms."""
    workload, tenure = make_workload(workers=4, concurrency=4), make_tenure()
    learn(workload, each_s, cpu_share=0.01)
    deliver(tenure, [None] * 40)
    workload.enqueue(tenure, 0.0)
    lists = 0
    while workload.next_chunk(0.0):
        lists += 1
    assert lists == 6


def test_tasks_and_processes_are_not_given_more_by_it() -> None:
    for kind, most in (("asyncio", 4 + 2), ("processes", 4 * 2)):
        workload = make_workload(kind, workers=4, concurrency=4)
        learn(workload, 1.0)
        assert workload.dispatched_max() == most


@pytest.mark.parametrize(("connections", "each", "workers"), [(1, 12, 6), (2, 6, 3), (4, 3, 1), (64, 1, 1)])
def test_places_are_shared_evenly_and_all_are_given_back(connections: int, each: int, workers: int) -> None:
    workload, tenure = make_workload(concurrency=12, workers=6), make_tenure()
    learn(workload, 1.0)
    deliver(tenure, [None] * 40)
    workload.enqueue(tenure, 0.0)
    workload.share(connections)
    assert (workload.concurrency, workload.workers) == (each, workers)
    while workload.next_chunk(0.0):
        pass
    assert workload.dispatched == max(each, workers + (workers + 1) // 2)
    workload.share(1)
    while workload.next_chunk(0.0):
        pass
    assert workload.dispatched == 12


def test_hungry_until_enough_is_ready() -> None:
    workload, tenure = make_workload(concurrency=4), make_tenure()
    learn(workload, 1.0)
    assert workload.hungry()
    deliver(tenure, [None] * 4)
    workload.enqueue(tenure, 0.0)
    assert not workload.hungry()


def test_what_follows_a_finished_head_gets_its_turn() -> None:
    workload, tenure = make_workload(), make_tenure()
    first, second = deliver(tenure, [b"a", b"a"])
    workload.enqueue(tenure, 0.0)
    tenure.lanes.take(1)
    tenure.lanes.resolve([first], DONE)
    workload.enqueue(tenure, 0.0)
    assert workload.next_chunk(0.0) == [second]


def hand_out(keys: list[bytes], service_s: float) -> list[bytes | None]:
    """Keys in the order of the first claim list, for a handler that takes so long and hardly computes."""
    workload = make_workload("asyncio", concurrency=100)
    warm = make_tenure(1)
    now = 0.0
    for _ in range(40):
        deliver(warm, [None])
        workload.enqueue(warm, now)
        (record,) = workload.next_chunk(now) or []
        now += service_s
        workload.learn(1, 0.00001, 0.00001, [service_s])
        warm.lanes.resolve([record], DONE)
        warm.dispatched -= 1
        workload.dispatched -= 1
    tenure = make_tenure()
    deliver(tenure, list(keys))
    workload.enqueue(tenure, now)
    return [record.raw_key for record in workload.next_chunk(now) or []]


def test_a_quick_handler_gets_what_follows_a_head_behind_all_heads() -> None:
    assert hand_out([b"a", b"a", b"b", b"b"], service_s=0.0001) == [b"a", b"b", b"a", b"b"]


def test_a_slow_handler_gets_heads_only() -> None:
    """What follows a head would hold a place that another key could use."""
    assert hand_out([b"a", b"a", b"b", b"b"], service_s=0.01) == [b"a", b"b"]
