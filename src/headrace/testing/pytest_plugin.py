"""Fixtures for the tests of those who use Headrace; pytest loads this module wherever Headrace is installed.

So it must cost little to those who never ask: to what `import headrace` loads it adds no client library before a fixture
is used. Invariant: a broker made by a fixture is closed at the end of the test that asked for it, whatever its outcome.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

from headrace.testing.broker import MockBroker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class MockBrokerFactory(Protocol):
    """Makes brokers with the settings of `MockBroker` and closes them when the test ends."""

    def __call__(
        self,
        brokers: int = 1,
        topics: Mapping[str, int] | None = None,
        *,
        rebalance_delay_s: float = 0.0,
        heartbeat_interval_s: float = 0.2,
        session_timeout_s: float = 30.0,
    ) -> MockBroker:
        """Make one more broker; the arguments are those of `MockBroker`."""
        ...


@pytest.fixture
def mock_broker() -> Iterator[MockBroker]:
    """An embedded Kafka broker of this test's own, without topics: see `headrace.testing.MockBroker`."""
    with MockBroker() as broker:
        yield broker


@pytest.fixture
def mock_broker_factory() -> Iterator[MockBrokerFactory]:
    """Makes embedded brokers as asked, `mock_broker_factory(brokers=3, topics={"orders": 8})`, closed with the test."""
    with ExitStack() as open_brokers:

        def make(
            brokers: int = 1,
            topics: Mapping[str, int] | None = None,
            *,
            rebalance_delay_s: float = 0.0,
            heartbeat_interval_s: float = 0.2,
            session_timeout_s: float = 30.0,
        ) -> MockBroker:
            broker = MockBroker(
                brokers,
                topics,
                rebalance_delay_s=rebalance_delay_s,
                heartbeat_interval_s=heartbeat_interval_s,
                session_timeout_s=session_timeout_s,
            )
            return open_brokers.enter_context(broker)

        yield make
