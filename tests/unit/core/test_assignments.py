"""What an app holds, as frozen values that follow from one another; for an engine's effects see `engine_model`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headrace._core import assignments as module
from headrace._core.assignments import Assignments, Holding, changed, without
from headrace._core.effects import HoldingsChanged

if TYPE_CHECKING:
    from headrace._core.assignments import Reason


def step(
    before: Assignments,
    connection: int = 0,
    *,
    opened: tuple[tuple[str, int, int], ...] = (),
    closed: tuple[tuple[str, int, int], ...] = (),
    reason: Reason = "assigned",
    at: float = 1.0,
) -> Assignments:
    """One change."""
    return changed(before, connection, HoldingsChanged(reason, opened, closed, at))


def test_what_is_assigned_is_held_and_what_is_revoked_is_not() -> None:
    one = step(Assignments(), opened=(("orders", 1, 1), ("orders", 0, 2), ("other", 0, 3)))
    assert one.holding("orders", 0) == Holding(0, 2, 1.0, 1)
    assert one.partitions() == (("orders", 0), ("orders", 1), ("other", 0))
    two = step(one, closed=(("orders", 0, 2), ("other", 0, 3)), reason="revoked")
    assert two.partitions() == (("orders", 1),)
    assert set(two.topics) == {"orders"}
    assert two.holding("other", 0) is None
    assert (one.sequence, two.sequence) == (1, 2)
    assert one.partitions() == (("orders", 0), ("orders", 1), ("other", 0)), "a value changed"


def test_generations_count_assignments_and_outlive_them() -> None:
    held = Assignments()
    for epoch in (1, 2, 3):
        held = step(held, opened=(("orders", 0, epoch),))
        held = step(held, closed=(("orders", 0, epoch),), reason="revoked")
    assert (held.generation("orders", 0), held.generation("orders", 1), held.generation("new", 0)) == (
        3,
        0,
        0,
    )


def test_a_seek_begins_an_epoch_and_no_generation() -> None:
    held = step(Assignments(), opened=(("orders", 0, 1),), at=1.0)
    held = step(held, opened=(("orders", 0, 2),), closed=(("orders", 0, 1),), reason="sought", at=5.0)
    assert held.holding("orders", 0) == Holding(0, 2, 5.0, 1)


def test_a_late_close_takes_nothing_from_who_got_the_partition_meanwhile() -> None:
    held = step(Assignments(), 0, opened=(("orders", 0, 7),))
    held = step(held, 1, opened=(("orders", 0, 7),))
    assert step(held, 0, closed=(("orders", 0, 7),), reason="lost").holding("orders", 0) == Holding(
        1, 7, 1.0, 2
    )
    held = step(held, 1, opened=(("orders", 0, 8),))
    assert step(held, 1, closed=(("orders", 0, 7),), reason="lost").partitions(1) == (("orders", 0),)


def test_a_connection_that_is_gone_holds_nothing_and_others_keep_theirs() -> None:
    held = step(Assignments(), 0, opened=(("orders", 0, 1), ("other", 0, 2)))
    held = step(held, 1, opened=(("orders", 1, 1),))
    left = without(held, 0)
    assert left.partitions() == left.partitions(1) == (("orders", 1),)
    assert left.partitions(0) == ()
    assert set(left.topics) == {"orders"}
    assert left.generation("other", 0) == 1


@pytest.mark.parametrize("name", ["topics", "generations"])
def test_a_value_cannot_be_changed(name: str) -> None:
    held: Any = step(Assignments(), opened=(("orders", 0, 1),))
    for value in (held, Assignments()):
        with pytest.raises(TypeError):
            getattr(value, name)["orders"] = {}
        with pytest.raises(AttributeError):
            setattr(value, name, {})
    with pytest.raises(TypeError):
        getattr(held, name)["orders"][0] = None


def test_what_was_not_touched_is_not_copied() -> None:
    one = step(Assignments(), opened=(("orders", 0, 1), ("other", 0, 2)))
    two = step(one, opened=(("orders", 1, 3),))
    assert two.topics["other"] is one.topics["other"]


def test_generations_are_forgotten_of_topics_not_held_longest_unassigned_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GENERATIONS_MAX", 3)
    held = Assignments()
    for epoch, topic in enumerate(("kept", "old", "young", "old"), start=1):
        held = step(held, opened=((topic, 0, epoch),))
        if topic != "kept":
            held = step(held, closed=((topic, 0, epoch),), reason="revoked")
    held = step(held, opened=(("new", 0, 9),))
    assert {topic: held.generation(topic, 0) for topic in ("kept", "old", "young", "new")} == {
        "kept": 1,
        "old": 2,
        "young": 0,
        "new": 1,
    }
