"""Loads instead of counts: bounds that hold for every plan, and moves only where they gain."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.assign import Claim, Member, Sticky, Topic, Weighted, certify, weighed
from headrace.errors import GroupInvalid
from tests.unit.assign.oracle import seeded

loads = st.lists(st.integers(0, 9), min_size=1, max_size=5)


@st.composite
def groups(draw: st.DrawFn) -> tuple[list[Member], dict[str, int | Topic]]:
    topics: dict[str, int | Topic] = {}
    for name in ("a", "b"):
        given_loads = draw(loads)
        topics[name] = Topic(len(given_loads), loads=given_loads)
    members = [
        Member(
            f"m{n}",
            draw(st.sampled_from([["a"], ["b"], ["a", "b"]])),
            Claim({"a": draw(st.lists(st.integers(0, 5), max_size=3))}, n),
            capacity=draw(st.sampled_from([1, 1, 2, 3])),
        )
        for n in range(draw(st.integers(1, 3)))
    ]
    return members, topics


@given(groups(), st.sampled_from([0.0, 0.1, 0.5]))
def test_a_weighted_plan_is_valid_and_settled(
    group: tuple[list[Member], dict[str, int | Topic]], tolerance: float
) -> None:
    members, topics = group
    plan = Weighted(tolerance).assign(members, topics)
    assert certify(plan, members, topics).valid
    assert Weighted(tolerance).assign(members, topics, previous=plan).owners == plan.owners
    assert Weighted(tolerance).assign(members[::-1], dict(reversed(topics.items()))) == plan
    found = weighed(plan, members, topics)
    assert found.ratio >= 1 - 1e-9


@given(groups())
def test_the_bound_is_below_every_plan(group: tuple[list[Member], dict[str, int | Topic]]) -> None:
    """All plans of a small group, tried."""
    members, topics = group
    plan = Weighted(0).assign(members, topics)
    free = [index for index, owner in enumerate(plan.owners) if owner >= 0][:5]
    least = min(
        weighed(
            replace(
                plan,
                owners=tuple(
                    dict(zip(free, owners, strict=True)).get(i, o) for i, o in enumerate(plan.owners)
                ),
            ),
            members,
            topics,
        ).heaviest
        for owners in product(range(len(members)), repeat=len(free))
        if all(_allowed(plan.members[o], i, members, topics) for i, o in zip(free, owners, strict=True))
    )
    assert weighed(plan, members, topics).bound <= least + 1e-9


def _allowed(member: str, index: int, members: list[Member], topics: dict[str, int | Topic]) -> bool:
    first = topics["a"]
    assert isinstance(first, Topic)
    name = "a" if index < first.partitions else "b"
    return any(one.id == member and name in one.topics for one in members)


def test_a_hot_partition_is_alone() -> None:
    group = [Member("a", ["t"]), Member("b", ["t"])]
    plan = Weighted().assign(group, {"t": Topic(4, loads=[30, 10, 10, 10])})
    assert plan.assignments() == {"a": {"t": [0]}, "b": {"t": [1, 2, 3]}}
    assert weighed(plan, group, {"t": Topic(4, loads=[30, 10, 10, 10])}).ratio == 1


def test_capacity_counts() -> None:
    """70 to 30, which users of other clients ask for and cannot have."""
    group = [Member("large", ["t"], capacity=7), Member("small", ["t"], capacity=3)]
    assert Weighted().assign(group, {"t": 100}).loads() == {"large": 70, "small": 30}


def test_partitions_without_load_spread() -> None:
    group = [Member(name, ["t"]) for name in "abc"]
    assert Weighted().assign(group, {"t": Topic(9, loads=[0] * 9)}).loads() == {"a": 3, "b": 3, "c": 3}


def test_noise_moves_nothing() -> None:
    """Loads change by a few in a hundred; what was even enough stays."""
    chance = seeded(9)
    group = [Member(f"m{n}", ["t"]) for n in range(5)]
    base = [chance.randint(50, 150) for _ in range(60)]
    plan = Weighted().assign(group, {"t": Topic(60, loads=base)})
    noisy = [load * chance.uniform(0.97, 1.03) for load in base]
    assert Weighted().assign(group, {"t": Topic(60, loads=noisy)}, previous=plan).owners == plan.owners
    skewed = [load * (8 if owner == 0 else 1) for load, owner in zip(base, plan.owners, strict=True)]
    after = Weighted().assign(group, {"t": Topic(60, loads=skewed)}, previous=plan)
    assert 0 < sum(1 for _ in after.moves()) < 15
    assert weighed(after, group, {"t": Topic(60, loads=skewed)}).ratio < 1.15
    counted = Sticky().assign(group, {"t": Topic(60, loads=skewed)}, previous=plan)
    assert weighed(counted, group, {"t": Topic(60, loads=skewed)}).ratio > 2


def test_tolerance_has_limits() -> None:
    for wrong in (-0.1, float("nan"), 11):
        with pytest.raises(GroupInvalid):
            Weighted(wrong)
