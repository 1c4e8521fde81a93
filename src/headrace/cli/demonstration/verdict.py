"""Whether the promises held: judged from what was produced, what handlers did, and what the topics hold.

Pure, and shares no code with the runtime that it judges. Promised: every acknowledged record was handled or is a dead
letter; records of a key were handled one at a time and in order; every offset is committed. Repeats are allowed.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.cli.demonstration.plan import ATTEMPTS_MAX, Fate, fate_of, key_of, value_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from headrace.cli.demonstration.ledger import Run


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter as read back: the record's number, key and value, and where its headers say it came from."""

    number: int
    key: bytes | None
    value: bytes | None
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the verdict is made from.

    produced: numbers that the broker acknowledged. stored: number -> (partition, offset), read back from the topic.
    runs: all calls of handlers. committed, ends: per partition, asked of the broker after the end.
    """

    produced: Collection[int]
    stored: Mapping[int, tuple[int, int]]
    runs: Sequence[Run]
    dead_letters: Sequence[DeadLetter]
    committed: Mapping[int, int]
    ends: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts of records. `lost`, `out_of_order`, `uncommitted` and `damaged` must be 0."""

    produced: int
    handled: int
    dead_lettered: int
    lost: int
    out_of_order: int
    uncommitted: int
    damaged: int
    duplicates: int

    @property
    def held(self) -> bool:
        """Whether every promise held; a demonstration of nothing proves nothing."""
        broken = self.lost + self.out_of_order + self.uncommitted + self.damaged
        return broken == 0 and self.produced > 0


def judge(evidence: Evidence) -> Verdict:
    """Count what was promised and what was not."""
    produced = set(evidence.produced)
    succeeded = [run.number for run in evidence.runs if run.ok]
    handled = set(succeeded)
    dead = {letter.number for letter in evidence.dead_letters}
    return Verdict(
        produced=len(produced),
        handled=len(handled),
        dead_lettered=len(dead),
        lost=len(produced - handled - dead) + len(produced - evidence.stored.keys()),
        out_of_order=_out_of_order(evidence.stored, evidence.runs),
        uncommitted=sum(max(0, end - evidence.committed.get(p, 0)) for p, end in evidence.ends.items()),
        damaged=sum(_is_damaged(letter, evidence.stored) for letter in evidence.dead_letters),
        duplicates=len(succeeded) - len(handled) + len(evidence.dead_letters) - len(dead),
    )


def _is_damaged(letter: DeadLetter, stored: Mapping[int, tuple[int, int]]) -> bool:
    """Not a record that had to fail, or not as it was, or from elsewhere than its headers say."""
    return (
        fate_of(letter.number) is not Fate.POISON
        or (letter.key, letter.value) != (key_of(letter.number), value_of(letter.number))
        or (letter.partition, letter.offset) != stored.get(letter.number)
    )


def _out_of_order(stored: Mapping[int, tuple[int, int]], runs: Sequence[Run]) -> int:
    """Records that began before an earlier one of their key was done with, or while another one of it ran."""
    by_number: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        by_number[run.number].append(run)
    by_key: dict[bytes, list[int]] = defaultdict(list)
    for number in sorted(by_number, key=lambda n: stored.get(n, (-1, -1))):
        by_key[key_of(number)].append(number)
    wrong: set[int] = set()
    for numbers in by_key.values():
        for earlier, later in itertools.pairwise(numbers):
            if min(run.started_at for run in by_number[later]) < _done_at(by_number[earlier]):
                wrong.add(later)
        wrong |= _overlapping(run for number in numbers for run in by_number[number])
    return len(wrong)


def _done_at(runs: Iterable[Run]) -> float:
    """When a record was first handled or first given up. One that never was is lost, and counted there."""
    return min(
        (r.ended_at for r in runs if r.ended_at is not None and (r.ok or r.attempt >= ATTEMPTS_MAX)),
        default=float("-inf"),
    )


def _overlapping(runs: Iterable[Run]) -> set[int]:
    """Of the runs of one key, those that began while another ran; one that was cut off is not known to run on."""
    wrong: set[int] = set()
    busy_until = float("-inf")
    for run in sorted(runs, key=lambda r: r.started_at):
        if run.started_at < busy_until:
            wrong.add(run.number)
        busy_until = max(busy_until, run.ended_at or run.started_at)
    return wrong
