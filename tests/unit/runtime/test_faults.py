"""Which faults of the client end the app: a fence of our own making does not, and an end is told once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace._runtime.faults import Faults
from headrace.errors import Fenced
from headrace.ports import Fault

if TYPE_CHECKING:
    from headrace._core.notices import Notice

SILENT = Fault("log", "_MAX_POLL_EXCEEDED", "polled too late")
FENCE = Fault("fenced", "FENCED_INSTANCE_ID", "another member runs under our instance id")
FULL = Fault("fenced", "GROUP_MAX_SIZE_REACHED", "the group is full")


@pytest.fixture
def faults() -> Faults:
    told: list[Notice] = []
    return Faults(told.append, lambda _topic: None, lambda _partition: False)


def test_a_fence_by_another_member_is_the_end_and_told_once(faults: Faults) -> None:
    assert isinstance(faults.take(FENCE), Fenced)
    assert [faults.take(FENCE) for _ in range(3)] == [None] * 3
    assert faults.pop_rebuild() is None


def test_a_fence_after_our_own_silence_makes_the_connection_anew_however_often_it_is_told(
    faults: Faults,
) -> None:
    # Told by a callback, the fence is before the silence that led to it.
    assert faults.take_all([FENCE, SILENT], 0.1, 300.0) is None
    assert faults.judge(Fenced("_FENCED", "a commit was refused for good")) is None
    reason = faults.pop_rebuild()
    assert reason is not None
    assert "polled too late" in reason


def test_the_next_client_has_no_excuse_of_the_one_before(faults: Faults) -> None:
    assert faults.take_all([FENCE], 301.0, 300.0) is None
    faults.forget()
    assert faults.pop_rebuild() is None
    assert isinstance(faults.take(FENCE), Fenced)


def test_a_silence_excuses_no_other_fence(faults: Faults) -> None:
    assert isinstance(faults.take_all([SILENT, FULL], 301.0, 300.0), Fenced)
