"""What holds for every group, however odd: valid, balanced, fewest moves, deterministic, and settled at once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.assign import Claim, CooperativeSticky, Member, Range, RoundRobin, Sticky, Topic, certify
from headrace.errors import GroupInvalid

# The full tier tries 100,000 groups (tests/full/test_assign.py); HEADRACE_EXAMPLES asks for more here.
EXAMPLES = int(os.environ.get("HEADRACE_EXAMPLES", "150"))
many = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)

NAMES = ["a", "b", "c", "d", "e"]
claims = st.builds(
    Claim,
    st.dictionaries(st.sampled_from([*NAMES, "gone"]), st.lists(st.integers(-2, 9), max_size=8), max_size=5),
    st.integers(-1, 4),
)
racks = st.sampled_from([None, "r1", "r2", "r3"])


@st.composite
def groups(draw: st.DrawFn) -> tuple[list[Member], dict[str, int | Topic]]:
    """Members and topics: subscriptions equal or not, claims true or not, racks or none."""
    with_racks = draw(st.booleans())
    topics: dict[str, int | Topic] = {}
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5)):
        size = draw(st.integers(0, 8))
        where = st.sets(st.sampled_from(["r1", "r2", "r3"]), max_size=2)
        topics[name] = (
            Topic(size, racks=draw(st.lists(where, min_size=size, max_size=size))) if with_racks else size
        )
    subscription = st.lists(st.sampled_from([*NAMES, "missing"]), max_size=6)
    same = draw(st.none() | subscription)
    ids = draw(st.lists(st.sampled_from([f"m{n}" for n in range(8)]), unique=True, max_size=7))
    members = [
        Member(name, draw(subscription) if same is None else same, draw(st.none() | claims), draw(racks))
        for name in ids
    ]
    return members, topics


@pytest.mark.slow
@many
@given(groups())
def test_a_sticky_plan_is_optimal(group: tuple[list[Member], dict[str, int | Topic]]) -> None:
    """Valid, fairest, and moving least; with racks, the fewest owners far away come before the fewest moves."""
    members, topics = group
    plan = Sticky(racks=False).assign(members, topics)
    assert certify(plan, members, topics).optimal
    near = Sticky().assign(members, topics)
    proof = certify(near, members, topics, racks=True)
    assert proof.optimal
    assert proof.far <= certify(plan, members, topics, racks=True).far


@pytest.mark.slow
@many
@given(groups(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(
    group: tuple[list[Member], dict[str, int | Topic]], chance: object
) -> None:
    """Members, topics and claims may come in any order."""
    members, topics = group
    turned = [
        replace(
            member,
            topics=list(member.topics)[::-1],
            claim=member.claim
            and Claim(
                {name: list(owned)[::-1] for name, owned in reversed(list(member.claim.owned.items()))},
                member.claim.generation,
            ),
        )
        for member in members
    ]
    chance.shuffle(turned)  # type: ignore[attr-defined]
    for strategy in (Sticky(), CooperativeSticky(), Sticky(balance="kip54"), Range(), RoundRobin()):
        assert strategy.assign(turned, dict(reversed(topics.items()))) == strategy.assign(members, topics)


@pytest.mark.slow
@many
@given(groups())
def test_assigning_again_moves_nothing(group: tuple[list[Member], dict[str, int | Topic]]) -> None:
    members, topics = group
    for strategy in (Sticky(), Sticky(racks=False), Sticky(balance="kip54"), Sticky(tolerance=1)):
        plan = strategy.assign(members, topics)
        assert strategy.assign(members, topics, previous=plan).owners == plan.owners


@many
@given(groups())
def test_cooperative_rounds_are_safe_and_end(group: tuple[list[Member], dict[str, int | Topic]]) -> None:
    """No round gives to one what another says it has; at most four more are needed."""
    members, topics = group
    for generation in range(10, 15):
        plan = CooperativeSticky().assign(members, topics)
        proof = certify(plan, members, topics)
        assert proof.valid
        assert proof.overlaps == 0
        if not plan.withheld:
            return
        claims = plan.claims(generation)
        members = [replace(member, claim=claims[member.id]) for member in members]
    pytest.fail("the rounds do not end")


@pytest.mark.slow
@many
@given(groups())
def test_the_newest_claim_holds(group: tuple[list[Member], dict[str, int | Topic]]) -> None:
    """Told plainly: of those who claim a partition, the one of the highest generation, if there is one and it subscribes."""
    members, topics = group
    plan = Sticky().assign(members, topics)
    for number, name in enumerate(plan.topics):
        for partition in range(plan.firsts[number + 1] - plan.firsts[number]):
            claimants = [m for m in members if m.claim and partition in m.claim.owned.get(name, ())]
            newest = max((m.claim.generation for m in claimants if m.claim), default=None)
            holders = [m for m in claimants if m.claim and m.claim.generation == newest and name in m.topics]
            sole = len([m for m in claimants if m.claim and m.claim.generation == newest]) == 1
            expected = plan.members.index(holders[0].id) if sole and holders else -1
            assert plan.previous[plan.firsts[number] + partition] == expected


@many
@given(groups())
def test_range_and_round_robin_are_valid(group: tuple[list[Member], dict[str, int | Topic]]) -> None:
    members, topics = group
    for strategy in (Range(), RoundRobin()):
        assert certify(strategy.assign(members, topics), members, topics).valid


def test_one_strategy_serves_many_threads() -> None:
    """The bug of Sarama: groups met in one map. Here the plans are those made one after the other."""
    strategy = Sticky()
    cases = []
    for number in range(16):
        topics = {f"t{n}": 3 + (n * number) % 7 for n in range(6)}
        cases.append(
            (
                [
                    Member(
                        f"m{n}", [f"t{k}" for k in range(6) if (n + k + number) % 3], Claim({"t1": [n]}, n)
                    )
                    for n in range(5)
                ],
                topics,
            )
        )
    alone = [strategy.assign(members, topics) for members, topics in cases]
    with ThreadPoolExecutor(16) as pool:
        for _ in range(5):
            found = [pool.submit(strategy.assign, *case) for case in cases * 4]
            assert [future.result() for future in found] == alone * 4


@pytest.mark.parametrize(
    ("wrong", "subject"),
    [
        (lambda: Sticky().assign([Member("a", ["t"]), Member("a", ["t"])], {"t": 1}), "member a"),
        (lambda: Sticky().assign([Member("a", ["t"])], {"t": -1}), "topic t"),
        (lambda: Member("a", "orders"), "member a"),
        (lambda: Member("a", ["t"], capacity=0), "member a"),
        (lambda: Member("a", ["t"], capacity=float("nan")), "member a"),
        (lambda: Claim({}, -2), "generation -2"),
        (lambda: Topic(-1), "topic"),
        (lambda: Topic(2, racks=[["a"]]), "topic"),
        (lambda: Topic(1, loads=[-1.0]), "topic"),
        (lambda: Topic(1, loads=[float("nan")]), "topic"),
        (lambda: Sticky(balance=cast("Any", "best")), "balance 'best'"),
        (lambda: Sticky(balance="kip54", tolerance=1), "tolerance 1"),
        (lambda: CooperativeSticky(tolerance=-1), "tolerance -1"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: object, subject: str) -> None:
    with pytest.raises(GroupInvalid) as refused:
        wrong()  # type: ignore[operator]
    assert refused.value.subject == subject
