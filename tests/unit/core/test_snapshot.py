"""Snapshots say all that the engine counts."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from headrace._core.board import Counters
from headrace._core.snapshot import CountersSnapshot, PartitionSnapshot, _partition, _rests
from headrace._core.states import Phase
from headrace._core.tenure import PAUSE_NAMES, PAUSED_BY_USER
from tests.unit.core.makers import deliver, finish, make_tenure

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._core.tenure import Tenure

FROM_COMMITS = ["commits_sent", "commits_confirmed", "commits_refused"]


def test_the_counters_and_their_snapshot_have_the_same_names() -> None:
    """One is counted in, the other frozen, so neither can inherit from the other; a name in one alone would stay 0."""
    counted = [field.name for field in fields(Counters)]
    assert [field.name for field in fields(CountersSnapshot)] == counted + FROM_COMMITS


def named(tenure: Tenure, now: float) -> PartitionSnapshot:
    """What a snapshot of it must say, each field by its name."""
    since = tenure.oldest_since()
    return PartitionSnapshot(
        topic=tenure.topic,
        partition=tenure.partition,
        epoch=tenure.epoch,
        phase=tenure.phase.value,
        delivered=tenure.ledger.delivered,
        finished=tenure.ledger.finished,
        waiting=tenure.waiting,
        in_flight=tenure.dispatched,
        parked=tenure.parked,
        held=tenure.lanes.held,
        settling=tenure.settling,
        unacked=tenure.unacked,
        position=tenure.ledger.position,
        committable=tenure.ledger.committable,
        committed=tenure.confirmed,
        bytes_held=tenure.bytes_held,
        oldest_age_s=None if since is None else now - since,
        paused=tuple(name for bit, name in PAUSE_NAMES.items() if tenure.paused & bit),
        oldest_timestamp_ms=tenure.oldest_timestamp_ms(),
        map_chars=tenure.map_chars,
    )


def busy_tenure() -> Tenure:
    """All its numbers are different, so that none passes for another."""
    tenure = make_tenure(4, start=200, epoch=9)
    records = deliver(tenure, [b"a"] * 100)
    tenure.arrived(0, [record._source for record in records], 5.0)
    finish(tenure, records[:40])
    tenure.dispatched, tenure.parked, tenure.settling, tenure.unacked = 11, 7, 5, 3
    tenure.confirmed, tenure.map_chars, tenure.paused = 230, 17, PAUSED_BY_USER
    return tenure


def rested_tenure() -> Tenure:
    tenure = make_tenure(4, epoch=9)
    finish(tenure, deliver(tenure, [b"a"] * 10))
    tenure.bytes_held, tenure.confirmed = 0, 10
    return tenure


def test_each_number_of_a_partition_stands_under_its_name() -> None:
    for tenure in (busy_tenure(), rested_tenure()):
        assert _partition(tenure, 8.0) == named(tenure, 8.0)


def test_a_partition_at_rest_is_taken_from_the_snapshot_before() -> None:
    tenure = rested_tenure()
    assert _rests(tenure, _partition(tenure, 8.0))


def test_a_partition_with_something_unfinished_never_is_since_it_grows_older() -> None:
    tenure = busy_tenure()
    assert not _rests(tenure, _partition(tenure, 8.0))


def came_and_went(tenure: Tenure) -> None:
    finish(tenure, deliver(tenure, [b"b"]))
    tenure.bytes_held = 0


def skipped_markers(tenure: Tenure) -> None:
    tenure.ledger.advance_position(12)


def confirmed_more(tenure: Tenure) -> None:
    tenure.confirmed = 11


def wrote_a_map(tenure: Tenure) -> None:
    tenure.map_chars = 1


def was_paused(tenure: Tenure) -> None:
    tenure.paused = PAUSED_BY_USER


def left(tenure: Tenure) -> None:
    tenure.phase = Phase.CLOSED


def began_anew(tenure: Tenure) -> None:
    tenure.epoch += 1


def got_something(tenure: Tenure) -> None:
    deliver(tenure, [b"b"])


@pytest.mark.parametrize(
    "change",
    [
        came_and_went,
        skipped_markers,
        confirmed_more,
        wrote_a_map,
        was_paused,
        left,
        began_anew,
        got_something,
    ],
)
def test_whatever_happens_to_it_is_in_the_next_snapshot(change: Callable[[Tenure], None]) -> None:
    tenure = rested_tenure()
    before = _partition(tenure, 8.0)
    change(tenure)
    assert _partition(tenure, 8.0) != before
    assert not _rests(tenure, before)


def test_partitions_that_changed_places_are_not_mixed_up() -> None:
    one, other = rested_tenure(), make_tenure(5)
    assert not _rests(one, _partition(other, 8.0))
    assert not _rests(other, _partition(one, 8.0))
