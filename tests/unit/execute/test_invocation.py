"""What happens around the handler: decoders, filter, batches. On threads and on a loop alike."""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from headrace._execute.handler_loop import HandlerLoop
from headrace._execute.invocation import FILTERED, bind, bind_async
from headrace._execute.scope import note_produced
from headrace._execute.tasks import TaskExecutor
from headrace._execute.threads import ThreadExecutor
from headrace.config import Batching
from headrace.errors import DecodeFailed, HandlerTimeout
from tests.unit.execute.fakes import (
    WAIT_S,
    FakeTenure,
    Inbox,
    distinct,
    eventually,
    make_records,
    offsets,
    settings_with,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headrace.records import Batch, Record


class Run(Protocol):
    """Runs a handler over one list; options are settings."""

    def __call__(
        self,
        handler: Callable[[Any], object],
        records: list[Record[Any, Any]],
        *,
        waits: bool = True,
        **options: Any,
    ) -> Inbox: ...


BATCHES = Batching(records_max=100)


def has_even_key(record: Record[int, bytes]) -> bool:
    return record.key % 2 == 0


def is_odd(record: Record[Any, Any]) -> bool:
    return record.offset % 2 == 1


def is_nothing(_record: Record[Any, Any]) -> bool:
    return False


def refuse(_argument: object) -> Any:
    raise ArithmeticError("refused")


@pytest.fixture(params=["threads", "loop", "loop, suspending"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Give a way to run a `def` handler over one list, on each kind of executor."""
    inbox = Inbox()
    handler_loop = HandlerLoop()
    handler_loop.start()
    executors: list[ThreadExecutor | TaskExecutor] = []

    def run_list(
        handler: Callable[[Any], object],
        records: list[Record[Any, Any]],
        *,
        waits: bool = True,
        **options: Any,
    ) -> Inbox:
        async def handler_async(argument: Any) -> object:
            if request.param != "loop":
                await asyncio.sleep(0)
            return handler(argument)

        settings = settings_with(**options)
        executor: ThreadExecutor | TaskExecutor
        if request.param == "threads":
            executor = ThreadExecutor(0, settings, handler, inbox.deliver)
        else:
            executor = TaskExecutor(0, settings, handler_async, inbox.deliver, handler_loop.loop)
        executors.append(executor)
        executor.submit(records)
        if waits:
            inbox.wait_for_all(records)
        return inbox

    yield run_list
    for executor in executors:
        assert executor.close(WAIT_S) == []
    assert handler_loop.stop(WAIT_S)


def test_without_settings_the_handler_itself_is_called() -> None:
    async def handler(record: Record[Any, Any]) -> None: ...

    assert bind(settings_with(), print) is print
    assert bind_async(settings_with(), handler) is handler
    assert inspect.iscoroutinefunction(bind_async(settings_with(filter=bool), handler))


def test_decoders_run_before_the_handler(run: Run) -> None:
    seen: list[object] = []
    records = make_records([b"a"], value=b'{"x": 1}')
    run(
        lambda record: seen.append((record.key, record.value)),
        records,
        key_decoder=bytes.decode,
        value_decoder=json.loads,
    )
    assert seen == [("a", {"x": 1})]


def test_decoders_are_not_asked_about_none(run: Run) -> None:
    seen: list[object] = []
    records = make_records([None], value=None)
    run(
        lambda record: seen.append((record.key, record.value)),
        records,
        key_decoder=refuse,
        value_decoder=refuse,
    )
    assert seen == [(None, None)]


@pytest.mark.parametrize("what", ["key_decoder", "value_decoder"])
@pytest.mark.parametrize("batch", [None, BATCHES])
def test_what_cannot_be_decoded_fails_and_its_lane_waits(run: Run, what: str, batch: Batching | None) -> None:
    handled: list[int] = []

    def handler(argument: Any) -> None:
        handled.extend(offsets(argument if batch else [argument]))

    records = make_records([b"a", b"b", b"a"])
    broken = [True]

    def decode(raw: bytes) -> bytes:
        if broken and raw in (b"a", b"value"):
            broken.pop()
            raise ValueError("garbage")
        return raw

    options: dict[str, Any] = {what: decode}
    inbox = run(handler, records, batch=batch, **options)
    assert (offsets(inbox.failed), offsets(inbox.returned), handled) == ([0], [2], [1])
    error = inbox.errors[0]
    assert isinstance(error, DecodeFailed)
    assert error.what == what
    assert isinstance(error.__cause__, ValueError)


@pytest.mark.parametrize("kind", [MemoryError, SystemExit])
def test_what_stops_the_app_is_not_taken_for_a_decoding_error(run: Run, kind: type[BaseException]) -> None:
    def decode(_raw: bytes) -> object:
        raise kind

    inbox = run(print, distinct(1), value_decoder=decode)
    assert isinstance(inbox.errors[0], kind)


def test_filtered_records_succeed_without_the_handler_and_see_decoded_values(run: Run) -> None:
    handled: list[int] = []
    records = make_records([b"1", b"2", b"3", b"4"])
    inbox = run(
        lambda record: handled.append(record.key),
        records,
        key_decoder=int,
        filter=has_even_key,
    )
    assert sorted(handled) == [2, 4]
    assert sorted(offsets(inbox.succeeded)) == [0, 1, 2, 3]
    assert inbox.filtered == 2


def test_filtered_records_are_acknowledged_where_the_user_acknowledges(run: Run) -> None:
    records = make_records([b"1", b"2", b"3", b"4"])
    acknowledged: list[int] = []
    for record in records:
        tenure = record._tenure
        assert isinstance(tenure, FakeTenure)
        tenure.acknowledged = acknowledged
    run(lambda _: None, records, key_decoder=int, filter=has_even_key, ack="manual")
    assert sorted(acknowledged) == [0, 2]


def test_nothing_is_returned_behind_a_failure_that_is_never_tried_again(run: Run) -> None:
    def handler(batch: Batch[Any, Any]) -> None:
        batch.fail(batch[0], ValueError("first"))

    records = make_records([b"a", b"a", b"b"])
    inbox = run(handler, records, batch=BATCHES, guarantee="at_most_once")
    assert (offsets(inbox.failed), offsets(inbox.returned), offsets(inbox.succeeded)) == ([0], [], [1, 2])


def test_a_filter_that_raises_fails_its_record(run: Run) -> None:
    inbox = run(print, distinct(1), filter=refuse)
    assert isinstance(inbox.errors[0], ArithmeticError)


def test_what_a_handler_returns_is_never_taken_for_filtered(run: Run) -> None:
    assert run(lambda record: repr(FILTERED), distinct(3)).filtered == 0


def test_a_batch_handler_gets_the_list_at_once(run: Run) -> None:
    batches: list[list[int]] = []
    records = distinct(5)
    inbox = run(lambda batch: batches.append(offsets(batch)), records, batch=BATCHES)
    assert batches == [[0, 1, 2, 3, 4]]
    assert (inbox.succeeded, inbox.started) == (records, 5)


def test_one_failed_record_of_a_batch_fails_and_the_later_ones_of_its_lane_are_returned(run: Run) -> None:
    records = make_records([b"a", b"b", b"a", b"b", b"a"])

    def handler(batch: Batch[Any, Any]) -> None:
        batch.fail(batch[2], ValueError("third"))
        batch.fail(batch[4], ValueError("behind it"))

    inbox = run(handler, records, batch=BATCHES)
    assert [offsets(group) for group in (inbox.failed, inbox.returned, inbox.succeeded)] == [
        [2],
        [4],
        [0, 1, 3],
    ]


def test_a_batch_handler_that_raises_fails_the_head_of_each_lane(run: Run) -> None:
    def handler(batch: Batch[Any, Any]) -> None:
        raise ValueError("all")

    inbox = run(handler, make_records([b"a", b"b", b"a", None, None]), batch=BATCHES)
    assert (offsets(inbox.failed), offsets(inbox.returned)) == ([0, 1, 3, 4], [2])


def test_filtered_records_of_a_batch_succeed_apart_but_never_behind_a_failure(run: Run) -> None:
    def handler(batch: Batch[Any, Any]) -> None:
        raise ValueError("all")

    records = make_records([b"a", b"b", b"b", b"c"])
    inbox = run(handler, records, batch=BATCHES, filter=is_odd)
    assert (offsets(inbox.failed), offsets(inbox.returned), offsets(inbox.succeeded)) == ([1, 3], [2], [0])
    assert inbox.filtered == 1


def test_a_batch_without_records_calls_no_handler(run: Run) -> None:
    inbox = run(refuse, distinct(3), batch=BATCHES, filter=is_nothing)
    assert (len(inbox.succeeded), inbox.filtered) == (3, 3)


def test_batches_are_of_one_partition(run: Run) -> None:
    seen: list[tuple[int, list[int]]] = []
    records = distinct(2) + distinct(2, FakeTenure(partition=1))
    inbox = run(lambda batch: seen.append((batch.partition, offsets(batch))), records, batch=BATCHES)
    # A loop gives the second partition back; threads run one batch after the other.
    assert seen[0] == (0, [0, 1])
    assert len(inbox.succeeded) + len(inbox.returned) == 4


def test_stale_records_are_left_out_of_a_batch(run: Run) -> None:
    lost = FakeTenure(partition=1)
    lost.open = False
    stale = distinct(2, lost)
    inbox = run(lambda batch: None, stale, batch=BATCHES)
    assert (inbox.returned, inbox.started) == (stale, 0)


def test_a_batch_waits_for_all_that_it_produced(run: Run) -> None:
    noted: list[Any] = []
    records = make_records([b"a", b"a", b"b"])
    inbox = run(
        lambda batch: noted.extend([note_produced(), note_produced()]), records, batch=BATCHES, waits=False
    )
    eventually(lambda: len(noted) == 2)
    noted[0].acknowledged(None)
    assert inbox.outcomes == []
    noted[1].acknowledged(ConnectionError("lost"))
    inbox.wait_for_all(records)
    assert (offsets(inbox.failed), offsets(inbox.returned)) == ([0, 2], [1])


def test_timeout_s_bounds_a_batch() -> None:
    async def handler(_batch: Batch[Any, Any]) -> None:
        await asyncio.sleep(WAIT_S)

    inbox, handler_loop = Inbox(), HandlerLoop()
    handler_loop.start()
    settings = settings_with(batch=BATCHES, timeout_s=0.005)
    executor = TaskExecutor(0, settings, handler, inbox.deliver, handler_loop.loop)
    records = distinct(2)
    executor.submit(records)
    inbox.wait_for_all(records)
    assert all(isinstance(error, HandlerTimeout) for error in inbox.errors)
    assert executor.close(WAIT_S) == []
    assert handler_loop.stop(WAIT_S)
