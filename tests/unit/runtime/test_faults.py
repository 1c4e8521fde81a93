"""Which faults of the client end the app: a fence of our own making does not, and an end is told once."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from headrace._runtime.faults import Faults
from headrace.errors import Fenced
from headrace.ports import Fault
from headrace.subscriptions import SubscriptionSettings
from headrace.testing.memory_client import MemoryClient
from headrace.testing.memory_kafka import MemoryKafka

if TYPE_CHECKING:
    from headrace._core.engine import Engine
    from headrace._core.notices import Notice
    from headrace.ports import TopicPartition

SILENT = Fault("log", "_MAX_POLL_EXCEEDED", "polled too late")
FENCE = Fault("fenced", "FENCED_INSTANCE_ID", "another member runs under our instance id")
FULL = Fault("fenced", "GROUP_MAX_SIZE_REACHED", "the group is full")
SETTINGS = SubscriptionSettings(
    "orders", ("orders",), run_in="threads", on_exhausted="skip", on_out_of_range="earliest"
)
CLIENT = MemoryClient(MemoryKafka())
"""Its session is 45 s, its poll interval 300."""


def out_of_range(offset: int | None, code: str = "_AUTO_OFFSET_RESET") -> Fault:
    return Fault("offset_out_of_range", code, "gone", "orders", 0, offset)


class At:
    """An engine that has delivered records of every partition up to here."""

    def __init__(self, position: int) -> None:
        self.position = position

    def position_of(self, _partition: TopicPartition) -> int:
        return self.position

    def began_fresh(self, _partition: TopicPartition) -> bool:
        return False


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def faults(clock: Clock) -> Faults:
    told: list[Notice] = []
    return Faults(told.append, lambda _topic: SETTINGS, cast("Engine", At(13)), clock)


def test_a_fence_by_another_member_is_the_end_and_told_once(faults: Faults) -> None:
    assert isinstance(faults.take(FENCE), Fenced)
    assert [faults.take(FENCE) for _ in range(3)] == [None] * 3
    assert faults.pop_rebuild() is None


def test_a_fence_after_our_own_silence_makes_the_connection_anew_however_often_it_is_told(
    faults: Faults,
) -> None:
    # Told by a callback, the fence is before the silence that led to it.
    assert faults.take_all([FENCE, SILENT], 0.1, CLIENT) is None
    assert faults.judge(Fenced("_FENCED", "a commit was refused for good")) is None
    reason = faults.pop_rebuild()
    assert reason is not None
    assert "polled too late" in reason


def test_the_next_client_has_no_excuse_of_the_one_before(faults: Faults) -> None:
    assert faults.take_all([FENCE], 301.0, CLIENT) is None
    faults.forget()
    assert faults.pop_rebuild() is None
    assert isinstance(faults.take(FENCE), Fenced)


def test_a_silence_excuses_no_other_fence(faults: Faults) -> None:
    assert isinstance(faults.take_all([SILENT, FULL], 301.0, CLIENT), Fenced)


def test_a_fence_while_we_join_anew_after_a_loss_makes_the_connection_anew(
    faults: Faults, clock: Clock
) -> None:
    # A static member was frozen beyond its session; the answer to its next join was lost with the coordinator.
    faults.lost()
    clock.now += 20
    assert faults.take(FENCE) is None
    reason = faults.pop_rebuild()
    assert reason is not None
    assert "given up by the group" in reason
    faults.forget()
    assert isinstance(faults.take(FENCE), Fenced)  # The next one is another member's.


def test_the_loss_that_comes_with_a_fence_does_not_excuse_it(faults: Faults, clock: Clock) -> None:
    faults.lost()
    clock.now += 0.2
    assert isinstance(faults.take(FENCE), Fenced)


def test_a_member_that_was_given_partitions_again_has_no_excuse(faults: Faults, clock: Clock) -> None:
    faults.lost()
    clock.now += 5
    faults.assigned()
    clock.now += 5
    assert isinstance(faults.take(FENCE), Fenced)


def test_a_fence_after_a_sleep_beyond_the_session_makes_the_connection_anew(
    faults: Faults, clock: Clock
) -> None:
    # The process was frozen: its client found its session over, joined anew, and that fenced the commit under way.
    faults.lost()
    assert faults.take_all([], 45.1, CLIENT) is None
    clock.now += 0.1
    assert faults.judge(Fenced("FENCED_INSTANCE_ID", "OffsetCommit failed")) is None
    reason = faults.pop_rebuild()
    assert reason is not None
    assert "slept for longer than the session" in reason


@pytest.mark.parametrize(
    ("silent_s", "is_lost", "later_s"), [(44.9, True, 0.1), (45.1, False, 0.1), (45.1, True, 5.0)]
)
def test_another_sleep_is_no_excuse(
    faults: Faults, clock: Clock, silent_s: float, is_lost: bool, later_s: float
) -> None:
    clock.now += 0.5
    assert faults.take_all([], silent_s, CLIENT) is None
    clock.now += later_s
    if is_lost:
        faults.lost()
    assert isinstance(faults.take(FENCE), Fenced)


def test_an_offset_that_is_gone_moves_the_partition_where_it_is_the_next_one(faults: Faults) -> None:
    assert faults.take(out_of_range(13)) is None
    assert faults.moves_due(100.0)


def test_an_offset_that_is_gone_and_was_asked_for_before_the_partition_came_back_moves_nothing(
    faults: Faults,
) -> None:
    # Found by the simulator, seed 1018801: the map of the next tenure was forgotten for the position of the one before.
    assert faults.take(out_of_range(12)) is None
    assert not faults.moves_due(100.0)


@pytest.mark.parametrize(
    ("code", "offset"), [("_LOG_TRUNCATION", 12), ("_AUTO_OFFSET_RESET", None), ("_AUTO_OFFSET_RESET", -1001)]
)
def test_any_other_offset_moves_it(faults: Faults, code: str, offset: int | None) -> None:
    assert faults.take(out_of_range(offset, code)) is None
    assert faults.moves_due(100.0)
