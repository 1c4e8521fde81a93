"""The model against brokers: the same scripts, and the same traces, but for what a script says may differ."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaException

from headrace.testing.broker import MockBroker
from tests.chaos.cluster import Cluster
from tests.chaos.proxy import Proxy
from tests.chaos.reaper import Reaper
from tests.fidelity.script import PARTITIONS, SESSION_S, Trace, play
from tests.fidelity.stages import ModelStage, WireStage
from tests.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from contextlib import AbstractContextManager

    from headrace.testing.simulation.model.settings import Protocol

PROTOCOLS: list[Protocol] = ["eager", "cooperative", "kip848"]
AT_ONCE = 11
PLAYED_WAIT_S = 300.0
SEEDS = 5
ALONE_TRIES = 2
"""How often each script is run on the model: any interleaving must leave the broker's trace."""

COMES_AND_GOES = """
produce 20
join a
settle
join b
settle
produce 10
settle
leave b
settle
leave a
"""
REFUSED = """
produce 5
join a
settle
produce 5
refuse OffsetCommit REBALANCE_IN_PROGRESS
commit a
settle
leave a
"""
FORGOTTEN = """
produce 5
join a
settle
refuse OffsetCommit UNKNOWN_MEMBER_ID
commit a
await a assign
settle
leave a
"""
MOVED = """
produce 5
join a
settle
refuse OffsetCommit NOT_COORDINATOR
commit a
settle
leave a
"""
RESTARTED = """
produce 5
join a
settle
restart 0.5
produce 5
settle
leave a
"""
OVERSLEPT = """
produce 5
join a
settle
sleep a 3.3
await a assign
settle
leave a
"""
STATIC = """
produce 5
join a as one
settle
leave a
join b as one
settle
leave b
"""
TOO_LARGE = """
produce 5
join a
settle
produce 5
commit a 5000
settle
leave a
"""
KILLED = """
produce 10
join a
settle
join b
settle
kill b
produce 10
settle
leave a
"""
CUT = """
produce 5
join a
settle
cut a
produce 5
settle
leave a
"""
SILENT = """
produce 5
join a
settle
join b
settle
silence a
wait 7
speak a
await a lost
settle
leave a
leave b
"""

EMBEDDED = {
    "comes and goes": COMES_AND_GOES,
    "refused": REFUSED,
    "forgotten": FORGOTTEN,
    "moved": MOVED,
    "restarted": RESTARTED,
    "overslept": OVERSLEPT,
    "static": STATIC,
}
REAL = {
    "comes and goes": COMES_AND_GOES,
    "overslept": OVERSLEPT,
    "static": STATIC,
    "too large": TOO_LARGE,
    "killed": KILLED,
    "cut": CUT,
    "silent": SILENT,
}


def of(script: str, protocol: Protocol) -> str:
    """The script as it stands for this protocol: under KIP-848 a forgotten member keeps what it has (librdkafka)."""
    return script.replace("await a assign\n", "") if script is FORGOTTEN and protocol == "kip848" else script


def on_model(script: str, protocol: Protocol) -> list[Trace]:
    """The traces that the model allows."""
    traces: list[Trace] = []
    for seed in range(SEEDS):
        found = play(script, ModelStage(protocol, seed))
        if found not in traces:
            traces.append(found)
    return traces


def comparable(script: str, trace: Trace) -> Trace:
    """The embedded broker refuses a farewell that Kafka takes; what it leads to must be the same all the same."""
    if "refuse" not in script and trace.refusals == ("REBALANCE_IN_PROGRESS",):
        return replace(trace, refusals=())
    return trace


class Runs:
    """All scripts in all protocols, played at once: most of a script is waiting."""

    def __init__(
        self,
        scripts: Mapping[str, str],
        stage_of: Callable[[Protocol], AbstractContextManager[WireStage]],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._scripts = scripts
        self._stage_of = stage_of
        self._found = {
            (name, protocol): pool.submit(self._play, script, protocol)
            for name, script in scripts.items()
            for protocol in PROTOCOLS
        }
        # All, so that what is played again by itself is alone.
        wait(self._found.values(), PLAYED_WAIT_S)

    def _play(self, script: str, protocol: Protocol) -> Trace:
        with self._stage_of(protocol) as stage:
            return play(of(script, protocol), stage)

    def _among_all(self, name: str, protocol: Protocol) -> Trace | None:
        """What was seen while all were played; None if the script did not come to its end."""
        try:
            found = self._found[name, protocol].result(0)
        except (AssertionError, TimeoutError, KafkaException):
            return None
        return comparable(self._scripts[name], found)

    def compare(self, name: str) -> None:
        """See that the model allows what was seen."""
        script = self._scripts[name]
        for protocol in PROTOCOLS:
            allowed = on_model(of(script, protocol), protocol)
            trace = self._among_all(name, protocol)
            for _ in range(ALONE_TRIES):
                if trace in allowed:
                    break
                # Sixty at once may starve one's heartbeats beyond a session of two seconds; by itself none is.
                trace = comparable(script, self._play(script, protocol))
            assert trace in allowed, protocol
            assert trace is not None
            assert trace.missed == 0, protocol
            assert trace.in_order, protocol


@pytest.fixture(scope="module")
def embedded() -> Generator[Runs]:
    """Each run has a broker of its own."""

    @contextmanager
    def stage_of(protocol: Protocol) -> Generator[WireStage]:
        with MockBroker(topics={"t": 4}, heartbeat_interval_s=0.2, session_timeout_s=SESSION_S) as broker:
            stage = WireStage(protocol, broker.bootstrap_servers, "t", broker=broker)
            try:
                yield stage
            finally:
                stage.close()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield Runs(EMBEDDED, stage_of, pool)


@pytest.mark.slow
@pytest.mark.parametrize("name", EMBEDDED)
def test_the_model_tells_the_embedded_brokers_story(embedded: Runs, name: str) -> None:
    embedded.compare(name)


@pytest.fixture(scope="module")
def real(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Runs]:
    """Two nodes behind the proxy. `kafka` is asked for so that a machine without one skips."""
    assert kafka
    with ExitStack() as stack:
        reaper = Reaper()
        stack.callback(reaper.close)
        cluster = Cluster(tmp_path_factory.mktemp("proxied"), reaper)
        stack.callback(cluster.stop)
        cluster.start()
        proxy = Proxy([(node.proxied, node.upstream) for node in cluster.nodes])
        proxy.start()
        stack.callback(proxy.close)

        @contextmanager
        def stage_of(protocol: Protocol) -> Generator[WireStage]:
            topics = Topics(cluster.direct, prefix=f"fidelity-{protocol}-{uuid.uuid4().hex[:8]}")
            topic = topics.create(partitions=PARTITIONS)
            stage = WireStage(protocol, cluster.proxied, topic, direct=cluster.direct, proxy=proxy)
            try:
                yield stage
            finally:
                stage.close()
                topics.delete_all()

        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield Runs(REAL, stage_of, pool)


@pytest.mark.parametrize("name", REAL)
def test_the_model_tells_the_real_brokers_story(real: Runs, name: str) -> None:
    real.compare(name)
