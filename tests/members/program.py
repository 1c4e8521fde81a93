"""A member of a consumer group: an app whose handlers write what they do to the outside ledger.

Run as `python -m tests.members.program PLAN`. SIGTERM drains it; its exit code is 0 after a clean stop, 3 after a
forced one. Its custody lines come from notices: only the runtime knows when it gave a partition back.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

from headrace import App, Commit, Connections, ForcedStop, Record, Timeouts
from headrace._core import notices
from tests.members.ledger import Ledger
from tests.members.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._core.notices import Notice
    from tests.members.ledger import Kind

FORCED_EXIT_CODE = 3
HANGS = b"hangs"
"""A record with this key never returns from its handler."""
OWNER = "headrace-owner"
"""Name of the thread that owns the first connection; those of the others have their number behind it."""


def make_app(plan: Plan, ledger: Ledger) -> App:
    """The app of this plan, its one subscription registered."""
    app = App(
        plan.bootstrap_servers,
        plan.group_id,
        group_protocol=plan.protocol,
        instance_id=plan.instance_id,
        librdkafka=plan.librdkafka,
        commit=Commit(every_s=plan.commit_every_s),
        timeouts=Timeouts(**(plan.timeouts or {})),
        connections=Connections(**(plan.connections or {})),
    )
    app.listen(custody_writer(ledger, plan))
    handler = async_handler(plan, ledger) if plan.run_in == "asyncio" else handler_of(plan, ledger)
    app.subscribe(*plan.topics, **(plan.subscribe or {}))(handler)
    return app


def handler_of(plan: Plan, ledger: Ledger) -> Callable[[Record[Any, Any]], None]:
    """A handler for threads."""

    def handle(record: Record[Any, Any]) -> None:
        facts = facts_of(record) | who_handles(plan, record)
        ledger.write("start", **facts, attempt=record.attempt)
        if record.raw_key == HANGS:
            threading.Event().wait()
        time.sleep(pause_s(plan, record))
        ledger.write("end", **facts, detail=outcome_of(plan, record))

    return handle


def async_handler(plan: Plan, ledger: Ledger) -> Callable[[Record[Any, Any]], Any]:
    """The same for an event loop."""

    async def handle(record: Record[Any, Any]) -> None:
        facts = facts_of(record) | who_handles(plan, record)
        ledger.write("start", **facts, attempt=record.attempt)
        try:
            if record.raw_key == HANGS:
                await asyncio.Event().wait()
            await asyncio.sleep(pause_s(plan, record))
        except asyncio.CancelledError:
            ledger.write("end", **facts, detail="cancelled")
            raise
        ledger.write("end", **facts, detail=outcome_of(plan, record))

    return handle


def facts_of(record: Record[Any, Any]) -> dict[str, Any]:
    """Where a record lies, and its key."""
    key = None if record.raw_key is None else record.raw_key.decode()
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset, "key": key}


def who_handles(plan: Plan, record: Record[Any, Any]) -> dict[str, str]:
    """The connection that a record came by, if it has a name: whoever acknowledges the record knows."""
    if not plan.names_connections:
        return {}
    tenure: Any = record._tenure
    return {"member": named(plan, tenure._acknowledge.__self__.number)}


def who_tells(plan: Plan) -> dict[str, str]:
    """The connection that a notice comes from, if it has a name: it is told on the thread of its owner."""
    if not plan.names_connections:
        return {}
    owner = threading.current_thread().name
    assert owner.startswith(OWNER), owner
    return {"member": named(plan, int(owner.removeprefix(OWNER).removeprefix("-") or 0))}


def named(plan: Plan, connection: int) -> str:
    """A connection's name in the ledger."""
    return f"{plan.name}/{connection}"


def outcome_of(plan: Plan, record: Record[Any, Any]) -> str:
    """What the ledger says at the end."""
    return f"ok:{(record.raw_value or b'').decode()}" if plan.keeps_values else "ok"


def pause_s(plan: Plan, record: Record[Any, Any]) -> float:
    """How long this record takes: uneven, and the same in every run."""
    number = zlib.crc32(f"{record.topic}/{record.partition}/{record.offset}".encode())
    return number % (plan.slow_ms + 1) / 1000


def custody_writer(ledger: Ledger, plan: Plan) -> Callable[[Notice], None]:
    """Write down when partitions come and go."""

    def write(kind: Kind, topic: str, partition: int, **facts: Any) -> None:
        ledger.write(kind, topic=topic, partition=partition, **facts, **who_tells(plan))

    def listen(notice: Notice) -> None:
        match notice:
            case notices.PartitionAssigned(topic, partition, _, offset):
                write("assigned", topic, partition, offset=offset)
            case notices.PartitionRevoked(topic, partition, _, committable, abandoned):
                how = "abandoned" if abandoned else "clean"
                write("revoked", topic, partition, offset=committable, detail=how)
            case notices.RevokeUnconfirmed(topic, partition, offset, code):
                write("unconfirmed", topic, partition, offset=offset, detail=code)
            case notices.PartitionLost(topic, partition):
                write("unconfirmed", topic, partition, detail="lost")
            case _:
                pass

    return listen


def main(plan: Plan) -> int:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    app = make_app(plan, Ledger(plan.ledger_path, plan.name))
    try:
        app.run()
    except ForcedStop:
        logging.getLogger(__name__).exception("forced")
        return FORCED_EXIT_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main(Plan.from_argument(sys.argv[1])))
