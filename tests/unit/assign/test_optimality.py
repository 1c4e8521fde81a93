"""The sticky strategies against every plan there is, for small groups; and the certificate against both."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest

from headrace.assign import CooperativeSticky, Member, Plan, RoundRobin, Sticky, certify
from tests.unit.assign.oracle import Case, best, best_by_counts, random_case, seeded, small_cases


def holds(case: Case, loads: tuple[int, ...], moves: int) -> None:
    """The plan has the best loads and the fewest moves, and the certificate knows it."""
    plan = Sticky().assign(case.members, case.topics)
    proof = certify(plan, case.members, case.topics)
    assert tuple(sorted(plan.loads().values())) == loads, case
    assert proof.moves == sum(1 for _ in plan.moves()) == moves, case
    assert proof.optimal, (case, proof)
    again = Sticky().assign(case.members, case.topics, previous=plan)
    assert again.owners == plan.owners, case


def holds_with_every_plan(case: Case) -> None:
    """Against the oracle that tries every plan."""
    known = best(case)
    holds(case, known.loads, known.moves)


def test_the_two_oracles_agree() -> None:
    """One tries every plan, one counts."""
    chance = seeded(1)
    for _ in range(300):
        case = random_case(chance, 3, 3, 2)
        assert best(case) == best_by_counts(case), case


@pytest.mark.slow
def test_no_plan_of_a_small_group_is_better() -> None:
    """A part of what the full tier tries: every 97th of all groups up to 4 members, 3 topics, 4 partitions."""
    tried = 0
    for case in islice(small_cases(4, 3, 4, 4), 0, None, 97):
        holds_with_every_plan(case)
        tried += 1
    assert tried > 2_000


def test_no_plan_of_a_group_with_larger_topics_is_better() -> None:
    """Up to 4 members, 4 topics, 5 partitions each, by chance."""
    chance = seeded(2)
    for _ in range(400):
        case = random_case(chance, 4, 4, 5)
        known = best_by_counts(case)
        holds(case, known.loads, known.moves)


def test_the_certificate_sees_a_plan_that_moves_too_much() -> None:
    """Whatever plan is as fair as the best, it is called optimal exactly if it moves as little."""
    chance = seeded(3)
    judged = {True: 0, False: 0}
    for _ in range(600):
        case = random_case(chance, 3, 3, 3)
        known = best_by_counts(case)
        plan = RoundRobin().assign(case.members, case.topics)
        proof = certify(plan, case.members, case.topics)
        fairest = tuple(sorted(plan.loads().values())) == known.loads
        assert proof.valid
        assert proof.fairest is fairest, case
        assert proof.optimal is (fairest and proof.moves == known.moves), case
        judged[proof.optimal] += 1
    assert min(judged.values()) > 50


@pytest.mark.parametrize("broken", ["nobody", "stranger", "other members", "lost topic"])
def test_the_certificate_sees_an_invalid_plan(broken: str) -> None:
    case = Case((2, 2), (0b11, 0b01), ((0, 1), (0, 0)))
    plan = Sticky().assign(case.members, case.topics)
    assert certify(plan, case.members, case.topics).valid
    wrong = {
        "nobody": replace(plan, owners=(*plan.owners[:3], -1)),
        "stranger": replace(plan, owners=(*plan.owners[:3], 1)),
        "other members": replace(plan, members=("m0", "m7")),
        "lost topic": replace(plan, topics=plan.topics[:1], firsts=plan.firsts[:2], owners=plan.owners[:2]),
    }[broken]
    proof = certify(wrong, case.members, case.topics)
    assert not proof.valid
    assert not proof.optimal


def cooperative_round(members: list[Member], topics: dict[str, int]) -> Plan:
    """One round, checked: no member is given what another still has."""
    plan = CooperativeSticky().assign(members, topics)
    proof = certify(plan, members, topics)
    assert proof.valid, (members, topics, proof)
    assert proof.overlaps == 0, (members, topics)
    return plan


def test_a_cooperative_group_arrives_at_a_plan_as_good() -> None:
    """In four more rounds at most, as Kafka asks of its own."""
    chance = seeded(4)
    for _ in range(300):
        case = random_case(chance, 4, 3, 4)
        plan = cooperative_round(case.members, case.topics)
        for generation in range(2, 6):
            if plan.withheld:
                claims = plan.claims(generation)
                members = [replace(member, claim=claims[member.id]) for member in case.members]
                plan = cooperative_round(members, case.topics)
        assert not plan.withheld, case
        assert tuple(sorted(plan.loads().values())) == best_by_counts(case).loads, case


def test_kip54_is_balanced_as_it_says_and_settles_at_once() -> None:
    chance = seeded(5)
    for _ in range(400):
        case = random_case(chance, 4, 3, 4)
        plan = Sticky(balance="kip54").assign(case.members, case.topics)
        proof = certify(plan, case.members, case.topics)
        assert proof.valid
        assert proof.kip54, case
        again = Sticky(balance="kip54").assign(case.members, case.topics, previous=plan)
        assert again.owners == plan.owners, case


def test_tolerance_trades_moves_for_evenness() -> None:
    """Each step of tolerance moves no more; no load is further from its fair level than allowed."""
    chance = seeded(6)
    for _ in range(200):
        case = random_case(chance, 4, 3, 5)
        moves: list[int] = []
        for tolerance in range(4):
            plan = Sticky(tolerance=tolerance).assign(case.members, case.topics)
            assert certify(plan, case.members, case.topics).valid
            moves.append(sum(1 for _ in plan.moves()))
        assert moves == sorted(moves, reverse=True), case
