"""Mistakes that a type checker must catch: each line carries the complaint of mypy that it must draw.

Both checkers report a comment that is not needed, so a mistake that one of them lets pass fails the check. The functions
are never called.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from headrace import App, Batch, Batching, Commit, Record, RetryLater, RetryPolicy
from headrace.testing import RawRecord, run

app = App("localhost:9092", "billing")


def handle(record: Record[str, int]) -> None:
    """A handler."""
    record.value.upper()  # type: ignore[attr-defined] # an int has no upper
    record.key.bit_length()  # type: ignore[attr-defined] # a str has no bit_length
    record.offset = "1"  # type: ignore[assignment] # an offset is an int
    record.values  # type: ignore[attr-defined] # noqa: B018 - it is called value


def handle_plain(record: Record) -> None:
    """Values may be None: a tombstone."""
    record.value.decode()  # type: ignore[union-attr]


def handle_batch(batch: Batch[str, int]) -> None:
    """A handler of batches."""
    batch.fail(batch[0])  # type: ignore[call-arg] # with what error?
    batch.fail(batch[0], "no")  # type: ignore[arg-type] # an error is an exception
    batch.value  # type: ignore[attr-defined] # noqa: B018 - a batch has records


def make_settings() -> None:
    """Values and names that do not exist."""
    App("localhost:9092")  # type: ignore[call-arg] # no group
    App("localhost:9092", "billing", group_protocol="new")  # type: ignore[arg-type]
    App("localhost:9092", "billing", commit=5.0)  # type: ignore[arg-type]
    Commit(every="1s")  # type: ignore[call-arg]
    RetryPolicy(attempts_max="5")  # type: ignore[arg-type]
    RetryPolicy().attempts_max = 3  # type: ignore[misc] # frozen
    RetryLater()  # type: ignore[call-arg]


def subscribe() -> None:
    """Arguments that cannot be meant."""
    app.subscribe("orders", order_by="keys")(handle)  # type: ignore[arg-type]
    app.subscribe("orders", run_in="gevent")(handle)  # type: ignore[arg-type]
    app.subscribe("orders", batch=True)(handle)  # type: ignore[arg-type]
    app.subscribe("orders", batch=Batching, retries=3)(handle)  # type: ignore[arg-type,call-arg]
    app.subscribe(["orders"])(handle)  # type: ignore[arg-type]
    app.subscribe("orders", value_decoder=lambda: 1)(handle)  # type: ignore[arg-type,misc]
    app.subscribe("orders", start_if_no_offset=0)(handle)  # type: ignore[arg-type]
    app.subscribe("orders")("not a function")  # type: ignore[type-var]


def use() -> None:
    """Calls that cannot be meant."""
    app.produce("orders", "text")  # type: ignore[arg-type] # bytes
    app.seek("orders", 0, "beginning")  # type: ignore[arg-type]
    app.pause("orders", 0)  # type: ignore[arg-type] # (topic, partition) pairs
    app.snapshot().state = "running"  # type: ignore[misc] # frozen
    run(handle, ["orders"])  # type: ignore[list-item]
    run(5, [])  # type: ignore[arg-type]
    RawRecord("orders", "key")  # type: ignore[arg-type]
