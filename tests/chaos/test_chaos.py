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
KNOWN = {"commit went back"}
"""After a broker's absence of more than `Commit.timeout_s`, librdkafka may write a commit that was given up after a newer
one; if the partition goes at that moment, nobody mends it, and finished records are repeated. None is lost by it."""
FENCED_BY_ITSELF = "FENCED_INSTANCE_ID"
"""A classic static member that was held beyond the poll interval joins anew as itself, and a commit that it had under way
is then refused as another's: librdkafka calls that fatal, and the app ends. Its supervisor starts it again."""
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
    assert len(verdicts) == 3
    assert {name for verdict in verdicts for name in verdict.names()} <= KNOWN, text_of(outcome)
    troubles = [trouble for trouble in outcome.troubles if FENCED_BY_ITSELF not in trouble]
    assert not troubles, text_of(outcome)
    # A run in which nothing happened proves nothing.
    assert len(outcome.faults_done) >= KINDS_MIN, text_of(outcome)
    for verdict in verdicts:
        assert verdict.records > 4_000
        assert verdict.commits > 100
        assert verdict.generations >= 5
