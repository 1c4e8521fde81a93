"""Where the tests' Kafka comes from.

Decides between the broker named by HEADRACE_KAFKA, one already started by scripts/kafka, and a fresh one that ends
with this process. Refuses to know what is tested on it. Invariant: a broker started here is also stopped here, even
when this process is killed (scripts/kafka watches its owner).
"""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

SCRIPT = Path(__file__).parents[1] / "scripts" / "kafka"
EXIT_UNAVAILABLE = 69  # scripts/kafka: this machine lacks Java, Maven or the network
# The first start on a machine fetches 45 MB of jars, which is the registry's time and may be minutes; any later one takes
# 5 s, and gives up by itself after 60 s. A start that is ended here leaves no node (scripts/kafka sees to it).
START_WAIT_S = 900.0
STOP_WAIT_S = 30.0


class KafkaUnavailable(Exception):
    """No Kafka can be had on this machine; the text says what is missing. Skip, unless HEADRACE_REQUIRE_KAFKA=1."""


@dataclass(frozen=True, slots=True)
class SecureAddresses:
    """A broker's protected listeners, and what a client needs to use them."""

    plaintext: str
    sasl_ssl: str
    """SCRAM-SHA-512 and OAUTHBEARER (unsecured tokens) over TLS."""
    ssl: str
    """TLS that demands a client certificate; the principal is its common name."""
    certificates: Path
    """Folder of ca.pem, client.pem (chain), client.key, stranger.pem and stranger.key."""


def is_required() -> bool:
    """Whether a missing Kafka is a failure rather than a reason to skip."""
    return os.environ.get("HEADRACE_REQUIRE_KAFKA") == "1"


@contextmanager
def plain_broker(folder: Path) -> Generator[str]:
    """Bootstrap address of a broker without security; one that has to be started keeps its data in the folder."""
    running = os.environ.get("HEADRACE_KAFKA") or _addresses_of_running().get("HEADRACE_KAFKA")
    if running:
        yield running
        return
    with _started(folder) as addresses:
        yield addresses["HEADRACE_KAFKA"]


@contextmanager
def secure_broker(folder: Path) -> Generator[SecureAddresses]:
    """A broker with every kind of security. Always a fresh one: its users and ACLs are known."""
    with _started(folder, "--security") as addresses:
        yield SecureAddresses(
            plaintext=addresses["HEADRACE_KAFKA"],
            sasl_ssl=addresses["HEADRACE_KAFKA_SASL_SSL"],
            ssl=addresses["HEADRACE_KAFKA_SSL"],
            certificates=Path(addresses["HEADRACE_KAFKA_CERTIFICATES"]),
        )


def _addresses_of_running() -> dict[str, str]:
    status = _kafka("status", wait_s=STOP_WAIT_S)
    return _parse(status.stdout) if status.returncode == 0 else {}


@contextmanager
def _started(folder: Path, *options: str) -> Generator[dict[str, str]]:
    start = _kafka("start", "--dir", str(folder), "--owner", str(os.getpid()), *options, wait_s=START_WAIT_S)
    if start.returncode == EXIT_UNAVAILABLE:
        raise KafkaUnavailable(start.stderr.strip().splitlines()[-1].removeprefix("error: "))
    assert start.returncode == 0, f"scripts/kafka start failed:\n{start.stderr}"
    try:
        yield _parse(start.stdout)
    finally:
        _kafka("stop", "--dir", str(folder), wait_s=STOP_WAIT_S)


def _kafka(*arguments: str, wait_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *arguments],
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=wait_s,
    )


def _parse(lines: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in lines.splitlines() if line.startswith("HEADRACE_KAFKA"))
    return {name: value for name, _, value in pairs}
