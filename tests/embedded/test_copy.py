"""`headrace copy` from one embedded broker to another. What needs a broker that keeps notes is in tests/kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace import read
from headrace.cli import execute
from headrace.cli.exits import Exit
from headrace.testing import MockBroker

if TYPE_CHECKING:
    import pytest

TIMEOUT_S = 20.0


def contents(broker: MockBroker, topic: str) -> list[Any]:
    found = read(topic, bootstrap_servers=broker.bootstrap_servers, as_="records", timeout_s=TIMEOUT_S)
    return sorted((r.partition, r.offset, r.timestamp_ms, r.key, r.value, r.headers) for r in found)


def test_topics_of_one_cluster_come_to_their_namesakes_in_another(capfd: pytest.CaptureFixture[str]) -> None:
    both = {"orders": 2, "mail": 1}
    with MockBroker(topics=both) as source, MockBroker(topics=both) as target:
        for partition in range(2):
            source.produce(
                "orders",
                [(f"k{n}", str(n), [("h", b"x"), ("h", None)]) for n in range(9)],
                partition=partition,
            )
        source.produce("mail", [(None, "one"), ("", None)])
        asked = ["copy", "orders", "mail", "-b", source.bootstrap_servers, "--to", target.bootstrap_servers]
        asked += ["--to-setting", "linger.ms=1", "--keep-partitions"]
        code = execute(asked)
        assert (code, capfd.readouterr().err) == (Exit.OK, "20 records copied\n")
        for topic in both:
            assert contents(target, topic) == contents(source, topic)
