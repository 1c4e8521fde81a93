"""Time the ledger per record, and the offset map per commit. Needs nothing: `python benchmarks/core_ledger.py`.

The best of several rounds is printed: on a shared machine the others measure the neighbours.
"""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING

from headrace._core.ledger import Ledger
from headrace._core.offset_map import Encoded, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RECORDS = 200_000
POLL = 500
ROUNDS = 7


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  # for shuffling, not for secrets


def best_ns(work: Callable[[], object]) -> int:
    """Time one call, the quickest of several rounds."""
    times: list[int] = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - began)
    return min(times)


def shuffled_within(window: int) -> list[int]:
    shuffler = seeded(window)
    seqs = list(range(RECORDS))
    for first in range(0, RECORDS, window):
        part = seqs[first : first + window]
        shuffler.shuffle(part)
        seqs[first : first + window] = part
    return seqs


def deliver_all(ledger: Ledger, polls: Sequence[list[int]]) -> None:
    for offsets in polls:
        first = ledger.deliver(offsets)
        ledger.already_finished(first, len(offsets))


def ledger_times() -> None:
    polls = [list(range(first, first + POLL)) for first in range(0, RECORDS, POLL)]
    deliver_ns = best_ns(lambda: deliver_all(Ledger(0), polls))
    print(f"{'deliver, 500 a poll':44}{deliver_ns / RECORDS:8.1f} ns/record")
    for window in (1, 100, 10_000):
        seqs = shuffled_within(window)
        for chunk in (POLL, 10):
            chunks = [seqs[first : first + chunk] for first in range(0, RECORDS, chunk)]

            def run(chunks: list[list[int]] = chunks) -> None:
                ledger = Ledger(0)
                deliver_all(ledger, polls)
                for finished in chunks:
                    ledger.finish(finished)

            name = "in order" if window == 1 else f"shuffled within {window:,}"
            finish_ns = best_ns(run) - deliver_ns
            print(f"{f'finish, {name}, {chunk} a call':44}{finish_ns / RECORDS:8.1f} ns/record")

    def run_of(step: int = POLL) -> None:
        ledger = Ledger(0)
        deliver_all(ledger, polls)
        for first in range(0, RECORDS, step):
            ledger.finish_run(first, step)

    print(f"{'finish_run, 500 a call':44}{(best_ns(run_of) - deliver_ns) / RECORDS:8.1f} ns/record")


def encode_of(ledger: Ledger) -> Encoded:
    return encode(ledger.finished_beyond(), leader_epoch=1)


def map_times() -> None:
    shuffler = seeded(1)
    for span, percent in (
        (1_000, 50),
        (20_000, 50),
        (100_000, 0.1),
        (100_000, 1),
        (100_000, 10),
        (100_000, 90),
    ):
        ledger = Ledger(0)
        ledger.deliver(range(span))
        ledger.finish([seq for seq in range(1, span) if shuffler.random() * 100 >= percent])
        encoded = encode_of(ledger)
        encode_ns = best_ns(partial(encode_of, ledger))
        decode_ns = best_ns(partial(decode, encoded.metadata, committed=0, leader_epoch=1))
        print(
            f"span {span:>7,}, {percent:4} % unfinished: encode {encode_ns / 1e6:6.2f} ms,"
            f" decode {decode_ns / 1e6:5.2f} ms, {len(encoded.metadata):4} characters, {encoded.dropped:6} dropped"
        )


if __name__ == "__main__":
    ledger_times()
    map_times()
