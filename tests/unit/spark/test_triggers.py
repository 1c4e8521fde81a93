"""Triggers: how far each micro-batch goes, under limits, with waiting, and to an end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.spark.planning import Planner
from headrace.spark.triggers import Triggers
from tests.unit.spark.given import Cluster, options

if TYPE_CHECKING:
    from headrace.spark.planning import Offsets

A0, A1 = ("a", 0), ("a", 1)


@dataclass
class Clock:
    """Told."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def triggers(cluster: Cluster, clock: Clock, /, **given: str) -> Triggers:
    """Of a stream of topic "a"."""
    chosen = options("stream", **given)
    return Triggers(chosen, Planner(chosen, cluster), clock)


def test_without_limits_all_is_taken() -> None:
    query = triggers(Cluster(), Clock())
    assert query.known is None
    assert query.next_end({A0: 0, A1: 20}, all_of_it=False) == {A0: 100, A1: 50}
    assert query.known == {A0: 100, A1: 50}


def test_a_limit_is_shared_out_and_may_be_overruled() -> None:
    query = triggers(Cluster(), Clock(), maxOffsetsPerTrigger="13")
    start: Offsets = {A0: 0, A1: 20}
    assert query.next_end(start, all_of_it=False) == {A0: 10, A1: 23}
    assert query.next_end(start, all_of_it=True) == {A0: 100, A1: 50}


def test_a_partition_that_came_since_counts_from_its_first_record() -> None:
    query = triggers(Cluster(), Clock(), maxOffsetsPerTrigger="13")
    assert query.next_end({A0: 0}, all_of_it=False) == {A0: 10, A1: 23}


def test_too_little_is_waited_for_but_not_for_ever() -> None:
    cluster, clock = Cluster(), Clock()
    query = triggers(cluster, clock, minOffsetsPerTrigger="50", maxTriggerDelay="60s")
    start = query.next_end({A0: 90, A1: 50}, all_of_it=False)
    assert start == {A0: 100, A1: 50}, "the first is not waited for: nobody knows since when"
    cluster.bounds[A0] = (0, 149)
    clock.now = 60.0
    assert query.next_end(start, all_of_it=False) == start
    clock.now = 60.1
    assert query.next_end(start, all_of_it=False) == {A0: 149, A1: 50}
    cluster.bounds[A0] = (0, 199)
    assert query.next_end({A0: 149, A1: 50}, all_of_it=False) == {A0: 199, A1: 50}
    cluster.bounds[A0] = (0, 200)
    assert query.next_end({A0: 199, A1: 50}, all_of_it=False) == {A0: 199, A1: 50}
    assert query.next_end({A0: 199, A1: 50}, all_of_it=True) == {A0: 200, A1: 50}


def test_to_what_is_there_now_and_no_further() -> None:
    """Though records and partitions come meanwhile; and nothing is waited for."""
    cluster = Cluster()
    query = triggers(cluster, Clock(), maxOffsetsPerTrigger="40", minOffsetsPerTrigger="1000")
    query.stop_at_what_is_there()
    cluster.bounds |= {A0: (0, 1000), ("a", 2): (0, 10)}
    at: Offsets = {A0: 0, A1: 20}
    steps = 0
    while (following := query.next_end(at, all_of_it=False)) != at:
        at, steps = following, steps + 1
    assert at == {A0: 100, A1: 50}
    assert steps == 4
