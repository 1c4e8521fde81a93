"""Ninety seconds of chaos on a real Kafka for each protocol, both at once on one cluster, end without an anomaly.

`scripts/chaos` does the same for as long as is wanted, with any seed.
"""

from __future__ import annotations

import faulthandler
import sys
from typing import TYPE_CHECKING

import pytest

from tests import kafka_server
from tests.chaos.crew import PROTOCOLS, Protocol
from tests.chaos.report import Outcome, text_of
from tests.chaos.run import Wanted, run

if TYPE_CHECKING:
    from pathlib import Path

SEED = 2
DURATION_S = 90.0
KINDS_MIN = 14
"""Of 17: one that would not end in time, or found everybody busy, is left out."""

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One run, judged; two tests look at it. Its own waits are bounded, and it says what it waits for."""
    faulthandler.cancel_dump_traceback_later()
    folder: Path = tmp_path_factory.mktemp("chaos")
    try:
        found = run(Wanted(SEED, DURATION_S, PROTOCOLS, folder), sys.stdout.write)
    except kafka_server.KafkaUnavailable as absent:
        if kafka_server.is_required():
            pytest.fail(f"HEADRACE_REQUIRE_KAFKA=1, but: {absent}")
        pytest.skip(f"no Kafka: {absent}")
    sys.stdout.write(text_of(found))
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_chaos_leaves_no_anomaly(outcome: Outcome, protocol: Protocol) -> None:
    verdicts = outcome.of_protocol(protocol)
    assert len(verdicts) == 4
    assert not [name for verdict in verdicts for name in verdict.names()], text_of(outcome)
    assert not outcome.troubles, text_of(outcome)
    # A run in which nothing happened proves nothing.
    assert len(outcome.faults_done) >= KINDS_MIN, text_of(outcome)
    for verdict in verdicts:
        assert verdict.records > 4_000
        assert verdict.commits > 100
        assert verdict.generations >= 5
