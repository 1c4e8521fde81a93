"""Two hundred lives of an app leave nothing: no thread, no open file, no librdkafka handle, no growing memory."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from headrace.testing import MockBrokerProcess
from tests import cycles
from tests.footprint import assert_no_larger, footprint, resident_bytes, settled_footprint, slope

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

CYCLE_BYTES_MAX = 16 * 1024
"""Growth of memory per life that passes for noise of the allocators: a forgotten client would be some hundred KB."""


@pytest.fixture
def broker() -> Generator[MockBrokerProcess]:
    with MockBrokerProcess() as broker:
        cycles.prepare(broker)
        yield broker


@pytest.mark.parametrize(
    ("live", "count"),
    [
        (cycles.life_with_threads, 200),
        (cycles.life_with_a_loop, 200),
        (cycles.life_with_processes, 30),
        (cycles.life_without_a_broker, 60),
        (cycles.life_without_its_topic, 200),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_lives_leave_nothing_behind(
    broker: MockBrokerProcess,
    live: Callable[[MockBrokerProcess, int], None],
    count: int,
    record_property: Callable[[str, object], None],
) -> None:
    warm_up = count // 4
    for number in range(warm_up):
        live(broker, number)
    before = footprint()
    memory: list[float] = []
    for number in range(warm_up, count):
        live(broker, number)
        gc.collect()  # else what is measured is when the collector last ran
        memory.append(resident_bytes())
    after = settled_footprint(before)
    record_property("cycles", count)
    record_property("threads_native_files_before", before.counts())
    record_property("threads_native_files_after", after.counts())
    record_property("rdk_threads_after", after.handles)
    record_property("bytes_per_cycle", round(slope(memory)))
    assert_no_larger(after, before)
    assert after.handles == 0, after.native
    assert slope(memory) < CYCLE_BYTES_MAX
