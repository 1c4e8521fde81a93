"""Where a record's Python goes, part by part, on one thread: ns per record. Needs no broker: `python benchmarks/record_path.py`.

The parts are those of the product, called in the order in which the owner and a worker call them: sort a poll by partition,
take it in, handle it (a handler that does nothing, one record or 500 at a time), settle it, free it. Without threads and
librdkafka between them the numbers are small and steady; what is missing to the whole is the client, the hand-over between
threads, and the caches of two processors. The median of many polls is printed.
"""

from __future__ import annotations

import random
import statistics
import time
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from confluent_kafka import Message

from headrace import Batching, Budgets, Commit
from headrace._client.fetched import group
from headrace._core import events
from headrace._core.effects import Dispatch
from headrace._core.engine import Engine
from headrace._core.workload import Capacity
from headrace._execute.scope import enter_scope
from headrace._execute.thread_worker import ThreadChunk, ThreadWork, ThreadWorker
from headrace._runtime.process import own_process
from headrace.subscriptions import SubscriptionSettings

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from headrace._core.effects import Effect
    from headrace._core.events import Delivered, Finished

POLLS = 400
POLL_RECORDS = 500
PARTITIONS = 8
KEYS = [b"key-%012d" % number for number in range(10_007)]
WORKERS = 64


def nothing(_records: object) -> None:
    return


class Path:
    """One engine and one worker, and the time of each part. For one thread."""

    def __init__(self, settings: SubscriptionSettings) -> None:
        self.times: dict[str, list[float]] = {}
        self._offsets = [0] * PARTITIONS
        self._outcomes: list[Finished | Delivered] = []
        self._engine = Engine(
            [settings],
            [Capacity("threads", WORKERS)],
            commit=Commit(),
            budgets=Budgets(),
            rebuild_after_s=45.0,
            acknowledge=lambda _record: True,
            jitter=random.Random(1).random,  # noqa: S311 # for jitter, not for secrets
        )
        self._outstanding: dict[ThreadChunk, None] = {}
        work = ThreadWork(0, settings, nothing, self._outcomes.append, None, time.monotonic)
        self._worker = ThreadWorker("worker", work, SimpleQueue(), self._outstanding)
        # What its own thread would do first, and later for each list: a thread is what is left out here.
        self._worker._pristine.run(enter_scope, self._worker._scope)  # noqa: SLF001
        self._take_on = self._worker._take_on  # noqa: SLF001
        starts = [events.Start("orders", partition, 0, None) for partition in range(PARTITIONS)]
        self._engine.step(events.Assigned(starts), 0.0)

    def poll(self, number: int, now: float) -> None:
        """One poll's records, from the client's list to their end."""
        messages = self._messages(number)
        with self._timed("sort by partition", POLL_RECORDS):
            groups, _ = group(messages)
        messages.clear()
        fetched = events.Fetched(groups)
        with self._timed("take in", POLL_RECORDS):
            effects = self._engine.step(fetched, now)
        del fetched, groups
        self._handle(effects)
        effects.clear()
        while self._outcomes:
            self._settle(now)

    def _handle(self, effects: Sequence[Effect]) -> None:
        """Be the executor: each list is worked off at once."""
        for effect in effects:
            if isinstance(effect, Dispatch):
                chunk = ThreadChunk(effect.records)
                self._outstanding[chunk] = None
                with self._timed("handle", len(effect.records)):
                    self._take_on(chunk)

    def _settle(self, now: float) -> None:
        outcome = self._outcomes.pop(0)
        assert isinstance(outcome, events.Finished)
        records = len(outcome.succeeded)
        with self._timed("settle", records):
            effects = self._engine.step(outcome, now)
        with self._timed("free", records):
            del outcome
        self._handle(effects)

    def _messages(self, number: int) -> list[Any]:
        """Of two partitions, as the client returns them: a run of one, then a run of the other."""
        made: list[Any] = []
        for partition in (number % PARTITIONS, (number + 1) % PARTITIONS):
            for _ in range(POLL_RECORDS // 2):
                offset = self._offsets[partition]
                self._offsets[partition] += 1
                key = bytes(bytearray(KEYS[(offset * PARTITIONS + partition) % len(KEYS)]))
                made.append(
                    Message(
                        topic="orders",
                        partition=partition,
                        offset=offset,
                        key=key,
                        value=bytes(100),
                        timestamp=(1, 1_700_000_000_000),
                    )
                )
        return made

    @contextmanager
    def _timed(self, part: str, records: int) -> Generator[None]:
        began = time.perf_counter_ns()
        yield
        self.times.setdefault(part, []).append((time.perf_counter_ns() - began) / records)


def main() -> None:
    own_process()
    for title, batch in (("def", None), ("batches of 500", Batching(500))):
        path = Path(SubscriptionSettings("nothing", ("orders",), batch=batch))
        for number in range(POLLS):
            path.poll(number, number / 1000)
        parts = {part: statistics.median(times) for part, times in path.times.items()}
        print(f"{title}: {sum(parts.values()):.0f} ns a record")
        for part, ns in parts.items():
            print(f"    {part:20}{ns:6.0f}")


if __name__ == "__main__":
    main()
