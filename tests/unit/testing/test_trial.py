"""`headrace.testing.run`: the production runtime on records in memory, and the account it gives of each."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from headrace import (
    App,
    AppStateError,
    Batch,
    Batching,
    ConfigError,
    ForcedStop,
    Record,
    RecordFailed,
    Reject,
    RetryLater,
    RetryPolicy,
    worker_resource,
)
from headrace.testing import RawRecord, Trial, run
from tests.unit.testing import trial_handlers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

ONE = RawRecord("orders", b"k", b"1")
TWO = RawRecord("orders", b"k", b"2")


def new_app(**settings: Any) -> App:
    return App(bootstrap_servers="nowhere:1", group_id="billing", **settings)


def values(records: tuple[Record, ...]) -> list[bytes | None]:
    return [record.value for record in records]


def refuse(record: Record) -> None:
    """A handler that always fails."""
    msg = f"no {record.offset}"
    raise ValueError(msg)


def ignore(record: Record) -> None:
    """A handler that always returns."""


def acknowledge(record: Record) -> None:
    """A handler that acknowledges by hand."""
    record.ack()


def test_bare_handler_gets_its_records_in_order() -> None:
    seen: list[bytes | None] = []

    def handle(record: Record) -> None:
        seen.append(record.value)

    trial = run(handle, [ONE, TWO])
    assert seen == [b"1", b"2"]
    assert values(trial.handled) == seen
    assert trial.committed == {("orders", 0): 2}
    assert trial.error is None


def test_bare_async_handler_runs_on_a_loop() -> None:
    async def handle(record: Record) -> None:
        assert threading.current_thread().name == "headrace-loop"

    assert values(run(handle, [ONE]).handled) == [b"1"]


def test_bare_batch_handler_gets_batches() -> None:
    sizes: list[int] = []

    def handle(batch: Batch) -> None:
        sizes.append(len(batch))

    assert len(run(handle, [ONE, TWO]).handled) == 2
    assert sizes == [2]


def test_a_record_can_be_a_tuple() -> None:
    trial = run(ignore, [("orders", b"k", b"v")])
    assert trial.handled[0].raw_key == b"k"


def test_no_records_are_no_trouble() -> None:
    assert run(ignore, []).handled == ()


def test_record_arrives_whole() -> None:
    given = RawRecord("orders", b"k", b"v", (("h", b"1"), ("h", None)), partition=3, timestamp_ms=12)
    (record,) = run(ignore, [given]).handled
    assert (record.topic, record.partition, record.offset) == ("orders", 3, 0)
    assert (record.key, record.value, record.headers, record.timestamp_ms) == (
        b"k",
        b"v",
        (("h", b"1"), ("h", None)),
        12,
    )


def test_retries_take_no_time_of_ours() -> None:
    app = new_app()

    @app.subscribe("orders", retry=RetryPolicy(attempts_max=5, backoff_initial_s=600))
    def handle(record: Record) -> None:
        if record.attempt < 5:
            raise OSError

    began = time.monotonic()
    trial = run(app, [ONE])
    assert time.monotonic() - began < 1
    assert [(tried.attempt, type(tried.error)) for tried in trial.failed] == [
        (n, OSError) for n in range(1, 5)
    ]
    assert values(trial.handled) == [b"1"]


def test_retry_later_takes_no_time_of_ours() -> None:
    def handle(record: Record) -> None:
        if record.attempt == 1:
            raise RetryLater(80_000, count_attempt=True)

    assert len(run(handle, [ONE, TWO]).failed) == 2


def test_waiting_for_a_batch_takes_no_time_of_ours() -> None:
    app = new_app()

    @app.subscribe("orders", batch=Batching(records_max=10, wait_s=3000))
    def handle(batch: Batch) -> None:
        assert len(batch) == 2

    assert len(run(app, [ONE, TWO]).handled) == 2


def test_exhausted_record_is_raised_as_in_production() -> None:
    with pytest.raises(RecordFailed, match="ValueError: no 0"):
        run(refuse, [ONE])


def test_without_check_the_error_is_in_the_result() -> None:
    trial = run(refuse, [ONE, TWO], check=False)
    assert isinstance(trial.error, RecordFailed)
    assert trial.handled == ()
    assert [record.value for record in trial.unfinished] == [b"1", b"2"]
    assert trial.committed == {("orders", 0): 0}


def test_dead_letter_carries_its_headers() -> None:
    app = new_app()
    app.subscribe("orders", dead_letter="orders.dead", retry=RetryPolicy(attempts_max=2))(refuse)
    trial = run(app, [RawRecord("orders", b"k", b"v", (("mine", b"x"),), timestamp_ms=7)])
    (letter,) = trial.dead_lettered
    assert (letter.topic, letter.key, letter.value) == ("orders.dead", b"k", b"v")
    headers = dict(letter.headers)
    assert headers["mine"] == b"x"
    assert headers["headrace-original-topic"] == b"orders"
    assert headers["headrace-attempts"] == b"2"
    assert headers["headrace-error-message"] == b"no 0"
    assert trial.produced == ()
    assert trial.unfinished == ()
    assert trial.committed == {("orders", 0): 1}


def test_skipped_records_are_told_apart() -> None:
    app = new_app()

    @app.subscribe("orders", on_exhausted="skip")
    def handle(record: Record) -> None:
        if record.value == b"1":
            raise Reject("not this one")

    trial = run(app, [ONE, TWO])
    assert (values(trial.skipped), values(trial.handled)) == ([b"1"], [b"2"])
    assert trial.unfinished == ()


def test_produced_records_are_seen_and_handled_further() -> None:
    app = new_app()

    @app.subscribe("orders")
    def order(record: Record) -> None:
        app.produce("invoices", record.value, key=record.key, headers=[("from", b"order")])

    @app.subscribe("invoices")
    async def invoice(record: Record) -> None:
        await app.produce("sent", record.value)

    trial = run(app, [ONE])
    assert [(r.topic, r.value, r.headers) for r in trial.produced] == [
        ("invoices", b"1", (("from", b"order"),)),
        ("sent", b"1", ()),
    ]
    assert trial.committed == {("orders", 0): 1, ("invoices", 0): 1}


def test_decoders_and_filter_take_part() -> None:
    app = new_app()

    @app.subscribe("orders", value_decoder=int, filter=lambda record: record.value > 1, on_exhausted="skip")
    def handle(record: Record[bytes, int]) -> None:
        assert record.value == 2

    trial = run(app, [ONE, TWO, ("orders", b"k", b"three")])
    assert [record.value for record in trial.handled] == [2]
    assert [record.value for record in trial.filtered] == [1]
    assert [record.offset for record in trial.skipped] == [2]


def test_latest_does_not_pass_over_the_given_records() -> None:
    app = new_app()
    app.subscribe("orders", start_if_no_offset="latest")(ignore)
    assert len(run(app, [ONE]).handled) == 1


@pytest.mark.parametrize("guarantee", ["at_most_once", "none"])
def test_weaker_guarantees_end_too(guarantee: Any) -> None:
    app = new_app()
    app.subscribe("orders", guarantee=guarantee)(ignore)
    assert len(run(app, [ONE, TWO]).handled) == 2


def test_patterns_find_topics() -> None:
    app = new_app()
    app.subscribe(pattern=r"orders\..*", dead_letter="orders.dead")(ignore)
    assert len(run(app, [("orders.eu", None, b"v")]).handled) == 1


def test_acknowledgement_by_hand_finishes_a_record() -> None:
    app = new_app()
    app.subscribe("orders", ack="manual")(acknowledge)
    assert run(app, [ONE, TWO]).unfinished == ()


def test_late_acknowledgement_by_another_thread_is_waited_for() -> None:
    app = new_app()

    @app.subscribe("orders", ack="manual")
    def handle(record: Record) -> None:
        threading.Timer(0.05, record.ack).start()

    assert run(app, [ONE]).committed == {("orders", 0): 1}


@pytest.mark.slow
def test_records_never_acknowledged_are_unfinished() -> None:
    app = new_app()

    @app.subscribe("orders", ack="manual")
    def handle(record: Record) -> None:
        if record.value == b"2":
            record.ack()

    trial = run(app, [ONE, TWO])
    assert [record.value for record in trial.unfinished] == [b"1"]
    assert len(trial.handled) == 2


@pytest.mark.slow
def test_handler_that_hangs_is_abandoned_at_the_timeout() -> None:
    ended = threading.Event()
    with pytest.raises(ForcedStop, match=r"orders\[0\]@0"):
        run(lambda record: ended.wait(10), [ONE], timeout_s=0.1)
    ended.set()


@pytest.mark.slow
def test_worker_processes_take_part() -> None:
    app = new_app()
    app.subscribe("orders", run_in="processes", workers=1, filter=trial_handlers.is_wanted)(
        trial_handlers.fail_once
    )
    trial = run(app, [ONE, ("orders", b"k", b"unwanted")])
    assert (values(trial.handled), values(trial.filtered)) == ([b"1"], [b"unwanted"])
    assert len(trial.failed) == 1


def test_lifespan_hooks_resource_and_listeners_take_part() -> None:
    app = new_app()
    told: list[object] = []

    @app.lifespan
    @contextlib.contextmanager
    def lifespan() -> Generator[None]:
        told.append("entered")
        yield
        told.append("left")

    @app.worker_resource
    @contextlib.asynccontextmanager
    async def resource() -> AsyncGenerator[str]:
        yield "resource"

    app.on_assigned(told.append)
    app.listen(lambda notice: told.append(notice.name))

    @app.subscribe("orders")
    async def handle(record: Record) -> None:
        told.append(worker_resource())

    run(app, [ONE])
    assert told.index("entered") < told.index("resource") < told.index("left")
    assert (("orders", 0),) in told
    assert "partition_assigned" in told


def test_an_app_is_as_new_after_a_trial() -> None:
    app = new_app()
    app.subscribe("orders")(ignore)
    first = run(app, [ONE])
    assert app.state.value == "new"
    assert app.notices() == ()
    assert values(run(app, [ONE]).handled) == values(first.handled)
    assert app.subscribe("payments")(refuse) is refuse


def test_app_of_the_callers_loop_runs_on_its_own() -> None:
    app = new_app(loop="caller")

    @app.subscribe("orders")
    async def handle(record: Record) -> None:
        pass

    assert len(run(app, [ONE]).handled) == 1


def test_an_app_that_runs_is_refused() -> None:
    app = new_app()
    refused: list[Exception] = []

    @app.subscribe("orders")
    def handle(record: Record) -> None:
        try:
            run(app, [ONE])
        except AppStateError as error:
            refused.append(error)

    run(app, [ONE])
    assert len(refused) == 1


def test_record_that_nobody_reads_is_refused() -> None:
    app = new_app()
    app.subscribe("orders")(refuse)
    with pytest.raises(ValueError, match="no subscription reads topic 'payments'"):
        run(app, [("payments", None, None)])


def test_app_without_subscriptions_is_refused() -> None:
    with pytest.raises(ConfigError, match="subscriptions"):
        run(new_app(), [])


def test_trial_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    trial = run(ignore, [ONE] * 100)
    assert isinstance(trial, Trial)
    deadline = time.monotonic() + 2
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not left
