"""One embedded broker per test: faults of one test are no business of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.testing.broker import MockBroker

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def broker() -> Iterator[MockBroker]:
    """A broker with the topic `orders`: 3 partitions, 100 records in each."""
    with MockBroker(topics={"orders": 3, "other": 1}) as mock:
        for partition in range(3):
            mock.produce("orders", [(b"key", b"value")] * 100, partition=partition)
        yield mock
