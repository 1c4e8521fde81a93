"""The assignments of an app under many owners and many readers at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from headrace._core.effects import HoldingsChanged
from headrace._runtime.tracker import Tracker

if TYPE_CHECKING:
    from headrace._core.assignments import Assignments, AssignmentsChange

TURNS = 150


def told_of() -> tuple[list[AssignmentsChange], Tracker]:
    """A tracker, and what its listeners would get."""
    changes: list[AssignmentsChange] = []

    def offer(change: AssignmentsChange) -> bool:
        changes.append(change)
        return True

    return changes, Tracker(offer, lambda: None)


def test_a_listener_is_told_of_every_change_with_the_view_after_it() -> None:
    changes, tracker = told_of()
    tracker.changed(0, HoldingsChanged("assigned", [("orders", 0, 1), ("orders", 1, 2)], [], 1.0))
    tracker.changed(0, HoldingsChanged("revoked", [], [("orders", 0, 1)], 2.0))
    tracker.gone(0)
    tracker.gone(0)
    assert [(change.reason, change.opened, change.closed) for change in changes] == [
        ("assigned", (("orders", 0), ("orders", 1)), ()),
        ("revoked", (), (("orders", 0),)),
        ("closed", (), (("orders", 1),)),
    ]
    assert [change.assignments.partitions() for change in changes] == [
        (("orders", 0), ("orders", 1)),
        (("orders", 1),),
        (),
    ]
    assert tracker.latest is changes[-1].assignments


def test_a_change_that_finds_no_room_is_told_of_outside_the_lock() -> None:
    told: list[bool] = []
    tracker = Tracker(lambda _: False, lambda: told.append(tracker._lock.locked()))
    tracker.changed(0, HoldingsChanged("assigned", [("orders", 0, 1)], [], 1.0))
    tracker.gone(0)
    assert told == [False, False]
    assert tracker.latest.partitions() == ()


def test_writers_and_readers_at_full_speed_see_whole_views() -> None:
    """Four owners pass eight partitions around, each with its own epochs; four readers look at all of it, without pause."""
    changes, tracker = told_of()
    torn: list[str] = []
    over = threading.Event()
    looks = [0] * 4

    def own(connection: int) -> None:
        mine = [("orders", partition) for partition in (connection * 2, connection * 2 + 1)]
        for turn in range(TURNS):
            opened = [(*key, turn * 2 + at) for at, key in enumerate(mine)]
            tracker.changed(connection, HoldingsChanged("assigned", opened, [], float(turn)))
            tracker.changed(connection, HoldingsChanged("revoked", [], opened, float(turn)))

    def read(reader: int) -> None:
        last = -1
        while not over.is_set():
            view = tracker.latest
            looks[reader] += 1
            if view.sequence < last:
                torn.append(f"{view.sequence} after {last}")
            last = view.sequence
            torn.extend(complaints(view))

    readers = [threading.Thread(target=read, args=(n,)) for n in range(4)]
    owners = [threading.Thread(target=own, args=(n,)) for n in range(4)]
    for thread in (*readers, *owners):
        thread.start()
    for thread in owners:
        thread.join()
    over.set()
    for thread in readers:
        thread.join()
    assert torn == []
    assert min(looks) > 0
    assert tracker.latest.partitions() == ()
    assert [change.assignments.sequence for change in changes] == list(range(1, 8 * TURNS + 1))
    assert {tracker.latest.generation("orders", n) for n in range(8)} == {TURNS}


def complaints(view: Assignments) -> list[str]:
    """An owner opens and closes its two partitions in one change: whoever sees one of them sees both."""
    found: list[str] = []
    for connection in range(4):
        held = view.partitions(connection)
        if held not in ((), (("orders", connection * 2), ("orders", connection * 2 + 1))):
            found.append(f"{view.sequence}: connection {connection} holds {held}")
    if sorted(key for n in range(4) for key in view.partitions(n)) != list(view.partitions()):
        found.append(f"{view.sequence}: the sum does not match")
    return found
