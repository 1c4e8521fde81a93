"""Outcomes that arrive together are one event, and nothing of them is lost, moved or overtaken."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.durations import Durations
from headrace._core.events import Finished
from headrace._runtime.inbox import AckAsked, ThreadInbox, Wake
from headrace._runtime.joining import SHORT_RECORDS, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

LISTS = ("succeeded", "failed", "returned", "awaiting")


@st.composite
def outcomes(draw: st.DrawFn) -> Finished:
    """Of a list of any length, with every kind of outcome; records are stood for by their names."""
    parts: dict[str, Any] = {part: draw(st.lists(st.integers(), max_size=3)) for part in LISTS}
    started = draw(st.integers(0, SHORT_RECORDS * 2))
    waits_s = draw(st.lists(st.floats(0.0, 10.0), max_size=min(started, 3)))
    return Finished(
        draw(st.integers(0, 1)),
        **parts,
        filtered=draw(st.integers(0, 2)),
        busy_s=draw(st.floats(0.0, 1.0)) if started > len(waits_s) else 0.0,
        cpu_s=draw(st.floats(0.0, 1.0)),
        started=started,
        waits_s=waits_s,
    )


items = st.lists(st.one_of(outcomes(), st.just(Wake())), max_size=12)


def flat(given_items: Sequence[Any], part: str, subscription: int) -> list[Any]:
    found = [each for each in given_items if isinstance(each, Finished) and each.subscription == subscription]
    return [one for each in found for one in getattr(each, part)]


def bare(count: int = 1, subscription: int = 0) -> Finished:
    return Finished(subscription, started=count)


@given(items)
def test_nothing_is_lost_or_moved(given_items: list[Any]) -> None:
    found = joined(given_items)
    for subscription in (0, 1):
        for part in LISTS:
            assert flat(found, part, subscription) == flat(given_items, part, subscription)
        for number in ("filtered", "started", "busy_s", "cpu_s"):
            of = [
                sum(
                    getattr(each, number)
                    for each in some
                    if getattr(each, "subscription", None) == subscription
                )
                for some in (found, given_items)
            ]
            assert of[0] == pytest.approx(of[1])


@given(items)
def test_how_long_handlers_took_is_told_as_if_apart(given_items: list[Any]) -> None:
    apart, together = Durations(), Durations()
    for durations, some in ((apart, given_items), (together, joined(given_items))):
        for each in some:
            if isinstance(each, Finished):
                durations.add(each.started, each.busy_s, each.waits_s)
    assert together.snapshot().counts == apart.snapshot().counts
    assert together.snapshot().total_s == pytest.approx(apart.snapshot().total_s)


@given(items)
def test_neighbours_are_joined_and_nothing_overtakes(given_items: list[Any]) -> None:
    found = joined(given_items)
    assert [item for item in found if not isinstance(item, Finished)] == [Wake()] * given_items.count(Wake())
    for before, after in pairwise(found):
        neighbours = isinstance(before, Finished) and isinstance(after, Finished)
        if neighbours and before.subscription == after.subscription:
            assert max(before.started, after.started) > SHORT_RECORDS


def test_what_stands_between_parts_them() -> None:
    asked = AckAsked(record=None)  # type: ignore[arg-type] # nobody looks at it
    assert joined([bare(), bare(), asked, bare()]) == [
        Finished(0, [], [], [], [], started=2, waits_s=[0.0, 0.0]),
        asked,
        bare(),
    ]


def test_long_outcomes_and_other_subscriptions_stay_apart() -> None:
    apart = [bare(), bare(SHORT_RECORDS + 1), bare(), bare(subscription=1)]
    assert joined(apart) == apart


def test_every_field_is_joined() -> None:
    """A field that is added to `Finished` must be joined, too."""
    named = {"subscription", *LISTS, "filtered", "busy_s", "cpu_s", "started", "waits_s"}
    assert {field.name for field in fields(Finished)} == named


def test_the_inbox_joins_what_it_gives() -> None:
    inbox = ThreadInbox()
    for _ in range(3):
        inbox.put(bare())
    (only,) = inbox.take(0.0)
    assert only.started == 3
