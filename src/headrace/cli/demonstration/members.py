"""The two members of the group: one App in this process, one in a child process that joins and leaves.

Decides what the handler does (what the plan says) and what a member reports of itself for the view. Invariant: the
child ends when the pipe to its parent closes, however the parent ends.

Run as `python -m headrace.cli.demonstration.members PLAN LEDGER`: it joins at a line on stdin and leaves at its end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace import App, Commit, Record, RetryPolicy
from headrace.cli.demonstration.ledger import LedgerWriter
from headrace.cli.demonstration.plan import (
    ATTEMPTS_MAX,
    DEAD_LETTERS,
    GROUP,
    TOPIC,
    Fate,
    Plan,
    fate_of,
    number_of,
    work_s,
)

if TYPE_CHECKING:
    from headrace import PartitionSnapshot, Snapshot

REPORT_S = 0.25


class Flaky(Exception):
    """What the handler raises on purpose."""


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """One partition as its member sees it. Counts are of records.

    beyond: finished, but not committed yet. held: waits for its turn, a retry, or its dead letter.
    """

    partition: int
    committed: int
    beyond: int
    in_flight: int
    held: int


@dataclass(frozen=True, slots=True)
class Report:
    """A member as the view shows it."""

    state: str = "new"
    partitions: tuple[PartitionReport, ...] = ()
    succeeded: int = 0
    retried: int = 0
    dead_lettered: int = 0
    as_of: float = field(default=0.0, compare=False)

    @classmethod
    def of(cls, snapshot: Snapshot) -> Report:
        """What a snapshot says."""
        counters = snapshot.engine.counters
        partitions = sorted((_report(p) for p in snapshot.engine.partitions), key=lambda p: p.partition)
        return cls(
            snapshot.state,
            tuple(partitions),
            counters.succeeded,
            counters.retried,
            counters.dead_lettered,
            snapshot.as_of,
        )

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The reverse of `json.dumps(asdict(report))`."""
        fields: dict[str, Any] = json.loads(text)
        partitions = tuple(PartitionReport(**p) for p in fields.pop("partitions"))
        return cls(partitions=partitions, **fields)


def _report(partition: PartitionSnapshot) -> PartitionReport:
    held = partition.waiting + partition.parked + partition.held + partition.settling + partition.unacked
    committed = partition.committed or 0
    # The embedded broker leaves no gaps: so many records lie between two offsets.
    beyond = max(0, partition.position - committed - partition.in_flight - held)
    return PartitionReport(partition.partition, committed, beyond, partition.in_flight, held)


def make_app(plan: Plan, ledger: LedgerWriter) -> App:
    """One member. A sabotaged one is configured as nobody should who wants the promises."""
    app = App(
        plan.bootstrap_servers,
        GROUP,
        librdkafka=plan.client,
        group_protocol=plan.protocol,
        commit=Commit(every_s=1.0),
    )
    careless = plan.sabotage == "loss"
    subscribe = app.subscribe(
        TOPIC,
        order_by="none" if plan.sabotage == "order" else "key",
        concurrency=64,
        retry=RetryPolicy(attempts_max=1 if careless else ATTEMPTS_MAX, backoff_initial_s=0.2),
        dead_letter=None if careless else DEAD_LETTERS,
        on_exhausted="skip" if careless else "dead_letter",
    )

    @subscribe
    async def handle(record: Record[bytes, bytes]) -> None:
        number = number_of(record.raw_value)
        ledger.started(number, record.attempt)
        await asyncio.sleep(work_s(number))
        fate = fate_of(number)
        fails = fate is Fate.POISON or (fate is Fate.FAILS_ONCE and record.attempt == 1)
        ledger.ended(number, record.attempt, not fails)
        if fails:
            raise Flaky(fate.value)

    return app


def main() -> None:
    """The child process."""
    plan, path = Plan.from_json(sys.argv[1]), Path(sys.argv[2])
    logging.basicConfig(
        level=logging.INFO if plan.debug else logging.ERROR, format="second member: %(message)s"
    )
    with LedgerWriter(path) as ledger:
        app = make_app(plan, ledger)
        if not sys.stdin.readline():
            return
        leaving = threading.Event()
        threading.Thread(target=_await_end, args=(leaving,), daemon=True).start()
        app.start()
        while not leaving.wait(REPORT_S):
            _tell(app)
        app.stop()
        _tell(app)


def _await_end(leaving: threading.Event) -> None:
    sys.stdin.read()
    leaving.set()


def _tell(app: App) -> None:
    print(json.dumps(asdict(Report.of(app.snapshot()))), flush=True)


if __name__ == "__main__":
    main()
