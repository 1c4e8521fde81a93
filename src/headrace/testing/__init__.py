"""What Headrace's own tests use and yours may: the embedded broker, in this process or in one of its own."""

from __future__ import annotations

from headrace.testing.broker import MockBroker
from headrace.testing.broker_process import MockBrokerProcess

__all__ = ["MockBroker", "MockBrokerProcess"]
