"""A few lives of an app leave no thread, open file or librdkafka handle; tests/full/test_leaks.py lives many more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.testing import MockBrokerProcess
from tests import cycles
from tests.footprint import assert_no_larger, footprint, settled_footprint

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


@pytest.fixture(scope="module")
def broker() -> Generator[MockBrokerProcess]:
    with MockBrokerProcess() as broker:
        cycles.prepare(broker)
        yield broker


@pytest.mark.slow
@pytest.mark.parametrize(
    ("live", "count"),
    [
        (cycles.life_with_threads, 10),
        (cycles.life_with_a_loop, 10),
        (cycles.life_with_processes, 3),
        (cycles.life_without_a_broker, 3),
        (cycles.life_without_its_topic, 10),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_lives_leave_nothing_behind(
    broker: MockBrokerProcess, live: Callable[[MockBrokerProcess, int], None], count: int
) -> None:
    live(broker, 0)
    before = footprint()
    for number in range(1, count):
        live(broker, number)
    after = settled_footprint(before)
    assert_no_larger(after, before)
    # Other tests of this process leave handles on purpose: clients that a dead broker keeps from closing.
    assert after.handles <= before.handles, after.native
