"""What Headrace's own tests use and yours may: handlers run without a broker, and an embedded broker for the rest."""

from __future__ import annotations

from headrace.testing.broker import MockBroker
from headrace.testing.broker_process import MockBrokerProcess
from headrace.testing.memory_kafka import RawRecord
from headrace.testing.trial import FailedTry, Trial, run

__all__ = ["FailedTry", "MockBroker", "MockBrokerProcess", "RawRecord", "Trial", "run"]
