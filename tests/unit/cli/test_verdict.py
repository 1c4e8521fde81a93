"""The demonstration's verdict sees every broken promise: a check that cannot fail would prove nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from headrace.cli.demonstration.ledger import LedgerWriter, Run, read_runs
from headrace.cli.demonstration.plan import (
    ATTEMPTS_MAX,
    PARTITIONS,
    Fate,
    Plan,
    fate_of,
    key_of,
    number_of,
    partition_of,
    value_of,
)
from headrace.cli.demonstration.verdict import DeadLetter, Evidence, judge

if TYPE_CHECKING:
    from pathlib import Path

POISON = next(n for n in range(10_000) if fate_of(n) is Fate.POISON)
FIRST = next(n for n in range(10_000) if fate_of(n) is Fate.QUICK)
SECOND = next(n for n in range(FIRST + 1, 10_000) if key_of(n) == key_of(FIRST) and fate_of(n) is Fate.QUICK)


def run_of(number: int, started_at: float, *, ok: bool = True, attempt: int = 1, lasts_s: float = 0.5) -> Run:
    """One call of a handler."""
    return Run(number, "first", attempt, started_at, started_at + lasts_s, ok)


def kept() -> Evidence:
    """Two records of one key handled in order, and a poisonous one dead-lettered after its attempts."""
    failures = [run_of(POISON, 10.0 + n, ok=False, attempt=n) for n in range(1, ATTEMPTS_MAX + 1)]
    return Evidence(
        produced=[FIRST, SECOND, POISON],
        stored={FIRST: (0, 0), SECOND: (0, 1), POISON: (1, 5)},
        runs=[run_of(FIRST, 1.0), run_of(SECOND, 2.0), *failures],
        dead_letters=[DeadLetter(POISON, key_of(POISON), value_of(POISON), 1, 5)],
        committed={0: 2, 1: 6},
        ends={0: 2, 1: 6},
    )


def test_kept_promises_are_seen_as_kept() -> None:
    verdict = judge(kept())
    assert verdict.held
    assert (verdict.produced, verdict.handled, verdict.dead_lettered) == (3, 2, 1)
    assert (verdict.lost, verdict.out_of_order, verdict.uncommitted, verdict.damaged) == (0, 0, 0, 0)
    assert verdict.duplicates == 0


def test_a_record_that_was_not_handled_is_lost() -> None:
    evidence = kept()
    verdict = judge(replace(evidence, runs=[run for run in evidence.runs if run.number != SECOND]))
    assert verdict.lost == 1
    assert not verdict.held


def test_a_handler_that_only_began_does_not_count() -> None:
    evidence = kept()
    runs = [replace(r, ended_at=None, ok=False) if r.number == SECOND else r for r in evidence.runs]
    assert judge(replace(evidence, runs=runs)).lost == 1


def test_a_missing_dead_letter_is_a_lost_record() -> None:
    assert judge(replace(kept(), dead_letters=[])).lost == 1


def test_an_acknowledged_record_that_is_not_stored_is_lost() -> None:
    evidence = kept()
    stored = {number: place for number, place in evidence.stored.items() if number != FIRST}
    assert judge(replace(evidence, stored=stored)).lost == 1


def test_the_later_record_of_a_key_may_not_begin_first() -> None:
    evidence = kept()
    runs = [run_of(FIRST, 2.0), run_of(SECOND, 1.0), *evidence.runs[2:]]
    assert judge(replace(evidence, runs=runs)).out_of_order == 1


def test_two_records_of_a_key_may_not_run_at_once() -> None:
    evidence = kept()
    runs = [run_of(FIRST, 1.0), run_of(SECOND, 1.4), *evidence.runs[2:]]
    verdict = judge(replace(evidence, runs=runs))
    assert verdict.out_of_order == 1
    assert not verdict.held


def test_a_repeat_may_not_run_beside_another_record_of_its_key() -> None:
    evidence = kept()
    verdict = judge(replace(evidence, runs=[*evidence.runs, run_of(FIRST, 2.2)]))
    assert (verdict.out_of_order, verdict.duplicates) == (1, 1)


def test_a_repeat_is_a_duplicate_and_allowed() -> None:
    evidence = kept()
    verdict = judge(replace(evidence, runs=[*evidence.runs, run_of(FIRST, 5.0), run_of(SECOND, 6.0)]))
    assert verdict.duplicates == 2
    assert verdict.held


def test_a_repeated_dead_letter_is_a_duplicate() -> None:
    evidence = kept()
    assert judge(replace(evidence, dead_letters=[*evidence.dead_letters] * 2)).duplicates == 1


def test_an_offset_that_is_not_committed_breaks_a_promise() -> None:
    verdict = judge(replace(kept(), committed={0: 1}))
    assert verdict.uncommitted == 7
    assert not verdict.held


@pytest.mark.parametrize("change", [{"key": b"x"}, {"value": None}, {"offset": 4}, {"partition": 0}])
def test_a_dead_letter_that_differs_from_its_record_is_damaged(change: dict[str, object]) -> None:
    evidence = kept()
    letters = [replace(evidence.dead_letters[0], **change)]  # type: ignore[arg-type] # one field of its own type
    verdict = judge(replace(evidence, dead_letters=letters))
    assert verdict.damaged == 1
    assert not verdict.held


def test_a_dead_letter_of_a_healthy_record_is_damage() -> None:
    letter = DeadLetter(FIRST, key_of(FIRST), value_of(FIRST), 0, 0)
    assert judge(replace(kept(), dead_letters=[*kept().dead_letters, letter])).damaged == 1


def test_a_demonstration_of_nothing_proves_nothing() -> None:
    assert not judge(Evidence([], {}, [], [], {}, {})).held


def test_the_ledger_reads_back_what_was_written(tmp_path: Path) -> None:
    with LedgerWriter(tmp_path / "ledger") as ledger:
        ledger.started(1, 1)
        ledger.started(2, 1)
        ledger.ended(2, 1, ok=True)
        ledger.ended(1, 1, ok=False)
        ledger.started(1, 2)
    runs = read_runs(tmp_path / "ledger", "me")
    assert [(run.number, run.attempt, run.ok, run.ended_at is None) for run in runs] == [
        (1, 1, False, False),
        (2, 1, True, False),
        (1, 2, False, True),
    ]


def test_a_plan_survives_the_way_to_another_process() -> None:
    plan = Plan("b:1", 5.0, 100, {"a": 1}, sabotage="loss")
    assert Plan.from_json(plan.to_json()) == plan


def test_fates_are_all_there_and_keys_stay_in_their_partition() -> None:
    numbers = range(4000)
    assert {fate_of(number) for number in numbers} == set(Fate)
    assert {partition_of(number) for number in numbers} == set(range(PARTITIONS))
    assert len({(key_of(n), partition_of(n)) for n in numbers}) == len({key_of(n) for n in numbers})
    assert [number_of(value_of(number)) for number in (0, 7)] == [0, 7]
