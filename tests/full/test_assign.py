"""Assignment at length: all small groups against every plan there is, 100,000 by chance, and many threads for a minute."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from headrace.assign import Member, Sticky
from tests.unit.assign import test_properties as properties
from tests.unit.assign.oracle import best_by_counts, random_case, seeded, small_cases
from tests.unit.assign.test_optimality import holds, holds_with_every_plan

if TYPE_CHECKING:
    from collections.abc import Callable

PARTS, EXAMPLES = 10, 10_000
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
THREADS = 64
THREADS_FOR_S = 60.0


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    ("members", "topics", "partitions_each", "partitions_all"),
    [(4, 3, 4, 4), (4, 2, 4, 8), (2, 3, 4, 12)],
    ids=["4 partitions in all", "2 topics of 4", "2 members"],
)
def test_no_plan_of_any_small_group_is_better(
    members: int,
    topics: int,
    partitions_each: int,
    partitions_all: int,
    record_property: Callable[[str, object], None],
) -> None:
    """Every previous assignment and every subscription, up to symmetry."""
    tried = 0
    for case in small_cases(members, topics, partitions_each, partitions_all):
        if partitions_all <= 4:
            holds_with_every_plan(case)
        else:
            known = best_by_counts(case)
            holds(case, known.loads, known.moves)
        tried += 1
    record_property("groups", tried)


@pytest.mark.timeout(1_800)
def test_no_plan_of_larger_groups_is_better(record_property: Callable[[str, object], None]) -> None:
    """4 members, 3 topics, 4 partitions each: there are 113 million such groups, so by chance."""
    chance = seeded(7)
    for _ in range(50_000):
        case = random_case(chance, 4, 3, 4)
        known = best_by_counts(case)
        holds(case, known.loads, known.moves)
    record_property("groups", 50_000)


@pytest.mark.timeout(3_600)  # Hypothesis takes an interruption for a strategy that is not deterministic
@pytest.mark.parametrize("part", range(PARTS))
def test_no_counter_example_in_a_hundred_thousand_groups(
    part: int, record_property: Callable[[str, object], None]
) -> None:
    """Every promise of tests/unit/assign/test_properties.py, for each of 100,000 groups: ten parts of 10,000, by seed."""
    found: list[Any] = [
        test
        for name, test in vars(properties).items()
        if name.startswith("test_") and hasattr(test, "hypothesis")
    ]
    promises = [test.hypothesis.inner_test for test in found]
    tried = 0

    @seed(part)
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=SLOW, database=None)
    @given(properties.groups(), st.randoms(use_true_random=False))
    def holds_every_promise(group: Any, chance: object) -> None:
        nonlocal tried
        tried += 1
        for promise in promises:
            shuffled = "chance" in signature(promise).parameters
            promise(group, chance) if shuffled else promise(group)

    assert len(promises) == 6
    holds_every_promise()
    assert tried >= EXAMPLES
    record_property("groups", tried)
    record_property("promises each", len(promises))


@pytest.mark.timeout(300)
def test_one_strategy_under_many_threads(record_property: Callable[[str, object], None]) -> None:
    """64 threads, 64 groups, one strategy, one minute: the plans are those made by one thread alone."""
    strategy = Sticky()
    topics = {f"t{n:02}": 7 + n for n in range(12)}
    names = sorted(topics)
    groups = [
        [Member(f"m{n}", [t for k, t in enumerate(names) if (k * n + g) % 4]) for n in range(9)]
        for g in range(THREADS)
    ]
    alone = [strategy.assign(members, topics) for members in groups]
    until = time.monotonic() + THREADS_FOR_S

    def again_and_again(number: int) -> int:
        made = 0
        while time.monotonic() < until:
            plan = strategy.assign(groups[number], topics)
            assert plan == alone[number]
            assert strategy.assign(groups[number], topics, previous=plan).owners == plan.owners
            made += 2
        return made

    with ThreadPoolExecutor(THREADS) as pool:
        made = sum(pool.map(again_and_again, range(THREADS)))
    record_property("plans", made)
