"""What users write and must be allowed to: each piece passes mypy strict and pyright strict without a comment.

`assert_type` pins what a checker infers, so that a change of our annotations shows here and not at our users.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, assert_type

from headrace import (
    App,
    AppState,
    Batch,
    Batching,
    Budgets,
    Commit,
    Delivery,
    FatalError,
    Record,
    RecordFailed,
    Reject,
    RetryLater,
    RetryPolicy,
    Snapshot,
    Timeouts,
    worker_resource,
)
from headrace.testing import MockBroker, RawRecord, Trial, run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator


@dataclass(frozen=True)
class Order:
    """What a user makes of a value."""

    number: int
    total: float


def order_of(value: bytes) -> Order:
    return Order(**json.loads(value))


def text_of(key: bytes) -> str:
    return key.decode()


log = logging.getLogger("billing")

app = App(
    bootstrap_servers="localhost:9092",
    group_id="billing",
    librdkafka={"security.protocol": "SASL_SSL", "fetch.wait.max.ms": 50},
    group_protocol="consumer",
    instance_id="billing-1",
    commit=Commit(every_s=0.5, every_records=1000),
    budgets=Budgets(queued_records_max=1000),
    timeouts=Timeouts(connect_s=None, stop_s=10),
    loop="caller",
)


# Handlers


@app.subscribe("plain")
def plain(record: Record) -> None:
    assert_type(record.key, bytes | None)
    assert_type(record.value, bytes | None)
    assert_type(record.raw_key, bytes | None)
    assert_type(record.offset, int)
    assert_type(record.headers, tuple[tuple[str, bytes | None], ...])
    assert_type(record.timestamp_ms, int | None)


@app.subscribe("orders", key_decoder=text_of, value_decoder=order_of, dead_letter="orders.dead")
async def charge(record: Record[str, Order]) -> None:
    assert_type(record.value, Order)
    assert_type(record.key, str)
    await asyncio.sleep(record.value.total)
    if record.value.total < 0:
        raise Reject("less than nothing")
    raise RetryLater(after_s=1.5, count_attempt=True)


@app.subscribe("batches", batch=Batching(records_max=100, wait_s=0.1), value_decoder=order_of)
def charge_many(batch: Batch[bytes | None, Order]) -> int:
    for record in batch:
        assert_type(record.value, Order)
        batch.fail(record, ValueError("no"))
    assert_type(batch[0].value, Order)
    assert_type(batch.records, tuple[Record[bytes | None, Order], ...])
    return len(batch)


@app.subscribe("batches.plain", batch=Batching())
async def charge_many_later(batch: Batch) -> None:
    assert_type(batch[0].value, bytes | None)


@app.subscribe(pattern=r"audit\..*", order_by="none", run_in="processes", workers=2, timeout_s=5)
def audit(record: Record) -> None:
    del record


@app.subscribe(
    "everything",
    order_by="partition",
    concurrency=256,
    workers=8,
    run_in="threads",
    retry=RetryPolicy(attempts_max=3, fatal=(KeyError,)),
    on_exhausted="skip",
    start_if_no_offset=datetime(2026, 1, 1, tzinfo=UTC),
    on_out_of_range="earliest",
    ack="manual",
    filter=lambda record: record.offset > 10,
)
def by_hand(record: Record) -> None:
    assert_type(record.ack(), bool)


class Biller:
    """A callable object may be a handler."""

    def __call__(self, record: Record) -> None:
        del record


app.subscribe("objects")(Biller())
# A decorated handler is the function it was.
assert_type(order_of(b"{}"), Order)
charge_again = charge


# Hooks and resources


@app.on_assigned
def assigned(partitions: tuple[tuple[str, int], ...]) -> None:
    del partitions


@app.on_revoked
async def revoked(partitions: tuple[tuple[str, int], ...]) -> None:
    del partitions


@app.lifespan
@asynccontextmanager
async def database(_: App) -> AsyncGenerator[None]:
    yield


@app.worker_resource
@contextmanager
def connection() -> Generator[Order]:
    yield Order(1, 1.0)


def use_resource() -> Order:
    order: Order = worker_resource()
    return order


# Running


def from_sync_code() -> None:
    app.start()
    assert_type(app.state, AppState)
    assert_type(app.snapshot(), Snapshot)
    for partition in app.snapshot().engine.partitions:
        assert_type(partition.oldest_age_s, float | None)
    app.pause(("orders", 0), ("orders", 1))
    app.resume(("orders", 0))
    app.seek("orders", 0, "earliest")
    app.seek("orders", 0, datetime.now(tz=UTC))
    app.listen(lambda notice: log.info(notice.name, notice.facts()))
    try:
        app.stop(timeout_s=5)
    except RecordFailed as error:
        assert_type(error.offset, int)
    except FatalError as error:
        assert_type(error, FatalError)


async def from_a_web_application() -> None:
    async with app as same:
        assert_type(same, App)
        delivery = app.produce("orders", b"{}", key=b"1", headers=[("source", b"web")], partition=0)
        assert_type(delivery, Delivery)
        await delivery
        app.request_stop(hard=False)
    await app.wait()


# Testing


def try_out() -> None:
    trial = run(app, [RawRecord("orders", b"k", b"{}", headers=(("a", None),)), ("plain", None, b"v")])
    assert_type(trial, Trial)
    assert_type(trial.dead_lettered, tuple[RawRecord, ...])
    assert_type(trial.failed[0].error, BaseException)
    run(plain, [("plain", b"k", b"v")], timeout_s=1, check=False)
    run(charge, [])
    run(charge_many, [])
    with MockBroker(topics={"orders": 4}) as broker:
        assert_type(broker.bootstrap_servers, str)
