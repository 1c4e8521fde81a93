"""What a restored offset map is worth when a new leader's records arrive."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import pytest

from headrace._core import events
from headrace._core.effects import Dispatch
from headrace._core.engine import Engine
from headrace._core.finished import FinishedBeyond
from headrace._core.offset_map import encode
from headrace._core.workload import Capacity
from headrace.config import Budgets, Commit
from tests.unit.core.engine_model import Source
from tests.unit.core.makers import TOPIC, make_settings

MAP_EPOCH = 1


@dataclass(slots=True)
class OfLeader(Source):
    """A record that says which leader wrote it."""

    written_by: int = MAP_EPOCH

    def leader_epoch(self) -> int | None:
        return self.written_by


def handled(leaders: list[int]) -> list[int]:
    """Offsets from 10 on that reach a handler, where a map calls 11 and 13 finished; `leaders` wrote the records."""
    beyond = FinishedBeyond(base=10, offsets=array("q", [10, 11, 12, 13]), flags=b"\0\1\0\1", position=14)
    metadata = encode(beyond, leader_epoch=MAP_EPOCH).metadata
    engine = Engine(
        [make_settings()],
        [Capacity("threads", 16)],
        commit=Commit(),
        budgets=Budgets(),
        rebuild_after_s=10.0,
        acknowledge=lambda _: True,
        jitter=lambda: 0.5,
    )
    engine.step(events.Assigned([events.Start(TOPIC, 0, 10, 10, metadata, MAP_EPOCH)]), 0.0)
    sources = [OfLeader(10 + n, b"key-%d" % n, 10, leader) for n, leader in enumerate(leaders)]
    effects = engine.step(events.Fetched([(TOPIC, 0, sources)]), 1.0)
    return sorted(
        record.offset for effect in effects if isinstance(effect, Dispatch) for record in effect.records
    )


@pytest.mark.parametrize("after", [MAP_EPOCH, MAP_EPOCH + 1])
def test_records_behind_a_map_may_be_of_a_new_leader(after: int) -> None:
    """A broker restarted after a clean stop: what the map names is as it was, though what follows has a new leader.

    Found by chaos on a real broker (seed 11): all that the map called finished was handled again.
    """
    assert handled([1, 1, 1, 1, after, after]) == [10, 12, 14, 15]


@pytest.mark.parametrize("leaders", [[1, 1, 1, 2, 2, 2], [1, 2, 2, 2, 2, 2], [2, 2, 2, 2, 2, 2]])
def test_offsets_within_a_map_that_a_new_leader_wrote_are_handled(leaders: list[int]) -> None:
    """After an unclean election these offsets are other records."""
    assert handled(leaders) == [10, 11, 12, 13, 14, 15]
